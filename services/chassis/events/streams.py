"""Every call to NATS but a reader's: the connection that never gives up, what streams are, publishing a batch at once.

Streams are one an area (`realco.escrow.v1.>` is ESCROW); a subject ends with the organization and the scope. A publish
counts only when the stream acknowledged it; no answer means unknown, and the same ids are sent again.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import nats
from nats.aio.client import NATS_HDR_LINE, Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from services.chassis.events.dropped import Dropped
from services.chassis.events.stored import stream_of_area
from services.chassis.events.subjects import EVENTS_ACCOUNT
from services.chassis.process.telemetry import log
from services.chassis.values.errors import BootError

MESSAGE_ID = "Nats-Msg-Id"
# Where answers arrive, as the log calls it.
INBOX = "inbox"
_PUBLISH_SECONDS = 5.0
# Of one subscription. Whatever hears here takes it at once, so no more waits than comes at one time from the network.
_WAITING_MESSAGES_MAX, _WAITING_BYTES_MAX = 10_000, 8 * 1024 * 1024
# In a minute: answers that came when nobody waited for them any more.
_LATE_ANSWERS_MAX = 1_000


def area_of(event_type: str) -> str:
    """The service that tells an event: `realco.escrow.v1.HoldPlaced` -> `escrow`."""
    return event_type.split(".")[1]


def stream_of(event_type: str) -> str:
    """The stream of an event: `realco.escrow.v1.HoldPlaced` -> `ESCROW`."""
    return stream_of_area(area_of(event_type)).name


def inbox_prefix_of(url: str) -> bytes:
    """Where the answers for a connection arrive: each user of NATS hears its own only."""
    user = urlsplit(url).username
    return f"_INBOX_{user}".encode() if user else b"_INBOX"


class _Client(Client):
    """nats-py's, which outlives whatever headers a message has, and however many messages come."""

    def __init__(self) -> None:
        super().__init__()
        self.dropped = Dropped()

    async def subscribe(  # nats-py's
        self,
        subject: str,
        queue: str = "",
        cb: Callable[[Msg], Awaitable[None]] | None = None,
        future: asyncio.Future[Any] | None = None,
        max_msgs: int = 0,
        pending_msgs_limit: int = _WAITING_MESSAGES_MAX,
        pending_bytes_limit: int = _WAITING_BYTES_MAX,
    ) -> Subscription:
        """What waits to be taken is bounded; nats-py's own bound is 128 MiB for each subscription."""
        return await super().subscribe(subject, queue, cb, future, max_msgs, pending_msgs_limit, pending_bytes_limit)

    async def flush(self, timeout: int = 10) -> None:
        """nats-py's PING overtakes what waits to be written: its PONG would say nothing of a subscription before it."""
        await self._flush_pending(force_flush=True)
        await super().flush(timeout)

    async def _request_sub_callback(self, message: Msg) -> None:
        """An answer to `request`: whoever has the same password hears where it arrives, and can send more there."""
        if message.subject.rpartition(".")[2] not in self._resp_map:
            self.dropped.note(INBOX, few=_LATE_ANSWERS_MAX)
        await super()._request_sub_callback(message)

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        """As nats-py's, which looks at each character of a name: a service spent a sixteenth of its time so."""
        found = {}
        for line in raw.split(b"\r\n"):
            name, colon, value = line.partition(b":")
            if colon and name.isascii() and (key := name.strip().decode()).split() == [key]:
                found[key] = value.strip().decode("utf-8", "replace")
        return found

    async def _process_headers(self, headers: bytes | None) -> dict[str, str] | None:
        """Whoever publishes can make headers that nats-py fails on: the connection of all who read them would end."""
        if headers and not headers.startswith(NATS_HDR_LINE):  # it would take as much of the first header for that
            return self._parse_header_lines(headers)
        try:
            found: dict[str, str] | None = await super()._process_headers(headers)
        except (ValueError, IndexError):
            assert headers is not None  # else there is nothing to fail on
            return self._parse_header_lines(headers)
        return found


async def connect(url: str, name: str, *, timeout_seconds: float | None = 30, hears_itself: bool = True) -> Client:
    """A connection that reconnects for ever.

    Args:
        timeout_seconds: For the first connection; None: for ever, too.
        hears_itself: What it says is delivered to its own subscriptions as well.

    Raises:
        BootError: there was none in time.
    """
    client, inbox = _Client(), inbox_prefix_of(url)
    failures: list[str] = []

    async def on_error(error: Exception) -> None:
        if isinstance(error, nats.errors.SlowConsumerError):  # one for each message
            heard = error.sub.subject
            client.dropped.note(INBOX if heard.startswith(inbox.decode()) else heard)
            return
        failure = str(error) or type(error).__name__
        if failures != [failure]:  # while it is away, it says the same four times a second
            log.warning("nats_error", error=failure)
        failures[:] = [failure]

    async def on_change() -> None:
        failures.clear()
        log.info("nats_connection", connected=client.is_connected)

    try:
        async with asyncio.timeout(timeout_seconds):
            await client.connect(
                servers=[url],
                name=name,
                no_echo=not hears_itself,
                inbox_prefix=inbox,
                error_cb=on_error,
                disconnected_cb=on_change,
                reconnected_cb=on_change,
                max_reconnect_attempts=-1,
                reconnect_time_wait=0.25,  # type: ignore[arg-type]  # annotated int, used as seconds to sleep
                connect_timeout=2,
                ping_interval=3,
                max_outstanding_pings=2,
            )
    except (TimeoutError, nats.errors.Error, OSError) as error:
        reason = failures[0] if failures else str(error) or type(error).__name__
        raise BootError(f"NATS cannot be reached with NATS_URL: {reason}") from None
    return client


