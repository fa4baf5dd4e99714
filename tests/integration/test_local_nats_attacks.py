"""What the holder of one NATS password tries: nothing of another's changes, is told in its name, or is overheard.

Each user but the provisioner, whose work it is to make consumers, says everything of a list that is made from the names
of all streams, consumers, areas and users. Afterwards the streams and their consumers are as they were.
Accounts keep everybody apart by themselves: the same is so where no list says what a user may say.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.errors import NotFoundError

from deploy.local.nats import EVERYTHING, Nats
from deploy.nats_accounts import inbox_prefix
from deploy.provision import provision
from deploy.topology import GATEWAY, PROVISIONER, SERVICE_NAMES, SERVICES, STREAMS
from services.chassis.events import streams
from services.chassis.events.configurations import stream_configuration
from services.chassis.events.stored import stream_of_area
from services.chassis.events.subjects import COMMITTED_SUBJECT, COUNTED_SUBJECT, EVENTS_ACCOUNT, told_subject
from services.chassis.events.watch import find_stream_faults
from tests.support.chassis import until
from tests.support.nats_users import (
    BROKER,
    COPIES,
    LENDER,
    TEAMS,
    run_accounts_alone,
    run_everybody,
    user,
)

ATTACKERS = (*SERVICE_NAMES, GATEWAY, *(team.name for team in TEAMS))
USERS = (*ATTACKERS, PROVISIONER)
API = ("$JS.API", f"$JS.{EVENTS_ACCOUNT}.API", *(f"$JS.{team.name}.API" for team in TEAMS))
ORGANIZATIONS = ("org_1", "org_2")
# A team reads what it may hear, by whatever way; a service its own area and those that it hears. By area and
# organization.
Read = set[tuple[str, str]]
GRANTED: dict[str, Read] = {
    service.name: {(area, who) for area in (service.name, *service.hears) for who in ORGANIZATIONS}
    for service in SERVICES
}
GRANTED |= {
    "subscriber": {(area, organization) for area in SERVICE_NAMES for organization in ORGANIZATIONS},
    LENDER.name: {("escrow", "org_1")},
    BROKER.name: {("escrow", "org_2"), ("transactions", "org_2")},
}
HEARS = {service.name: service.hears for service in SERVICES}
# A subject, a body, and where the answer is to go: "" is the attacker's own inbox.
Attempt = tuple[str, Any, str]


def subject_of(service: str, organization: str = "org_1") -> str:
    return f"realco.{service}.v1.AnyEvent.{organization}._"


def spell(service: str, organization: str) -> bytes:
    """What an event says, for whoever reads it."""
    return f"of {service} for {organization}".encode()


@pytest.fixture(scope="module", params=[run_everybody, run_accounts_alone], ids=lambda run: run.__name__)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    with request.param(tmp_path_factory.mktemp("nats")) as running:
        yield running


@pytest.fixture
async def told(server: Nats, name: str) -> Nats:
    """With an event of two organizations in each area."""
    for service in SERVICE_NAMES:
        async with user(server, service) as (client, _):
            for organization in ORGANIZATIONS:
                await client.jetstream().publish(subject_of(service, organization), spell(service, organization))
    for copy in (one for one in COPIES if one.team == name):
        async with user(server, name) as (client, _):
            await until(partial(has_events, client, copy.stream))
    return server


async def has_events(client: Client, stream: str) -> bool:
    return (await client.jetstream().stream_info(stream)).state.messages > 0


def foreign_subjects(name: str) -> Iterator[str]:
    """Whatever ends in a stream, and is not the user's to say."""
    for service in SERVICES:
        if service.name != name:
            yield subject_of(service.name)


