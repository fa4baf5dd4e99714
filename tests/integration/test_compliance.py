"""Compliance on real PostgreSQL: who is cleared, what is counted, what is given back."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from realco.compliance.v1 import compliance_pb2 as pb
from realco.compliance.v1 import events_pb2 as compliance_events
from realco.compliance.v1 import parties_pb2
from realco.transactions.v1 import events_pb2
from realco.type.v1 import money_pb2

from services.chassis.calls.auth import Principal, acting_as, service_principal
from services.chassis.values.errors import DomainError, InvalidField
from services.chassis.values.etags import EtagMismatch, EtagRequired
from services.chassis.values.ids import new_id
from services.compliance.api import OwnParties
from services.compliance.jobs import jobs
from tests.support.compliance import CHECKER, MAKER, ORG, TRANSACTIONS, ComplianceHarness, Item

AUDITOR = Principal("auditor-1", "auditor", ORG)
_PARTY = parties_pb2.Party


@pytest.fixture
async def compliance(service_database):
    return ComplianceHarness(await service_database("compliance"))


def money_in(amount_minor, party_id="", transaction_id=None, direction=Item.IN, currency="USD"):
    return Item(
        transaction_id=transaction_id or new_id("txn"),
        party_id=party_id,
        direction=direction,
        amount=money_pb2.Money(currency_code=currency, amount_minor=amount_minor),
    )


async def test_a_new_party_is_not_cleared_until_another_person_passes_both_checks(compliance):
    assert not (await compliance.create()).cleared
    checks = await compliance.waiting(compliance.party_id)
    assert sorted(pb.ComplianceCheck.Type.Name(check.type) for check in checks) == ["KYC", "OFAC"]
    with pytest.raises(DomainError) as refused:
        await compliance.review(checks[0].compliance_check_id, MAKER)
    assert refused.value.reason == "MAKER_IS_CHECKER"
    for check in checks:
        await compliance.review(check.compliance_check_id)
    party = await compliance.get()
    assert party.cleared
    assert not party.missing


@pytest.mark.parametrize("direction", [Item.IN, Item.OUT])
async def test_money_of_a_party_that_is_not_cleared_moves_neither_in_nor_out(compliance, direction):
    [unknown] = await compliance.evaluate(money_in(1, direction=direction))
    await compliance.create()
    [uncleared] = await compliance.evaluate(money_in(1, direction=direction))
    assert unknown.failure.code == uncleared.failure.code == "PARTY_NOT_CLEARED"
    assert unknown.status == pb.ComplianceCheck.FAILED
    assert "OFAC is MANUAL_REVIEW" in uncleared.failure.metadata["missing"]
    assert (unknown.explanation.rule, uncleared.explanation.rule) == ("PARTY", "KYC")


async def test_a_refusal_is_found_under_the_check_that_is_missing(compliance):
    await compliance.create()
    for check in await compliance.waiting(compliance.party_id):
        is_ofac = check.type == pb.ComplianceCheck.OFAC
        decision = pb.ComplianceCheck.FAILED if is_ofac else pb.ComplianceCheck.PASSED
        reviewed = await compliance.review(check.compliance_check_id, decision=decision)
        assert list(reviewed.allowed_actions) == []
    item = money_in(1)
    [refused] = await compliance.evaluate(item)
    assert refused.failure.metadata["missing"] == "OFAC is FAILED"

    async def list_refused(check_type):
        request = pb.ListComplianceChecksRequest(party_id=compliance.party_id, type=check_type)
        with acting_as(CHECKER):
            found = (await compliance.servicer.ListComplianceChecks(request, None)).compliance_checks
        return [check.entity_id for check in found if check.entity_type == pb.ComplianceCheck.TRANSACTION]

    assert await list_refused(pb.ComplianceCheck.OFAC) == [item.transaction_id]
    assert await list_refused(pb.ComplianceCheck.KYC) == []


async def test_the_limit_counts_what_passed_before_and_inside_one_request(compliance):
    await compliance.clear()
    first, second, third = await compliance.evaluate(money_in(30_000_00), money_in(20_000_01), money_in(20_000_00))
    assert [first.status, third.status] == [pb.ComplianceCheck.PASSED] * 2
    assert second.failure.code == "TRANSACTION_LIMIT_EXCEEDED"
    assert second.failure.metadata["used_minor"] == "3000000"
    [today_is_full] = await compliance.evaluate(money_in(1))
    assert today_is_full.status == pb.ComplianceCheck.FAILED
    compliance.clock.advance(timedelta(days=1))
    [tomorrow] = await compliance.evaluate(money_in(50_000_00))
    assert tomorrow.status == pb.ComplianceCheck.PASSED


async def test_a_transaction_asked_about_again_keeps_its_decision_and_counts_once(compliance):
    await compliance.clear()
    item = money_in(50_000_00)
    [first] = await compliance.evaluate(item)
    [again] = await compliance.evaluate(item)
    assert first == again
    [refused] = await compliance.evaluate(money_in(1))
    assert refused.failure.metadata["used_minor"] == "5000000"


async def test_two_at_once_never_pass_a_limit_together(compliance):
    await compliance.clear()
    decisions = await asyncio.gather(*(compliance.evaluate(money_in(20_000_00)) for _ in range(8)))
    passed = [d for [d] in decisions if d.status == pb.ComplianceCheck.PASSED]
    assert len(passed) == 2


@pytest.mark.parametrize(
    "facts",
    [{"accreditation": _PARTY.ACCREDITED}, {"roles": [_PARTY.SPONSOR]}],
)
async def test_limits_do_not_hold_for_accredited_investors_and_sponsors(compliance, facts):
    await compliance.clear(**facts)
    [decision] = await compliance.evaluate(money_in(900_000_00))
    assert decision.status == pb.ComplianceCheck.PASSED


async def test_one_transaction_decided_twice_at_once_has_one_decision(compliance):
    """Of a party that does not exist: there is no row whose lock would keep the two apart."""
    item = money_in(1)
    decisions = await asyncio.gather(*(compliance.evaluate(item) for _ in range(8)))
    assert [decision.failure.code for [decision] in decisions] == ["PARTY_NOT_CLEARED"] * 8


async def test_what_an_accredited_party_brought_in_may_be_more_than_a_bigint(compliance):
    await compliance.clear(accreditation=_PARTY.ACCREDITED)
    largest = 2**62 - 1
    decisions = await compliance.evaluate(*(money_in(largest) for _ in range(3)))
    decisions += await compliance.evaluate(money_in(largest))
    assert {decision.status for decision in decisions} == {pb.ComplianceCheck.PASSED}


async def test_in_a_currency_without_limits_nothing_comes_in(compliance):
    await compliance.clear()
    [refused] = await compliance.evaluate(money_in(1, currency="EUR"))
    assert (refused.failure.code, refused.failure.metadata["limit_minor"]) == ("TRANSACTION_LIMIT_EXCEEDED", "0")
    limits = pb.TransactionLimit
    for limit_type in (limits.PER_TRANSACTION, limits.DAILY_DEPOSIT, limits.MONTHLY_DEPOSIT):
        await compliance.put_limit(5_00, limit_type, "EUR")
    [passed, too_much] = await compliance.evaluate(money_in(5_00, currency="EUR"), money_in(1, currency="EUR"))
    assert (passed.status, too_much.failure.code) == (pb.ComplianceCheck.PASSED, "TRANSACTION_LIMIT_EXCEEDED")


async def test_the_limit_put_last_is_in_force_whatever_the_clocks_said(compliance):
    await compliance.clear()
    first = await compliance.put_limit(30_00)
    second = await compliance.put_limit(20_00, etag=first.etag)  # in the same microsecond
    compliance.clock.advance(timedelta(seconds=-5))  # another machine's clock
    await compliance.put_limit(10_00, etag=second.etag)
    [refused] = await compliance.evaluate(money_in(10_01))
    assert refused.failure.metadata["limit_minor"] == "1000"


async def test_a_cancelled_transaction_gives_its_limit_back_whatever_failed_before(compliance):
    await compliance.clear()
    item = money_in(50_000_00)
    await compliance.evaluate(item)
    await compliance.hear(events_pb2.TransactionFailed, item.transaction_id, 5, retryable=True)
    await compliance.hear(events_pb2.TransactionCancelled, item.transaction_id, 7, retryable=True)
    [afterwards] = await compliance.evaluate(money_in(50_000_00))
    assert afterwards.status == pb.ComplianceCheck.PASSED


async def test_money_that_came_back_gives_its_limit_back_unless_it_may_be_tried_again(compliance):
    await compliance.clear()
    item = money_in(50_000_00)
    await compliance.evaluate(item)
    await compliance.hear(events_pb2.TransactionReturned, item.transaction_id, 6, retryable=True)
    await compliance.hear(events_pb2.TransactionRetryScheduled, item.transaction_id, 7)
    await compliance.hear(events_pb2.TransactionFailed, item.transaction_id, 5)  # late: older than what was heard
    [while_it_is_presented_again] = await compliance.evaluate(money_in(1))
    assert while_it_is_presented_again.status == pb.ComplianceCheck.FAILED
    await compliance.hear(events_pb2.TransactionFailed, item.transaction_id, 9)
    [afterwards] = await compliance.evaluate(money_in(50_000_00))
    assert afterwards.status == pb.ComplianceCheck.PASSED


async def test_an_answer_expires_after_a_year_and_is_asked_again_once(compliance):
    await compliance.clear()
    compliance.clock.advance(timedelta(days=365))
    [expired] = await compliance.evaluate(money_in(1))
    assert "KYC is EXPIRED" in expired.failure.metadata["missing"]
    [job] = jobs(compliance.database, compliance.clock)
    assert await job.run() == 2
    assert await job.run() == 0
    waiting = await compliance.waiting(compliance.party_id)
    assert len(waiting) == 2
    for check in waiting:
        await compliance.review(check.compliance_check_id)
    [decision] = await compliance.evaluate(money_in(1))
    assert decision.status == pb.ComplianceCheck.PASSED


async def test_an_answer_that_a_later_one_replaced_expires_without_a_question(compliance):
    await compliance.clear()
    compliance.clock.advance(timedelta(days=300))
    await compliance.update(legal_name="Ada Parker")
    await compliance.review_all()
    compliance.clock.advance(timedelta(days=65))  # a year after the first answers
    [job] = jobs(compliance.database, compliance.clock)
    assert await job.run() == 2
    assert await compliance.waiting(compliance.party_id) == []
    [decision] = await compliance.evaluate(money_in(1))
    assert decision.status == pb.ComplianceCheck.PASSED


async def test_nobody_lifts_the_limits_alone(compliance):
    """Neither by an accreditation nor by making a sponsor of an investor: another person is asked first."""
    for facts in ({"accreditation": _PARTY.ACCREDITED}, {"roles": [_PARTY.SPONSOR]}):
        await compliance.clear()
        await compliance.update(**facts)
        [decision] = await compliance.evaluate(money_in(900_000_00))
        assert decision.failure.code == "PARTY_NOT_CLEARED"
        [check] = await compliance.waiting(compliance.party_id)
        with pytest.raises(DomainError, match="wrote the party"):
            await compliance.review(check.compliance_check_id, MAKER)
        await compliance.review(check.compliance_check_id, decision=pb.ComplianceCheck.FAILED)


async def test_a_changed_name_asks_again_and_a_changed_net_worth_does_not(compliance):
    await compliance.clear()
    await compliance.update(net_worth=money_pb2.Money(currency_code="USD", amount_minor=1))
    assert await compliance.waiting(compliance.party_id) == []
    await compliance.update(accreditation=_PARTY.ACCREDITED)
    assert len(await compliance.waiting(compliance.party_id)) == 1
    await compliance.update(legal_name="Ada Parker")
    assert len(await compliance.waiting(compliance.party_id)) == 3


async def test_an_organization_sets_its_own_limit_and_the_others_keep_theirs(compliance):
    await compliance.clear()
    await compliance.put_limit(10_00)
    with acting_as(MAKER):
        own = (
            await compliance.servicer.ListTransactionLimits(pb.ListTransactionLimitsRequest(), None)
        ).transaction_limits
    with acting_as(Principal("admin-9", "admin", "org-b")):
        other = (
            await compliance.servicer.ListTransactionLimits(pb.ListTransactionLimitsRequest(), None)
        ).transaction_limits
    assert {(limit.limit_type, limit.amount.amount_minor, limit.set_by) for limit in own} == {
        (pb.TransactionLimit.PER_TRANSACTION, 250_000_00, "seed"),
        (pb.TransactionLimit.DAILY_DEPOSIT, 10_00, "admin-1"),
        (pb.TransactionLimit.MONTHLY_DEPOSIT, 500_000_00, "seed"),
    }
    assert all(limit.set_by == "seed" for limit in other)
    [refused] = await compliance.evaluate(money_in(10_01))
    assert refused.failure.metadata["limit_minor"] == "1000"


async def test_another_organization_sees_nothing_of_a_party(compliance):
    await compliance.clear()
    stranger = Principal("admin-9", "admin", "org-b")
    with pytest.raises(DomainError) as unknown:
        await compliance.get(stranger)
    assert unknown.value.reason == "PARTY_NOT_FOUND"
    assert await compliance.waiting(principal=stranger) == []
    [decision] = await compliance.evaluate(money_in(1), principal=service_principal("transactions", "org-b"))
    assert decision.failure.code == "PARTY_NOT_CLEARED"


async def test_a_party_has_persons_and_a_person_parties(compliance):
    first = (await compliance.create(kind=_PARTY.LLC)).party_id
    await compliance.add("auth0|ann", "Managing Member")
    await compliance.add("ben@example.org")
    second = (await compliance.create(kind=_PARTY.IRA)).party_id
    await compliance.add("auth0|ann")
    for person, parties in (("auth0|ann", [first, second]), ("ben@example.org", [first]), ("cleo", [])):
        request = parties_pb2.ListPartiesOfPersonRequest(person=person)
        with acting_as(TRANSACTIONS):
            found = await compliance.parties.ListPartiesOfPerson(request, None)
        assert list(found.party_ids) == sorted(parties)
        assert await OwnParties(compliance.database).list_current(Principal(person, "investor", ORG)) == set(parties)
    again = await compliance.add("auth0|ann", "Trustee", first)
    assert (again.title, again.added_by) == ("Trustee", "admin-1")
    left = await compliance.remove("auth0|ann")  # of the second
    assert list(left.persons) == []


async def test_a_person_who_does_not_act_for_a_party_is_removed_without_an_effect(compliance):
    before = await compliance.create()
    await compliance.remove("cleo")
    assert (await compliance.get()).etag == before.etag


async def test_a_change_leaves_what_it_does_not_name_and_takes_away_what_it_names_without_a_value(compliance):
    money = money_pb2.Money(currency_code="USD", amount_minor=5)
    await compliance.create(accreditation=_PARTY.ACCREDITED, net_worth=money, external_id="crm-1", metadata={"a": "b"})
    changed = await compliance.update(legal_name="Ada Parker", paths=["net_worth"])
    assert (changed.legal_name, changed.accreditation, changed.external_id) == (
        "Ada Parker",
        _PARTY.ACCREDITED,
        "crm-1",
    )
    assert not changed.HasField("net_worth")
    assert dict(changed.metadata) == {"a": "b"}


@pytest.mark.parametrize("field", ["kind", "roles", "legal_name"])
async def test_what_a_party_cannot_be_without_is_not_taken_away(compliance, field):
    await compliance.create()
    with pytest.raises(InvalidField) as refused:
        await compliance.update(paths=[field])
    assert set(refused.value.fields) == {field}


async def test_a_change_that_was_decided_on_something_older_is_refused(compliance):
    before = await compliance.create()
    await compliance.update(external_id="crm-1")
    with pytest.raises(EtagMismatch):
        await compliance.update(etag=before.etag, external_id="crm-2")


async def test_a_review_decides_the_check_that_was_read(compliance):
    await compliance.create()
    check = (await compliance.waiting(compliance.party_id))[0]
    known = {"compliance_check_id": check.compliance_check_id, "etag": check.etag}
    review = pb.ReviewComplianceCheckRequest(**known, decision=pb.ComplianceCheck.PASSED, note="Seen.")
    with acting_as(CHECKER):
        reviewed = await compliance.servicer.ReviewComplianceCheck(review, None)
        assert reviewed.etag != check.etag
        with pytest.raises(EtagMismatch):
            await compliance.servicer.ReviewComplianceCheck(review, None)


async def test_who_changes_a_limit_says_which_one(compliance):
    seed = {limit.limit_type: limit for limit in (await compliance.list_limits())}[pb.TransactionLimit.DAILY_DEPOSIT]
    first = await compliance.put_limit(30_00, etag=seed.etag)
    with pytest.raises(EtagRequired, match="was set before"):
        await compliance.put_limit(40_00)
    with pytest.raises(EtagMismatch):
        await compliance.put_limit(40_00, etag=seed.etag)
    assert (await compliance.put_limit(40_00, etag=first.etag)).amount.amount_minor == 40_00


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
    state = last.party
    assert (state.cleared, list(state.persons), state.etag) == (True, ["auth0|ann"], party.etag)
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
        ({"external_id": "crm-1"}, ["Ada Park"]),
        ({"person": "auth0|ann"}, ["Ada Parker"]),
        ({"cleared": True}, ["Oak LLC"]),
        ({"cleared": False}, ["Ada Parker", "Ada Park"]),
        ({"ids": 2}, ["Ada Parker", "Ada Park"]),  # the first two
    ],
)
async def test_parties_are_found(compliance, filters, names):
    ids = [(await compliance.create(legal_name="Ada Park", external_id="crm-1")).party_id]
    ids.append((await compliance.create(legal_name="Ada Parker")).party_id)
    await compliance.add("auth0|ann")
    await compliance.clear(legal_name="Oak LLC", kind=_PARTY.LLC)
    wanted = filters | ({"ids": ids[: filters["ids"]]} if "ids" in filters else {})
    with acting_as(MAKER):
        found = await compliance.parties.ListParties(parties_pb2.ListPartiesRequest(**wanted), None)
    assert [party.legal_name for party in found.parties] == names


async def test_what_a_caller_may_do_is_what_would_not_be_refused(compliance):
    await compliance.create()
    [check, _] = await compliance.waiting(compliance.party_id)
    request = pb.GetComplianceCheckRequest(compliance_check_id=check.compliance_check_id)
    for principal, actions in ((MAKER, []), (CHECKER, ["review"]), (AUDITOR, [])):
        with acting_as(principal):
            assert list((await compliance.servicer.GetComplianceCheck(request, None)).allowed_actions) == actions
    assert len((await compliance.get(CHECKER)).allowed_actions) == 3
    assert list((await compliance.get(AUDITOR)).allowed_actions) == []
