"""Group commit: what is asked for while one transaction commits is booked by the next, together.

- No timer: an idle book takes a posting at once, a busy one takes all that waits of one organization, up to BATCH_MAX.
- One lane a process, so a hot escrow account costs one row lock a batch; another process waits for the same row.
- A caller is answered after the commit. One that gives up meanwhile changes nothing for the others.
- A batch that fails is halved until what is bad in it fails alone. A batch whose outcome is unknown (the connection
  was lost) is sent again under the same keys, so it happens once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextvars import Context

import asyncpg
from realco.escrow.v1 import journal_pb2 as pb

from services.chassis.calls.answer import note_replayed
from services.chassis.data import outbox
from services.chassis.data.database import Database, build_begin
from services.chassis.data.database_errors import is_away, is_contention, sqlstate
from services.chassis.process.loops import backoff_seconds
from services.chassis.process.telemetry import current_traceparent, log
from services.chassis.values.clock import Clock
from services.chassis.values.errors import DomainError
from services.chassis.values.refusals import RateLimited
from services.escrow.domain.journal import LEGS_TOGETHER_MAX, NewEntry
from services.escrow.posting import booking
from services.escrow.posting.booking import Outcome
from services.escrow.posting.checks import Checks

BATCH_MAX = 1000
WAITING_MAX = 10_000
_ATTEMPTS_MAX = 5
_UNIQUE_VIOLATION = "23505"  # the same key came in by two escrow accounts at once: the next try sees the first


class _Unit:
    """What one caller asked for: entries that are booked in one transaction, in their order."""

    def __init__(self, entries: Sequence[NewEntry]) -> None:
        self.entries = entries
        self.org_id = entries[0].org_id
        self.answer: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()
        self.traceparent = current_traceparent()

    def fail(self, error: BaseException) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class Poster:
    """Books what any number of callers ask for at once. One for a process."""

    def __init__(self, database: Database, clock: Clock, *, waiting_max: int = WAITING_MAX) -> None:
        self._database = database
        self._clock = clock
        self._waiting_max = waiting_max
        self._checks = Checks(database.seals)
        self._waiting: deque[_Unit] = deque()
        self._waiting_entries = 0
        self._lane: asyncio.Task[None] | None = None

    async def post_one(self, entry: NewEntry, *, validate_only: bool = False) -> pb.JournalEntry:
        """The entry, booked now or by an earlier request with its key.

        Raises:
            DomainError: it was refused and changed nothing.
        """
        [outcome] = await self.post([entry], validate_only=validate_only)
        if outcome.replayed:
            note_replayed()
        if isinstance(outcome.answer, DomainError):
            raise outcome.answer
        return outcome.answer

    async def post(self, wanted: Sequence[NewEntry | DomainError], *, validate_only: bool = False) -> list[Outcome]:
        """What became of each entry, in order; what was refused before it came here stays refused.

        Args:
            validate_only: Only say what would become of them.

        Raises:
            RateLimited: come back later; nothing was done.
        """
        entries = [entry for entry in wanted if isinstance(entry, NewEntry)]
        decided = iter(await self._decide(entries, validate_only=validate_only) if entries else ())
        return [Outcome(entry) if isinstance(entry, DomainError) else next(decided) for entry in wanted]

    async def _decide(self, entries: Sequence[NewEntry], *, validate_only: bool) -> list[Outcome]:
        if validate_only:
            return await booking.rehearse_booking(self._database, entries, self._clock.now())
        return await self._wait_for(entries)

    async def drain(self) -> None:
        """Returns when nothing waits and the lane has let go of its connection."""
        if self._lane is not None:
            await asyncio.wait([self._lane])

    async def _wait_for(self, entries: Sequence[NewEntry]) -> list[Outcome]:
        if self._waiting_entries + len(entries) > self._waiting_max:
            raise RateLimited("More postings are waiting than can be booked soon.")
        unit = _Unit(entries)
        self._waiting.append(unit)
        self._waiting_entries += len(entries)
        if self._lane is None or self._lane.done():
            # A context of its own: the lane serves everybody, so no caller's deadline or name may stick to it.
            self._lane = asyncio.get_running_loop().create_task(self._run(), context=Context())
        return await unit.answer

    def _put_back(self, batch: Sequence[_Unit]) -> None:
        """What has no answer yet goes to the front again, in its order."""
        unanswered = [unit for unit in batch if not unit.answer.done()]
        self._waiting.extendleft(reversed(unanswered))
        self._waiting_entries += sum(len(unit.entries) for unit in unanswered)

    def _take(self) -> list[_Unit]:
        """The next batch, of the organization whose turn it is. Who gave up before it is sent is left out."""
        batch: list[_Unit] = []
        others: list[_Unit] = []
        entries = legs = 0
        while self._waiting:
            unit = self._waiting.popleft()
            if unit.answer.done():
                self._waiting_entries -= len(unit.entries)
                continue
            if batch and unit.org_id != batch[0].org_id:
                others.append(unit)
                continue
            entries += len(unit.entries)
            legs += sum(len(entry.legs) for entry in unit.entries)
            if batch and (entries > BATCH_MAX or legs > LEGS_TOGETHER_MAX):
                others.append(unit)
                break
            self._waiting_entries -= len(unit.entries)
            batch.append(unit)
        self._waiting.extendleft(reversed(others))
        return batch

    async def _run(self) -> None:
        """The lane: works until nothing waits."""
        failures = 0
        while self._waiting:
            try:
                async with self._database.connect_raw() as connection:
                    while batch := self._take():
                        try:
                            await self._settle(connection, batch)
                        except Exception:
                            self._put_back(batch)
                            raise
                        failures = 0
            except Exception as error:
                failures += 1
                log.warning("posting_lane_failed", error=type(error).__name__, failures=failures)
                if failures == _ATTEMPTS_MAX:
                    self._fail_all(error)
                    return
                await asyncio.sleep(backoff_seconds(failures))

    def _fail_all(self, error: BaseException) -> None:
        while self._waiting:
            self._waiting.popleft().fail(error)
        self._waiting_entries = 0

    async def _settle(self, connection: asyncpg.Connection, batch: Sequence[_Unit]) -> None:
        """Answers every unit of the batch, or raises where the connection is lost: what is not answered waits again."""
        for attempt in range(1, _ATTEMPTS_MAX + 1):
            try:
                await self._commit(connection, batch)
                return
            except Exception as error:
                self._database.note_wait(error)
                # A ValueError of the driver is about a value, though the driver calls it an interface error.
                if is_away(error) and not isinstance(error, ValueError):
                    raise
                again = is_contention(error) or sqlstate(error) == _UNIQUE_VIOLATION
                if not again or attempt == _ATTEMPTS_MAX:
                    await self._halve(connection, batch, error)
                    return
            await asyncio.sleep(backoff_seconds(attempt, first=0.01, most=0.2))

    async def _halve(self, connection: asyncpg.Connection, batch: Sequence[_Unit], error: Exception) -> None:
        log.warning("posting_batch_failed", units=len(batch), error=type(error).__name__, sqlstate=sqlstate(error))
        if len(batch) == 1:
            batch[0].fail(error)
            return
        middle = len(batch) // 2
        await self._settle(connection, batch[:middle])
        await self._settle(connection, batch[middle:])

    async def _commit(self, connection: asyncpg.Connection, batch: Sequence[_Unit]) -> None:
        entries = [entry for unit in batch for entry in unit.entries]
        try:
            await connection.execute(build_begin(entries[0].org_id))
            await booking.lock_accounts(connection, entries)
            seals, now = self._database.seals, self._clock.now()
            outcomes, booked, posted = await booking.book(connection, entries, seals, now, self._checks)
            told = list(booking.build_events(posted))
            org_id, traceparent = entries[0].org_id, batch[0].traceparent
            await outbox.write(connection, told, seals=seals, org_id=org_id, traceparent=traceparent, now=now)
            await connection.execute("COMMIT")
        except BaseException:
            try:
                await connection.execute("ROLLBACK")
            except Exception:
                # The first error is the one to judge. A connection that cannot roll back may still be in the
                # transaction, so nothing more is booked on it: the next use finds it closed, and takes another.
                connection.terminate()
            raise
        self._checks.keep(booked)
        self._database.events_waiting.set()
        first = 0
        for unit in batch:
            last = first + len(unit.entries)
            if not unit.answer.done():
                unit.answer.set_result(outcomes[first:last])
            first = last
