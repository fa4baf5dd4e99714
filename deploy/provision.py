"""The one maker of streams, and of the copies that teams have of them: `python -m deploy.provision`, again and again
without harm.

- What should be there is derived from the topology and from the teams' file.
- What is missing is made, what differs is made as it should be, and then the server's answer is compared field by
  field: what still differs is reported as drift, and so is what has no place: a consumer of our streams, durable or
  not, that fills no copy, for services read without one; and a stream that is neither ours nor a copy. Of consumers
  that deliver for another stream (`direct`) the server tells nobody: they reach what copies hear, and nothing else.
  `--check` only compares.
- Streams of events are neither emptied nor removed. A team's copy is made anew when it may hear something else, and
  when it has other events than it should: whoever let them in may have put everything else back since.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
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
from nats.js.errors import APIError

from deploy.teams import COPYING, Copy, InvalidTeams, list_copies, read_teams
from deploy.topology import STREAMS
from services.chassis.data.retention import EVENTS_KEPT_DAYS
from services.chassis.events import streams
from services.chassis.events.configurations import find_differences, stream_configuration
from services.chassis.events.subjects import EVENTS_ACCOUNT
from services.chassis.process.settings import Settings

_DAY_SECONDS = 24 * 3600
_COPY_LONGER_SECONDS = 3600
_HEARTBEAT_SECONDS = 1  # what the server insists on
# Where a consumer begins is no setting to compare: it differs with the time it was made.
_BEGINNING = ("deliver_policy", "opt_start_seq", "opt_start_time")
_API_SECONDS = 10
_NAMED_MAX = 3


@dataclass
class Report:
    """What a run did and what it could not put right."""

    lines: list[str] = field(default_factory=list)
    drift: list[str] = field(default_factory=list)


def stream_configurations(replicas: int = 1) -> list[StreamConfig]:
    """One stream an area. How far everybody is, and what could not be handled, are rows of each service (ADR 26)."""
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
            external=ExternalStream(api=f"$JS.{EVENTS_ACCOUNT}.API", deliver=""),
            consumer=StreamConsumerSource(name=copy.consumer, deliver_subject=copy.deliver_subject),
        ),
    )


def copying_consumer(copy: Copy) -> ConsumerConfig:
    """The consumer in EVENTS that passes a team what it may hear. Source: NATS ADR-58, durable stream mirroring."""
    return ConsumerConfig(
        name=copy.consumer,
        durable_name=copy.consumer,
        filter_subjects=list(copy.subjects),
        ack_policy=AckPolicy.FLOW_CONTROL,
        deliver_subject=copy.deliver_subject,
        flow_control=True,
        idle_heartbeat=_HEARTBEAT_SECONDS,
        max_ack_pending=10_000,  # acknowledgements come once a second
        max_deliver=-1,
    )


async def provision(client: Client, copies: Sequence[Copy] = (), *, replicas: int = 1, change: bool = True) -> Report:
    """Makes the streams and copies as they should be, or (`change=False`) only compares."""
    run = _Run(client, replicas, change)
    for stream in stream_configurations(replicas):
        await run.provide_stream(stream)
    for copy in copies:
        await run.provide_copy(copy)
    await run.find_unknown_consumers(copies)
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

    async def provide_copy(self, copy: Copy) -> None:
        """The team's own durable consumers begin, on a copy that is made anew, after what they acknowledged."""
        team = self._client.jetstream(prefix=f"$JS.{copy.team}.API", timeout=_API_SECONDS)
        title, passing, stream = f"copy of {copy.stream} for {copy.team}", copying_consumer(copy), self._copy(copy)
        passes = await streams.fetch_consumer(self._js, copy.stream, copy.consumer)
        there = await streams.fetch_stream(team, copy.stream)
        wrong = _differs(passing, passes) or _differs(stream, there)
        faults = [] if wrong else await self._find_wrong_events(copy, team)
        if self._change and (wrong or faults):
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
            self._did(f"{title} made{''.join(f'; it {fault}' for fault in faults)}")
        else:
            self.report.drift += [f"{title} {fault}: run the provisioner, which makes it anew" for fault in faults]
        self._compare(f"{title}: its consumer", passing, passes)
        self._compare(title, stream, there)

    async def _find_wrong_events(self, copy: Copy, team: JetStreamContext) -> list[str]:
        """What a copy has and should not have, or lacks.

        All are counted from where our stream begins: a copy keeps what is older for an hour longer. Events arrive
        between two counts, and each pair is taken in the order in which that makes nothing look wrong.
        """
        begin = await self._fetch_first(copy.stream)
        try:
            everything = await _count_events(team, copy.stream, begin)
            granted = await _count_events(team, copy.stream, begin, copy.subjects)
        except APIError as error:  # the team has as many consumers as it may have, for instance
            return [f"has events that cannot be counted ({error.description})"]
        ours = await _count_events(self._js, copy.stream, begin, copy.subjects)
        found: list[str] = []
        if everything > granted:
            foreign = f"{everything - granted} events that the team is not granted"
            found.append(f"has {foreign}{await _name_some(copy, team)}")
        # Events that had their time since are not in ours any more, and still in the copy.
        if granted > ours and await self._fetch_first(copy.stream) == begin:
            found.append(f"has {granted - ours} events more than our stream")
        passes = await self._js.consumer_info(copy.stream, copy.consumer)
        # Who fills a copy goes on after what was acknowledged, so what a power cut took from it never comes again.
        if ours > granted and not passes.num_pending and not passes.num_ack_pending:
            lacking = ours - await _count_events(team, copy.stream, begin, copy.subjects)
            found += [f"lacks {lacking} events"] if lacking > 0 else []
        return found

    async def _fetch_first(self, stream: str) -> int:
        """The number of the first message that our stream has, or will have."""
        return max(1, (await self._js.stream_info(stream)).state.first_seq)

    async def find_unknown_consumers(self, copies: Sequence[Copy]) -> None:
        """On our own streams: on its copies a team has what consumers it likes. One that filled a team's copy, and the
        team is in the file no more, is removed; it is made again with the copy if the team comes back."""
        known = {(copy.stream, copy.consumer) for copy in copies}
        for stream in (stream.name for stream in STREAMS):
            for name in await streams.fetch_consumer_names(self._js, stream):
                if (stream, name) in known:
                    continue
                if self._change and name.startswith(COPYING):
                    await self._js.delete_consumer(stream, name)
                    self._did(f"consumer {stream}.{name} removed, for it fills no copy")
                else:
                    self.report.drift.append(f"consumer {stream}.{name} is there, and fills no copy")

    async def find_unknown_streams(self, copies: Sequence[Copy]) -> None:
        """In each account with streams: no service and no team makes one."""
        known = {EVENTS_ACCOUNT: {stream.name for stream in STREAMS}}
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