def changes_of_streams(api: str) -> Iterator[Attempt]:
    for stream in STREAMS:
        configuration = {"name": stream.name, "subjects": list(stream.subjects), "storage": "file"}
        yield f"{api}.STREAM.DELETE.{stream.name}", b"", ""
        yield f"{api}.STREAM.PURGE.{stream.name}", b"", ""
        yield f"{api}.STREAM.MSG.DELETE.{stream.name}", {"seq": 1}, ""
        yield f"{api}.STREAM.UPDATE.{stream.name}", configuration | {"max_msgs": 1, "discard": "old"}, ""
        yield f"{api}.STREAM.SNAPSHOT.{stream.name}", {"deliver_subject": "stolen"}, ""
        yield f"{api}.STREAM.MSG.GET.{stream.name}", {"seq": 1}, ""
        yield f"{api}.DIRECT.GET.{stream.name}", {"seq": 1}, ""
        copied = {"name": stream.name, "external": {"api": f"$JS.{EVENTS_ACCOUNT}.API", "deliver": "mine"}}
        yield f"{api}.STREAM.CREATE.MINE", {"name": "MINE", "sources": [copied]}, ""
        yield f"{api}.STREAM.CREATE.MINE", {"name": stream.name, "subjects": ["mine.>"]}, ""
    yield f"{api}.ACCOUNT.PURGE.{EVENTS_ACCOUNT}", b"", ""


def changes_of_consumers(api: str) -> Iterator[Attempt]:
    for stream, consumer in ((one.stream, one.consumer) for one in COPIES):
        deaf = {"name": consumer, "durable_name": consumer, "filter_subject": "nothing.at.all", "ack_policy": "none"}
        body = {"stream_name": stream, "config": deaf}
        yield f"{api}.CONSUMER.CREATE.{stream}.{consumer}.nothing.at.all", body, ""
        yield f"{api}.CONSUMER.DURABLE.CREATE.{stream}.{consumer}", body, ""
        yield f"{api}.CONSUMER.CREATE.{stream}", body, ""
        yield f"{api}.CONSUMER.CREATE.{stream}.mine", body, ""  # one name in the subject, another in the body
        yield f"{api}.CONSUMER.DELETE.{stream}.{consumer}", b"", ""
        yield f"{api}.CONSUMER.PAUSE.{stream}.{consumer}", {"pause_until": "2099-01-01T00:00:00Z"}, ""
        yield f"{api}.CONSUMER.RESET.{stream}.{consumer}", {"seq": 1}, ""
        yield f"{api}.CONSUMER.MSG.NEXT.{stream}.{consumer}", {"batch": 10, "no_wait": True}, ""
        for word in (b"", b"+TERM", b"-NAK", b"+NXT"):
            for sequence in range(1, 4):
                yield f"$JS.ACK.{stream}.{consumer}.1.{sequence}.{sequence}.1700000000000000000.0", word, ""


def writes_by_answers(name: str) -> Iterator[Attempt]:
    """The answer to a request, or the messages of a consumer, would be stored, or heard by another."""
    targets = [*foreign_subjects(name), *(f"{inbox_prefix(other)}.victim" for other in USERS if other != name)]
    targets += [f"{API[1]}.CONSUMER.DELETE.{one.stream}.{one.consumer}" for one in COPIES]
    for target in targets:
        for api in API[:2]:
            yield f"{api}.INFO", b"", target
            yield f"{api}.STREAM.NAMES", b"", target
            for stream in STREAMS:
                yield f"{api}.STREAM.INFO.{stream.name}", b"", target
                yield f"{api}.DIRECT.GET.{stream.name}", {"seq": 1, "batch": 2}, target
        for stream in STREAMS:
            pushing = {"ack_policy": "none", "deliver_policy": "all", "deliver_subject": target}
            body = {"stream_name": stream.name, "config": pushing}
            yield f"$JS.API.CONSUMER.CREATE.{stream.name}", body, ""
            yield f"$JS.API.CONSUMER.CREATE.{stream.name}", body, target


def reads(name: str) -> Iterator[Attempt]:
    """Whatever is in a stream, sent to the attacker."""
    for api in API:
        for stream in STREAMS:
            inbox = f"{inbox_prefix(name)}.read"
            pushing = {"ack_policy": "none", "deliver_policy": "all", "deliver_subject": inbox}
            yield f"{api}.CONSUMER.CREATE.{stream.name}", {"stream_name": stream.name, "config": pushing}, ""
            yield f"{api}.DIRECT.GET.{stream.name}", {"seq": 1, "batch": 100}, ""


