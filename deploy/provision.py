"""The one maker of streams and durable consumers: `python -m deploy.provision`, again and again without harm.

- What should be there is derived from the services' own SUBSCRIPTIONS and from the teams' file.
- Missing ones are made, differing ones made as they should be, and then the server's answer is compared field by field:
  what still differs is reported as drift, and so is what has no place: a consumer of our streams, durable or not, that
  no service and no copy has, and a stream that is neither ours nor a copy. Of consumers that deliver for another stream
  (`direct`) the server tells nobody: they reach what copies hear, and nothing else. `--check` only compares.
- A consumer is never bent back where events may have passed it: it is made anew, and begins after what its service says
  it has handled, not where the wrong one had got to. The service's inbox drops what comes twice.
- Streams of events are neither emptied nor removed. A team's copy is made anew when it may hear something else.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nats
import nats.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    Base,
    ConsumerConfig,
    ConsumerInfo,
    DeliverPolicy,
    ExternalStream,
    PersistMode,
    RetentionPolicy,
    StorageType,
    StoreCompression,
    StreamConfig,
    StreamConsumerSource,
    StreamSource,
)
from nats.js.errors import NotFoundError

from deploy.consumers import Consumer, copying_consumer, list_consumers, list_copies, write_consumers
from deploy.teams import Copy, InvalidTeams, read_teams
from deploy.topology import STREAMS
from services.chassis.data.retention import EVENTS_KEPT_DAYS
from services.chassis.events import streams
from services.chassis.events.configurations import find_differences, stream_configuration
from services.chassis.events.durables import BEGINNING
from services.chassis.events.stored import POSITIONS
from services.chassis.process.settings import Settings

_DAY_SECONDS = 24 * 3600
_COPY_LONGER_SECONDS = 3600
_DIGITS_MAX = 18  # of a stream's sequence
_API_SECONDS = 10


@dataclass
class Report:
    """What a run did and what it could not put right."""

    lines: list[str] = field(default_factory=list)
    drift: list[str] = field(default_factory=list)


def stream_configurations(replicas: int = 1) -> list[StreamConfig]:
    """One stream an area, one for how far everybody is. What could not be handled is a row of its service (ADR 7)."""
    return [stream_configuration(stream, replicas) for stream in STREAMS]


def copy_configuration(copy: Copy, replicas: int = 1) -> StreamConfig:
    """A team's stream: the server fills it with what the consumer in EVENTS passes. Source: NATS ADR-58.

    It need not wait for the disk at every event, as ours do: what it loses is found missing, and it is made anew.
    """
    return StreamConfig(
        name=copy.stream,
        storage=StorageType.FILE,
        retention=RetentionPolicy.LIMITS,
        compression=StoreCompression.NONE,
        max_consumers=-1,
        max_msgs=-1,
        max_bytes=-1,
        # A little longer than the original, which would else seem to have what the copy lacks.
        max_age=EVENTS_KEPT_DAYS * _DAY_SECONDS + _COPY_LONGER_SECONDS,
        num_replicas=replicas,
        persist_mode=PersistMode.ASYNC if replicas == 1 else None,
        deny_delete=True,
        deny_purge=True,
        mirror=StreamSource(
            name=copy.stream,
            external=ExternalStream(api=f"$JS.{streams.EVENTS_ACCOUNT}.API", deliver=""),
            consumer=StreamConsumerSource(name=copy.consumer, deliver_subject=copy.deliver_subject),
        ),
    )


async def provision(
    client: Client,
    wanted: Sequence[Consumer],
    copies: Sequence[Copy] = (),
    *,
    replicas: int = 1,
    change: bool = True,
) -> Report:
    """Makes the streams and consumers as they should be, or (`change=False`) only compares."""
    run = _Run(client, replicas, change)
    for stream in stream_configurations(replicas):
        await run.provide_stream(stream)
    for consumer in wanted:
        await run.provide_consumer(consumer)
    for copy in copies:
        await run.provide_copy(copy)
    await run.find_unknown_consumers({(one.stream, one.name) for one in wanted}, copies)
    await run.find_unknown_streams(copies)
    return run.report


class _Run:
    """One run of the provisioner."""

    def __init__(self, client: Client, replicas: int, change: bool) -> None:
        self._client, self._replicas, self._change = client, replicas, change
        self._js = streams.jetstream(client, timeout=_API_SECONDS)
        self.report = Report()

    async def provide_stream(self, wanted: StreamConfig) -> None:
        name = str(wanted.name)
        actual = await streams.fetch_stream(self._js, name)
        if self._change and _differs(wanted, actual):
            make, verb = (self._js.add_stream, "created") if actual is None else (self._js.update_stream, "updated")
            await make(wanted)
            actual = await streams.fetch_stream(self._js, name)
            self._did(f"stream {name} {verb}")
        self._compare(f"stream {name}", wanted, actual)

    async def provide_consumer(self, consumer: Consumer) -> None:
        title, wanted = f"consumer {consumer.stream}.{consumer.name}", consumer.configuration()
        there = await streams.fetch_consumer(self._js, consumer.stream, consumer.name)
        position = await self._position_of(consumer)
        if self._change and (_differs(wanted, there) or position.fault):
            handled = position.handled if position.is_known else there["ack_floor"]["stream_seq"] if there else 0
            if there is not None:
                await self._js.delete_consumer(consumer.stream, consumer.name)
            await self._js.add_consumer(consumer.stream, consumer.configuration(handled))
            there = await streams.fetch_consumer(self._js, consumer.stream, consumer.name)
            self._did(f"{title} made to begin after {handled}" if handled else f"{title} created")
        elif position.fault:
            self.report.drift.append(f"{title} {position.fault}, says its service")
        self._compare(title, wanted, there)

    async def provide_copy(self, copy: Copy) -> None:
        """The team's own durable consumers begin, on a copy that is made anew, after what they acknowledged."""
        team = self._client.jetstream(prefix=f"$JS.{copy.team}.API", timeout=_API_SECONDS)
        title, passing, stream = f"copy of {copy.stream} for {copy.team}", copying_consumer(copy), self._copy(copy)
        passes = await streams.fetch_consumer(self._js, copy.stream, copy.consumer)
        there = await streams.fetch_stream(team, copy.stream)
        wrong = _differs(passing, passes) or _differs(stream, there)
        lacking = 0 if wrong else await self._count_lacking(copy, team)
        if self._change and (wrong or lacking):
            kept = await _list_durables(team, copy.stream) if there else []
            if there is not None:
                await team.delete_stream(copy.stream)
            if passes is not None:
                await self._js.delete_consumer(copy.stream, copy.consumer)
            await self._js.add_consumer(copy.stream, passing)
            passes = await streams.fetch_consumer(self._js, copy.stream, copy.consumer)
            await team.add_stream(stream)
            there = await streams.fetch_stream(team, copy.stream)
            for durable in kept:
                await team.add_consumer(copy.stream, _continued(durable))
            self._did(f"{title} made")
        elif lacking:
            self.report.drift.append(f"{title} lacks {lacking} events")
        self._compare(f"{title}: its consumer", passing, passes)
        self._compare(title, stream, there)

    async def _count_lacking(self, copy: Copy, team: JetStreamContext) -> int:
        """How many events should be in the copy and are not; 0 while some are on their way.

        Who fills a copy goes on after what was acknowledged, so what a power cut took from the copy never comes again.
        """
        counting = ConsumerConfig(filter_subjects=list(copy.subjects), ack_policy=AckPolicy.NONE, inactive_threshold=60)
        counted = await self._js.add_consumer(copy.stream, counting)
        await self._js.delete_consumer(copy.stream, counted.name)
        passes = await self._js.consumer_info(copy.stream, copy.consumer)
        if passes.num_pending or passes.num_ack_pending:
            return 0
        there = (await team.stream_info(copy.stream)).state.messages
        return max(0, (counted.num_pending or 0) - there)

    async def find_unknown_consumers(self, known: set[tuple[str, str]], copies: Sequence[Copy]) -> None:
        """On our own streams: on its copies a team has what consumers it likes."""
        known = known | {(copy.stream, copy.consumer) for copy in copies}
        for stream in (stream.name for stream in STREAMS):
            for name in await streams.fetch_consumer_names(self._js, stream):
                if (stream, name) not in known:
                    self.report.drift.append(
                        f"consumer {stream}.{name} is there, and neither a service nor a team has it"
                    )

    async def find_unknown_streams(self, copies: Sequence[Copy]) -> None:
        """In each account with streams: no service and no team makes one."""
        known = {streams.EVENTS_ACCOUNT: {stream.name for stream in STREAMS}}
        for copy in copies:
            known.setdefault(copy.team, set()).add(copy.stream)
        for account, names in known.items():
            js = self._client.jetstream(prefix=f"$JS.{account}.API", timeout=_API_SECONDS)
            for name in await streams.fetch_stream_names(js):
                if name not in names:
                    self.report.drift.append(f"stream {account}.{name} is there, and is neither ours nor a copy")

    def _copy(self, copy: Copy) -> StreamConfig:
        return copy_configuration(copy, self._replicas)

    def _did(self, line: str) -> None:
        self.report.lines.append(line)

    def _compare(self, title: str, wanted: Base, actual: dict[str, Any] | None) -> None:
        if actual is None:
            self.report.drift.append(f"{title} is missing")
        else:
            self.report.drift += [f"{title}: {difference}" for difference in _find_differences(wanted, actual)]

    async def _position_of(self, consumer: Consumer) -> _Position:
        """What its service said last; nothing where that was of another stream of the name."""
        stream = await streams.fetch_stream(self._js, consumer.stream)
        created = stream["created"] if stream else ""
        said = await self._last_word(consumer.position_subject, created)
        fault = await self._last_word(consumer.fault_subject, created)
        if fault is None or (said is not None and said.sequence > fault.sequence):
            return _Position() if said is None else _Position(True, said.handled)
        # Less than was said while all was well, where the service's database was restored from a backup.
        return _Position(True, min(fault.handled, said.handled if said else fault.handled), fault.words)

    async def _last_word(self, subject: str, created: str) -> _Word | None:
        """What a service said last there, of the stream that was made then. What no service says is left out and
        reported: it must not stop a repair.
        """
        said = await _info_or_none(self._js.get_last_msg(POSITIONS.name, subject))
        if said is None:
            return None
        number, _, rest = (said.data or b"").decode(errors="replace").partition(" ")
        of_stream, _, words = rest.partition(" ")
        if not (number.isascii() and number.isdigit() and len(number) <= _DIGITS_MAX and of_stream):
            self._did(f"{subject} says what no service says; it was left out")
            return None
        return _Word(said.seq, int(number), words) if of_stream == created else None


