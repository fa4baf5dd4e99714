"""The REST request that carries the request of any RPC, written from the contract as a client would write it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from gateway.binding import IF_MATCH, Binding

Json = dict[str, Any]


@dataclass(frozen=True)
class RestRequest:
    """What an httpx client is told: `client.request(it.http_method, it.path, headers=it.headers, **it.sent)`."""

    http_method: str
    path: str
    headers: Mapping[str, str]
    sent: Mapping[str, Json]


def write_rest(method: MethodDescriptor, request: Message, *, changes: Json) -> RestRequest:
    """
    Args:
        changes: What the body of a PATCH says where the request says nothing else: its field mask has no place there.
    """
    binding = Binding(method)
    body: Json = MessageToDict(request)
    taken = {one.name: body.pop(one.field.json_name, "") for one in (*binding.path, *binding.headers)}
    values = iter(binding.path)
    steps = (str(taken[next(values).name]) if part is None else part for part in binding.template.segments)
    headers = {one.name: str(taken[one.name]) for one in binding.headers if taken[one.name]}
    if IF_MATCH in headers:
        headers[IF_MATCH] = f'"{headers[IF_MATCH]}"'
    if binding.mask is not None:
        body.pop(binding.mask.json_name)
        body = changes | body
    sent = {"json": body} if binding.body else {"params": body}
    return RestRequest(binding.http_method, "/" + "/".join(steps), headers, sent)
