"""Parties and who acts for them, on real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import timedelta
from importlib import import_module
from typing import Any

import pytest
import sqlalchemy as sa
from realco.compliance.v1 import compliance_pb2 as pb
from realco.compliance.v1 import events_pb2 as compliance_events
from realco.compliance.v1 import parties_pb2, persons_pb2
from realco.type.v1 import money_pb2
from realco.type.v1.sort_pb2 import Sort

from services.chassis.calls.auth import Principal, acting_as, service_principal
from services.chassis.spelling.visibility import withhold
from services.chassis.values import stops
from services.chassis.values.errors import DomainError
from services.chassis.values.etags import EtagMismatch, EtagRequired
from services.chassis.values.second_person import BeneficiaryIsChecker
from services.chassis.values.stops import STOPS_MAX, STOPS_WITHIN, TooManyStops
from services.chassis.values.times import write_time
from services.compliance.api import OwnParties
from services.compliance.domain import parties as rules
from services.compliance.domain.refusals import PersonNotFound, TooManyParties
from tests.support.compliance import CHECKER, MAKER, ORG, PARTY, STRANGER, TRANSACTIONS, money_in


async def test_another_organization_sees_nothing_of_a_party(compliance):
    await compliance.clear()
    with pytest.raises(DomainError) as unknown:
        await compliance.get(STRANGER)
    assert unknown.value.reason == "PARTY_NOT_FOUND"
    assert await compliance.waiting(principal=STRANGER) == []
    [decision] = await compliance.evaluate(money_in(1), principal=service_principal("transactions", "org-b"))
    assert decision.failure.code == "PARTY_NOT_FOUND"


async def test_a_party_has_persons_and_a_person_parties(compliance):
    first = (await compliance.create(kind=PARTY.LLC)).party_id
    added = await compliance.add("auth0|ann", title="Managing Member")
    await compliance.add("ben@example.org")
    second = (await compliance.create(kind=PARTY.IRA)).party_id
    await compliance.add("Auth0|Ann")
    for person, parties in (
        ("auth0|ann", [first, second]),
        ("AUTH0|ANN", [first, second]),
        ("ben@example.org", [first]),
        ("cleo", []),
    ):
        request = persons_pb2.ListPartiesOfPersonRequest(person_id=person)
        with acting_as(TRANSACTIONS):
            found = await compliance.persons.ListPartiesOfPerson(request, None)
        assert list(found.party_ids) == sorted(parties)
        own = OwnParties(compliance.database, compliance.clock)
        assert await own.list_current(Principal(person, "investor", ORG)) == set(parties)
    again = await compliance.add("auth0|ann", title="Trustee", party_id=first, etag=added.etag)
    assert (again.title, again.created_by) == ("Trustee", "admin-1")
    assert await compliance.list_persons() == ["auth0|ann"]  # of the second
    assert await compliance.remove("auth0|ANN") == await compliance.get()
    assert await compliance.list_persons() == []


async def test_a_person_acts_for_so_many_parties_and_for_no_more(compliance, monkeypatch):
    monkeypatch.setattr(rules, "PARTIES_MAX", 1)
    named = [parties_pb2.CreatePartyRequest.Person(person_id="ann")]
    waits = [(await compliance.create(persons=named)).party_id for _ in range(2)]  # it is none of theirs
    first = (await compliance.create()).party_id
    await compliance.add("ann")
    with pytest.raises(TooManyParties):
        await compliance.create(persons=[parties_pb2.CreatePartyRequest.Person(person_id="Ann")])
    with pytest.raises(TooManyParties) as refusal:
        await compliance.add("ann", party_id=waits[0])
    assert refusal.value.metadata == {"person_id": "ann", "parties_max": "1"}
    with pytest.raises(TooManyParties):
        await compliance.review_all(waits[1])
    assert await compliance.list_parties_of("ann") == [first]
    await compliance.add("ann", party_id=first)


async def test_a_person_who_does_not_act_for_a_party_cannot_be_removed(compliance):
    before = await compliance.create()
    with pytest.raises(PersonNotFound) as refusal:
        await compliance.remove("cleo")
    assert list(refusal.value.fields) == ["person_id"]
    assert (await compliance.get()).etag == before.etag


async def test_a_change_leaves_what_it_does_not_name_and_takes_away_what_it_names_without_a_value(compliance):
    money = money_pb2.Money(currency_code="USD", amount_minor=5)
    await compliance.create(accreditation=PARTY.ACCREDITED, net_worth=money, external_id="crm-1", metadata={"a": "b"})
    changed = await compliance.update(legal_name="Ada Parker", paths=["net_worth"])
    assert (changed.legal_name, changed.accreditation, changed.external_id) == (
        "Ada Parker",
        PARTY.ACCREDITED,
        "crm-1",
    )
    assert not changed.HasField("net_worth")
    assert dict(changed.metadata) == {"a": "b"}


async def test_a_clients_own_id_has_as_many_characters_as_the_contract_says_however_they_are_spelled(compliance):
    wide = 128 * "\U0001f600"
    made = await compliance.create(external_id=wide)
    assert (await compliance.update(legal_name="Ada Parker")).external_id == made.external_id == wide


async def test_a_change_that_was_decided_on_something_older_is_refused(compliance):
    before = await compliance.create()
    await compliance.update(external_id="crm-1")
    with pytest.raises(EtagMismatch):
        await compliance.update(etag=before.etag, external_id="crm-2")


async def test_events_tell_what_a_party_is_to_others_and_nothing_personal(compliance):
    await compliance.create(
        legal_name="Ada Park", annual_income=money_pb2.Money(currency_code="USD", amount_minor=987_654_321)
    )
    await compliance.add("auth0|ann")
    await compliance.review_all()
    party = await compliance.get()
    told = await compliance.list_events()
    for event in told:
        assert "Ada Park" not in str(event)
        assert "987654321" not in str(event)
        assert "Passport" not in str(event)
    [*_, last] = [event for event in told if isinstance(event, compliance_events.PartyClearanceChanged)]
    assert (last.party.cleared, last.party.etag) == (True, party.etag)
    [added] = [event for event in told if isinstance(event, compliance_events.PartyPersonAdded)]
    assert list(added.person_ids) == ["auth0|ann"]
    assert [type(event).__name__ for event in told if hasattr(event, "party")] == [
        "PartyCreated",
        "PartyPersonAdded",
        "PartyClearanceChanged",
        "PartyClearanceChanged",
    ]


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, ["Oak LLC", "Ada Parker", "Ada Park"]),
        ({"legal_name_prefix": "ada p"}, ["Ada Parker", "Ada Park"]),
        ({"legal_name_prefix": "%"}, []),
        ({"external_id": ["crm-1", "crm-2"]}, ["Ada Park"]),
        ({"person_id": ["auth0|ann"]}, ["Ada Parker"]),
        ({"cleared": True}, ["Oak LLC"]),
        ({"cleared": False}, ["Ada Parker", "Ada Park"]),
        ({"ids": 2}, ["Ada Parker", "Ada Park"]),  # the first two
    ],
)
async def test_parties_are_found(compliance, filters, names):
    ids = [(await compliance.create(legal_name="Ada Park", external_id="crm-1")).party_id]
    ids.append((await compliance.create(legal_name="Ada Parker")).party_id)
    await compliance.add("auth0|ann")
    await compliance.clear(legal_name="Oak LLC", kind=PARTY.LLC)
    wanted = filters | ({"ids": ids[: filters["ids"]]} if "ids" in filters else {})
    assert await compliance.list_names(**wanted) == names


async def test_parties_are_listed_in_either_order_within_a_time(compliance):
    first = await compliance.create(legal_name="Ada Park")
    compliance.clock.advance(timedelta(seconds=1))
    second = await compliance.create(legal_name="Oak LLC")
    assert await compliance.list_names(order=Sort.OLDEST_FIRST) == ["Ada Park", "Oak LLC"]
    assert await compliance.list_names(from_time=second.create_time) == ["Oak LLC"]
    assert await compliance.list_names(from_time=first.create_time, to_time=second.create_time) == ["Ada Park"]


async def test_who_is_there_already_keeps_what_was_not_given(compliance):
    await compliance.create()
    added = await compliance.add("auth0|ann", title="Trustee")
    party = await compliance.get()
    compliance.clock.advance(timedelta(hours=1))
    told = len(await compliance.list_events())
    assert await compliance.add("auth0|ann", CHECKER) == await compliance.add("auth0|ann", title="Trustee") == added
    assert await compliance.get() == party
    assert len(await compliance.list_events()) == told
    with pytest.raises(EtagRequired, match="acts for the party already"):
        await compliance.add("auth0|ann", CHECKER, title="Manager")
    changed = await compliance.add("auth0|ann", CHECKER, title="Manager", etag=added.etag)
    assert (changed.title, changed.created_by, changed.create_time) == ("Manager", MAKER.person, added.create_time)
    assert changed.update_time.ToDatetime() - added.update_time.ToDatetime() == timedelta(hours=1)
    assert len({added.etag, changed.etag}) == 2
    [updated] = (await compliance.list_events())[told:]
    assert isinstance(updated, compliance_events.PartyPersonUpdated)
    assert updated.person_id == "auth0|ann"
    assert updated.party.etag == (await compliance.get()).etag != party.etag


async def test_a_person_is_changed_and_removed_as_read(compliance):
    await compliance.create()
    added = await compliance.add("auth0|ann", title="Trustee")
    changed = await compliance.add("auth0|ann", title="Manager", etag=added.etag)
    for attempt in (
        compliance.add("auth0|ann", title="Trustee", etag=added.etag),
        compliance.remove("auth0|ann", added.etag),
        compliance.add("cleo", etag=added.etag),  # is not there
    ):
        with pytest.raises(EtagMismatch):
            await attempt
    await compliance.remove("auth0|ann", changed.etag)
    assert await compliance.list_persons() == []
    back = await compliance.add("auth0|ann", title="Manager")
    assert back.etag not in {added.etag, changed.etag}


async def test_two_who_add_one_person_at_once_are_both_right(compliance):
    await compliance.create()
    added = await asyncio.gather(*(compliance.add("auth0|ann", by, title="Trustee") for by in (MAKER, CHECKER) * 4))
    assert all(one == added[0] for one in added)
    async with compliance.database.begin(ORG) as tx:
        assert await tx.scalar(sa.text("SELECT count(*) FROM party_persons")) == 1
    told = [event for event in await compliance.list_events() if isinstance(event, compliance_events.PartyPersonAdded)]
    assert len(told) == 1


async def test_titles_are_not_told(compliance):
    await compliance.create()
    added = await compliance.add("auth0|ann", title="Trustee of the Ada Park Trust")
    await compliance.add("auth0|ann", title="Heir of Ada Park", etag=added.etag)
    assert "Ada Park" not in str(await compliance.list_events())


async def test_a_change_that_changes_nothing_leaves_no_trace(compliance):
    facts = {
        "kind": PARTY.LLC,
        "legal_name": "Oak LLC",
        "accreditation": PARTY.ACCREDITED,
        "annual_income": money_pb2.Money(currency_code="USD", amount_minor=5),
        "external_id": "crm-1",
        "metadata": {"a": "b"},
    }
    await compliance.clear(**facts)
    before, told = await compliance.get(), await compliance.list_events()
    compliance.clock.advance(timedelta(hours=1))
    assert await compliance.update(paths=["net_worth"], **facts) == before
    assert await compliance.get() == before
    assert await compliance.list_events() == told


async def test_me_tells_how_the_checks_of_each_party_stand(compliance):
    party = await compliance.create()
    await compliance.add("auth0|ann")
    ann = Principal("auth0|ann", "investor", ORG, parties=frozenset({party.party_id}))
    with acting_as(ann):
        me = await compliance.parties.GetMe(parties_pb2.GetMeRequest(), None)
    [mine] = me.parties
    assert list(mine.checks) == list(party.checks)
    assert [(pb.ComplianceCheck.Type.Name(one.type), one.status) for one in mine.checks] == [
        ("KYC", pb.ComplianceCheck.MANUAL_REVIEW),
        ("OFAC", pb.ComplianceCheck.MANUAL_REVIEW),
    ]


async def test_whose_sessions_were_ended_reads_by_whom_and_nobody_ends_them_over_and_over(compliance):
    async def end(by: Principal) -> parties_pb2.EndSessionsResponse:
        with acting_as(by):
            return await compliance.parties.EndSessions(parties_pb2.EndSessionsRequest(person_id="Ann"), None)

    async def read_me() -> parties_pb2.Me:
        with acting_as(Principal("ann", "admin", ORG)):
            return await compliance.parties.GetMe(parties_pb2.GetMeRequest(), None)

    def in_order(ends: Iterable[Any]) -> list[tuple[str, int]]:
        return sorted((each.person_id, each.end_time.ToNanoseconds()) for each in ends)

    assert not (await read_me()).HasField("sessions_end_time")
    answers = await asyncio.gather(*(end(MAKER) for _ in range(STOPS_MAX + 2)), return_exceptions=True)
    refused = [(each.reason, each.metadata) for each in answers if isinstance(each, DomainError)]
    told = {"stops_max": str(STOPS_MAX), "next_time": write_time(compliance.clock.now() + STOPS_WITHIN)}
    assert refused == [("TOO_MANY_STOPS", told)] * 2
    ends = [each for each in answers if isinstance(each, parties_pb2.EndSessionsResponse)]
    ends.append(await end(CHECKER))  # whose token was stolen is locked out all the same
    me = await read_me()
    assert (me.sessions_end_time, me.sessions_ended_by) == (ends[-1].end_time, CHECKER.person)
    told = [event for event in await compliance.list_events() if isinstance(event, compliance_events.SessionsEnded)]
    assert in_order(told) == in_order(ends)
    assert [event.meta.actor for event in told] == [MAKER.person] * STOPS_MAX + [CHECKER.person]


async def make_up_stops(compliance, deed: str, about: str) -> None:
    """150 of MAKER's, by SQL."""
    forged = (
        "INSERT INTO stops (org_id, stop_id, person_id, deed, about, stopped_at, seal)"
        " SELECT :org, 'stop_' || n, :person, :deed, :about, :at, '\\x00' FROM generate_series(1, 150) n"
    )
    later = compliance.clock.now() + timedelta(seconds=5)
    said = {"org": ORG, "person": MAKER.person, "deed": deed, "about": about, "at": later}
    async with compliance.database.begin(ORG) as tx:
        await tx.execute(sa.text(forged), said)


