"""Compliance on real PostgreSQL: who is cleared, what is counted, what is given back."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from realco.compliance.v1 import compliance_pb2 as pb
from realco.transactions.v1 import events_pb2, transactions_pb2
from realco.type.v1 import money_pb2

from services.chassis.calls.auth import Principal, acting_as, service_principal
from services.chassis.events.consumer import Delivery
from services.chassis.values.clock import FakeClock
from services.chassis.values.errors import DomainError
from services.chassis.values.ids import new_id
from services.compliance.api import ComplianceServicer
from services.compliance.jobs import jobs
from services.compliance.subscribers import SUBSCRIPTIONS

START = datetime(2024, 12, 3, 15, tzinfo=UTC)
MAKER = Principal("admin-1", "admin", "org-a")
CHECKER = Principal("admin-2", "admin", "org-a")
TRANSACTIONS = service_principal("transactions", "org-a", "inv-1")
Item = pb.EvaluateTransactionsRequest.Item


class Compliance:
    """The service without its wire, and people who use it."""

    def __init__(self, database, clock):
        self.database, self.clock = database, clock
        self.servicer = ComplianceServicer(database, clock)

    async def put(self, party_id, principal=MAKER, **facts):
        request = pb.PutInvestorRequest(party_id=party_id, **{"legal_name": "Ada Park", **facts})
        with acting_as(principal):
            return await self.servicer.PutInvestor(request, None)

    async def waiting(self, party_id="", principal=CHECKER):
        request = pb.ListComplianceChecksRequest(party_id=party_id, status=pb.ComplianceCheck.MANUAL_REVIEW)
        with acting_as(principal):
            return list((await self.servicer.ListComplianceChecks(request, None)).compliance_checks)

    async def clear(self, party_id, **facts):
        await self.put(party_id, **facts)
        for check in await self.waiting(party_id):
            await self.review(check.compliance_check_id)

    async def review(self, check_id, principal=CHECKER, decision=pb.ComplianceCheck.PASSED):
        request = pb.ReviewComplianceCheckRequest(
            compliance_check_id=check_id, decision=decision, note="Passport seen."
        )
        with acting_as(principal):
            return await self.servicer.ReviewComplianceCheck(request, None)

    async def evaluate(self, *items, principal=TRANSACTIONS):
        with acting_as(principal):
            answer = await self.servicer.EvaluateTransactions(pb.EvaluateTransactionsRequest(items=items), None)
        return list(answer.decisions)

    async def put_limit(self, amount_minor, limit_type=pb.TransactionLimit.DAILY_DEPOSIT, currency="USD"):
        amount = money_pb2.Money(currency_code=currency, amount_minor=amount_minor)
        request = pb.PutTransactionLimitRequest(limit_type=limit_type, amount=amount)
        with acting_as(MAKER):
            return await self.servicer.PutTransactionLimit(request, None)

    async def hear(self, event_type, transaction_id, version, *, retryable=False):
        transaction = transactions_pb2.Transaction(transaction_id=transaction_id, version=version)
        transaction.failure.retryable = retryable
        event = event_type(transaction=transaction)
        delivery = Delivery("org-a", "", self.clock.now())
        with acting_as(service_principal("compliance", "org-a")):
            async with self.database.begin() as tx:
                await SUBSCRIPTIONS[0].handlers[event_type](tx, event, delivery)


@pytest.fixture
async def compliance(service_database):
    return Compliance(await service_database("compliance"), FakeClock(START))


def money_in(amount_minor, party_id="inv-1", transaction_id=None, direction=Item.IN, currency="USD"):
    return Item(
        transaction_id=transaction_id or new_id("txn"),
        party_id=party_id,
        direction=direction,
        amount=money_pb2.Money(currency_code=currency, amount_minor=amount_minor),
    )


async def test_a_new_profile_is_not_cleared_until_another_person_passes_both_checks(compliance):
    assert not (await compliance.put("inv-1")).cleared
    checks = await compliance.waiting("inv-1")
    assert sorted(pb.ComplianceCheck.Type.Name(check.type) for check in checks) == ["KYC", "OFAC"]
    with pytest.raises(DomainError) as refused:
        await compliance.review(checks[0].compliance_check_id, MAKER)
    assert refused.value.reason == "MAKER_IS_CHECKER"
    for check in checks:
        await compliance.review(check.compliance_check_id)
    with acting_as(MAKER):
        investor = await compliance.servicer.GetInvestor(pb.GetInvestorRequest(party_id="inv-1"), None)
    assert investor.cleared
    assert not investor.missing


@pytest.mark.parametrize("direction", [Item.IN, Item.OUT])
async def test_money_of_a_party_that_is_not_cleared_moves_neither_in_nor_out(compliance, direction):
    [unknown] = await compliance.evaluate(money_in(1, direction=direction))
    await compliance.put("inv-1")
    [uncleared] = await compliance.evaluate(money_in(1, direction=direction))
    assert unknown.reason == uncleared.reason == "PARTY_NOT_CLEARED"
    assert unknown.status == pb.ComplianceCheck.FAILED
    assert "OFAC is MANUAL_REVIEW" in uncleared.metadata["missing"]


async def test_the_limit_counts_what_passed_before_and_inside_one_request(compliance):
    await compliance.clear("inv-1")
    first, second, third = await compliance.evaluate(money_in(30_000_00), money_in(20_000_01), money_in(20_000_00))
    assert [first.status, third.status] == [pb.ComplianceCheck.PASSED] * 2
    assert second.reason == "TRANSACTION_LIMIT_EXCEEDED"
    assert second.metadata["used_minor"] == "3000000"
    [today_is_full] = await compliance.evaluate(money_in(1))
    assert today_is_full.status == pb.ComplianceCheck.FAILED
    compliance.clock.advance(timedelta(days=1))
    [tomorrow] = await compliance.evaluate(money_in(50_000_00))
    assert tomorrow.status == pb.ComplianceCheck.PASSED


async def test_a_transaction_asked_about_again_keeps_its_decision_and_counts_once(compliance):
    await compliance.clear("inv-1")
    item = money_in(50_000_00)
    [first] = await compliance.evaluate(item)
    [again] = await compliance.evaluate(item)
    assert first == again
    [refused] = await compliance.evaluate(money_in(1))
    assert refused.metadata["used_minor"] == "5000000"


async def test_two_at_once_never_pass_a_limit_together(compliance):
    await compliance.clear("inv-1")
    decisions = await asyncio.gather(*(compliance.evaluate(money_in(20_000_00)) for _ in range(8)))
    passed = [d for [d] in decisions if d.status == pb.ComplianceCheck.PASSED]
    assert len(passed) == 2


@pytest.mark.parametrize(
    "facts",
    [{"accreditation": pb.Investor.ACCREDITED}, {"party_type": pb.Investor.SPONSOR}],
)
async def test_limits_do_not_hold_for_accredited_investors_and_sponsors(compliance, facts):
    await compliance.clear("inv-1", **facts)
    [decision] = await compliance.evaluate(money_in(900_000_00))
    assert decision.status == pb.ComplianceCheck.PASSED


async def test_one_transaction_decided_twice_at_once_has_one_decision(compliance):
    """Of a party without a profile: there is no row whose lock would keep the two apart."""
    item = money_in(1)
    decisions = await asyncio.gather(*(compliance.evaluate(item) for _ in range(8)))
    assert [decision.reason for [decision] in decisions] == ["PARTY_NOT_CLEARED"] * 8


async def test_what_an_accredited_party_brought_in_may_be_more_than_a_bigint(compliance):
    await compliance.clear("inv-1", accreditation=pb.Investor.ACCREDITED)
    largest = 2**62 - 1
    decisions = await compliance.evaluate(*(money_in(largest) for _ in range(3)))
    decisions += await compliance.evaluate(money_in(largest))
    assert {decision.status for decision in decisions} == {pb.ComplianceCheck.PASSED}


async def test_in_a_currency_without_limits_nothing_comes_in(compliance):
    await compliance.clear("inv-1")
    [refused] = await compliance.evaluate(money_in(1, currency="EUR"))
    assert (refused.reason, refused.metadata["limit_minor"]) == ("TRANSACTION_LIMIT_EXCEEDED", "0")
    limits = pb.TransactionLimit
    for limit_type in (limits.PER_TRANSACTION, limits.DAILY_DEPOSIT, limits.MONTHLY_DEPOSIT):
        await compliance.put_limit(5_00, limit_type, "EUR")
    [passed, too_much] = await compliance.evaluate(money_in(5_00, currency="EUR"), money_in(1, currency="EUR"))
    assert (passed.status, too_much.reason) == (pb.ComplianceCheck.PASSED, "TRANSACTION_LIMIT_EXCEEDED")


async def test_the_limit_put_last_is_in_force_whatever_the_clocks_said(compliance):
    await compliance.clear("inv-1")
    await compliance.put_limit(30_00)
    await compliance.put_limit(20_00)  # in the same microsecond
    compliance.clock.advance(timedelta(seconds=-5))  # another machine's clock
    await compliance.put_limit(10_00)
    [refused] = await compliance.evaluate(money_in(10_01))
    assert refused.metadata["limit_minor"] == "1000"


async def test_a_cancelled_transaction_gives_its_limit_back_whatever_failed_before(compliance):
    await compliance.clear("inv-1")
    item = money_in(50_000_00)
    await compliance.evaluate(item)
    await compliance.hear(events_pb2.TransactionFailed, item.transaction_id, 5, retryable=True)
    await compliance.hear(events_pb2.TransactionCancelled, item.transaction_id, 7, retryable=True)
    [afterwards] = await compliance.evaluate(money_in(50_000_00))
    assert afterwards.status == pb.ComplianceCheck.PASSED


async def test_money_that_came_back_gives_its_limit_back_unless_it_may_be_tried_again(compliance):
    await compliance.clear("inv-1")
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
    await compliance.clear("inv-1")
    compliance.clock.advance(timedelta(days=365))
    [expired] = await compliance.evaluate(money_in(1))
    assert "KYC is EXPIRED" in expired.metadata["missing"]
    [job] = jobs(compliance.database, compliance.clock)
    assert await job.run() == 2
    assert await job.run() == 0
    waiting = await compliance.waiting("inv-1")
    assert len(waiting) == 2
    for check in waiting:
        await compliance.review(check.compliance_check_id)
    [decision] = await compliance.evaluate(money_in(1))
    assert decision.status == pb.ComplianceCheck.PASSED


async def test_an_answer_that_a_later_one_replaced_expires_without_a_question(compliance):
    await compliance.clear("inv-1")
    compliance.clock.advance(timedelta(days=300))
    await compliance.clear("inv-1", legal_name="Ada Parker")
    compliance.clock.advance(timedelta(days=65))  # a year after the first answers
    [job] = jobs(compliance.database, compliance.clock)
    assert await job.run() == 2
    assert await compliance.waiting("inv-1") == []
    [decision] = await compliance.evaluate(money_in(1))
    assert decision.status == pb.ComplianceCheck.PASSED


async def test_nobody_lifts_the_limits_alone(compliance):
    """Neither by an accreditation nor by making a sponsor of an investor: another person is asked first."""
    for facts in ({"accreditation": pb.Investor.ACCREDITED}, {"party_type": pb.Investor.SPONSOR}):
        await compliance.clear("inv-1")
        await compliance.put("inv-1", **facts)
        [decision] = await compliance.evaluate(money_in(900_000_00))
        assert decision.reason == "PARTY_NOT_CLEARED"
        [check] = await compliance.waiting("inv-1")
        with pytest.raises(DomainError, match="wrote the profile"):
            await compliance.review(check.compliance_check_id, MAKER)
        await compliance.review(check.compliance_check_id, decision=pb.ComplianceCheck.FAILED)


async def test_a_changed_name_asks_again_and_a_changed_net_worth_does_not(compliance):
    await compliance.clear("inv-1")
    await compliance.put("inv-1", net_worth=money_pb2.Money(currency_code="USD", amount_minor=1))
    assert await compliance.waiting("inv-1") == []
    await compliance.put("inv-1", accreditation=pb.Investor.ACCREDITED)
    assert len(await compliance.waiting("inv-1")) == 1
    await compliance.put("inv-1", legal_name="Ada Parker", accreditation=pb.Investor.ACCREDITED)
    assert len(await compliance.waiting("inv-1")) == 3


async def test_an_organization_sets_its_own_limit_and_the_others_keep_theirs(compliance):
    await compliance.clear("inv-1")
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
    assert refused.metadata["limit_minor"] == "1000"


async def test_another_organization_sees_nothing_of_a_party(compliance):
    await compliance.clear("inv-1")
    stranger = Principal("admin-9", "admin", "org-b")
    with acting_as(stranger), pytest.raises(DomainError) as unknown:
        await compliance.servicer.GetInvestor(pb.GetInvestorRequest(party_id="inv-1"), None)
    assert unknown.value.reason == "INVESTOR_NOT_FOUND"
    assert await compliance.waiting(principal=stranger) == []
    [decision] = await compliance.evaluate(money_in(1), principal=service_principal("transactions", "org-b"))
    assert decision.reason == "PARTY_NOT_CLEARED"
