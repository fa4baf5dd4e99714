"""What the response of an RPC becomes over HTTP: status, headers and JSON, derived once from the contract."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from realco.type.v1 import http_pb2
from starlette.responses import Response

from gateway.problems import REPLAYED_HEADER
from gateway.routing import Template
from gateway.wording import in_rest_words
from services.chassis.spelling import json_writer
from services.chassis.spelling.descriptors import has_option, option

_ETAG = "etag"
# Beside every success of a rehearsal: nothing else has to tell it from the deed.
REHEARSED_HEADER = "Validate-Only"


class Answer:
    """The answer to one RPC: 201 for what it created, 202 for what it only asked for, both with `Location`, else 200.

    An RPC may answer an approval or its result: the status is that of what the response has.

    A replayed answer is the first one again, and says so in `Idempotency-Replayed`. What has an `etag` carries it as
    `ETag`, too.

    Raises:
        ValueError: the contract's `created` or `accepted` is no path over fields of the response.
    """

    def __init__(self, method: MethodDescriptor) -> None:
        self.message = method.output_type
        options = {201: http_pb2.created, 202: http_pb2.accepted}
        self.locations = {status: Location(method, one) for status, one in options.items() if has_option(method, one)}
        etag = self.message.fields_by_name.get(_ETAG)
        self.has_etag = etag is not None and etag.type == FieldDescriptor.TYPE_STRING
        self._write = json_writer.writer_of(self.message, in_rest_words)

    def of(self, message: Message, *, replayed: bool, rehearsed: bool = False) -> Response:
        """The HTTP response; `rehearsed` says that the request was only validated, and nothing was created."""
        headers = {REPLAYED_HEADER: "true"} if replayed else {}
        if rehearsed:
            headers[REHEARSED_HEADER] = "true"
        found = {} if rehearsed else {status: path.of(message) for status, path in self.locations.items()}
        status, location = next(((status, path) for status, path in found.items() if path is not None), (200, None))
        if location is not None:
            headers["Location"] = location
        if self.has_etag and (etag := getattr(message, _ETAG)):
            headers["ETag"] = f'"{etag}"'
        return Response(json_writer.dumps(self._write(message)), status, headers, "application/json")


class Location:
    """The path at which what an RPC created, or the approval that it asked for, is read."""

    def __init__(self, method: MethodDescriptor, path: Any) -> None:
        self.template = Template(option(method, path))
        self._fields = [_names_of(method.output_type, path) for path in self.template.variables]

    def of(self, message: Message) -> str | None:
        """None where the response is not about it: it has a result in place of an approval, or the other way round."""
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
