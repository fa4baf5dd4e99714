"""The one maker of streams and durable consumers: `python -m deploy.provision`, again and again without harm.

- What should be there is derived from the services' own SUBSCRIPTIONS; nothing is listed twice.
- Missing ones are made, differing ones changed, and then the server's answer is compared field by field:
  what still differs, and durable consumers nobody subscribes with, are reported as drift. `--check` only compares.
- It removes nothing: a consumer's position in its stream is what a service has already done.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nats
import nats.errors
from nats.aio.client import Client

from deploy.topology import DEAD_LETTERS, SERVICE_NAMES, STREAMS
from services.chassis.events.consumer import ACK_WAIT_SECONDS, MAX_ACK_PENDING, MAX_DELIVER, Subscription
from services.chassis.process.settings import Settings

_SECOND = 1_000_000_000
_MESSAGE_BYTES_MAX = 256 * 1024
_STREAM_NOT_FOUND, _CONSUMER_NOT_FOUND = 10059, 10014


@dataclass(frozen=True)
class Consumer:
    """A durable consumer of one stream."""

    service: str
    stream: str
    name: str
    subjects: tuple[str, ...]

    def configuration(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "durable_name": self.name,
            "filter_subjects": list(self.subjects),
            "deliver_policy": "all",
            "replay_policy": "instant",
            "ack_policy": "explicit",
            "max_deliver": MAX_DELIVER,  # the consuming service counts, and puts aside what cannot be handled
            **self._pace(),
        }

    def _pace(self) -> dict[str, int]:
        if self.stream == DEAD_LETTERS.name:  # in a replay, one that fails again does not hold up the next
            return {"ack_wait": 30 * _SECOND, "max_ack_pending": 1000}
        return {"ack_wait": ACK_WAIT_SECONDS * _SECOND, "max_ack_pending": MAX_ACK_PENDING}


@dataclass
class Report:
    """What a run did and what it could not put right."""

    lines: list[str] = field(default_factory=list)
    drift: list[str] = field(default_factory=list)


class Refused(Exception):
    """JetStream's own refusal."""

    def __init__(self, subject: str, error: Mapping[str, Any]) -> None:
        super().__init__(f"{subject}: {error.get('description')} ({error.get('err_code')})")
        self.code = error.get("err_code")


def stream_configurations(replicas: int = 1) -> list[dict[str, Any]]:
    """One stream an area, and one for what could not be handled."""
    return [
        {
            "name": stream.name,
            "subjects": list(stream.subjects),
            "storage": "file",
            "retention": "limits",
            "discard": "new",  # a full stream refuses new facts (the outbox keeps them) and forgets no old one
            "num_replicas": replicas,
            "max_age": 0,
            "max_msgs": -1,
            "max_bytes": -1,
            # A dead letter is an event with a few headers more.
            "max_msg_size": _MESSAGE_BYTES_MAX * (2 if stream == DEAD_LETTERS else 1),
            "duplicate_window": 2 * 3600 * _SECOND,
            "allow_atomic": True,
            "deny_delete": True,
            "deny_purge": True,
        }
        for stream in STREAMS
    ]


def consumers(services: Sequence[str] = SERVICE_NAMES) -> tuple[list[Consumer], list[str]]:
    """The consumers that the services' subscriptions need, and a line for each service that is not written yet."""
    found, missing = [], []
    for service in services:
        module = f"services.{service}.subscribers"
        try:
            subscriptions = importlib.import_module(module).SUBSCRIPTIONS
        except ModuleNotFoundError as error:
            if error.name not in (module, f"services.{service}"):
                raise
            missing.append(f"{service}: skipped, there is no {module} yet")
            continue
        for subscription in subscriptions:
            found += consumers_of(service, subscription)
    return found, missing


def consumers_of(service: str, subscription: Subscription) -> list[Consumer]:
    """One consumer a stream, all of the durable's name; and one over what it has put aside, for the replay."""
    durable = subscription.durable
    put_aside = {DEAD_LETTERS.name: [subject.replace(">", durable) for subject in DEAD_LETTERS.subjects]}
    by_stream = subscription.subjects_by_stream() | put_aside
    return [Consumer(service, stream, durable, tuple(subjects)) for stream, subjects in by_stream.items()]


def durables(wanted: Sequence[Consumer]) -> dict[str, list[str]]:
    """The names of each service's durable consumers."""
    return {
        service: sorted({consumer.name for consumer in wanted if consumer.service == service})
        for service in SERVICE_NAMES
    }


