"""Events in: each is delivered at least once and applied once, in the order of its stream.

- The inbox row and the effect are one transaction; the acknowledgement comes after its commit.
- One message of a durable is in flight at a time, over all processes that share it (durables.py), so nothing overtakes
  a message that is being retried.
- An event that its service did not sign is not even read (signatures.py).
- An event that the inbox does not know, and that is older than it remembers, is not handled: it may have been, long ago
  (data/retention.py).
- What fails for a reason that passes (a server away, a lost race, a schema that lacks what we ask for) is retried for
  as long as it lasts; what fails for another reason is retried ATTEMPTS_MAX times; what can never succeed (it is not
  signed, it does not parse, it is too old, a rule refuses it) is not retried. Then the message is kept as a dead
  letter, with the cause (data/letters.py), and is done.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol

import nats.errors
from google.protobuf.message import DecodeError, Message
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from realco.type.v1.event_pb2 import EventMeta
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import acting_as, is_organization, service_principal
from services.chassis.calls.wire import from_timestamp
from services.chassis.data.database import Database
from services.chassis.data.database_errors import is_transient, is_unprepared, sqlstate
from services.chassis.data.incarnation import read_incarnation
from services.chassis.data.letters import Letter, set_aside
from services.chassis.data.once import first_delivery
from services.chassis.data.positions import OutOfTurn, record_held, record_position
from services.chassis.data.retention import EVENT_AGE_DAYS_MAX
from services.chassis.events import streams
from services.chassis.events.durables import ACK_WAIT_SECONDS, HELD_SECONDS
from services.chassis.events.signatures import EventKeys, NotProven
from services.chassis.events.stored import POSITIONS, Stream, stream_of_area
from services.chassis.events.stream_watch import CHECK_SECONDS, Faults
from services.chassis.events.watch import Watch
from services.chassis.process import telemetry
from services.chassis.process.health import Alarms
from services.chassis.process.loops import backoff_seconds, repeat_work, wait_for_any
from services.chassis.process.telemetry import log
from services.chassis.values.clock import Clock
from services.chassis.values.errors import DomainError, OfNewerRelease
from services.chassis.values.position import Lives, Position

ATTEMPTS_MAX = 7
_ACK_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a handler knows of an event beside its message. It acts in the event's organization, for its actor."""

    now: datetime  # business time of handling
    attempt: int = 1  # 1 at first


# (tx, event, delivery) -> None. Local database work only: it may run again, and remote calls belong to jobs.
Handler = Callable[[AsyncConnection, Any, Delivery], Awaitable[None]]


@dataclass(frozen=True)
class Subscription:
    """The events one durable consumer handles, and how. Its streams follow from the events' names.

    Args:
        is_about_money: A book, or what is owed or paid, is wrong where one of them is not handled.
    """

    durable: str
    handlers: Mapping[type[Message], Handler]
    is_about_money: bool

    def subjects_by_stream(self) -> dict[str, list[str]]:
        """Stream -> subjects that have handlers: what the provisioner makes consumers of this name from."""
        found: dict[str, list[str]] = {}
        for event in self.handlers:
            event_type = event.DESCRIPTOR.full_name
            found.setdefault(streams.stream_of(event_type), []).append(f"{event_type}.>")
        return {stream: sorted(subjects) for stream, subjects in sorted(found.items())}

    def has_handler_of(self, subject: str) -> bool:
        event_type = streams.event_type_of(subject)
        return any(event.DESCRIPTOR.full_name == event_type for event in self.handlers)

    def handler_of(self, subject: str) -> tuple[type[Message], Handler]:
        event_type = streams.event_type_of(subject)
        for event, handler in self.handlers.items():
            if event.DESCRIPTOR.full_name == event_type:
                return event, handler
        raise Malformed("no handler for this subject")


def list_streams(area: str, subscriptions: Sequence[Subscription]) -> list[Stream]:
    """Those that the service `area` reads and writes."""
    heard = {streams.area_of(event.DESCRIPTOR.full_name) for one in subscriptions for event in one.handlers}
    return [*(stream_of_area(name) for name in sorted(heard | {area})), POSITIONS]


class Told(Protocol):
    """An event as it came, or as it was set aside."""

    @property
    def subject(self) -> str: ...

    @property
    def headers(self) -> Mapping[str, str] | None: ...

    @property
    def data(self) -> bytes: ...


class Malformed(Exception):
    """The message can never be handled, however often it is tried."""


class TooOld(Exception):
    """Nobody knows any more whether the event was handled; a person finds out, and says so."""


# What fails again however often it is tried, unless it is of a kind that passes.
_HOPELESS = (DomainError, DecodeError, Malformed, NotProven, OfNewerRelease, TooOld)


def _passes(error: Exception) -> bool:
    """Whether it says nothing about the event: one that moved money is not given up for it."""
    if isinstance(error, DomainError):
        return error.kind.transient
    return is_transient(error) or is_unprepared(error)