async def test_however_many_stops_sql_made_up_what_stops_money_is_done(compliance, monkeypatch):
    monkeypatch.setattr(import_module("services.chassis.data.stops"), "_LOOKED_AT_MAX", 100)
    await compliance.create()
    await make_up_stops(compliance, "END_SESSIONS", "thief")
    with acting_as(MAKER):
        ended = await compliance.parties.EndSessions(parties_pb2.EndSessionsRequest(person_id="thief"), None)
    assert ended.HasField("end_time")


async def test_one_person_stops_a_party_so_often_and_another_or_who_acts_for_it_still_does(compliance, monkeypatch):
    monkeypatch.setattr(stops, "STOPS_MAX", 1)
    await compliance.create()
    names = (f"Ada Park {number}" for number in range(20))
    await make_up_stops(compliance, "UPDATE_PARTY", compliance.party_id)  # count for nothing, and hide nothing

    async def edit(by: Principal = MAKER) -> None:
        await compliance.update(by, legal_name=next(names))

    async def remove() -> None:
        await compliance.add("auth0|ann")
        compliance.clock.advance(timedelta(seconds=1))
        await compliance.remove("auth0|ann")

    for stop in (edit, remove):
        await stop()
        for _ in range(2):
            with pytest.raises(TooManyStops):
                await stop()
    await compliance.add("auth0|bob")
    await compliance.remove("auth0|bob")  # another one
    await edit(CHECKER)
    await compliance.update(metadata={"desk": "3"})  # asks nobody anything
    compliance.clock.advance(stops.STOPS_WITHIN)
    for stop in (edit, remove):
        await stop()
        with pytest.raises(TooManyStops):
            await stop()
    await compliance.add(MAKER.person)
    for stop in (edit, remove):
        await stop()


