"""For whom an investor acts, as a service has heard it and as it is at this moment, on real PostgreSQL."""

from __future__ import annotations

import dataclasses
import time
from types import SimpleNamespace

import pytest
from realco.compliance.v1 import events_pb2, parties_pb2
from realco.type.v1.event_pb2 import EventMeta

from services.chassis.calls.auth import Principal, SignedInKey, acting_as
from services.chassis.calls.parties import Callers, NoParties
from services.chassis.calls.sign_in import SessionEnded
from services.chassis.calls.tokens import API_KEY_TOKEN_SECONDS
from services.chassis.data.heard_persons import HeardParties, KnownParties
from services.chassis.events.handling import Delivery
from services.chassis.events.persons import record_persons_of
from services.chassis.values.clock import SystemClock
from services.chassis.values.errors import Unavailable
from services.chassis.values.session import Identity, Standing
from tests.support import servers

ANN = Principal("ann", "investor", "org-a")
BEN = dataclasses.replace(ANN, subject="ben")


class Owner:
    """The service that owns the relation, which may be away."""

    def __init__(self):
        self.parties: dict[str, list[str]] = {}
        self.asked: list[str] = []
        self.counted: list[bool] = []
        self.away = False
        self.refusal = None

    async def find_standing(self, person, *, include_former=False, counts_yes=False, api_key_id=None):
        self.asked.append(person)
        self.counted.append(counts_yes)
        if self.away:
            raise Unavailable("A service this one needs cannot be reached.")
        if self.refusal is not None:
            raise self.refusal
        return Standing(frozenset(self.parties.get(person, [])))


@pytest.fixture
async def database(service_database):
    return await service_database("transactions")


@pytest.fixture
def owner():
    return Owner()


@pytest.fixture
def parties(database, owner):
    return HeardParties(database, owner.find_standing)


async def hear(database, party, version, persons, *, org_id="org-a"):
    """The event in which the party has these persons."""
    event = events_pb2.PartyPersonAdded(
        meta=EventMeta(aggregate_version=version),
        party=parties_pb2.Party(party_id=party),
        person_ids=persons,
    )
    with acting_as(Principal("service:transactions", "service", org_id)):
        async with database.begin() as tx:
            await record_persons_of(tx, event, Delivery(SystemClock().now()))


async def read(parties, principal=ANN):
    return sorted((await Callers(parties).find(principal, reads_only=True)).parties)


async def test_a_person_acts_for_the_parties_that_were_heard_and_nobody_is_asked_for_a_read(database, parties, owner):
    await hear(database, "pty_llc", 2, ["ann", "ben"])
    await hear(database, "pty_ira", 2, ["ann"])
    await hear(database, "pty_other", 2, ["ann"], org_id="org-b")
    assert (await read(parties), await read(parties, BEN)) == (["pty_ira", "pty_llc"], ["pty_llc"])
    await hear(database, "pty_llc", 3, ["ben"])
    assert await read(parties) == ["pty_ira"]
    assert owner.asked == []


async def test_the_owner_is_told_what_a_yes_is_counted_by(parties, owner):
    with acting_as(ANN):
        await parties.list_current(ANN)
        await parties.list_interests(ANN)
        await parties.list_standings({Identity("ben")})
    assert owner.counted == [False, True, True]


@pytest.mark.parametrize(
    ("version", "believed"),
    [
        (4, True),
        (1_796_000_000_000_000, True),  # the owner's database was restored: its numbers leap
        (3, False),  # the same once more
        (2, False),  # an older one, late: it brings nobody back
    ],
)
async def test_what_was_said_last_holds(database, parties, version, believed):
    await hear(database, "pty_llc", 3, ["ben"])
    await hear(database, "pty_llc", version, ["ann"])
    assert await read(parties) == (["pty_llc"] if believed else [])


WRITTEN_OVER = (
    "ON CONFLICT (org_id, person_id, party_id) DO UPDATE SET version = excluded.version, seal = excluded.seal"
)


@pytest.mark.parametrize(
    "way",
    [
        "SELECT org_id, 'ann', party_id, version, seal FROM heard_persons WHERE person_id = 'ben'",
        "SELECT org_id, 'ann', party_id, version, 'made up' FROM heard_persons WHERE person_id = 'ben'",
        "SELECT * FROM was",
    ],
)
async def test_a_person_that_the_database_was_told_alone_reads_nothing(database, parties, postgres, way):
    await hear(database, "pty_llc", 2, ["ann"])
    await servers.tamper(postgres.admin_dsn, database, "CREATE TABLE was AS SELECT * FROM heard_persons")
    await hear(database, "pty_llc", 3, ["ben"])
    await servers.tamper(postgres.admin_dsn, database, f"INSERT INTO heard_persons {way} {WRITTEN_OVER}")
    assert await read(parties) == []


@pytest.mark.parametrize(
    "later",
    ["aggregate_version = 1000", "seal = 'made up'"],
    ids=lambda text: text.split()[0],
)
async def test_that_a_person_was_removed_is_heard_whatever_a_login_writes_before_and_after(
    database, parties, postgres, later
):
    def write(statement):
        return servers.tamper(postgres.admin_dsn, database, statement)

    await hear(database, "pty_llc", 2, ["ann"])
    await write("CREATE TABLE was AS SELECT * FROM heard_persons")
    for number in ("version", "version + 2"):
        with pytest.raises(Exception, match="keeps its rows"):
            await write(f"UPDATE heard_parties SET version = {number}, {later}")
    await write(f"UPDATE heard_parties SET version = version + 1, {later}")
    await hear(database, "pty_llc", 3, ["ben"])
    with pytest.raises(Exception, match="keeps its rows"):
        await write("UPDATE heard_parties SET version = 1")
    await write(f"INSERT INTO heard_persons SELECT * FROM was {WRITTEN_OVER}")
    assert (await read(parties), await read(parties, BEN)) == ([], ["pty_llc"])