def changes(name: str) -> Iterator[Attempt]:
    for subject in foreign_subjects(name):
        yield subject, b"forged", ""
    for other in USERS:
        if other != name:
            yield f"{inbox_prefix(other)}.victim", b"forged", ""
    yield COUNTED_SUBJECT, b"forged", ""
    yield COMMITTED_SUBJECT, b"forged", ""
    for service in SERVICE_NAMES:
        if service != name:
            yield told_subject(service), b"forged", ""
    for copy in COPIES:
        yield copy.deliver_subject, b"forged", f"$JS.ACK.{copy.stream}.{copy.consumer}.1.9.9.1700000000000000000.0"
        yield f"$JS.FC.{copy.stream}.{copy.consumer}.1", b"", ""
    for api in API:
        yield from changes_of_streams(api)
        yield from changes_of_consumers(api)
    yield from writes_by_answers(name)


async def picture(client: Client) -> dict[str, Any]:
    """All there is to change: streams with what they hold, and their consumers."""
    js = streams.jetstream(client)
    found: dict[str, Any] = {}
    for stream in STREAMS:
        info = await js.stream_info(stream.name)
        found[stream.name] = (info.config, info.state.messages, info.state.last_seq)
        consumers = await js.consumers_info(stream.name)
        found[f"{stream.name}.*"] = sorted(
            (one.name, str(one.config), str(one.created), one.paused) for one in consumers
        )
    return found


async def listen(client: Client, subject: str, heard: list[bytes]) -> None:
    async def note(message: Msg) -> None:
        heard.append(message.subject.encode() + b" " + message.data)

    await client.subscribe(subject, cb=note)
    await client.flush()


async def try_everything(client: Client, name: str) -> list[bytes]:
    """What was answered."""
    answers: list[bytes] = []
    await listen(client, f"{inbox_prefix(name)}.answer", answers)
    await listen(client, f"{inbox_prefix(name)}.read", answers)
    await try_each(client, name, reads(name))
    granted: Read = GRANTED.get(name, set())
    # Before the changes: where accounts keep everybody apart by themselves, a team may destroy its own copy.
    await until(lambda: granted <= list_read(answers))
    await try_each(client, name, changes(name))
    known = -1
    while len(answers) > known:  # until there are no more
        known = len(answers)
        await asyncio.sleep(0.2)
    return answers


async def try_each(client: Client, name: str, attempts: Iterator[Attempt]) -> None:
    for subject, body, reply in attempts:
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        await client.publish(subject, payload, reply=reply or f"{inbox_prefix(name)}.answer")
    await client.flush(timeout=30)


def list_read(answers: list[bytes]) -> Read:
    """The areas and organizations whose events are among the answers."""
    said = b"\n".join(answers)
    return {(area, one) for area in SERVICE_NAMES for one in ORGANIZATIONS if spell(area, one) in said}


@pytest.mark.parametrize("name", ATTACKERS)
async def test_whoever_holds_one_password_changes_nothing_and_overhears_nobody(told: Nats, name: str) -> None:
    heard: list[bytes] = []
    async with AsyncExitStack() as stack:
        admin, _ = await stack.enter_async_context(user(told, PROVISIONER))
        for other in USERS:
            if other != name:
                victim, _ = await stack.enter_async_context(user(told, other))
                await listen(victim, f"{inbox_prefix(other)}.victim", heard)
                if other == GATEWAY:
                    await listen(victim, COUNTED_SUBJECT, heard)
                if other in SERVICE_NAMES:
                    await listen(victim, COMMITTED_SUBJECT, heard)
                    for area in HEARS[other]:
                        if area != name:
                            await listen(victim, told_subject(area), heard)
        before = await picture(admin)
        attacker, _ = await stack.enter_async_context(user(told, name))
        answers = await try_everything(attacker, name)
        assert await picture(admin) == before
    assert (heard, list_read(answers)) == ([], GRANTED.get(name, set()))


