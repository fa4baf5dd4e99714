"""One REST request to one RPC and back: admitted, read strictly, validated, called, written; whichever RPC it is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from google.api.field_behavior_pb2 import INPUT_ONLY, field_behavior
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from grpc import aio
from realco.type.v1 import access_pb2, approval_pb2
from starlette.requests import Request
from starlette.responses import Response

from gateway import contracts
from gateway.answers import Answer
from gateway.binding import VALIDATE_ONLY_FIELD, Binding
from gateway.csv_columns import MEDIA_TYPE as CSV_TYPE
from gateway.csv_export import Export, ExportRoom, find_listed, prefers_csv
from gateway.csv_import import CsvBinding, find_rows
from gateway.guard import Caller, Guard, address_of
from gateway.problems import http_only, of_rpc_error, too_large, unsupported_type
from gateway.settings import Settings
from gateway.under_way import UnderWay
from gateway.upstream import Unary, Upstream
from services.chassis.calls import validation
from services.chassis.calls.access import Rule, rules_of
from services.chassis.calls.serving import server_of
from services.chassis.process import telemetry
from services.chassis.spelling.descriptors import option

_JSON_TYPE = "application/json"
_BODY_BYTES_SMALL = 32 * 1024


def endpoints(settings: Settings, guard: Guard, upstream: Upstream, under_way: UnderWay) -> list[RpcEndpoint]:
    """One endpoint for each RPC that has a REST route.

    Raises:
        BootError: an RPC has no access rule.
        TypeError, ValueError: the contract asks for what this gateway does not carry.
    """
    rules = rules_of(contracts.services())
    found, room = [], ExportRoom()
    for method in contracts.methods():
        rule = rules[f"/{method.containing_service.full_name}/{method.name}"]
        unary = upstream.unary(server_of(method.containing_service), method)
        found.append(RpcEndpoint(method, rule, settings, guard, unary, under_way, room))
    return found


def is_guarded(method: MethodDescriptor) -> bool:
    """Whether few calls of a person are enough: the decisions of a second person, what takes an account number or a
    secret, and what says so."""
    decides = option(method, approval_pb2.four_eyes).WhichOneof("decision") == "second_person"
    says_so = option(method, access_pb2.access).guarded
    return decides or says_so or any(INPUT_ONLY in option(field, field_behavior) for field in method.input_type.fields)


class RpcEndpoint:
    """The REST face of one RPC, with everything that can be compiled before the first request."""

    def __init__(
        self,
        method: MethodDescriptor,
        rule: Rule,
        settings: Settings,
        guard: Guard,
        unary: Unary,
        under_way: UnderWay,
        room: ExportRoom,
    ) -> None:
        """`room` is taken by each file that is being gathered."""
        self.binding = Binding(method)
        self.rule = rule
        self.label = self.binding.template.text
        self._guard = guard
        self._unary = unary
        self._under_way = under_way
        self._answer = Answer(method)
        listed, items = find_listed(method), find_rows(method)
        self._export = None if listed is None else Export(listed, room)
        self._csv = None if items is None else CsvBinding(method, items)
        self._body_bytes_max = settings.batch_bytes_max if self.binding.takes_batch else settings.body_bytes_max
        self._guarded = is_guarded(method)
        # A body that never ends is told so (408) while there is still time to: the other half is for the service.
        self._receive_seconds_max = min(settings.receive_seconds_max, settings.request_seconds_max / 2)
        validation.warm_up([self.binding.request_class])

    async def __call__(self, request: Request, values: Sequence[str]) -> Response:
        caller = await self._guard.admit_caller(request, self.rule, guarded=self._guarded)
        body = await self._receive(request)
        binding = self._choose_binding(request) if body else self.binding
        read = partial(binding.message, values, request.scope["query_string"], request.headers, body)
        # The others do not wait for who sends a thousand items.
        message = await asyncio.to_thread(read) if len(body) > _BODY_BYTES_SMALL else read()
        if caller is not None:
            await self._guard.admit_items(request, caller, binding.count_items(message))
        if self._export is not None and prefers_csv(request.headers):
            return await self._answer_csv(self._export, request, caller, message)
        response, replayed = await self._ask(binding, caller, message)
        return self._answer.of(response, replayed=replayed, rehearsed=getattr(message, VALIDATE_ONLY_FIELD, False))

    async def _ask(self, binding: Binding, caller: Caller | None, message: Message) -> tuple[Message, bool]:
        try:
            return await self._unary(message, _metadata(caller))
        except aio.AioRpcError as error:
            raise binding.tell(of_rpc_error(error, binding.fault)) from error

    async def _answer_csv(self, export: Export, request: Request, caller: Caller | None, message: Message) -> Response:
        is_first = True

        async def ask(message: Message) -> Message:
            nonlocal is_first
            if caller is not None and not is_first:  # each page counts as a request, of which the first was counted
                await self._guard.admit_items(request, caller, 2)
            is_first = False
            return (await self._ask(self.binding, caller, message))[0]

        who = "" if caller is None else f"{caller.principal.org_id}/{caller.principal.person}"
        return await export.answer(message, who, ask)

    def _choose_binding(self, request: Request) -> Binding:
        """How the body is read, by its type."""
        if self.binding.raw_body or _is_of_type(request, _JSON_TYPE):
            return self.binding
        if self._csv is None:
            raise unsupported_type([_JSON_TYPE])
        if not _is_of_type(request, CSV_TYPE, "header=present"):
            raise unsupported_type([_JSON_TYPE, CSV_TYPE])
        return self._csv

    async def _receive(self, request: Request) -> bytes:
        """The body, whole, of an allowed size, in time."""
        headers = request.headers
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._body_bytes_max:
            raise too_large(self._body_bytes_max)
        chunks: list[bytes] = []
        size = 0
        try:
            async with self._under_way.receive(address_of(request), self._receive_seconds_max):
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > self._body_bytes_max:
                        raise too_large(self._body_bytes_max)
                    chunks.append(chunk)
        except TimeoutError:
            raise http_only("REQUEST_TIMEOUT") from None
        return b"".join(chunks)


def _is_of_type(request: Request, wanted: str, *more: str) -> bool:
    """Whether the body is of this media type, in UTF-8 and not compressed; `more` may stand behind it."""
    types = request.headers.getlist("content-type")
    if len(types) != 1 or request.headers.get("content-encoding", "identity").lower() != "identity":
        return False
    media_type, *parameters = [part.strip().lower() for part in types[0].split(";")]
    known = ("charset=utf-8", 'charset="utf-8"', "", *more)
    return media_type == wanted and all(parameter in known for parameter in parameters)


def _metadata(caller: Caller | None) -> list[tuple[str, str]]:
    metadata = [
        ("traceparent", telemetry.current_traceparent()),
        ("x-request-id", telemetry.current_request_id()),
    ]
    if caller is not None:
        metadata.append(("authorization", f"Bearer {caller.token}"))
    return metadata