async def test_an_investor_reads_no_name_of_staff(compliance):
    party = await compliance.create()
    await compliance.add("auth0|ann")
    await compliance.put_limit(10_00)
    ann = Principal("auth0|ann", "investor", ORG, parties=frozenset({party.party_id}))
    listed = parties_pb2.ListPartyPersonsRequest(party_id=party.party_id)
    for reader, told in ((MAKER, True), (ann, False)):
        with acting_as(reader):
            answer = await compliance.parties.ListPartyPersons(listed, None)
            me = await compliance.parties.GetMe(parties_pb2.GetMeRequest(), None)
        for each in (answer, me):
            withhold(each, reader)
        assert [person.HasField("created_by") for person in answer.persons] == [told]
        assert [limit.HasField("set_by") for limit in me.transaction_limits if not limit.is_default] == [told]


async def test_the_persons_of_a_party_are_listed_page_by_page_in_the_order_of_their_names(compliance):
    await compliance.create()
    for name in ("cid", "ann", "bob"):
        await compliance.add(name)
    request = parties_pb2.ListPartyPersonsRequest(party_id=compliance.party_id, page_size=2)
    with acting_as(MAKER):
        first = await compliance.parties.ListPartyPersons(request, None)
        request.page_token = first.next_page_token
        last = await compliance.parties.ListPartyPersons(request, None)
    assert [one.person_id for one in (*first.persons, *last.persons)] == ["ann", "bob", "cid"]
    assert (len(first.persons), first.next_page_token != "", last.next_page_token) == (2, True, "")


async def test_whoever_leaves_a_party_decides_for_thirty_days_nothing_that_it_gains_from(compliance):
    party = (await compliance.create()).party_id
    await compliance.add("ben")
    await compliance.add(CHECKER.person)
    await compliance.remove(CHECKER.person)
    [check, *_] = await compliance.waiting(party)
    with pytest.raises(BeneficiaryIsChecker):
        await compliance.review(check.compliance_check_id)
    request = persons_pb2.ListPartiesOfPersonRequest(person_id=CHECKER.person)
    for days, former in ((29, [party]), (1, [])):
        compliance.clock.advance(timedelta(days=days))
        with acting_as(TRANSACTIONS):
            request.include_former = False
            assert list((await compliance.persons.ListPartiesOfPerson(request, None)).party_ids) == []
            request.include_former = True
            assert list((await compliance.persons.ListPartiesOfPerson(request, None)).party_ids) == former
        own = await OwnParties(compliance.database, compliance.clock).list_interests(CHECKER)
        assert own == set(former)
    await compliance.review(check.compliance_check_id)
