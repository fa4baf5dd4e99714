"""What each user of NATS may say and hear: exactly this, on a running server with everybody and all copies.

`may_ask` and `others` are the whole list. Every request of JetStream's API is walked, for each user, with the name of
every stream and consumer there is and of some that are not. The body is never one that JetStream follows, so nothing
but who is heard is asked here; what an attack would do is tried in test_local_nats_attacks.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from deploy.local.nats import Nats
from deploy.topology import GATEWAY, PROVISIONER, SERVICE_NAMES, SERVICES, STREAMS
from services.chassis.events.subjects import COMMITTED_SUBJECT, COUNTED_SUBJECT, told_subject
from tests.support.chassis import until
from tests.support.nats_users import COPIES, TEAMS, run_everybody, user

USERS = (*SERVICE_NAMES, GATEWAY, PROVISIONER, *(team.name for team in TEAMS))
PREFIXES = ("$JS.API", "$JS.EVENTS.API", *(f"$JS.{team.name}.API" for team in TEAMS))

# fmt: off
OF_NOTHING = (
    "INFO", "STREAM.NAMES", "STREAM.LIST", "STREAM.CANCEL", "META.LEADER.STEPDOWN", "META.RESCUE",
    "SERVER.REMOVE", "SERVER.EVACUATE", "ACCOUNT.PURGE.EVENTS", "ACCOUNT.STREAM.CANCEL.EVENTS.ESCROW",
    "ACCOUNT.STREAM.MOVE.EVENTS.ESCROW",
)
OF_A_STREAM = (
    "STREAM.CREATE", "STREAM.UPDATE", "STREAM.INFO", "STREAM.DELETE", "STREAM.PURGE", "STREAM.RESTORE",
    "STREAM.SNAPSHOT", "STREAM.MSG.GET", "STREAM.MSG.DELETE", "STREAM.LEADER.STEPDOWN", "STREAM.PEER.REMOVE",
    "STREAM.PEER.EVACUATE", "DIRECT.GET", "CONSUMER.CREATE", "CONSUMER.NAMES", "CONSUMER.LIST",
)
OF_A_CONSUMER = (
    "CONSUMER.CREATE", "CONSUMER.DURABLE.CREATE", "CONSUMER.INFO", "CONSUMER.DELETE", "CONSUMER.MSG.NEXT",
    "CONSUMER.RESET", "CONSUMER.PAUSE", "CONSUMER.UNPIN", "CONSUMER.LEADER.STEPDOWN", "CONSUMER.PEER.REMOVE",
    "CONSUMER.PEER.EVACUATE",
)
# fmt: on
WITH_A_FILTER = ("CONSUMER.CREATE", "DIRECT.GET")

HEARD_BY = {service.name: {area.upper() for area in service.hears} for service in SERVICES}
PLACES = sorted({*((copy.stream, copy.consumer) for copy in COPIES), ("ESCROW", "mine"), ("NEW", "mine")})
STREAM_NAMES = (*(stream.name for stream in STREAMS), "NEW")
EVENT = "realco.escrow.v1.HoldPlaced.org_1.esc_1"

MAKES = {"STREAM.CREATE", "STREAM.UPDATE", "STREAM.INFO", "STREAM.NAMES"}
MAKES |= {"CONSUMER.CREATE", "CONSUMER.INFO", "CONSUMER.LIST", "CONSUMER.DELETE"}
READS = {"INFO", "STREAM.NAMES", "STREAM.LIST", "CONSUMER.CREATE", "CONSUMER.DURABLE.CREATE"}
READS_OF_A_COPY = {"STREAM.INFO", "CONSUMER.NAMES", "CONSUMER.LIST"}
READS_OF_A_COPY |= {"CONSUMER.INFO", "CONSUMER.DELETE", "CONSUMER.MSG.NEXT"}
COPIED = {team.name: {copy.stream for copy in team.copies()} for team in TEAMS}


def requests() -> Iterator[tuple[str, str, str, str, str]]:
    """Of JetStream's API: prefix, command, stream, consumer, and the subject of all that."""
    for prefix in PREFIXES:
        for command in OF_NOTHING:
            yield prefix, command, "", "", f"{prefix}.{command}"
        for stream in STREAM_NAMES:
            for command in OF_A_STREAM:
                yield prefix, command, stream, "", f"{prefix}.{command}.{stream}"
        for stream, consumer in PLACES:
            for command in OF_A_CONSUMER:
                yield prefix, command, stream, consumer, f"{prefix}.{command}.{stream}.{consumer}"
        for command in WITH_A_FILTER:
            yield prefix, command, "ESCROW", "mine", f"{prefix}.{command}.ESCROW.mine.{EVENT}"


