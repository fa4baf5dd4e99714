"""Every call to NATS: the connection that never gives up, publishing a batch at once, reading a stream in order.

Streams are one an area (`realco.escrow.v1.>` is ESCROW); a subject ends with the organization and the scope. A publish
counts only when the stream acknowledged it; no answer means unknown, and the same ids are sent again.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import nats
from nats.aio.client import NATS_HDR_LINE, Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from services.chassis.events.stored import stream_of_area
from services.chassis.events.subjects import EVENTS_ACCOUNT
from services.chassis.process.telemetry import log
from services.chassis.values.errors import BootError

MESSAGE_ID = "Nats-Msg-Id"
_PUBLISH_SECONDS = 5.0
_READ_SECONDS = 2.0
_READ_BYTES_MAX = 4 * 1024 * 1024
_STREAM, _SEQUENCE, _SUBJECT = "Nats-Stream", "Nats-Sequence", "Nats-Subject"
_STORED_AT, _FOLLOWING = "Nats-Time-Stamp", "Nats-Num-Pending"
# How an answer to a reader ends: there are no more, or there is none.
_ENDS = ("204", "404")


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
    """nats-py's, which outlives whatever headers a message has."""

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
    client = _Client()
    failures: list[str] = []

    async def on_error(error: Exception) -> None:
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
                inbox_prefix=inbox_prefix_of(url),
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


class Heard(NamedTuple):
    """A message as a stream has it.

    Args:
        following: How many it had after this one when it was read.
        stored_at: When it stored it, as the server says it.
    """

    sequence: int
    following: int
    stored_at: str
    subject: str
    headers: dict[str, str]
    data: bytes


class Gap(Exception):
    """The stream does not have the next message, and has later ones.

    Args:
        through: The last one that it does not have; None where nobody can say which these are.
    """

    def __init__(self, why: str, through: int | None = None) -> None:
        self.through = through
        super().__init__(why)


class Replaced(Gap):
    """The stream was put back: it has another message under the number that was read last."""


class Reader:
    """Reads a stream in order, from wherever it is asked to. The server keeps nothing of that, so nobody can tell it
    that something was read, or that it begins elsewhere.

    Source: NATS ADR-31, batched direct get.
    """

    def __init__(self, js: JetStreamContext, stream: str) -> None:
        self._client, self._subject = client_of(js), f"{js._prefix}.DIRECT.GET.{stream}"
        self._stream = stream
        self._inbox = self._client.new_inbox()
        self._answers: asyncio.Queue[Msg] = asyncio.Queue()

    async def __aenter__(self) -> Reader:
        self._subscription = await self._client.subscribe(f"{self._inbox}.*", cb=self._answers.put)
        return self

    async def __aexit__(self, *_: object) -> None:
        if not self._client.is_closed:
            await self._subscription.unsubscribe()

    async def read(self, after: int, most: int, stored_at: str = "") -> list[Heard]:
        """The messages that follow `after`, at most so many; none where the stream ends there.

        Args:
            stored_at: When the message `after` was stored, which is looked at once more; empty: nobody knows.

        Raises:
            Gap: there are later ones, and not the next; or another message is `after`; or another stream answers.
            nats.errors.Error, TimeoutError: unknown.
        """
        # Nobody knows it before this asks: who has the same password could answer first.
        reply = f"{self._inbox}.{secrets.token_hex(16)}"
        known = 1 if stored_at else 0
        wanted = {"seq": after + 1 - known, "batch": most + known, "max_bytes": _READ_BYTES_MAX}
        await self._client.publish(self._subject, json.dumps(wanted).encode(), reply=reply)
        found, foreign = list[Heard](), ""
        async with asyncio.timeout(_READ_SECONDS):
            while True:
                answer = await self._answers.get()
                if answer.subject != reply:  # of an earlier question, which was given up
                    continue
                # The server's own headers come last and count, whatever the message says in their names.
                headers = answer.headers or {}
                if _SEQUENCE not in headers:
                    if headers.get("Status") not in _ENDS:
                        raise nats.errors.Error(f"no stream answers: {headers}")
                    if foreign and not found:
                        raise Gap(f"has {foreign!r} answer for it")
                    return found
                sequence = int(headers[_SEQUENCE])
                # A mirror of it answers, too, if somebody made one; and who has the same password has others sent here.
                if headers.get(_STREAM) != self._stream:
                    foreign = str(headers.get(_STREAM))
                    continue
                if known and sequence == after and headers[_STORED_AT] != stored_at:
                    raise Replaced(f"has another message {after} than the one that was handled")
                if sequence <= after + len(found):
                    continue
                if sequence > after + len(found) + 1:
                    if found:  # it is told when it is the next
                        return found
                    raise Gap(f"lacks what comes after {after}, up to {sequence - 1}", sequence - 1)
                following, stored = int(headers[_FOLLOWING]), headers[_STORED_AT]
                found.append(Heard(sequence, following, stored, headers[_SUBJECT], headers, answer.data))


def client_of(js: JetStreamContext) -> Client:
    """The connection below a JetStream context, which keeps it private."""
    client: Client = js._nc
    return client
