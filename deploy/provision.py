"""The one maker of streams and durable consumers: `python -m deploy.provision`, again and again without harm.

- What should be there is derived from the services' own SUBSCRIPTIONS and from the teams' file; nothing is listed
  twice.
- Missing ones are made, differing ones changed, and then the server's answer is compared field by field:
  what still differs, and durable consumers nobody subscribes with, are reported as drift. `--check` only compares.
- It removes nothing: a consumer's position in its stream is what a service has already done.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
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
    DeliverPolicy,
    DiscardPolicy,
    ReplayPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import NotFoundError

from deploy.teams import InvalidTeams, Team, read_teams
from deploy.topology import DEAD_LETTERS, SERVICE_NAMES, STREAMS
from services.chassis.events import streams
from services.chassis.events.consumer import ACK_WAIT_SECONDS, MAX_ACK_PENDING, MAX_DELIVER, Subscription
from services.chassis.process.settings import Settings

_MESSAGE_BYTES_MAX = 256 * 1024
_DUPLICATE_SECONDS = 2 * 3600


@dataclass(frozen=True)
class Consumer:
    """A durable consumer of one stream; its owner is a service or a team."""

    owner: str
    stream: str
    name: str
    subjects: tuple[str, ...]

    def configuration(self) -> ConsumerConfig:
        # In a replay of dead letters, one that fails again does not hold up the next.
        replays = self.stream == DEAD_LETTERS.name
        unhurried = replays or self.owner not in SERVICE_NAMES
        return ConsumerConfig(
            name=self.name,
            durable_name=self.name,
            filter_subjects=list(self.subjects),
            deliver_policy=DeliverPolicy.ALL,
            replay_policy=ReplayPolicy.INSTANT,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=30 if unhurried else ACK_WAIT_SECONDS,
            max_ack_pending=1000 if replays else MAX_ACK_PENDING,
            max_deliver=MAX_DELIVER,  # who consumes counts, and puts aside what cannot be handled
        )


@dataclass
class Report:
    """What a run did and what it could not put right."""

    lines: list[str] = field(default_factory=list)
    drift: list[str] = field(default_factory=list)


def stream_configurations(replicas: int = 1) -> list[StreamConfig]:
    """One stream an area, and one for what could not be handled."""
    return [
        StreamConfig(
            name=stream.name,
            subjects=list(stream.subjects),
            storage=StorageType.FILE,
            retention=RetentionPolicy.LIMITS,
            discard=DiscardPolicy.NEW,  # a full stream refuses new facts (the outbox keeps them) and forgets no old one
            num_replicas=replicas,
            max_age=0,
            max_msgs=-1,
            max_bytes=-1,
            # A dead letter is an event with a few headers more.
            max_msg_size=_MESSAGE_BYTES_MAX * (2 if stream == DEAD_LETTERS else 1),
            duplicate_window=_DUPLICATE_SECONDS,
            allow_atomic=True,
            deny_delete=True,
            deny_purge=True,
        )
        for stream in STREAMS
    ]


def list_consumers(teams: Sequence[Team]) -> list[Consumer]:
    """The consumers that the services' subscriptions need, and those of the teams."""
    found: list[Consumer] = []
    for service in SERVICE_NAMES:
        for subscription in importlib.import_module(f"services.{service}.subscribers").SUBSCRIPTIONS:
            found += consumers_of(service, subscription)
    for team in teams:
        found += team_consumers(team)
    return found


def consumers_of(service: str, subscription: Subscription) -> list[Consumer]:
    """One consumer a stream, all of the durable's name; and one over what it has put aside, for the replay."""
    durable = subscription.durable
    put_aside = {DEAD_LETTERS.name: [subject.replace(">", durable) for subject in DEAD_LETTERS.subjects]}
    by_stream = subscription.subjects_by_stream() | put_aside
    return [Consumer(service, stream, durable, tuple(subjects)) for stream, subjects in by_stream.items()]


def team_consumers(team: Team) -> list[Consumer]:
    """One a durable and stream: only of what the team may hear."""
    return [
        Consumer(team.name, stream, durable.name, tuple(subjects))
        for durable in team.durables
        for stream, subjects in team.consumers_of(durable).items()
    ]