@dataclass(frozen=True)
class _Word:
    """The last message of a service about its consumer."""

    sequence: int
    handled: int
    words: str


@dataclass(frozen=True)
class _Position:
    """How far a service has handled a stream, and what it finds wrong with its consumer."""

    is_known: bool = False
    handled: int = 0
    fault: str = ""


def _differs(wanted: Base, info: dict[str, Any] | None) -> bool:
    return info is None or bool(_find_differences(wanted, info))


def _find_differences(wanted: Base, info: dict[str, Any]) -> list[str]:
    return find_differences(wanted, info["config"], ignored=BEGINNING if isinstance(wanted, ConsumerConfig) else ())


def _continued(durable: ConsumerInfo) -> ConsumerConfig:
    """The consumer once more, to begin after what was acknowledged."""
    begin = durable.ack_floor.stream_seq + 1 if durable.ack_floor else 1
    return durable.config.evolve(
        name=durable.name,
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=begin,
        opt_start_time=None,
        metadata=None,
    )


async def _list_durables(js: JetStreamContext, stream: str) -> list[ConsumerInfo]:
    found: list[ConsumerInfo] = []
    offset = 0
    while page := await js.consumers_info(stream, offset):
        offset += len(page)
        found += [consumer for consumer in page if consumer.config.durable_name]
    return found