def _differs(wanted: Base, info: dict[str, Any] | None) -> bool:
    return info is None or bool(_find_differences(wanted, info))


def _find_differences(wanted: Base, info: dict[str, Any]) -> list[str]:
    return find_differences(wanted, info["config"], ignored=_BEGINNING if isinstance(wanted, ConsumerConfig) else ())


async def _count_events(js: JetStreamContext, stream: str, begin: int, subjects: Sequence[str] = ()) -> int:
    """How many messages of these subjects, or of all, the stream has from that number on. Raises: APIError."""
    counting = ConsumerConfig(
        filter_subjects=list(subjects) or None,
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=begin,
        ack_policy=AckPolicy.NONE,
        inactive_threshold=60,
    )
    counted = await js.add_consumer(stream, counting)
    await js.delete_consumer(stream, counted.name)
    return counted.num_pending or 0


async def _name_some(copy: Copy, team: JetStreamContext) -> str:
    """Some subjects of what the team is not granted, so that it is known whose events they are. The server tells the
    first of very many subjects, and they may be others."""
    subjects = (await team.stream_info(copy.stream, subjects_filter=">")).state.subjects or {}
    foreign = sorted(subject for subject in subjects if not copy.is_granted(subject))
    return f", such as {', '.join(foreign[:_NAMED_MAX])}" if foreign else ""


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
        copies = list_copies(read_teams(given.teams))
        client = await _connect(settings.nats_url.get_secret_value())
    except InvalidTeams as error:
        print(f"No stream was made or compared: {error}")
        return 1
    except (OSError, nats.errors.Error) as error:
        print(f"No stream was made or compared: NATS cannot be reached with NATS_URL ({error}).")
        return 1
    try:
        report = await provision(client, copies, replicas=given.replicas, change=not given.check)
    finally:
        await client.close()
    for line in [*report.lines, *(f"drift: {line}" for line in report.drift)]:
        print(line)
    counted = f"{len(STREAMS)} streams, {len(copies)} copies for teams"
    print(f"{counted}{'' if report.drift else ', as they should be'}")
    return 1 if report.drift and given.check else 0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.provision", description="Streams and teams' copies of them; reads NATS_URL."
    )
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if anything differs")
    parser.add_argument("--replicas", type=int, default=1, help="of each stream, in a cluster (default: %(default)s)")
    teams = os.environ.get("TEAMS_FILE")
    parser.add_argument("--teams", type=Path, default=teams, help="teams outside (default: TEAMS_FILE, %(default)s)")
    return asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