def differences(wanted: Mapping[str, Any], actual: Mapping[str, Any]) -> list[str]:
    """Each field of `wanted` that the server has otherwise. JetStream leaves out what is false, zero or empty."""
    return [
        f"{name} is {actual.get(name)!r}, wanted {value!r}"
        for name, value in wanted.items()
        if (actual.get(name) or None) != (value or None)
    ]


async def provision(client: Client, wanted: Sequence[Consumer], *, replicas: int = 1, change: bool = True) -> Report:
    """Makes the streams and consumers as they should be, or (`change=False`) only compares."""
    report = Report()
    for stream in stream_configurations(replicas):
        name = stream["name"]
        actual = await _configuration(client, f"STREAM.INFO.{name}", _STREAM_NOT_FOUND)
        if change and (actual is None or differences(stream, actual)):
            verb = "CREATE" if actual is None else "UPDATE"
            actual = (await _ask(client, f"STREAM.{verb}.{name}", stream))["config"]
            report.lines.append(f"stream {name} {verb.lower()}d")
        _compare(report, f"stream {name}", stream, actual)
    for consumer in wanted:
        info = f"{consumer.stream}.{consumer.name}"
        configuration = consumer.configuration()
        actual = await _configuration(client, f"CONSUMER.INFO.{info}", _CONSUMER_NOT_FOUND, _STREAM_NOT_FOUND)
        if change and (actual is None or differences(configuration, actual)):
            request = {"stream_name": consumer.stream, "config": configuration}
            report.lines.append(f"consumer {info} {'created' if actual is None else 'updated'}")
            actual = (await _ask(client, f"CONSUMER.CREATE.{info}", request))["config"]
        _compare(report, f"consumer {info}", configuration, actual)
    await _find_strangers(client, wanted, report)
    return report


def _compare(report: Report, what: str, wanted: Mapping[str, Any], actual: Mapping[str, Any] | None) -> None:
    if actual is None:
        report.drift.append(f"{what} is missing")
    else:
        report.drift += [f"{what}: {difference}" for difference in differences(wanted, actual)]


async def _find_strangers(client: Client, wanted: Sequence[Consumer], report: Report) -> None:
    known = {(consumer.stream, consumer.name) for consumer in wanted}
    for stream in (stream["name"] for stream in stream_configurations()):
        if await _configuration(client, f"STREAM.INFO.{stream}", _STREAM_NOT_FOUND) is None:
            continue
        offset = 0
        while page := (await _ask(client, f"CONSUMER.LIST.{stream}", {"offset": offset})).get("consumers"):
            offset += len(page)
            for consumer in page:
                if consumer["config"].get("durable_name") and (stream, consumer["name"]) not in known:
                    report.drift.append(
                        f"consumer {stream}.{consumer['name']} is there, and no service subscribes with it"
                    )


async def _configuration(client: Client, subject: str, *absent: int) -> dict[str, Any] | None:
    try:
        return dict((await _ask(client, subject))["config"])
    except Refused as refusal:
        if refusal.code in absent:
            return None
        raise


async def _ask(client: Client, subject: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    request = json.dumps(body).encode() if body is not None else b""
    answer: dict[str, Any] = json.loads((await client.request(f"$JS.API.{subject}", request, timeout=10)).data)
    if error := answer.get("error"):
        raise Refused(subject, error)
    return answer


async def _connect(url: str) -> Client:
    """Gives up after the second try: left alone, the client would try a server that is not there for two minutes."""

    async def in_silence(_: Exception) -> None:
        """The last error is raised."""

    return await nats.connect(url, allow_reconnect=False, max_reconnect_attempts=1, error_cb=in_silence)


async def _run(given: argparse.Namespace) -> int:
    settings = Settings.load()
    settings.require("nats_url")
    wanted, missing = consumers()
    try:
        client = await _connect(settings.nats_url.get_secret_value())
    except (OSError, nats.errors.Error) as error:
        print(f"No streams were made or looked at: NATS does not let us in where NATS_URL says ({error}).")
        return 1
    try:
        report = await provision(client, wanted, replicas=given.replicas, change=not given.check)
    finally:
        await client.close()
    for line in [*missing, *report.lines, *(f"drift: {line}" for line in report.drift)]:
        print(line)
    print(f"{len(STREAMS)} streams, {len(wanted)} durable consumers{'' if report.drift else ', as they should be'}")
    if given.durables:
        given.durables.write_text(json.dumps(durables(wanted), indent=2))
    return 1 if report.drift and given.check else 0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.provision", description="Streams and consumers; reads NATS_URL."
    )
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if anything differs")
    parser.add_argument("--replicas", type=int, default=1, help="of each stream, in a cluster (default: %(default)s)")
    parser.add_argument("--durables", type=Path, help="write each service's consumer names to this file, as JSON")
    return asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