def durables_of(wanted: Sequence[Consumer]) -> dict[str, list[str]]:
    """The names of each service's and team's durable consumers."""
    owners = sorted({*SERVICE_NAMES, *(consumer.owner for consumer in wanted)})
    return {owner: sorted({consumer.name for consumer in wanted if consumer.owner == owner}) for owner in owners}


def find_differences(wanted: Base, actual: Base) -> list[str]:
    """Each field of `wanted` that the server has otherwise. JetStream leaves out what is false, zero or empty."""
    there = actual.as_dict()
    return [
        f"{name} is {there.get(name)!r}, wanted {value!r}"
        for name, value in wanted.as_dict().items()
        if (there.get(name) or None) != (value or None)
    ]


async def provision(client: Client, wanted: Sequence[Consumer], *, replicas: int = 1, change: bool = True) -> Report:
    """Makes the streams and consumers as they should be, or (`change=False`) only compares."""
    report, js = Report(), client.jetstream(timeout=10)
    for stream in stream_configurations(replicas):
        name = str(stream.name)
        actual = await _configuration_or_none(js.stream_info(name))
        if change and (actual is None or find_differences(stream, actual)):
            make, verb = (js.add_stream, "created") if actual is None else (js.update_stream, "updated")
            actual = (await make(stream)).config
            report.lines.append(f"stream {name} {verb}")
        _compare(report, f"stream {name}", stream, actual)
    for consumer in wanted:
        title, configuration = f"consumer {consumer.stream}.{consumer.name}", consumer.configuration()
        there = await _configuration_or_none(js.consumer_info(consumer.stream, consumer.name))
        if change and (there is None or find_differences(configuration, there)):
            report.lines.append(f"{title} {'created' if there is None else 'updated'}")
            there = (await js.add_consumer(consumer.stream, configuration)).config
        _compare(report, title, configuration, there)
    await _find_unknown_consumers(js, wanted, report)
    return report


def _compare(report: Report, title: str, wanted: Base, actual: Base | None) -> None:
    if actual is None:
        report.drift.append(f"{title} is missing")
    else:
        report.drift += [f"{title}: {difference}" for difference in find_differences(wanted, actual)]


async def _find_unknown_consumers(js: JetStreamContext, wanted: Sequence[Consumer], report: Report) -> None:
    known = {(consumer.stream, consumer.name) for consumer in wanted}
    for stream in (stream.name for stream in STREAMS):
        if await _configuration_or_none(js.stream_info(stream)) is None:
            continue
        offset = 0
        while page := await js.consumers_info(stream, offset):
            offset += len(page)
            for consumer in page:
                if consumer.config.durable_name and (stream, consumer.name) not in known:
                    report.drift.append(
                        f"consumer {stream}.{consumer.name} is there, and neither a service nor a team has it"
                    )


async def _configuration_or_none(info: Awaitable[Any]) -> Any:
    """The configuration in JetStream's answer; None where there is no such stream or consumer."""
    try:
        return (await info).config
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
        wanted = list_consumers(read_teams(given.teams))
        client = await _connect(settings.nats_url.get_secret_value())
    except InvalidTeams as error:
        print(f"No stream was made or compared: {error}")
        return 1
    except (OSError, nats.errors.Error) as error:
        print(f"No stream was made or compared: NATS cannot be reached with NATS_URL ({error}).")
        return 1
    try:
        report = await provision(client, wanted, replicas=given.replicas, change=not given.check)
    finally:
        await client.close()
    for line in [*report.lines, *(f"drift: {line}" for line in report.drift)]:
        print(line)
    print(f"{len(STREAMS)} streams, {len(wanted)} durable consumers{'' if report.drift else ', as they should be'}")
    if given.durables:
        given.durables.write_text(json.dumps(durables_of(wanted), indent=2))
    return 1 if report.drift and given.check else 0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.provision", description="Streams and consumers; reads NATS_URL."
    )
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if anything differs")
    parser.add_argument("--replicas", type=int, default=1, help="of each stream, in a cluster (default: %(default)s)")
    parser.add_argument("--durables", type=Path, help="write each owner's consumer names to this file, as JSON")
    teams = os.environ.get("TEAMS_FILE")
    parser.add_argument("--teams", type=Path, default=teams, help="teams outside (default: TEAMS_FILE, %(default)s)")
    return asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
