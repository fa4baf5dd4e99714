"""What the contracts say in gRPC's words, said in REST's.

Comments of the protos, and the messages of services, name fields as protos spell them, RPCs, and gRPC's codes. Over
REST the same things are called otherwise: a field by its JSON name or its header, an RPC by its method and path, a
code by the HTTP status. A word in backticks that is the `code` of a problem stays: REST spells those the same.
"""

from __future__ import annotations

import re
from functools import cache

import grpc
from google.api import annotations_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from realco.type.v1 import http_pb2

from gateway import contracts
from gateway.statuses import STATUS_OF_CODE, STATUS_OF_REASON
from services.chassis.spelling.descriptors import camel_case, has_option, option

_WORD = re.compile(r"(`?)\b([A-Za-z][A-Za-z0-9]*(?:_[A-Za-z0-9]+)*)\b(`?)")
# A code before a reason that has a status of its own: `ABORTED ETAG_MISMATCH` is 412.
_CODE_OF_REASON = re.compile(rf"\b[A-Z]+(?:_[A-Z]+)*(?=:? `?({'|'.join(STATUS_OF_REASON)})\b)")
# What a comment says in both ways: `etag` (REST: `If-Match`).
_BOTH_WAYS = re.compile(r"`\w+` \(REST: (`[^`]+`)\)")
# Over REST the body of a PATCH is its own mask.
_MASKED = re.compile(r"the fields that `update_mask` names(?: and no others)?")
_SERVICE = re.compile(r"\b[A-Z][A-Za-z]*Service\.(?=[A-Z])")
_VARIABLE = re.compile(r"\{([^}=]+)[^}]*\}")
_STATUSES = {code.name: str(status) for code, status in STATUS_OF_CODE.items()}
# What says more about a failure: messages to gRPC, a member and a header to REST.
_DETAILS = {"BadRequest": "`errors`", "ErrorInfo": "`code` and `metadata`", "RetryInfo": "`Retry-After`"}
# Also words of the business: a transaction is CANCELLED.
_AMBIGUOUS = (grpc.StatusCode.CANCELLED.name, grpc.StatusCode.UNKNOWN.name)


def in_rest_words(text: str, message: Descriptor | None = None) -> str:
    """The text as a user of REST reads it.

    Args:
        text: A comment, or a message of a service.
        message: Whose fields the text is about, where it is known: a field can be a header of one request and
            a member of another's body.
    """

    def say(match: re.Match[str]) -> str:
        opening, word, closing = match.groups()
        if word in _operations():
            return f"`{_operations()[word]}`"
        if word in _field_names():
            return f"{opening}{name_of_field(word, message)}{closing}"
        if word in _DETAILS:
            return _DETAILS[word]
        if word in _STATUSES and word not in _AMBIGUOUS and not opening:
            return f"{_STATUSES[word]}{closing}"
        return match.group()

    text = _MASKED.sub("the fields that the body has", _BOTH_WAYS.sub(r"\1", text))
    text = _CODE_OF_REASON.sub(lambda match: str(STATUS_OF_REASON[match.group(1)]), text)
    return _WORD.sub(say, _SERVICE.sub("", text))


def name_of_field(name: str, message: Descriptor | None = None) -> str:
    """What REST calls a field of the message, its header or JSON name; or of one within it (`each item's`)."""
    field = _find_field(name, message) if message is not None else None
    if field is None:
        return _headers().get(name) or camel_case(name)
    is_within = field.containing_type is not message
    return ("" if is_within else str(option(field, http_pb2.header))) or field.json_name


def _find_field(name: str, message: Descriptor) -> FieldDescriptor | None:
    found = (one.fields_by_name.get(name) for one in (message, *contracts.messages_within([message])))
    return next((field for field in found if field is not None), None)


@cache
def _operations() -> dict[str, str]:
    """The name of each RPC that has a route -> `GET /api/v1/escrow-accounts/{escrowAccountId}`."""
    found = {}
    for method in contracts.methods():
        rule = option(method, annotations_pb2.http)
        verb = str(rule.WhichOneof("pattern"))
        path = _VARIABLE.sub(lambda match: f"{{{camel_case(match.group(1))}}}", getattr(rule, verb))
        found[method.name] = f"{verb.upper()} {path}"
    return found


@cache
def _field_names() -> frozenset[str]:
    """Every field name of the contracts that JSON spells otherwise."""
    return frozenset(field.name for message in contracts.messages() for field in message.fields if "_" in field.name)


@cache
def _headers() -> dict[str, str]:
    return {
        field.name: option(field, http_pb2.header)
        for message in contracts.messages()
        for field in message.fields
        if has_option(field, http_pb2.header)
    }
