"""Events in: each is told at least once and applied once, in the order of its stream.

- A consumer reads its stream from where its own database says that it is. Effects, handled events and position
  are one transaction, so nothing outside has to be believed about what was handled, or told.
- What concerns no handler of it is only proven. It is passed over in memory, and the position follows with the next
  event that is handled, or after a while: whoever crashes before passes it over again.
- Several processes may hear one stream: who goes on from a position has it locked, and only one can; another one takes
  nothing until its watch finds where the stream is. Nothing overtakes a message that is being retried, for it stands
  before all that follow.
- As many messages as take a tenth of a second are one transaction. What fails undoes all of it; its messages are then
  handled one by one, until the one that failed is done.
- What fails for a reason that passes (a server away, a lost race, a schema that lacks what we ask for) is retried for
  as long as it lasts; what fails for another reason is retried ATTEMPTS_MAX times; what can never succeed (it is not
  signed, it does not parse, it is too old, a rule refuses it) is not retried. Then the message is kept as a dead
  letter, with the cause (data/letters.py), and is done.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from google.protobuf.message import DecodeError
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from services.chassis.data.database import Database, change_organization
from services.chassis.data.database_errors import is_transient, is_unprepared, sqlstate
from services.chassis.data.letters import Letter, set_aside
from services.chassis.data.positions import OutOfTurn, move_position, take_position
from services.chassis.data.transaction import Tx
from services.chassis.events import streams
from services.chassis.events.handling import Event, Malformed, Subscription, TooOld, apply_events, read_next
from services.chassis.events.hearing import Faults, Hearing, Missed
from services.chassis.events.reader import Gap, Heard, Reader
from services.chassis.events.signatures import EventKeys, NotProven
from services.chassis.events.stored import Stream, stream_of_area
from services.chassis.events.subjects import told_subject
from services.chassis.process import telemetry
from services.chassis.process.health import Alarms
from services.chassis.process.loops import backoff_seconds, repeat_work, wait_for_any
from services.chassis.process.telemetry import log
from services.chassis.values.clock import Clock
from services.chassis.values.errors import DomainError, OfNewerRelease
from services.chassis.values.position import Position

ATTEMPTS_MAX = 7
READ_MAX = 256
# After so long a transaction begins with no more events. What it has begun with takes as long again at most.
_BATCH_SECONDS = 0.1
_PROVEN_AT_ONCE = 16
# Who is told in vain, however often, does not look more often than this.
_PAUSE_SECONDS = 0.01
# By how much a position may stay behind what was passed over.
_BEHIND_MESSAGES_MAX, _BEHIND_SECONDS_MAX = 1_000, 30.0
_APPLIED = "applied"


def list_streams(area: str, subscriptions: Sequence[Subscription]) -> list[Stream]:
    """Those that the service `area` reads and writes."""
    heard = {streams.area_of(event.DESCRIPTOR.full_name) for one in subscriptions for event in one.handlers}
    return [stream_of_area(name) for name in sorted(heard | {area})]


def list_hearings(subscription: Subscription) -> list[Hearing]:
    """One a stream."""
    return [Hearing(subscription.consumer, *heard) for heard in subscription.types_by_stream().items()]


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
    hearings: Sequence[Hearing],
    keys: EventKeys,
    clock: Clock,
    stop: asyncio.Event,
    work_due: asyncio.Event,
    faults: Faults,
    alarms: Alarms,
) -> None:
    """Handles events until `stop` is set, through restarts of PostgreSQL and NATS.

    Args:
        hearings: Of this subscription; a watch looks at them (watch.py).
        work_due: Set after what was applied.
        faults: What is wrong with its streams, as long as it is.
        alarms: Names those that have failed for minutes, as long as they do.
    """
    async with asyncio.TaskGroup() as group:
        for hearing in hearings:
            consumer = _Consumer(database, js, subscription, hearing, keys, clock, stop, work_due, faults)
            name = f"consumer:{hearing.consumer}:{hearing.stream}"
            group.create_task(repeat_work(name, stop, consumer.consume, alarms))


@dataclass(frozen=True, slots=True)
class _Next:
    """A message whose turn it is. `event`: None where it is passed over."""

    message: Heard
    event: Event | None


@dataclass(frozen=True)
class _Consumer:
    database: Database
    js: JetStreamContext
    subscription: Subscription
    hearing: Hearing
    keys: EventKeys
    clock: Clock
    stop: asyncio.Event
    work_due: asyncio.Event
    faults: Faults

    async def consume(self) -> None:
        hearing, reader = self.hearing, Reader(self.js, self.hearing.stream)
        told = await streams.client_of(self.js).subscribe(told_subject(hearing.stream.lower()), cb=self._hear)
        try:
            while not self.stop.is_set():
                if hearing.is_far_behind(_BEHIND_MESSAGES_MAX, _BEHIND_SECONDS_MAX):
                    await self._catch_up()
                hearing.news.clear()
                place = None if hearing.stream in self.faults else hearing.place
                messages = await self._read(reader, place) if place is not None else []
                if not messages:
                    await asyncio.sleep(_PAUSE_SECONDS)
                elif await self._handle_all(messages):
                    continue
                seconds = _BEHIND_SECONDS_MAX if hearing.is_behind else None
                await wait_for_any(self.stop, hearing.news, seconds=seconds)
            await self._catch_up()
        finally:
            if not streams.client_of(self.js).is_closed:
                await told.unsubscribe()

    async def _hear(self, _: Msg) -> None:
        """There is something new, or somebody says so in its service's name: to look is cheap."""
        self.hearing.news.set()

    async def _read(self, reader: Reader, place: Position) -> list[Heard]:
        try:
            messages = await reader.read(place.stream_sequence, READ_MAX, place.stored_at)
        except Gap as gap:  # which the watch tells
            self.hearing.missed = Missed(place, str(gap))
            return []
        self.hearing.missed = None
        return messages

    async def _handle_all(self, messages: Sequence[Heard]) -> bool:
        """Whether there is more to read at once. Not where somebody else is at them, or nothing may be taken."""
        following = messages[-1].following
        try:
            while messages and not self.stop.is_set():
                batch = await self._prove(messages)
                done = await self._apply_all(batch) if len(batch) > 1 else 0
                messages = messages[done:]
                if done < len(batch) or not batch:
                    messages = await self._handle_singly(messages)
        except OutOfTurn:  # where it is now, the watch finds at its next look
            self.hearing.stand(None)
            return False
        return following > 0

    async def _catch_up(self) -> None:
        """Writes down how far it has passed over what came since its last event."""
        hearing, about = self.hearing, (self.hearing.consumer, self.hearing.stream)
        place, written = hearing.place, hearing.written
        if place is None or written is None or not hearing.is_behind:
            return
        try:
            async with self.database.begin_for_all() as tx:
                await take_position(tx, *about, written)
                to = replace(place, handlers=hearing.handlers)
                moved: Position | None = await move_position(tx, *about, to)
        except OutOfTurn:
            moved = None
        hearing.stand(moved)

    async def _prove(self, messages: Sequence[Heard]) -> list[_Next]:
        """As many as are good, from the first on. What is wrong with the next is found when it is handled by itself."""
        batch: list[_Next] = []
        for message in messages:
            try:
                batch.append(_Next(message, await read_next(self.subscription, self.keys, message)))
            except Exception:  # whatever it is
                break
            if len(batch) % _PROVEN_AT_ONCE == 0:
                await asyncio.sleep(0)  # others have to work, too
        return batch

    async def _apply_all(self, batch: Sequence[_Next]) -> int:
        """How many of them were handled before something failed."""
        done = 0
        while done < len(batch) and not self.stop.is_set():
            try:
                done += await self._apply(batch[done:])
            except OutOfTurn:
                raise
            except Exception as error:  # each is judged by itself
                log.info("events_handled_singly", **self.hearing.labels, error=type(error).__name__)
                break
        return done

    async def _handle_singly(self, messages: Sequence[Heard]) -> Sequence[Heard]:
        """What is left once one that failed is done."""
        for count, message in enumerate(messages):
            if self.stop.is_set():
                return messages[count:]
            if await self._handle(message):
                return messages[count + 1 :]
        return []

    async def _apply(self, batch: Sequence[_Next]) -> int:
        """Handles as many of them as one transaction takes, and at least one; or passes over those before an event.

        Raises: OutOfTurn: another process handles them, or did; or they are not to be handled now.
        """
        place, written = self._place_before(batch[0].message)
        about = self.hearing.consumer, self.hearing.stream
        if batch[0].event is None:
            return self._pass_over(place, batch)
        org_id = batch[0].event.org_id
        async with self.database.begin(org_id) as tx:
            await take_position(tx, *about, written)
            outcomes = await self._apply_some(tx, batch, org_id, written.incarnation)
            moved = await move_position(tx, *about, self._done(written, batch[len(outcomes) - 1].message))
        self.hearing.stand(moved)
        for outcome in outcomes:
            telemetry.EVENTS_HANDLED.labels(self.hearing.consumer, outcome).inc()
        if _APPLIED in outcomes:
            self.work_due.set()
        return len(outcomes)

    def _pass_over(self, place: Position, batch: Sequence[_Next]) -> int:
        """How many there are before the first event."""
        count = next((index for index, one in enumerate(batch) if one.event is not None), len(batch))
        self.hearing.pass_over(_beyond(place, batch[count - 1].message))
        telemetry.EVENTS_HANDLED.labels(self.hearing.consumer, "passed over").inc(count)
        return count

    async def _apply_some(self, tx: Tx, batch: Sequence[_Next], org_id: str, incarnation: str) -> list[str]:
        """What became of each, from the first on. `org_id`: whose the transaction is."""
        outcomes: list[str] = []
        handled, until = 0, time.monotonic() + _BATCH_SECONDS
        while len(outcomes) < len(batch) and (not outcomes or time.monotonic() < until):
            # What is claimed is handled: so the next claim takes no longer than all before it did.
            claimed = _cut(batch[len(outcomes) :], max(1, handled))
            events = [one.event for one in claimed if one.event is not None]
            if events and events[0].org_id != org_id:
                org_id = events[0].org_id
                await change_organization(tx, org_id)
            about = self.database.name, self.hearing.consumer
            applied = iter(await apply_events(tx, *about, events, incarnation, self.clock) if events else ())
            outcomes += [
                "passed over" if one.event is None else _APPLIED if next(applied) else "repeated" for one in claimed
            ]
            handled += len(events)
        return outcomes

    def _done(self, written: Position, message: Heard) -> Position:
        """The position once all up to the message is handled by this release."""
        return replace(_beyond(written, message), handlers=self.hearing.handlers)

    def _place_before(self, message: Heard) -> tuple[Position, Position]:
        """Where it goes on from, and where the database has it.

        Raises: OutOfTurn: it is not the next one, or nothing may be taken.
        """
        place, written = self.hearing.place, self.hearing.written
        if place is None or written is None or self.hearing.stream in self.faults:
            raise OutOfTurn
        if place.stream_sequence + 1 != message.sequence:
            raise OutOfTurn
        return place, written

    async def _handle(self, message: Heard) -> bool:
        """Applies the message or sets it aside, however long that takes; leaves it to the next process on `stop`.

        Returns: Whether it failed at least once.
        """
        attempt = failures = 0
        while not self.stop.is_set():
            attempt += 1
            try:
                await self._apply([_Next(message, await read_next(self.subscription, self.keys, message))])
            except OutOfTurn:
                raise
            except Exception as error:  # every other failure is judged; none may end the consumer
                if isinstance(error, NotProven):
                    telemetry.EVENTS_NOT_PROVEN.labels(self.hearing.consumer).inc()
                transient = _passes(error)
                failures += 0 if transient else 1
                hopeless = isinstance(error, _HOPELESS) and not transient
                self._report(message, error, attempt)
                if hopeless or failures == ATTEMPTS_MAX:
                    await self._set_aside(message, error, attempt)
                    return True
                await wait_for_any(self.stop, seconds=backoff_seconds(attempt))
                continue
            return attempt > 1
        return True

    async def _set_aside(self, message: Heard, error: Exception, attempts: int) -> None:
        """Keeps the event for a person, and passes it by: one transaction."""
        _, written = self._place_before(message)
        about = self.hearing.consumer, self.hearing.stream
        letter = Letter(
            consumer=self.hearing.consumer,
            stream=self.hearing.stream,
            stream_sequence=message.sequence,
            subject=message.subject,
            headers={key: value for key, value in message.headers.items() if not key.startswith("Nats-")},
            data=message.data,
            cause=_cause(error),
            attempts=attempts,
            set_aside_at=self.clock.now(),
        )
        async with self.database.begin_for_all() as tx:
            await take_position(tx, *about, written)
            is_new = await set_aside(tx, letter)
            moved = await move_position(tx, *about, self._done(written, message))
        self.hearing.stand(moved)
        if is_new:
            self.database.letters_waiting.set()
            telemetry.EVENTS_HANDLED.labels(letter.consumer, "dead_letter").inc()
            telemetry.DEAD_LETTERS.labels(letter.consumer).inc()
            log.error("dead_letter", consumer=letter.consumer, subject=message.subject, cause=letter.cause)

    def _report(self, message: Heard, error: Exception, attempt: int) -> None:
        log.warning(
            "event_failed",
            consumer=self.hearing.consumer,
            subject=message.subject,
            event_id=message.headers.get("ce-id"),
            attempt=attempt,
            cause=_cause(error),
            exc_info=None if isinstance(error, _HOPELESS) else error,
        )


def _beyond(place: Position, message: Heard) -> Position:
    return replace(place, stream_sequence=message.sequence, stored_at=message.stored_at)


def _cut(batch: Sequence[_Next], most: int) -> Sequence[_Next]:
    """From the first on, so many events of one organization, and what is passed over among them."""
    org_id, count = "", 0
    for index, one in enumerate(batch):
        if one.event is None:
            continue
        if count == most or (count and one.event.org_id != org_id):
            return batch[:index]
        org_id, count = one.event.org_id, count + 1
    return batch


def _cause(error: Exception) -> str:
    """What failed, without the values it failed on."""
    if isinstance(error, NotProven):
        return f"NotProven: {error}"
    if isinstance(error, DomainError):
        return f"{error.kind.value} {error.reason}"
    state = sqlstate(error)
    return f"{type(error).__name__} {state}".strip()
