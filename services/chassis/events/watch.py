"""A service's eye on one of its durable consumers: every two seconds it compares it with what it needs.

While something is wrong with it or with its stream no message is taken, so that what passed unhandled is not left
further behind, and the service is not ready. Only a message that somebody keeps is waited for: it comes again to
whoever takes, and nothing passes it. It tells NATS how far it has handled the stream while all is well, and
what is wrong once something is: from there the provisioner makes the consumer anew. A server that does not answer
proves nothing.

What was handled of another stream of the name, or in another incarnation of the database, counts for nothing: the
stream is heard from its first message, and the inbox drops what comes twice. So it is with a position that is beyond
the end of the stream at two looks.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import nats.errors
from nats.js import JetStreamContext
from nats.js.errors import Error as JetStreamError

from services.chassis.data.database import Database
from services.chassis.data.database_errors import is_transient
from services.chassis.data.positions import begin_position, count_deliveries_from, find_position
from services.chassis.data.seals import NotSealed
from services.chassis.events import streams
from services.chassis.events.durables import (
    KEPT_SECONDS,
    configuration,
    find_beyond,
    find_faults,
    find_withheld,
    is_of_newer_release,
)
from services.chassis.events.stream_watch import CHECK_SECONDS, Faults
from services.chassis.process.telemetry import CONSUMER_FAULTS, log
from services.chassis.values.position import Lives, Position


class Watch:
    """Over the consumer `durable` on `stream`, whose service has handlers for `subjects`."""

    def __init__(
        self,
        database: Database,
        js: JetStreamContext,
        durable: str,
        stream: str,
        subjects: Sequence[str],
        faults: Faults,
        check_seconds: float = CHECK_SECONDS,
    ) -> None:
        self._database, self._js = database, js
        self._durable, self._stream = durable, stream
        self._wanted = configuration(durable, subjects)
        self._faults = faults
        self.check_seconds = check_seconds
        self._title = f"{stream}.{durable}"
        self._checked_at = float("-inf")
        self._is_known = self._is_left_to_newer = False
        self._published = ("", "")
        self._withheld, self._withheld_since = 0, 0.0
        self._is_only_kept = False
        self.lives = Lives()  # of the position, as it was found when it could last be asked about

    async def is_sound(self) -> bool:
        """Whether messages may be taken: as it was found when it could last be asked about."""
        if time.monotonic() - self._checked_at >= self.check_seconds:
            self._is_known = await self._check() or self._is_known
        hindering = {self._stream} if self._is_only_kept else {self._title, self._stream}
        return self._is_known and not self._faults.keys() & hindering and not self._is_left_to_newer

    def doubt_consumer(self) -> None:
        """It must be asked about before it is believed again."""
        self._checked_at, self._is_known = float("-inf"), False

    async def _check(self) -> bool:
        """Whether it could be asked about; then `faults` says what is wrong."""
        self._checked_at = time.monotonic()
        try:
            known = await self._handled()
            stream = await streams.fetch_stream(self._js, self._stream)
            if stream is None:
                self._note(["is missing"])
                return True
            is_known = known is not None and known.lives.stream_created == stream["created"]
            beyond = find_beyond(stream, known) if known is not None and is_known else []
            if beyond and self._faults.get(self._title) != beyond:  # a server that leads since now may know less
                self._note(beyond)
                return True
            handled = known if known is not None and is_known and not beyond else await self._begin(stream)
            self.lives = handled.lives
            info = await streams.fetch_consumer(self._js, self._stream, self._durable)
            found = find_faults(self._wanted, info, handled)
            if found:  # another process may have handled more meanwhile
                now = await self._handled()
                found = find_faults(self._wanted, info, now if now and now.lives == handled.lives else handled)
            kept = self._find_kept(info, handled) if info is not None and not found else []
            if info is not None and not found and not kept:
                await self._follow(info, handled)
        except (nats.errors.Error, JetStreamError, TimeoutError) as unknown:
            log.info("consumer_not_checked", consumer=self._title, error=type(unknown).__name__)
            return False
        except NotSealed:  # nothing is told of it: whoever makes consumers goes by what was told before
            self._note(["was moved in the database: the position is not what this service wrote"])
            return True
        except Exception as error:
            if not is_transient(error):  # the database is not just away
                raise
            log.info("consumer_not_checked", consumer=self._title, error=type(error).__name__)
            return False
        is_left = info is not None and is_of_newer_release(self._wanted, info)
        if is_left and not self._is_left_to_newer:
            log.warning("consumer_left_to_newer_release", consumer=self._title)
        self._is_left_to_newer = is_left
        self._note(found, kept)
        await self._publish_position([*found, *kept], handled)
        return True

    async def _handled(self) -> Position | None:
        async with self._database.begin_for_all() as tx:
            return await find_position(tx, self._durable, self._stream)

    async def _begin(self, stream: Mapping[str, Any]) -> Position:
        """A new consumer begins with the first message that there is: older ones have had their time."""
        created, last = stream["created"], stream["state"]["last_seq"]
        before = max(0, stream["state"]["first_seq"] - 1)
        async with self._database.begin_for_all() as tx:
            await begin_position(tx, self._durable, self._stream, created, before, last)
        log.warning("stream_heard_from_the_first", consumer=self._title, after=before)
        return await self._handled() or Position(before)

    async def _follow(self, info: Mapping[str, Any], handled: Position) -> None:
        """A consumer that was made anew counts its deliveries from one, and one whose server was killed may go back."""
        if info["delivered"]["consumer_seq"] < handled.consumer_sequence:
            acknowledged = info["ack_floor"]["consumer_seq"]
            async with self._database.begin_for_all() as tx:
                await count_deliveries_from(tx, self._durable, self._stream, handled, acknowledged)

    def _find_kept(self, info: Mapping[str, Any], handled: Position) -> list[str]:
        """A message that somebody else keeps: it neither comes to us nor comes again."""
        withheld, now = find_withheld(info, handled), time.monotonic()
        if withheld != self._withheld:
            self._withheld, self._withheld_since = withheld, now
        if withheld and now - self._withheld_since > KEPT_SECONDS:
            return [f"hands delivery {withheld} to nobody of ours for {KEPT_SECONDS} seconds"]
        return []

    def _note(self, wrong: list[str], kept: Sequence[str] = ()) -> None:
        before, found = self._faults.pop(self._title, []), [*wrong, *kept]
        self._is_only_kept = bool(kept)
        if found:
            self._faults[self._title] = found
        CONSUMER_FAULTS.labels(self._durable, self._stream).set(len(found))
        if found != before and found:
            log.error("consumer_at_fault", consumer=self._title, faults=found)
        if before and not found:
            log.warning("consumer_mended", consumer=self._title)

    async def _publish_position(self, found: list[str], handled: Position) -> None:
        """Publishes, for whoever makes consumers, what has changed since it was published last."""
        subject, said = streams.position_subject(self._durable, self._stream), handled.tell()
        if found:
            subject, said = streams.fault_subject(self._durable, self._stream), f"{said} {'; '.join(found)}"
        if (subject, said) == self._published:
            return
        try:
            await self._js.publish(subject, said.encode(), timeout=CHECK_SECONDS)
        except (nats.errors.Error, JetStreamError, TimeoutError) as unknown:  # it is published at the next check
            log.info("position_not_published", consumer=self._title, error=type(unknown).__name__)
            return
        self._published = (subject, said)
