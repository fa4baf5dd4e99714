"""What the response of an RPC becomes over HTTP: status, headers and JSON, derived once from the contract."""

from __future__ import annotations

from urllib.parse import quote

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from realco.type.v1 import http_pb2
from starlette.responses import Response

from gateway import json_writer
from gateway.descriptors import has_option, option
from gateway.problems import REPLAYED_HEADER
from gateway.routing import Template

_ETAG = "etag"
# Beside every success of a rehearsal: nothing else has to tell it from the deed.
REHEARSED_HEADER = "Validate-Only"


class Answer:
    """The answer to one RPC: 201 with `Location` for what it created, else 200.

    Where an RPC creates what its answer may leave out, an approval for one, an answer without it is 200.

    A replayed answer is the first one again, and says so in `Idempotency-Replayed`. What has an `etag` carries it as
    `ETag`, too.

    Raises:
        ValueError: the contract's `created` is no path over fields of the response.
    """

    def __init__(self, method: MethodDescriptor) -> None:
        self.message = method.output_type
        self.location = Location(method) if has_option(method, http_pb2.created) else None
        etag = self.message.fields_by_name.get(_ETAG)
        self.has_etag = etag is not None and etag.type == FieldDescriptor.TYPE_STRING
        self.status = 201 if self.location is not None else 200
        self._write = json_writer.writer_of(self.message)

    def of(self, message: Message, *, replayed: bool, rehearsed: bool = False) -> Response:
        """The HTTP response; `rehearsed` says that the request was only validated, and nothing was created."""
        headers = {REPLAYED_HEADER: "true"} if replayed else {}
        if rehearsed:
            headers[REHEARSED_HEADER] = "true"
        location = self.location.of(message) if self.location is not None and not rehearsed else None
        if location is not None:
            headers["Location"] = location
        if self.has_etag and (etag := getattr(message, _ETAG)):
            headers["ETag"] = f'"{etag}"'
        status = 201 if location is not None else 200
        return Response(json_writer.dumps(self._write(message)), status, headers, "application/json")


class Location:
    """The path at which a created resource is read."""

    def __init__(self, method: MethodDescriptor) -> None:
        self.template = Template(option(method, http_pb2.created))
        self._fields = [_names_of(method.output_type, path) for path in self.template.variables]

    def of(self, message: Message) -> str | None:
        """None where the answer is another than the one with what was created: a result in the place of an approval."""
        found = [_value(message, names) for names in self._fields]
        if None in found:
            return None
        values = (quote(str(value), safe="") for value in found)
        return "/" + "/".join(next(values) if part is None else part for part in self.template.segments)


def _names_of(descriptor: Descriptor, path: str) -> list[str]:
    """The steps of a field path, which ends at a text."""
    message: Descriptor | None = descriptor
    field: FieldDescriptor | None = None
    for name in path.split("."):
        field = message.fields_by_name.get(name) if message is not None else None
        if field is None:
            raise ValueError(f"{descriptor.full_name} has no field {path}")
        message = field.message_type
    if field is None or field.type != FieldDescriptor.TYPE_STRING:
        raise ValueError(f"{descriptor.full_name}.{path} is no text")
    return path.split(".")


def _value(message: Message, names: list[str]) -> str | None:
    """The text at the end of the path; None if a message on the way to it is not there."""
    holder: Message = message
    for name in names[:-1]:
        if not holder.HasField(name):
            return None
        holder = getattr(holder, name)
    return str(getattr(holder, names[-1]))