async def test_a_person_is_removed_though_a_login_wrote_ahead_of_the_party_about_somebody_who_stays(
    database, parties, postgres
):
    await hear(database, "pty_llc", 2, ["ann", "ben"])
    ahead = "UPDATE heard_persons SET version = version + 1000000, seal = 'x' WHERE person_id = 'ben'"
    await servers.tamper(postgres.admin_dsn, database, ahead)
    await hear(database, "pty_llc", 3, ["ben"])
    assert (await read(parties), await read(parties, BEN)) == ([], [])


async def test_about_a_party_that_the_database_was_told_alone_the_owner_is_asked(database, postgres):
    asked = []

    async def ask(party_ids):
        asked.extend(party_ids)
        return [SimpleNamespace(known=False)]

    known = KnownParties(database, ask)
    await hear(database, "pty_llc", 2, ["ann"])
    forgery = "INSERT INTO heard_parties SELECT org_id, 'pty_none', 1, 1, seal FROM heard_parties"
    await servers.tamper(postgres.admin_dsn, database, forgery)
    with acting_as(dataclasses.replace(ANN, role="sponsor")):
        assert await known.find_refusal("pty_llc", "party_id") is None
        assert await known.find_refusal("pty_none", "party_id") is not None
    assert asked == ["pty_none"]


async def test_of_a_person_nothing_was_heard_of_the_owner_is_asked(parties, owner):
    owner.parties = {"ann": ["pty_llc"]}
    assert await read(parties) == ["pty_llc"]


async def test_a_write_asks_the_owner_whatever_was_heard(database, parties, owner):
    await hear(database, "pty_llc", 2, ["ann"])
    assert (await Callers(parties).find(ANN, reads_only=False)).parties == frozenset()  # removed just now
    assert owner.asked == ["ann"]


async def test_while_the_owner_is_away_an_investor_reads_and_does_not_write(database, parties, owner):
    await hear(database, "pty_llc", 2, ["ann"])
    owner.away = True
    assert await read(parties) == ["pty_llc"]
    with pytest.raises(Unavailable):
        await Callers(parties).find(ANN, reads_only=False)


@pytest.mark.parametrize("role", ["sponsor", "admin", "auditor"])
async def test_of_staff_it_is_asked_at_each_write_whether_the_session_is_good(parties, owner, role):
    staff = dataclasses.replace(ANN, role=role)
    assert await Callers(parties).find(staff, reads_only=True) is staff
    assert owner.asked == []
    assert await Callers(parties).find(staff, reads_only=False) is staff
    assert owner.asked == [staff.person]
    owner.away = True
    with pytest.raises(Unavailable):
        await Callers(parties).find(staff, reads_only=False)


def program(person="ann", org_id="org-a"):
    key = SignedInKey("key_1", frozenset({"ESCROW_READ"}), "secret-1")
    return Principal("key:key_1", "auditor", org_id, known_as=person, api_key=key)


async def test_of_a_program_it_is_asked_once_for_its_reads_whether_there_is_its_key_and_at_each_write(parties, owner):
    callers = Callers(parties)
    for reads_only in (True, True, False, True):
        await callers.find(program(), reads_only=reads_only)
    assert owner.asked == ["ann", "ann"]
    await callers.find(program(org_id="org-b"), reads_only=True)
    await callers.find(program("ben"), reads_only=True)
    assert owner.asked == ["ann", "ann", "ann", "ben"]
    service = dataclasses.replace(program(), role="service", subject="service:escrow", on_behalf_of="ann")
    await callers.find(service, reads_only=True)
    assert len(owner.asked) == 4, "who passes it on has asked"


async def test_what_a_program_was_told_counts_for_as_long_as_a_token_is_good(parties, owner, monkeypatch):
    callers = Callers(parties)
    await callers.find(program(), reads_only=True)
    owner.away, later = True, time.monotonic() + API_KEY_TOKEN_SECONDS
    assert await callers.find(program(), reads_only=True) == program()
    monkeypatch.setattr("services.chassis.calls.parties.time.monotonic", lambda: later)
    with pytest.raises(Unavailable):
        await callers.find(program(), reads_only=True)


async def test_a_program_that_there_is_not_reads_nothing_however_often_it_asks(parties, owner):
    callers, owner.refusal = Callers(parties), SessionEnded("The API key has ended.")
    for _ in range(2):
        with pytest.raises(SessionEnded):
            await callers.find(program(), reads_only=True)
    assert owner.asked == ["ann", "ann"]


async def test_of_a_service_nobody_is_asked(parties, owner):
    service = dataclasses.replace(ANN, role="service", subject="service:importer", on_behalf_of="ann")
    assert await Callers(parties).find(service, reads_only=False) is service
    assert owner.asked == []


async def test_where_no_investor_calls_an_investor_has_no_parties():
    for reads_only in (True, False):
        assert (await Callers(NoParties()).find(ANN, reads_only=reads_only)).parties == frozenset()