async def _info_or_none(info: Awaitable[Any]) -> Any:
    """JetStream's answer; None where there is no such stream, consumer or message."""
    try:
        return await info
    except NotFoundError:
        return None


async def _connect(url: str) -> Client:
    """Gives up after the second try: left alone, the client would try a server that is not there for two minutes."""

    async def ignore_error(_: Exception) -> None:
        """The last error is raised."""

    return await nats.connect(
        url,
        inbox_prefix=streams.inbox_prefix_of(url),
        allow_reconnect=False,
        max_reconnect_attempts=1,
        error_cb=ignore_error,
    )


async def _run(given: argparse.Namespace) -> int:
    settings = Settings.load()
    settings.require("nats_url")
    try:
        wanted, copies = list_consumers(), list_copies(read_teams(given.teams))
        client = await _connect(settings.nats_url.get_secret_value())
    except InvalidTeams as error:
        print(f"No stream was made or compared: {error}")
        return 1
    except (OSError, nats.errors.Error) as error:
        print(f"No stream was made or compared: NATS cannot be reached with NATS_URL ({error}).")
        return 1
    try:
        report = await provision(client, wanted, copies, replicas=given.replicas, change=not given.check)
    finally:
        await client.close()
    for line in [*report.lines, *(f"drift: {line}" for line in report.drift)]:
        print(line)
    counted = f"{len(STREAMS)} streams, {len(wanted)} durable consumers, {len(copies)} copies for teams"
    print(f"{counted}{'' if report.drift else ', as they should be'}")
    if given.consumers:
        write_consumers(given.consumers, wanted)
    return 1 if report.drift and given.check else 0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.provision", description="Streams and consumers; reads NATS_URL."
    )
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if anything differs")
    parser.add_argument("--replicas", type=int, default=1, help="of each stream, in a cluster (default: %(default)s)")
    parser.add_argument("--consumers", type=Path, help="write the services' consumers to this file, as JSON")
    teams = os.environ.get("TEAMS_FILE")
    parser.add_argument("--teams", type=Path, default=teams, help="teams outside (default: TEAMS_FILE, %(default)s)")
    return asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
