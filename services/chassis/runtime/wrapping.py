"""What an interceptor puts around the handler of an RPC: made once for each RPC, at its first call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from grpc import aio

# The library's types do not say that an aio handler takes an aio context, or that a unary one has its function.
Handler = Any
Context = aio.ServicerContext[Any, Any]
Answer = Callable[[Any, Context], Awaitable[Any]]


class WrapsOnce(aio.ServerInterceptor):
    """An interceptor that says in `wrap` what it puts around a handler."""

    def __init__(self) -> None:
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        method = handler_call_details.method
        known = self._wrapped.get(method)
        if known is not None:
            return known
        handler = await continuation(handler_call_details)
        if handler is None:  # gRPC says that there is no such RPC
            return None
        self._wrapped[method] = wrapped = self.wrap(method, handler)
        return wrapped

    def wrap(self, method: str, handler: Handler) -> Handler:
        """The handler that answers in its place, once and for all calls of this RPC."""
        raise NotImplementedError


def build_handler(handler: Handler, answer: Answer) -> Handler:
    """One that answers by `answer` what `handler` would, be it one message or several.

    It begins with the call and takes the messages itself, as bytes: gRPC would wait for them without end, before it is
    known who calls, and would itself answer what does not parse.
    """
    wrap = grpc.stream_stream_rpc_method_handler if handler.response_streaming else grpc.stream_unary_rpc_method_handler
    return wrap(answer, response_serializer=handler.response_serializer)
