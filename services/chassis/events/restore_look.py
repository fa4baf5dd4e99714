"""After a restore: finds in the service's own stream what it told before and its database does not have.

- Only what the service has signed counts, so nobody else who writes into the stream makes a loss up. What says to be
  signed with a key that is not known is not passed over before a person says so of that key: whoever writes into the
  stream can name one, but so may the service have signed with a key that was changed since the backup.
- Nor is what the stream has lost: a person goes on after just those messages.
- Whatever a person had it pass over is counted and kept, with the name, and told to whoever decides.
- What another incarnation told is looked for in the outbox by its id. One that is older than the outbox remembers is
  missing if its number is beyond the one that its aggregate was restored with.
- How far the stream was looked through is a position of this incarnation, moved in the transaction that keeps what was
  found. So several processes look through it together, and each loss is kept once.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import nats.errors
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from nats.js import JetStreamContext
from nats.js.errors import Error as JetStreamError
from realco.type.v1.event_pb2 import EventMeta

from services.chassis.calls.wire import from_timestamp
from services.chassis.data.database import Database
from services.chassis.data.passed_messages import Passed, find_passed, name_key, note_passed
from services.chassis.data.positions import (
    KEPT_LOCKED,
    OutOfTurn,
    begin_position,
    find_holders,
    find_position,
    move_position,
    set_position,
    take_position,
)
from services.chassis.data.restores import list_missing, note_forgotten
from services.chassis.data.seals import NotSealed
from services.chassis.events import streams
from services.chassis.events.reader import Gap, Heard, Reader, Replaced
from services.chassis.events.signatures import EventKeys, KeyNotKnown, NotProven
from services.chassis.events.stored import stream_of_area
from services.chassis.events.subjects import event_type_of
from services.chassis.process.telemetry import log
from services.chassis.values.errors import Unavailable
from services.chassis.values.position import Position
from services.chassis.values.restore import ANY_KEY, Restore, Told

# Under this name stands how far the service has looked through its own stream.
CONSUMER = "forgotten_events"
# For how long it waits for its position while somebody keeps that locked.
PATIENCE_SECONDS = 3.0
_READ_MAX, _PAUSE_SECONDS = 256, 0.1
_META = 1  # every event's field of it: a contract test holds that


class NotLookedThrough(Exception):
    """The stream could not be looked through to its end; the message says why."""


@dataclass(frozen=True, slots=True)
class Passing:
    """What a person says that nobody can look at.

    Args:
        person: Who says so.
        after: The stream has lost what comes before the message after this one.
        without_key: The id of a key that is not known, or ANY_KEY: what says to be signed with it was not told by this
            service, or its public key is lost.
    """

    person: str = ""
    after: int | None = None
    without_key: str = ""


class _OfBefore(NamedTuple):
    """A message in which this service told an event in another incarnation."""

    message: Heard
    meta: EventMeta
    told: Told


class _Sorted(NamedTuple):
    """What some messages are, up to one of which nobody knows it: it says to be signed with the key `unknown_kid`."""

    checked: Sequence[Heard]
    of_before: list[_OfBefore]
    passed: list[Passed]
    unknown_kid: str = ""


async def look_through(
    database: Database,
    js: JetStreamContext,
    area: str,
    keys: EventKeys,
    restore: Restore,
    passing: Passing | None = None,
    patience_seconds: float = PATIENCE_SECONDS,
) -> None:
    """Keeps what is missing, up to where the stream ends now.

    Raises:
        NotLookedThrough: it has a gap, or messages with a key that is not known, or cannot be read now; or nothing is
            to be passed over where a person says so.
    """
    look = _Look(database, js, area, keys, restore, passing or Passing(), patience_seconds)
    try:
        await look.run()
    except (nats.errors.Error, JetStreamError, TimeoutError, Unavailable) as error:  # the last: no keys to check with
        raise NotLookedThrough(f"it cannot be read or checked now: {type(error).__name__}") from None


class _Look:
    """One look through the stream. The arguments are those of `look_through`."""

    def __init__(
        self,
        database: Database,
        js: JetStreamContext,
        area: str,
        keys: EventKeys,
        restore: Restore,
        passing: Passing,
        patience_seconds: float,
    ) -> None:
        self._database, self._js, self._area, self._keys = database, js, area, keys
        self._restore, self._passing, self._patience_seconds = restore, passing, patience_seconds
        self._stream = stream_of_area(area).name
        self._created, self._first, self._last = "", 0, 0
        self._has_begun = self._has_begun_anew = False
        self._waits: tuple[Position | None, float] | None = None

    async def run(self) -> None:
        info = await streams.fetch_stream(self._js, self._stream)
        if info is None:
            raise NotLookedThrough("the stream is missing")
        self._created, state = info["created"], info["state"]
        self._first, self._last = state["first_seq"], state["last_seq"]
        reader = Reader(self._js, self._stream)
        while (position := await self._find_position()) is None or position.stream_sequence < self._last:
            if position is None or not await self._go_on(reader, position):
                await self._wait_for_turn(position)
        if self._passing.after is not None:
            await self._check_has_gone_on(self._passing.after)

    async def _find_position(self) -> Position | None:
        """How far the stream was looked through; where it was not, it begins before the first message.

        None where somebody keeps it locked. It is only read where it is there: who locks it keeps nobody from that.
        """
        try:
            async with self._database.begin_for_all() as tx:
                found = await find_position(tx, CONSUMER, self._stream)
            if found is None or found.stream_created != self._created or await self._is_beyond(found):
                before = max(0, self._first - 1)
                async with self._database.begin_for_all() as tx:
                    there = (CONSUMER, self._stream, self._created, before, self._last)
                    found = await begin_position(tx, *there, frozenset())
            self._has_begun = True
            return found
        except NotSealed as moved:
            await self._begin_anew(str(moved))
        except KEPT_LOCKED:
            pass
        return None

    async def _is_beyond(self, position: Position) -> bool:
        """Whether the stream ends before it. Once this look has begun, it has read what has come since."""
        if self._has_begun or position.stream_sequence <= self._last:
            return False
        info = await streams.fetch_stream(self._js, self._stream)  # another process may have read that, too
        return info is not None and position.stream_sequence > info["state"]["last_seq"]

    async def _begin_anew(self, why: str) -> bool:
        """Once: from the first message that there is. What is found twice counts once. False where it is locked."""
        if self._has_begun_anew:
            raise NotLookedThrough(why)
        try:
            async with self._database.begin_for_all() as tx:
                await set_position(tx, CONSUMER, self._stream, self._created, max(0, self._first - 1), frozenset())
        except KEPT_LOCKED:
            return False
        self._has_begun_anew = True
        log.warning("stream_looked_through_anew", stream=self._stream, why=why)
        return True

    async def _go_on(self, reader: Reader, position: Position) -> bool:
        """False where another process has taken the position, or somebody keeps it locked."""
        try:
            # Always up to the same numbers, so that what is passed over counts once also where a look begins anew.
            count = _READ_MAX - position.stream_sequence % _READ_MAX
            messages = await reader.read(position.stream_sequence, count, position.stored_at)
        except Replaced as gap:
            return await self._begin_anew(f"the stream {gap}")
        except Gap as gap:
            return await self._go_on_after(position, gap)
        if not messages:
            raise NotLookedThrough("the stream ends earlier than it said")
        found = await self._sort(messages)
        if not found.checked:
            kid = found.unknown_kid
            raise NotLookedThrough(
                f"message {messages[0].sequence} is signed with {kid}, a key that is not in EVENT_JWKS: put its public"
                f" key there; or pass over all that says so, as it was not told by this service: --without-key {kid}"
            )
        last = found.checked[-1]
        moved = replace(position, stream_sequence=last.sequence, stored_at=last.stored_at)
        return await self._move(position, moved, found.of_before, found.passed)

    async def _go_on_after(self, position: Position, gap: Gap) -> bool:
        """What the stream has lost is passed over where a person says so of just these messages."""
        if gap.through is None:
            raise NotLookedThrough(f"the stream {gap}")
        first, last = position.stream_sequence + 1, gap.through
        about = ("gap", self._created, first, last)
        async with self._database.begin_for_all() as tx:
            person = await find_passed(tx, self._restore.incarnation, about)
        if person is None and self._passing.after == last:
            person = self._passing.person
        if person is None:
            raise NotLookedThrough(f"the stream {gap}: go on after these with --after {last}")
        passed = Passed(about, "", person, first, last, last - first + 1)
        moved = replace(position, stream_sequence=last, stored_at="")
        return await self._move(position, moved, [], [passed, Passed(self._name_end(last), "", person)])

    def _name_end(self, last: int) -> tuple[str | int, ...]:
        """What `Passed.about` is of messages having been passed over up to this one, however many."""
        return "after", self._created, last

    async def _check_has_gone_on(self, last: int) -> None:
        """Whether messages up to this one were passed over, by this look or one before it. Raises: NotLookedThrough."""
        async with self._database.begin_for_all() as tx:
            person = await find_passed(tx, self._restore.incarnation, self._name_end(last))
        if person is None:
            raise NotLookedThrough("the stream has lost no messages there: --after goes on after those alone")

    async def _sort(self, messages: Sequence[Heard]) -> _Sorted:
        of_before, passed = list[_OfBefore](), dict[str, Passed]()
        for place, message in enumerate(messages):
            if streams.area_of(message.subject) != self._area:
                continue
            try:
                await self._keys.check(message.subject, message.headers, message.data)
            except KeyNotKnown as unknown:
                if (decided := await self._find_decided(unknown.kid)) is None:
                    return _Sorted(messages[:place], of_before, [*passed.values()], unknown.kid)
                kid, person = decided
                about = ("signed", self._created, kid, message.sequence)
                earlier = passed.get(kid, Passed(about, kid, person, message.sequence))
                passed[kid] = earlier._replace(last=message.sequence, message_count=earlier.message_count + 1)
            except NotProven:
                continue
            else:
                if (meta := _read_meta(message.data)) is not None and meta.incarnation != self._restore.incarnation:
                    of_before.append(_OfBefore(message, meta, _read_told(meta)))
        return _Sorted(messages, of_before, [*passed.values()])

    async def _find_decided(self, kid: str) -> tuple[str, str] | None:
        """By which decision, and whose, what says to be signed with that key is passed over."""
        async with self._database.begin_for_all() as tx:
            for each in (kid, ANY_KEY):
                if person := await find_passed(tx, self._restore.incarnation, name_key(each)):
                    return each, person
            if self._passing.without_key not in (kid, ANY_KEY):
                return None
            decided, person = self._passing.without_key, self._passing.person
            await note_passed(tx, self._restore.incarnation, [Passed(name_key(decided), decided, person)])
            return decided, person

    async def _move(
        self, position: Position, to: Position, of_before: Sequence[_OfBefore], passed: Sequence[Passed]
    ) -> bool:
        """False where another process is at it, or has been there, or somebody keeps it locked."""
        async with self._database.begin_for_all() as tx:
            try:
                await take_position(tx, CONSUMER, self._stream, position)
            except OutOfTurn:
                return False
            missing = await list_missing(tx, [each.told for each in of_before])
            await note_forgotten(tx, [_to_row(of_before[place], self._restore) for place in missing])
            await note_passed(tx, self._restore.incarnation, passed)
            await move_position(tx, CONSUMER, self._stream, to)
        for one in passed:
            if not one.message_count:
                continue
            told = {"kid": one.kid, "person": one.person, "first": one.first, "last": one.last}
            log.warning("messages_passed_over", stream=self._stream, count=one.message_count, **told)
        return True

    async def _wait_for_turn(self, position: Position | None) -> None:
        """Raises: NotLookedThrough: it has been there for too long, so no other process is at work."""
        if self._waits is None or self._waits[0] != position:
            self._waits = position, time.monotonic()
        if time.monotonic() - self._waits[1] >= self._patience_seconds:
            holders = await find_holders(self._database, CONSUMER, self._stream)
            keeps = " and ".join(holders) or "somebody"
            raise NotLookedThrough(f"{keeps} keeps its row of handled_positions locked: end that, and try again")
        await asyncio.sleep(_PAUSE_SECONDS)


def _read_meta(data: bytes) -> EventMeta | None:
    """The envelope of an event, whichever it is: a release that was restored as well may not know it."""
    try:
        fields: Any = UnknownFieldSet(Empty.FromString(data))  # its stubs know no iteration
        return next((EventMeta.FromString(each.data) for each in fields if each.field_number == _META), None)
    except (DecodeError, TypeError):
        return None


def _read_told(meta: EventMeta) -> Told:
    event_id = uuid.UUID(meta.event_id)
    made_at = datetime.fromtimestamp((event_id.int >> 80) / 1000, UTC)  # its id begins with that (values/ids.py)
    return Told(meta.org_id, event_id, made_at, meta.aggregate_id, meta.aggregate_version)


def _to_row(each: _OfBefore, restore: Restore) -> dict[str, Any]:
    return {
        "org_id": each.told.org_id,
        "incarnation": restore.incarnation,
        "event_id": str(each.told.event_id),
        "event_type": event_type_of(each.message.subject),
        "aggregate_id": each.told.aggregate_id,
        "actor": each.meta.actor,
        "occurred_at": from_timestamp(each.meta.occur_time),
        "stream_sequence": each.message.sequence,
    }
