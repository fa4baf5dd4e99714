"""A service's eye on the streams that it reads and writes, and on how far it has handled them, every few seconds.

- A stream is compared with what it has to be. While it is at fault the service tells no event into it and takes none
  from it, so that nothing more is lost, and it is not ready. What it loses stays a fault until the process ends.
- A position has to be what this service wrote, in this life of its database and of this stream, and the stream has to
  have what follows it. Else no message is taken, and the service is not ready. A position of another life or another
  stream counts for nothing: the stream is heard from its first message, and what comes twice is dropped. So it is
  with one that is beyond the end of the stream at two looks.
- Whatever keeps a consumer from going on (a row that somebody keeps locked, a flood of repeats, a server away) shows in
  for how long its oldest message has waited. Minutes are an alarm; the service stays ready, as with every alarm.
- Who was not told that there is something new (`realco.told`) is woken here.

A server that does not answer proves nothing: what was found last counts on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import nats.errors
from nats.js import JetStreamContext
from nats.js.errors import Error as JetStreamError

from services.chassis.data.database import Database
from services.chassis.data.database_errors import is_transient
from services.chassis.data.positions import OutOfTurn, begin_position, list_positions, move_position, take_position
from services.chassis.data.seals import NotSealed
from services.chassis.events import streams
from services.chassis.events.backlog import Backlog
from services.chassis.events.configurations import find_differences, stream_configuration
from services.chassis.events.hearing import Faults, Hearing
from services.chassis.events.losses import Losses
from services.chassis.events.stored import Stream
from services.chassis.process.health import ALARM_SECONDS, Alarms, note_alarm
from services.chassis.process.loops import repeat_work, wait_for_any
from services.chassis.process.telemetry import CONSUMER_FAULTS, CONSUMER_OLDEST_SECONDS, STREAM_FAULTS, log
from services.chassis.values.position import Position

# While all is well, and as long as something is wrong, or nothing may be taken.
CHECK_SECONDS, CHECK_AGAIN_SECONDS = 5.0, 2.0
_MOVED = "was moved in the database: the position is not what this service wrote"
# How many servers keep a stream is chosen by who runs the installation; `deploy.provision --check` is told the number.
_CHOSEN = ("num_replicas",)


async def run_watch(
    database: Database,
    js: JetStreamContext,
    watched: Sequence[Stream],
    hearings: Sequence[Hearing],
    stop: asyncio.Event,
    faults: Faults,
    alarms: Alarms,
    check_seconds: float = CHECK_SECONDS,
    again_seconds: float = CHECK_AGAIN_SECONDS,
) -> None:
    """Looks until `stop` is set.

    Args:
        faults: Says what is wrong, as long as it is.
        alarms: Says what has waited for too long, as long as it does.
    """
    watch = _Watch(database, js, watched, hearings, faults, alarms)

    async def look() -> None:
        while not stop.is_set():
            await watch.look()
            is_well = not faults and all(hearing.place is not None for hearing in hearings)
            await wait_for_any(stop, seconds=check_seconds if is_well else again_seconds)

    await repeat_work("watch", stop, look, alarms)


def find_stream_faults(stream: Stream, info: Mapping[str, Any] | None, losses: Losses | None = None) -> list[str]:
    """Why events may get lost in this stream, and which were; nothing where all is well.

    Args:
        info: What the server says of it, word for word; None: it has none.
    """
    if info is None:
        return ["is missing"]
    lost = losses.look(stream, info) if losses is not None else []
    return find_differences(stream_configuration(stream), info["config"], ignored=_CHOSEN) + lost


def find_position_faults(position: Position, info: Mapping[str, Any]) -> list[str]:
    """Why a consumer that goes on from there would miss events; nothing where all is well.

    Args:
        info: What the server said of the stream after the position was read.
    """
    handled, state = position.stream_sequence, info["state"]
    if handled > state["last_seq"]:  # it was put back to an earlier state, for instance
        return [f"was handled up to {handled}, which is beyond the end of the stream"]
    if state["first_seq"] > handled + 1:
        return [f"begins with {state['first_seq']}, and {handled} was the last handled"]
    return []


class _Watch:
    def __init__(
        self,
        database: Database,
        js: JetStreamContext,
        watched: Sequence[Stream],
        hearings: Sequence[Hearing],
        faults: Faults,
        alarms: Alarms,
    ) -> None:
        self._database, self._js = database, js
        self._streams, self._hearings = watched, hearings
        self._faults, self._alarms = faults, alarms
        self._losses = Losses()
        self._backlogs = {hearing.title: Backlog() for hearing in hearings}
        self._left: set[str] = set()  # to a newer release
        self._known_at = time.monotonic()

    async def look(self) -> None:
        # The positions first: of a position that was read before, no stream ends too early because it is handled fast.
        before = {hearing.title: (hearing.place, hearing.written) for hearing in self._hearings}
        found = await self._find_positions()
        self._note_unknown(is_known=bool(found) or not self._hearings)
        for stream in self._streams:
            try:
                info = await streams.fetch_stream(self._js, stream.name)
            except (nats.errors.Error, JetStreamError, TimeoutError) as unknown:
                log.info("stream_not_checked", stream=stream.name, error=type(unknown).__name__)
                continue
            self._note(stream.name, find_stream_faults(stream, info, self._losses))
            for hearing in self._hearings:
                if hearing.stream == stream.name and hearing.title in found and info is not None:
                    try:
                        await self._check(hearing, info, before[hearing.title], found[hearing.title])
                    except Exception as error:
                        self._pass_over(error)

    async def _find_positions(self) -> dict[str, Position | NotSealed | None]:
        """By hearing; nothing where the database does not answer."""
        if not self._hearings:
            return {}
        try:
            found = await list_positions(self._database, [(each.consumer, each.stream) for each in self._hearings])
        except Exception as error:
            self._pass_over(error)
            return {}
        return {hearing.title: found[hearing.consumer, hearing.stream] for hearing in self._hearings}

    def _note_unknown(self, *, is_known: bool) -> None:
        """Who cannot look at positions measures no backlog either, and takes nothing: that is told by itself."""
        if is_known:
            self._known_at = time.monotonic()
        seconds = time.monotonic() - self._known_at
        found = f"have not been found for {seconds:.0f} seconds" if seconds >= ALARM_SECONDS else ""
        if not note_alarm(self._alarms, "positions", found) and found:
            log.error("positions_not_found", seconds=round(seconds))

    def _pass_over(self, error: Exception) -> None:
        """The database is away, or somebody keeps a row locked: nothing is known."""
        if not is_transient(error):
            raise error
        log.info("positions_not_checked", error=type(error).__name__)

    async def _check(
        self,
        hearing: Hearing,
        info: Mapping[str, Any],
        before: tuple[Position | None, Position | None],
        found: Position | NotSealed | None,
    ) -> None:
        """
        Args:
            before: From where it went on, and what the database was thought to say, before that was found.
        """
        place, written = before
        row: Position | None = None
        if not isinstance(found, NotSealed):
            stands = place if found == written else found  # what was passed over counts where nobody moved it
            row = await self._settle(hearing, info, found, stands)
        position = place if row == written == hearing.written else row
        wrong = [_MOVED] if position is None else find_position_faults(position, info)
        may_be_read = position is not None and not wrong and not self._is_left(hearing, position)
        if hearing.missed is not None and hearing.missed.at == position:
            wrong = [*wrong, hearing.missed.what]  # it is looked for again: somebody may have disturbed the answer
        self._note(hearing.title, wrong, hearing)
        if not may_be_read:
            hearing.stand(None)
        elif row != hearing.written and hearing.written in (written, None):  # else who reads wrote it, and knows better
            hearing.stand(row)
        if hearing.place is not None and info["state"]["last_seq"] > hearing.place.stream_sequence:
            hearing.news.set()
        if position is not None:
            waits = self._backlogs[hearing.title].measure_seconds(info, position.stream_sequence)
            self._note_backlog(hearing, waits)

    async def _settle(
        self, hearing: Hearing, info: Mapping[str, Any], found: Position | None, stands: Position | None
    ) -> Position | None:
        """The position that counts. None: it was moved.

        Args:
            stands: From where it went on.
        """
        created, first, last = info["created"], info["state"]["first_seq"], info["state"]["last_seq"]
        about = hearing.consumer, hearing.stream
        counts = found is not None and found.stream_created == created
        # A server that leads since now may know less, so it is a fault at one look before it counts for nothing.
        is_beyond = stands is not None and stands.stream_sequence > last
        if found is None or not counts or (is_beyond and hearing.title in self._faults):
            before = max(0, first - 1)  # older ones have had their time
            log.warning("stream_heard_from_the_first", **hearing.labels, after=before)
            hearing.stand(None)
            async with self._database.begin_for_all() as tx:
                try:
                    return await begin_position(tx, *about, created, before, last, hearing.handlers)
                except NotSealed:
                    return None
        if found.handlers < hearing.handlers:  # an older release passes over no more of what this one handles
            try:
                async with self._database.begin_for_all() as tx:
                    await take_position(tx, *about, found)
                    return await move_position(tx, *about, replace(found, handlers=hearing.handlers))
            except OutOfTurn:  # at the next look
                return found
        return found

    def _is_left(self, hearing: Hearing, position: Position) -> bool:
        """Whether a release went on to there that handles more: this one would pass over what that one handles."""
        is_left = not position.handlers <= hearing.handlers
        if is_left and hearing.title not in self._left:
            log.warning("consumer_left_to_newer_release", **hearing.labels, position=position.stream_sequence)
        (self._left.add if is_left else self._left.discard)(hearing.title)
        return is_left

    def _note(self, title: str, found: list[str], hearing: Hearing | None = None) -> None:
        """What is wrong with a stream, or with a consumer on it."""
        before = self._faults.pop(title, [])
        if found:
            self._faults[title] = found
        if hearing is None:
            gauge, at_fault, mended = STREAM_FAULTS.labels(title), "stream_at_fault", "stream_mended"
            about: Mapping[str, str] = {"stream": title}
        else:
            gauge, at_fault, mended = CONSUMER_FAULTS.labels(**hearing.labels), "consumer_at_fault", "consumer_mended"
            about = hearing.labels
        gauge.set(len(found))
        if found and found != before:
            log.error(at_fault, **about, faults=found)
        if before and not found:
            log.warning(mended, **about)

    def _note_backlog(self, hearing: Hearing, seconds: float) -> None:
        CONSUMER_OLDEST_SECONDS.labels(**hearing.labels).set(seconds)
        found = f"the oldest has waited for {seconds:.0f} seconds" if seconds >= ALARM_SECONDS else ""
        before = note_alarm(self._alarms, f"events of {hearing.stream} for {hearing.consumer}", found)
        if found and not before:
            log.error("events_wait", **hearing.labels, found=found)
        if before and not found:
            log.warning("events_handled_again", **hearing.labels)