async def run_subscription(
    database: Database,
    js: JetStreamContext,
    subscription: Subscription,
    keys: EventKeys,
    clock: Clock,
    stop: asyncio.Event,
    work_due: asyncio.Event,
    faults: Faults,
    alarms: Alarms,
    check_seconds: float = CHECK_SECONDS,
) -> None:
    """Handles events until `stop` is set, through restarts of PostgreSQL and NATS.

    Args:
        work_due: Set after each event.
        faults: What is wrong with its consumers, as long as it is.
        alarms: Names those that have failed for minutes, as long as they do.
        check_seconds: How often its consumers are compared with what they have to be.
    """
    consumer = _Consumer(database, js, subscription, keys, clock, stop, work_due)
    async with asyncio.TaskGroup() as group:
        for stream, subjects in subscription.subjects_by_stream().items():
            name = f"consumer:{subscription.durable}:{stream}"
            watch = Watch(database, js, subscription.durable, stream, subjects, faults, check_seconds)
            group.create_task(repeat_work(name, stop, partial(consumer.consume, stream, watch), alarms))


async def apply(
    database: Database,
    subscription: Subscription,
    keys: EventKeys,
    told: Told,
    clock: Clock,
    *,
    attempt: int = 1,
    place: tuple[str, Position] | None = None,
    of_any_age: bool = False,
) -> bool:
    """Handles one event in one transaction; False if it had been handled before.

    Args:
        place: Its stream and where it stands there, which is handled as far as that then.
        of_any_age: A person says that it was not handled, should nobody else know any more.

    Raises:
        OutOfTurn: whether the consumer is sound has to be seen first.
        NotProven: no service of ours told it, so nothing of it was read.
        Malformed, DecodeError: it can never be handled.
        TooOld: the inbox does not know it, and may have forgotten it: it is handled only if a person says so.
    """
    event, handler, event_id, org_id = await read_event(subscription, keys, told)
    now = clock.now()
    # By the time that the signature covers: a header, and when NATS stored it, are anybody's to say.
    is_too_old = now - from_timestamp(event.meta.occur_time) > timedelta(days=EVENT_AGE_DAYS_MAX)
    telemetry.continue_trace((told.headers or {}).get("traceparent"))
    with acting_as(service_principal(database.name, org_id, on_behalf_of=event.meta.actor or None)):
        async with database.begin() as tx:
            if place is not None:
                await record_position(tx, subscription.durable, *place)
            incarnation = place[1].lives.incarnation if place is not None else await read_incarnation(tx)
            if not await first_delivery(tx, subscription.durable, event_id, incarnation):
                return False
            if is_too_old and not of_any_age:
                raise TooOld
            await handler(tx, event, Delivery(now, attempt))
    return True


async def read_event(subscription: Subscription, keys: EventKeys, told: Told) -> tuple[Any, Handler, str, str]:
    """The event, what handles it, its id and its organization.

    Raises:
        NotProven: no service of ours told it, so nothing of it was read.
        Malformed, DecodeError: it can never be handled.
    """
    await keys.check(told.subject, told.headers, told.data)
    event_type, handler = subscription.handler_of(told.subject)
    event: Any = event_type.FromString(told.data)
    return event, handler, *_origin(event.meta, told.subject)


def _origin(meta: EventMeta, subject: str) -> tuple[str, str]:
    """The event's id and its organization, which the subject names too: a team hears by subject."""
    try:
        event_id = str(uuid.UUID(meta.event_id))
    except ValueError:
        raise Malformed("an event says its id") from None
    if not is_organization(meta.org_id) or subject.split(".")[4:5] != [meta.org_id]:
        raise Malformed("an event says its organization, and is published under it")
    return event_id, meta.org_id


