"""What a process says about itself: one JSON line a fact on stdout, counters for Prometheus, the trace it is part of.

Nothing secret leaves here: values are redacted by their type and by the name they are logged under, request bodies are
never logged, and of an exception not the words that repeat values of rows.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Mapping, MutableMapping
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache, partial
from socket import AF_INET, AF_INET6
from types import MappingProxyType
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import orjson
import structlog
from google.protobuf.message import Message
from prometheus_client import Counter, Gauge, Histogram, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer
from pydantic import SecretStr

from services.chassis.process.log_lines import LineHandler, LineLogger, Lines
from services.chassis.process.tracebacks import format_exception

# One scale, so that the time of a request compares with that of its RPCs.
SECONDS_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 2.5, 5, 10)

RPCS = Counter("realco_rpcs_total", "RPCs answered.", ["rpc", "code"])
RPCS_ABOVE_SHARE = Counter(
    "realco_rpcs_above_share_total", "RPCs refused since one peer had its share of all under way.", ["peer"]
)
RPC_SECONDS = Histogram("realco_rpc_seconds", "How long an RPC took.", ["rpc"], buckets=SECONDS_BUCKETS)
MESSAGES_DROPPED = Counter(
    "realco_nats_messages_dropped_total", "Messages of NATS that nobody asked for, or that came too fast.", ["place"]
)
EVENTS_PUBLISHED = Counter("realco_events_published_total", "Events the relay published.", ["area"])
OUTBOX_OLDEST_SECONDS = Gauge("realco_outbox_oldest_seconds", "Age of the oldest event not yet published.", ["area"])
EVENTS_HANDLED = Counter("realco_events_handled_total", "Events handled.", ["consumer", "outcome"])
CONSUMER_OLDEST_SECONDS = Gauge(
    "realco_consumer_oldest_seconds", "Age of the oldest message not yet handled, at least.", ["consumer", "stream"]
)
DEAD_LETTERS = Counter("realco_dead_letters_total", "Events set aside as dead letters.", ["consumer"])
DEAD_LETTERS_WAITING = Gauge(
    "realco_dead_letters_waiting", "Dead letters that were neither replayed nor dismissed.", ["consumer", "about_money"]
)
EVENTS_NOT_PROVEN = Counter(
    "realco_events_not_proven_total", "Events set aside because their service did not sign them.", ["consumer"]
)
ROWS_NOT_SEALED = Counter(
    "realco_rows_not_sealed_total", "Rows found that the service did not write, and did not act upon.", ["place"]
)
UNSEALED_ROWS = Gauge(
    "realco_unsealed_rows", "Rows that were refused since the service did not write them, and are so still.", ["table"]
)
CONSUMER_FAULTS = Gauge(
    "realco_consumer_faults", "What keeps a consumer from going on, by count.", ["consumer", "stream"]
)
STREAM_FAULTS = Gauge("realco_stream_faults", "What is wrong with a stream of events, by count.", ["stream"])
CERTIFICATE_EXPIRES_SECONDS = Gauge(
    "realco_certificate_expires_timestamp_seconds",
    "When the process's certificate expires, in seconds since 1970.",
)
WORK_OVERDUE = Gauge("realco_work_overdue", "Rows whose work ought to be done long since.", ["table"])
JOB_RUNS = Counter("realco_job_runs_total", "Runs of a job.", ["job", "outcome"])

_SECRET_KEY = re.compile(
    r"password|passwd|secret|token|authorization|cookie|api_?key|private|account_number|routing_number|ssn|tax_id"
    r"|date_of_birth|database_url|nats_url",
    re.IGNORECASE,
)
_REDACTED = "[redacted]"
_PLAIN = (str, int, float, type(None))
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")

_traceparent: ContextVar[str] = ContextVar("traceparent", default="")
_request_id: ContextVar[str] = ContextVar("log_request_id", default="")
_bound: ContextVar[Mapping[str, Any]] = ContextVar("log_bound", default=MappingProxyType({}))
_lines = Lines()

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


def current_traceparent() -> str:
    """The W3C trace context of the work in hand; empty outside any."""
    return _traceparent.get()


def current_request_id() -> str:
    """The id the log lines of the current request share; empty outside any."""
    return _request_id.get()


def bind(**values: Any) -> None:
    """Has each line of the work in hand say this, too."""
    _bound.set({**_bound.get(), **values})


def begin_lines() -> None:
    """The lines of what is now in hand say nothing of what was before."""
    _bound.set({})


def write_lines() -> None:
    """Writes what waits to be written to the log."""
    _lines.write()


def continue_trace(traceparent: str | None, request_id: str | None = None) -> None:
    """Joins the caller's trace with a span of our own, or begins one where the caller's is absent or malformed."""
    match = _TRACEPARENT.fullmatch(traceparent or "")
    made = os.urandom(32).hex()  # asked for once: each asking is a call of the system
    trace_id = match.group(1) if match else made[:32]
    ours = request_id if request_id and _REQUEST_ID.fullmatch(request_id) else f"req_{made[48:]}"
    _traceparent.set(f"00-{trace_id}-{made[32:48]}-01")
    _request_id.set(ours)
    bind(trace_id=trace_id, request_id=ours)


def redact(event: Mapping[str, Any]) -> dict[str, Any]:
    """The same facts: no secret, no message body and no bytes get past it."""
    return {key: _redacted(key, value) for key, value in event.items()}


def _redacted(key: str, value: Any) -> Any:
    if isinstance(value, _PLAIN):  # as most of them are
        return _REDACTED if _is_secret(key) else value
    if isinstance(value, SecretStr) or _is_secret(key):
        return _REDACTED
    if isinstance(value, Message | bytes | bytearray | memoryview):
        return f"[{type(value).__name__}]"
    if isinstance(value, dict):
        return {str(inner): _redacted(str(inner), item) for inner, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted(key, item) for item in value]
    return value


@lru_cache(1024)
def _is_secret(key: str) -> bool:
    return _SECRET_KEY.search(key) is not None


def _first_line(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """What a library says, without what it adds below: asyncio repeats there the words of an exception."""
    event["event"] = str(event["event"]).partition("\n")[0]
    return event


_render_exception = structlog.processors.ExceptionRenderer(format_exception)


def _complete(service: str, _: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """All that a line says beside its event. One processor for all of it, since each call of an RPC pays for a line."""
    said = {"service": service, **_bound.get(), **event, "timestamp": datetime.now(UTC)}
    return redact(_render_exception(None, "", said) if "exc_info" in said else said)


def configure_logging(service: str, level: int = logging.INFO) -> None:
    """Sends our lines, and those of the libraries we use, to stdout as JSON."""
    shared: list[Any] = [structlog.processors.add_log_level, partial(_complete, service)]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer(serializer=_to_json_bytes)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: LineLogger(_lines),
        cache_logger_on_first_use=True,
    )
    renderer = structlog.processors.JSONRenderer(serializer=lambda event, **_: _to_json_bytes(event).decode())
    handler = LineHandler(_lines)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_first_line, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def _to_json_bytes(event: Any, **_: Any) -> bytes:
    # repr, not str: a value with a line break must not become a second log line outside of JSON either.
    return orjson.dumps(event, default=repr, option=orjson.OPT_UTC_Z)


_METRICS_READERS_MAX = 8
_METRICS_SECONDS_MAX = 10.0  # for which whoever asks for the counters may say nothing


def serve_metrics(host: str, port: int) -> None:
    """Serves this process's counters at `http://host:port/metrics`, from a thread of its own.

    The thread ends with the process. The library's own wakes twice a second to look whether it is to end before.
    """
    kind = type("Metrics", (_FewAtATime,), {"address_family": AF_INET6 if ":" in host else AF_INET})
    server: ThreadingWSGIServer = make_server(host, port, make_wsgi_app(), kind, handler_class=_SilentHandler)
    threading.Thread(target=server.serve_forever, args=(3600.0,), daemon=True).start()


class _FewAtATime(ThreadingWSGIServer):
    """Closes what comes while it answers some: whoever reaches the port takes no more of the process than that."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._free = threading.BoundedSemaphore(_METRICS_READERS_MAX)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be started
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()


class _SilentHandler(WSGIRequestHandler):
    timeout = _METRICS_SECONDS_MAX

    def log_message(self, *_: Any) -> None:
        """Whoever asks for the counters asks again and again."""