def jetstream(client: Client, timeout: float = 5) -> JetStreamContext:
    """JetStream of the account that holds the streams, as the provisioner and the services reach it."""
    return client.jetstream(domain=EVENTS_ACCOUNT, timeout=timeout)


async def fetch_stream(js: JetStreamContext, stream: str) -> dict[str, Any] | None:
    """What the server says of a stream, word for word: nats-py leaves out what it does not know. None: it has none."""
    return await _fetch(js, f"STREAM.INFO.{stream}")


async def fetch_consumer(js: JetStreamContext, stream: str, consumer: str) -> dict[str, Any] | None:
    """The same of a consumer."""
    return await _fetch(js, f"CONSUMER.INFO.{stream}.{consumer}")


async def _fetch(js: JetStreamContext, question: str) -> dict[str, Any] | None:
    try:
        answer: dict[str, Any] = await js._api_request(f"{js._prefix}.{question}", timeout=js._timeout)
    except NotFoundError:
        return None
    return answer


async def fetch_stream_names(js: JetStreamContext) -> list[str]:
    """The names of all streams of the account."""
    return [str(name) for name in await _list(js, "STREAM.NAMES", "streams")]


async def fetch_consumer_names(js: JetStreamContext, stream: str) -> list[str]:
    """The names of all consumers of a stream that the server tells of, durable or not; none where it is not there."""
    try:
        return [str(one["name"]) for one in await _list(js, f"CONSUMER.LIST.{stream}", "consumers")]
    except NotFoundError:
        return []


async def _list(js: JetStreamContext, question: str, what: str) -> list[Any]:
    """All pages of what the server says, word for word."""
    found: list[Any] = []
    while True:
        body = json.dumps({"offset": len(found)}).encode()
        answer = await js._api_request(f"{js._prefix}.{question}", body, timeout=js._timeout)
        page = answer.get(what) or []
        found += page
        if not page or len(found) >= answer["total"]:
            return found


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message on its way to a stream."""

    subject: str
    payload: bytes
    headers: dict[str, str]


class BatchRefused(Exception):
    """The stream took none of the batch, or did not say so of this one."""


class Acknowledged(NamedTuple):
    """What an acknowledgement says of one message. Who has a password of ours can aim one of another message at us."""

    sequence: int
    is_duplicate: bool  # the stream knew the id already, and stored nothing


async def publish_batch(js: JetStreamContext, stream: str, messages: Sequence[Outgoing]) -> None:
    """Publishes all of them, in order, or none: one fsync for the whole batch.

    Source: NATS ADR-50, atomic batch publish.

    Raises:
        BatchRefused: the stream answered no, for instance because it has one of the ids already.
        nats.errors.Error, TimeoutError: unknown; send the same ids again.
    """
    batch = uuid.uuid4().hex
    common = {"Nats-Expected-Stream": stream, "Nats-Batch-Id": batch}
    *body, last = messages
    for sequence, message in enumerate(body, start=1):
        headers = {**message.headers, **common, "Nats-Batch-Sequence": str(sequence)}
        await client_of(js).publish(message.subject, message.payload, headers=headers)
    headers = {**last.headers, **common, "Nats-Batch-Sequence": str(len(messages)), "Nats-Batch-Commit": "1"}
    reply = await client_of(js).request(last.subject, last.payload, timeout=_PUBLISH_SECONDS, headers=headers)
    ack = json.loads(reply.data)
    if "error" in ack:
        raise BatchRefused(str(ack["error"].get("description", "")))
    # Nobody else knows the batch's id, so no acknowledgement of another batch is taken for this one's.
    if (ack.get("stream"), ack.get("batch"), ack.get("count")) != (stream, batch, len(messages)):
        raise BatchRefused("the stream acknowledged something else")


async def publish_one(js: JetStreamContext, stream: str, message: Outgoing) -> Acknowledged:
    """Publishes one message. It counts as stored once `has_stored` says so."""
    ack = await js.publish(
        message.subject, message.payload, timeout=_PUBLISH_SECONDS, stream=stream, headers=dict(message.headers)
    )
    return Acknowledged(ack.seq, bool(ack.duplicate))


async def has_stored(js: JetStreamContext, stream: str, sequence: int, message: Outgoing) -> bool:
    """Whether the stream has the message under that number: it remembers an id for longer than what had it."""
    try:
        there = await js.get_msg(stream, sequence)
    except NotFoundError:
        return False
    return (there.subject, there.data or b"") == (message.subject, message.payload)


def client_of(js: JetStreamContext) -> Client:
    """The connection below a JetStream context, which keeps it private."""
    client: Client = js._nc
    return client