@dataclass(frozen=True)
class _Consumer:
    database: Database
    js: JetStreamContext
    subscription: Subscription
    keys: EventKeys
    clock: Clock
    stop: asyncio.Event
    work_due: asyncio.Event

    async def consume(self, stream: str, watch: Watch) -> None:
        stopping = asyncio.ensure_future(self.stop.wait())
        try:
            async with streams.Pull(self.js, stream, self.subscription.durable, watch.check_seconds) as pull:
                while not self.stop.is_set():
                    if not await watch.is_sound():
                        await wait_for_any(self.stop, seconds=watch.check_seconds)
                        continue
                    coming = asyncio.ensure_future(pull.next())
                    await asyncio.wait({coming, stopping}, return_when=asyncio.FIRST_COMPLETED)
                    if not coming.done():
                        coming.cancel()
                        return
                    message = coming.result()
                    if message is None:
                        continue
                    try:
                        async with self._holding(message):
                            await self.handle(message, watch.lives)
                    except OutOfTurn:
                        watch.doubt_consumer()
                        await message.nak()
        finally:
            stopping.cancel()

    async def handle(self, message: Msg, lives: Lives) -> None:
        """Applies the message or sets it aside, however long that takes; leaves it to the next process on `stop`."""
        durable, position = self.subscription.durable, _position(message, lives)
        attempt = failures = 0
        while not self.stop.is_set():
            attempt += 1
            try:
                outcome = await self._apply(message, position, attempt)
            except OutOfTurn:
                raise
            except Exception as error:  # every other failure is judged; none may end the consumer
                if isinstance(error, NotProven):
                    telemetry.EVENTS_NOT_PROVEN.labels(durable).inc()
                transient = _passes(error)
                failures += 0 if transient else 1
                hopeless = isinstance(error, _HOPELESS) and not transient
                self._report(message, error, attempt)
                if hopeless or failures == ATTEMPTS_MAX:
                    await self._set_aside(message, position, error, attempt)
                    return
                await wait_for_any(self.stop, seconds=backoff_seconds(attempt))
                continue
            telemetry.EVENTS_HANDLED.labels(durable, outcome).inc()
            if outcome != "passed over":
                self.work_due.set()
            await _acknowledge(message)
            return

    async def _apply(self, message: Msg, handled: Position, attempt: int) -> str:
        """What became of it. One without a handler is proven, too: it may be one of ours under another subject."""
        stream = message.metadata.stream
        if not self.subscription.has_handler_of(message.subject):
            await self.keys.check(message.subject, message.headers, message.data)
            async with self.database.begin_for_all() as tx:
                await record_position(tx, self.subscription.durable, stream, handled)
            return "passed over"
        applied = await apply(
            self.database, self.subscription, self.keys, message, self.clock, attempt=attempt, place=(stream, handled)
        )
        return "applied" if applied else "repeated"

    async def _set_aside(self, message: Msg, position: Position, error: Exception, attempts: int) -> None:
        """Keeps the event for a person, and passes it by: one transaction."""
        durable = self.subscription.durable
        letter = Letter(
            consumer=durable,
            stream=message.metadata.stream,
            stream_sequence=position.stream_sequence,
            subject=message.subject,
            headers={key: value for key, value in (message.headers or {}).items() if not key.startswith("Nats-")},
            data=message.data,
            cause=_cause(error),
            attempts=attempts,
            set_aside_at=self.clock.now(),
        )
        async with self.database.begin_for_all() as tx:
            await record_position(tx, durable, letter.stream, position)
            is_new = await set_aside(tx, letter)
        if is_new:
            telemetry.EVENTS_HANDLED.labels(durable, "dead_letter").inc()
            telemetry.DEAD_LETTERS.labels(durable).inc()
            log.error("dead_letter", consumer=durable, subject=message.subject, cause=letter.cause)
        await message.term()

    @asynccontextmanager
    async def _holding(self, message: Msg) -> AsyncIterator[None]:
        """Says every while that the message is being worked on: to NATS, so that it goes to nobody else meanwhile, and
        to the watches of our own processes, which take a message that nobody of us holds for stolen.
        """
        delivery, stream = message.metadata.sequence.consumer, message.metadata.stream

        async def remind() -> None:
            while True:
                await asyncio.sleep(ACK_WAIT_SECONDS / 3)
                with suppress(nats.errors.Error):  # away; if it stays so the message comes again: the inbox knows it
                    await message.in_progress()
                try:
                    async with self.database.begin_for_all() as tx:
                        await record_held(tx, self.subscription.durable, stream, delivery, HELD_SECONDS)
                except Exception as error:
                    if not is_transient(error):
                        raise

        reminder = asyncio.ensure_future(remind())
        try:
            yield
        finally:
            reminder.cancel()

    def _report(self, message: Msg, error: Exception, attempt: int) -> None:
        log.warning(
            "event_failed",
            consumer=self.subscription.durable,
            subject=message.subject,
            event_id=(message.headers or {}).get("ce-id"),
            attempt=attempt,
            cause=_cause(error),
            exc_info=None if isinstance(error, _HOPELESS) else error,
        )


def _position(message: Msg, lives: Lives) -> Position:
    """Where the message stands, which says nothing of which stream of the name it is from."""
    numbers = message.metadata.sequence
    return Position(numbers.stream, numbers.consumer, lives=lives)


def _cause(error: Exception) -> str:
    """What failed, without the values it failed on."""
    if isinstance(error, NotProven):
        return f"NotProven: {error}"
    if isinstance(error, DomainError):
        return f"{error.kind.value} {error.reason}"
    state = sqlstate(error)
    return f"{type(error).__name__} {state}".strip()


async def _acknowledge(message: Msg) -> None:
    try:
        await message.ack_sync(timeout=_ACK_SECONDS)
    except (nats.errors.Error, TimeoutError):
        # It will come again, and the inbox knows it.
        log.info("acknowledgement_unknown", subject=message.subject)
