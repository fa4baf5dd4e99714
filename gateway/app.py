"""The ASGI application: finds the endpoint, keeps the time, and sends every failure out by one door as a problem.

Every answer carries the request's id and the headers that keep a browser from doing more with it than showing it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import NamedTuple

from prometheus_client import Counter, Histogram
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from gateway import problems
from gateway.guard import Guard
from gateway.problems import Problem
from gateway.routing import Router, Template
from gateway.settings import Settings
from gateway.under_way import UnderWay
from services.chassis.calls.deadline import set_deadline
from services.chassis.process import telemetry
from services.chassis.process.telemetry import SECONDS_BUCKETS, log

Endpoint = Callable[[Request, Sequence[str]], Awaitable[Response]]

REQUESTS = Counter("realco_http_requests_total", "HTTP requests answered.", ["method", "route", "status"])
REQUEST_SECONDS = Histogram(
    "realco_http_request_seconds", "How long an HTTP request took.", ["route"], buckets=SECONDS_BUCKETS
)
_SECURITY_HEADERS = [
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"strict-transport-security", b"max-age=31536000; includeSubDomains"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
]
HEADER_BYTES_MAX = 32 * 1024
_HEADERS_MAX = 100
_DISCARD_BYTES_MAX = 16 * 1024 * 1024
_DISCARD_SECONDS_MAX = 1.0
_NOWHERE = "none"  # the route label of paths that lead nowhere: callers must not make up label values
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class _Route(NamedTuple):
    label: str
    endpoint: Endpoint
    always: bool


class Gateway:
    """Routes requests to endpoints."""

    def __init__(self, settings: Settings, guard: Guard, under_way: UnderWay) -> None:
        self._guard = guard
        self._under_way = under_way
        self._seconds_max = settings.request_seconds_max
        self._router: Router[_Route] = Router()

    def add(self, method: str, template: Template, endpoint: Endpoint, *, always: bool = False) -> None:
        """`always`: it is answered however many requests are under way, so it asks nobody."""
        self._router.add(method, template, _Route(template.text, endpoint, always))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"no {scope['type']} here")
        started = time.perf_counter()
        body = _Body(receive)
        request = Request(scope, body)
        telemetry.begin_lines()
        telemetry.continue_trace(request.headers.get("traceparent"), request.headers.get("x-request-id"))
        set_deadline(self._seconds_max)
        routed: list[str] = []
        try:
            response = await self._answer(request, routed)
        except ClientDisconnect:
            return
        _add_headers(response, await self._guard.list_headers(request))
        await body.discard_rest()
        self._record(request, response, routed[0] if routed else _NOWHERE, time.perf_counter() - started)
        await response(scope, receive, send)

    async def _answer(self, request: Request, routed: list[str]) -> Response:
        """Never raises but for a caller that went away."""
        try:
            async with asyncio.timeout(self._seconds_max):
                return await self._dispatch(request, routed)
        except Problem as problem:
            return problem.response(telemetry.current_request_id())
        except ClientDisconnect:
            raise
        except TimeoutError:
            late = Problem(504, "DEADLINE_EXCEEDED", "There was no answer in time. It may have happened.")
            return late.response(telemetry.current_request_id())
        except Exception as error:  # the last mapper: the caller gets an id, the log everything
            bug = problems.internal()
            log.error("internal_error", error_id=bug.metadata["error_id"], exc_info=error)
            return bug.response(telemetry.current_request_id())

    async def _dispatch(self, request: Request, routed: list[str]) -> Response:
        _refuse_large_headers(request)
        _refuse_two_lengths(request)
        raw_path = request.scope.get("raw_path") or request.scope["path"].encode()
        await self._guard.admit_address(request)
        route, values = self._router.find(request.method, raw_path)
        routed.append(route.label)
        with nullcontext() if route.always else self._under_way.take():
            return await route.endpoint(request, values)

    def _record(self, request: Request, response: Response, route: str, seconds: float) -> None:
        method = request.method if request.method in _METHODS else "other"
        REQUESTS.labels(method, route, response.status_code).inc()
        REQUEST_SECONDS.labels(route).observe(seconds)
        log.info("http", method=method, route=route, status=response.status_code, duration_ms=round(seconds * 1000, 2))


def _add_headers(response: Response, allowance: Mapping[str, str]) -> None:
    response.headers.update(allowance)
    own = {name for name, _ in response.raw_headers}
    response.raw_headers.extend(header for header in _SECURITY_HEADERS if header[0] not in own)
    response.raw_headers.append((b"x-request-id", telemetry.current_request_id().encode()))


class _Body:
    """Receives a request's body, and knows whether it has ended."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._ended = False

    async def __call__(self) -> Message:
        message = await self._receive()
        self._ended = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def discard_rest(self) -> None:
        """Reads what an early answer left, within reason.

        A connection closed on unread bytes is reset, and the caller would never see the answer.
        """
        size = 0
        try:
            async with asyncio.timeout(_DISCARD_SECONDS_MAX):
                while not self._ended and size < _DISCARD_BYTES_MAX:
                    size += len((await self()).get("body", b""))
        except TimeoutError:
            return


def _refuse_large_headers(request: Request) -> None:
    """The server's own limit holds only while they arrive; headers that came at once pass it."""
    headers = request.scope["headers"]
    size = sum(len(name) + len(value) for name, value in headers)
    if size > HEADER_BYTES_MAX or len(headers) > _HEADERS_MAX:
        raise problems.http_only("HEADERS_TOO_LARGE")


def _refuse_two_lengths(request: Request) -> None:
    """A body whose end can be read in two ways is how one request is smuggled inside another."""
    if "content-length" in request.headers and "transfer-encoding" in request.headers:
        problem = problems.invalid_body("has both a Content-Length and a Transfer-Encoding")
        problem.headers["Connection"] = "close"
        raise problem
