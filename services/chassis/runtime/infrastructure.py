"""Health and reflection: they say nothing of anybody and ask nobody who they are, so what a caller holds is bounded."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc import aio

from services.chassis.calls import validation
from services.chassis.runtime.wrapping import Context, Handler, build_handler
from services.chassis.values.errors import InvalidField

PREFIXES = ("/grpc.health.v1.Health/", "/grpc.reflection.")
# In which the message of a call has to come: gRPC itself waits for it without end.
MESSAGE_SECONDS = 5.0
# How many streams are open at once, of all callers together, and for how long each.
_STREAMS_MAX, _STREAM_SECONDS = 16, 60.0


async def receive(context: Context) -> bytes:
    """The one message of a unary call. Raises: TimeoutError; InvalidField: the caller ended it without one."""
    async with asyncio.timeout(MESSAGE_SECONDS):
        raw = await context.read()
    if raw is aio.EOF:
        raise InvalidField("The call has no message.", fields={"": "is required"})
    return raw


class Infrastructure:
    """Those handlers of one server."""

    def __init__(self) -> None:
        self._streams = 0

    def wrap(self, handler: Handler) -> Handler:
        answer = self._answer_stream if handler.response_streaming else self._answer_one
        return build_handler(handler, partial(answer, handler))

    async def _answer_one(self, handler: Handler, _requests: Any, context: Context) -> Any:
        async with _in_time(context, MESSAGE_SECONDS):
            return await handler.unary_unary(_read(handler, await receive(context)), context)

    async def _answer_stream(self, handler: Handler, requests: AsyncIterator[bytes], context: Context) -> None:
        if self._streams >= _STREAMS_MAX:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "Too many streams are open.")
        self._streams += 1
        try:
            async with _in_time(context, _STREAM_SECONDS):
                if handler.request_streaming:
                    given = (_read(handler, raw) async for raw in requests)
                    answers = handler.stream_stream(given, context)
                else:
                    answers = handler.unary_stream(_read(handler, await receive(context)), context)
                if not inspect.isasyncgen(answers):
                    await answers
                    return
                async for answer in answers:
                    await context.write(answer)
        finally:
            self._streams -= 1


def _read(handler: Handler, raw: bytes) -> Message:
    """Raises InvalidField."""
    return validation.parse(raw, handler.request_deserializer)


@asynccontextmanager
async def _in_time(context: Context, seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "Time ran out; ask again.")
    except InvalidField as error:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.message)