# What the provisioner's credential can do to a stream of events, by what loses, hides, keeps out or gives away events.
UPDATES: tuple[dict[str, Any], ...] = (
    {"max_msgs_per_subject": 1},
    {"max_msgs": 1, "discard": "old"},
    {"max_bytes": 1, "discard": "old"},
    {"max_age": 10**9, "duplicate_window": 10**9},
    {"discard": "old"},
    {"discard_new_per_subject": True, "max_msgs_per_subject": 1},
    {"duplicate_window": 10**9},
    {"max_msg_size": 1},
    {"max_consumers": 99},
    {"no_ack": True},
    {"subjects": ["realco.escrow.v1.HoldPlaced.>"]},
    {"subject_transform": {"src": "realco.escrow.v1.HoldPlaced.>", "dest": "realco.escrow.v1.nothing.>"}},
    {"republish": {"src": ">", "dest": "stolen.>"}},
    {"sources": [{"name": "DISTRIBUTIONS", "filter_subject": "realco.distributions.v1.none"}]},
    {"allow_direct": False},
    {"allow_atomic": False},
    {"allow_batched": True},
    {"compression": "s2"},
    {"consumer_limits": {"max_ack_pending": 10_000}},
    {"placement": {"tags": ["mine"]}},
    {"description": "other"},
    {"metadata": {"note": "other"}},
    # For ever, so they are the last.
    {"allow_msg_ttl": True},
    {"allow_msg_ttl": True, "sealed": True},
)
# What the server itself lets nobody change.
KEPT_BY_THE_SERVER = ({"deny_purge": False, "allow_rollup_hdrs": True}, {"deny_delete": False})


async def ask(client: Client, command: str, body: Any = b"") -> dict[str, Any]:
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer: dict[str, Any] = json.loads((await client.request(f"{API[1]}.{command}", payload, timeout=5)).data)
    return answer


@pytest.fixture
def attacked(tmp_path: Path) -> Iterator[Nats]:
    with run_everybody(tmp_path) as running:
        yield running


async def test_whatever_the_provisioner_s_password_changes_of_a_stream_is_seen_by_its_check_and_by_the_services(
    attacked: Nats,
) -> None:
    missed: list[Any] = []
    refused: list[Any] = []
    stream = stream_of_area("escrow")
    wanted = stream_configuration(stream).as_dict()
    async with user(attacked, PROVISIONER) as (client, _), user(attacked, "escrow") as (service, _):
        for change in (*KEPT_BY_THE_SERVER, *UPDATES):
            if "error" in await ask(client, "STREAM.UPDATE.ESCROW", wanted | change):
                refused.append(change)
                continue
            checked = (await provision(client, change=False)).drift
            checked = [said.removeprefix("stream ESCROW: ") for said in checked if said.startswith("stream")]
            faults = find_stream_faults(stream, await streams.fetch_stream(streams.jetstream(service), stream.name))
            if checked != faults or not all(any(name in fault for fault in faults) for name in change):
                missed.append((change, faults))
        await ask(client, "STREAM.CREATE.ASIDE", {"name": "ASIDE", "subjects": ["_copies.lender.ESCROW"]})
        one_more = "stream EVENTS.ASIDE is there, and is neither ours nor a copy"  # which no service looks at
        assert one_more in (await provision(client, change=False)).drift
    assert (missed, refused) == ([], [*KEPT_BY_THE_SERVER])


@pytest.fixture
def without_walls(tmp_path: Path) -> Iterator[Nats]:
    with run_everybody(tmp_path, everything=True) as running:
        yield running


async def test_whoever_may_do_everything_does_harm_with_the_same_list(without_walls: Nats) -> None:
    async with user(without_walls, PROVISIONER) as (admin, _), user(without_walls, EVERYTHING) as (attacker, _):
        await try_everything(attacker, EVERYTHING)
        with pytest.raises(NotFoundError):
            await picture(admin)