def may_ask(name: str, prefix: str, command: str, stream: str, consumer: str) -> bool:
    """Whether the user may say this to JetStream."""
    if name in COPIED:
        at_home = prefix == "$JS.API"
        return at_home and (command in READS or (command in READS_OF_A_COPY and stream in COPIED[name]))
    if prefix == "$JS.API" or name == GATEWAY:
        return False
    if name == PROVISIONER:
        if prefix == "$JS.EVENTS.API":
            return command in MAKES
        return command in MAKES or command == "STREAM.DELETE"
    if prefix != "$JS.EVENTS.API" or consumer:
        return False
    own = stream == name.upper()
    if command == "STREAM.INFO":
        return own or stream in HEARD_BY[name]
    return (command == "STREAM.MSG.GET" and own) or (command == "DIRECT.GET" and (own or stream in HEARD_BY[name]))


def others() -> Iterator[tuple[str, frozenset[str]]]:
    """Subjects beside the API, and who may say each."""
    teams = frozenset(COPIED)
    for service in SERVICES:
        yield f"realco.{service.name}.v1.AnyEvent.org_1._", frozenset({service.name})
        yield told_subject(service.name), frozenset({service.name})
    for stream, consumer in PLACES:
        yield f"$JS.ACK.{stream}.{consumer}.1.1.1.1700000000000000000.0", teams  # in its own account
    yield COUNTED_SUBJECT, frozenset({GATEWAY})
    yield COMMITTED_SUBJECT, frozenset(SERVICE_NAMES)
    for copy in COPIES:
        for subject in (copy.deliver_subject, f"$JS.FC.{copy.stream}.{copy.consumer}.1"):
            yield subject, frozenset()
    for name in USERS:
        yield f"_INBOX_{name}.overheard", frozenset()
    for subject in ("realco.other.v1.Event.org_1._", "_INBOX.any", "_R_.any", "$SYS.REQ.SERVER.PING", "$KV.any.key"):
        yield subject, frozenset()
    for subject in ("$SYS.REQ.USER.INFO", "$SYS.REQ.ACCOUNT.PING.CONNZ", "$JSC.R.any", "$JS.EVENT.ADVISORY.API"):
        yield subject, frozenset()


HEARD = (COUNTED_SUBJECT, COMMITTED_SUBJECT, *map(told_subject, SERVICE_NAMES), "realco.told.*")
HEARD += ("realco.>", "realco.escrow.v1.>", "realco.gateway.>")
HEARD += ("$JS.>", "$SYS.>", "_copies.>", "_R_.>", "_INBOX.>", "*", ">")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    with run_everybody(tmp_path_factory.mktemp("nats")) as running:
        yield running


async def all_are_told(client: Client, refused: set[str], expected: int) -> None:
    """Waits for the server's refusals: as many as expected, or until there are no more."""
    await client.flush(timeout=30)
    known = -1
    while len(refused) < expected and len(refused) > known:
        known = len(refused)
        await asyncio.sleep(0.3)


@pytest.mark.parametrize("name", USERS)
async def test_a_user_may_say_what_the_list_says_and_nothing_else(server: Nats, name: str) -> None:
    wanted = {subject: may_ask(name, *place) for *place, subject in requests()}
    asked = set(wanted)
    wanted |= {subject: name in who for subject, who in others()}
    answered: set[str] = set()
    async with user(server, name) as (client, refused):

        async def note(message: Msg) -> None:
            answered.add(subjects[int(message.subject.rsplit(".", 1)[1])])

        subjects = list(dict.fromkeys(wanted))
        await client.subscribe(f"_INBOX_{name}.said.*", cb=note)
        for number, subject in enumerate(subjects):
            await client.publish(subject, b"{", reply=f"_INBOX_{name}.said.{number}")
        await all_are_told(client, refused, list(wanted.values()).count(False))
        said = {subject for subject in subjects if f'publish to "{subject}"'.lower() not in refused}
        assert said == {subject for subject in subjects if wanted[subject]}
        # A right that leads nowhere is none.
        await until(lambda: answered >= said & asked, seconds=10)


@pytest.mark.parametrize("name", USERS)
async def test_a_user_hears_its_own_inbox_and_what_its_like_tell_each_other_and_nothing_else(
    server: Nats, name: str
) -> None:
    own = {f"_INBOX_{name}.>"}
    own |= {subject for subject in (COUNTED_SUBJECT, COMMITTED_SUBJECT) if name in dict(others())[subject]}
    own |= {told_subject(stream.lower()) for stream in HEARD_BY.get(name, ())}
    asked = (*HEARD, f"_INBOX_{name}.>", *(f"_INBOX_{other}.>" for other in USERS if other != name))
    async with user(server, name) as (client, refused):
        for subject in asked:
            await client.subscribe(subject)
        await all_are_told(client, refused, len(asked) - len(own))
        heard = {subject for subject in asked if f'subscription to "{subject}"'.lower() not in refused}
    assert heard == own
