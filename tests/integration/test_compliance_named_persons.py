"""Who names somebody for a new party decides nothing for them: they act once another person has said so."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from realco.compliance.v1 import compliance_pb2 as pb
from realco.compliance.v1 import events_pb2 as events
from realco.compliance.v1 import parties_pb2

from services.chassis.calls.auth import Principal, acting_as
from services.chassis.values.ids import new_id
from services.chassis.values.second_person import BeneficiaryIsChecker
from services.compliance.api import OwnParties
from tests.support.compliance import CHECKER, MAKER, ORG, PARTY, ComplianceHarness

THIRD = Principal("admin-3", "admin", ORG)


def name(*persons: str, title: str | None = None) -> list[Any]:
    return [parties_pb2.CreatePartyRequest.Person(person_id=person, title=title) for person in persons]


async def review(compliance: ComplianceHarness, check_type: int, principal: Principal = CHECKER, **more: Any) -> None:
    [check] = [one for one in await compliance.waiting(compliance.party_id) if one.type == check_type]
    await compliance.review(check.compliance_check_id, principal, **more)


async def read_persons(compliance: ComplianceHarness) -> dict[str, Any]:
    with acting_as(MAKER):
        request = parties_pb2.ListPartyPersonsRequest(party_id=compliance.party_id)
        return {one.person_id: one for one in (await compliance.parties.ListPartyPersons(request, None)).persons}


async def test_who_is_named_by_somebody_else_acts_for_nobody_until_another_person_passed_kyc(compliance):
    party = (await compliance.create(persons=name("Bob", MAKER.person, "cleo"))).party_id
    bob = Principal("bob", "investor", ORG)
    own = OwnParties(compliance.database, compliance.clock)

    async def list_all_of(person: str) -> list[Any]:
        """By each way in which a service asks, or a person is told."""
        asked = Principal(person, "investor", ORG, parties=await own.list_heard(Principal(person, "investor", ORG)))
        with acting_as(asked):
            me = await compliance.parties.GetMe(parties_pb2.GetMeRequest(), None)
        return [
            await compliance.list_parties_of(person),
            await compliance.list_parties_of(person, include_former=True),
            sorted(await own.list_current(asked)),
            sorted(await own.list_interests(asked)),
            [one.party_id for one in me.parties],
            [one for one in [party] if await compliance.list_names(person_id=[person])],
        ]

    assert await list_all_of(MAKER.person) == [[party]] * 6, "who names themselves acts at once"
    await review(compliance, pb.ComplianceCheck.OFAC)
    assert await list_all_of(bob.person) == [[]] * 6
    persons = await read_persons(compliance)
    assert {one: each.HasField("act_start_time") for one, each in persons.items()} == {
        MAKER.person: True,
        "bob": False,
        "cleo": False,
    }
    compliance.clock.advance(timedelta(hours=1))
    etag = (await compliance.get()).etag
    await review(compliance, pb.ComplianceCheck.KYC)
    assert await list_all_of(bob.person) == [[party]] * 6
    after = await read_persons(compliance)
    acted_for = after["bob"].act_start_time.ToDatetime() - persons["bob"].create_time.ToDatetime()
    assert (acted_for, after[MAKER.person]) == (timedelta(hours=1), persons[MAKER.person])
    assert (await compliance.get()).etag != etag
    told = [event for event in await compliance.list_events() if hasattr(event, "person_ids")]
    assert [(type(event), list(event.person_ids), list(event.waiting_person_ids)) for event in told] == [
        (events.PartyCreated, [MAKER.person], ["bob", "cleo"]),
        (events.PartyPersonAdded, [MAKER.person, "bob"], ["cleo"]),
        (events.PartyPersonAdded, [MAKER.person, "bob", "cleo"], []),
    ]


async def test_who_never_acted_has_no_interest_left_once_removed_and_who_did_has(compliance):
    party = (await compliance.create(persons=name("bob"))).party_id
    await compliance.remove("bob")
    assert await read_persons(compliance) == {}
    assert await compliance.list_parties_of("bob", include_former=True) == []
    await compliance.review_all()
    assert await compliance.list_parties_of("bob", include_former=True) == [], "nobody passed what was taken back"
    party = (await compliance.create(persons=name("bob"))).party_id
    await compliance.review_all()
    await compliance.remove("bob")
    assert await compliance.list_parties_of("bob") == []
    assert await compliance.list_parties_of("bob", include_former=True) == [party]


async def test_nobody_who_waits_to_act_for_a_party_passes_its_checks(compliance):
    await compliance.create(persons=name(CHECKER.person))
    for check_type in (pb.ComplianceCheck.KYC, pb.ComplianceCheck.OFAC):
        with pytest.raises(BeneficiaryIsChecker):
            await review(compliance, check_type)
        await review(compliance, check_type, THIRD)
    assert await compliance.list_persons() == [CHECKER.person]


async def test_who_waits_waits_on_and_who_acts_acts_on_where_kyc_fails_or_is_asked_anew(compliance):
    party = (await compliance.create(persons=name("bob", title="Trustee"))).party_id
    await compliance.add("ann")
    await review(compliance, pb.ComplianceCheck.KYC, decision=pb.ComplianceCheck.FAILED)
    assert await compliance.list_persons() == ["ann"]
    await compliance.update(accreditation=PARTY.ACCREDITED)
    assert await compliance.list_persons() == ["ann"]
    await review(compliance, pb.ComplianceCheck.KYC)
    assert await compliance.list_titles() == {"ann": "", "bob": "Trustee"}
    await compliance.update(legal_name="Ada Parker")
    assert await compliance.list_parties_of("bob") == [party]


async def test_two_persons_let_one_who_waits_act_without_the_check(compliance):
    await compliance.create(persons=name("bob", "cleo", title="Trustee"))
    added = await compliance.add("Bob")
    assert (added.title, added.HasField("act_start_time")) == ("Trustee", True)
    assert await compliance.add("cleo", title="Manager") == (await read_persons(compliance))["cleo"]
    assert await compliance.list_titles() == {"bob": "Trustee", "cleo": "Manager"}
    before = await read_persons(compliance)
    await compliance.review_all()
    assert await read_persons(compliance) == before


async def test_whom_somebody_named_in_a_session_that_was_ended_does_not_act_by_a_check_asked_anew(compliance):
    async def end_sessions(person: str) -> None:
        with acting_as(CHECKER):
            request = parties_pb2.EndSessionsRequest(idempotency_key=new_id("key"), person_id=person)
            await compliance.parties.EndSessions(request, None)

    thief = replace(MAKER, signed_in_at=1_700_000_000)
    await compliance.create(thief, persons=name("mallory"))
    await compliance.add("ann")
    await end_sessions(MAKER.person)
    await compliance.update(THIRD, kind=PARTY.LLC, legal_name="Oak LLC", accreditation=PARTY.ACCREDITED)
    await compliance.review_all()
    assert (await compliance.get()).cleared
    assert await compliance.list_persons() == ["ann"]
    assert await compliance.list_parties_of("mallory") == []
    await compliance.add("mallory")
    assert await compliance.list_persons() == ["ann", "mallory"]
