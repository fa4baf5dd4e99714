"""Transactions before compliance, on real PostgreSQL: who may, what is counted, what is given back."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
import sqlalchemy as sa
from realco.compliance.v1 import clearances_pb2
from realco.compliance.v1 import compliance_pb2 as pb
from realco.transactions.v1 import events_pb2
from realco.transactions.v1.evaluations_pb2 import EvaluationFacts
from realco.type.v1.money_pb2 import Money
from structlog.testing import capture_logs

from services.chassis.calls.auth import acting_as
from services.chassis.data.seals import NotSealed
from services.chassis.values.ids import derived_id
from services.compliance.domain.limits import LimitType
from services.compliance.domain.refusals import ComplianceCheckNotFound
from services.compliance.store.limits import list_used
from services.compliance.tables import limit_usage
from tests.support.compliance import CHECKER, ORG, PARTY, money_in
from tests.support.money import usd


@pytest.mark.parametrize("direction", [Money.IN, Money.OUT])
async def test_money_of_a_party_that_is_not_cleared_moves_neither_in_nor_out(compliance, direction):
    items = [money_in(1, direction=direction) for _ in range(2)]
    [unknown] = await compliance.evaluate(items[0])
    await compliance.create()
    [uncleared] = await compliance.evaluate(items[1])
    assert (unknown.status, unknown.failure.code) == (pb.ComplianceCheck.FAILED, "PARTY_NOT_FOUND")
    assert (uncleared.status, uncleared.failure.code) == (pb.ComplianceCheck.FAILED, "PARTY_NOT_CLEARED")
    assert "OFAC is MANUAL_REVIEW" in uncleared.failure.message
    assert uncleared.failure.metadata["check_types"] == '["KYC", "OFAC"]'
    kept = [await compliance.get_check(derived_id("chk", ORG, item.transaction_id)) for item in items]
    assert [check.explanation.rule for check in kept] == ["PARTY", "KYC"]


async def test_a_refusal_is_found_under_the_check_that_is_missing(compliance):
    await compliance.create()
    for check in await compliance.waiting(compliance.party_id):
        is_ofac = check.type == pb.ComplianceCheck.OFAC
        decision = pb.ComplianceCheck.FAILED if is_ofac else pb.ComplianceCheck.PASSED
        reviewed = await compliance.review(check.compliance_check_id, decision=decision)
        assert list(reviewed.allowed_actions) == []
    item = money_in(1)
    [refused] = await compliance.evaluate(item)
    assert refused.failure.metadata["check_types"] == '["OFAC"]'

    async def list_refused(check_type):
        request = pb.ListComplianceChecksRequest(party_id=[compliance.party_id], type=[check_type])
        with acting_as(CHECKER):
            found = (await compliance.servicer.ListComplianceChecks(request, None)).compliance_checks
        return [check.resource_id for check in found if check.resource_type == pb.ComplianceCheck.TRANSACTION]

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


@pytest.mark.parametrize("other", [{"direction": Money.OUT}, {"amount_minor": 2}, {"party": "another"}])
async def test_a_transaction_is_not_decided_on_with_one_content_and_sent_with_another(compliance, other):
    await compliance.clear()
    item = money_in(1)
    await compliance.evaluate(item)
    changed = clearances_pb2.BatchEvaluateTransactionsRequest.Item()
    changed.CopyFrom(item)
    changed.direction = other.get("direction", item.direction)
    changed.amount.amount_minor = other.get("amount_minor", 1)
    if "party" in other:
        await compliance.clear()
        changed.party_id = compliance.party_id
    [refused] = await compliance.evaluate(changed)
    assert refused.failure.code == "IDEMPOTENCY_KEY_REUSED"
    kept = await compliance.get_check(derived_id("chk", ORG, item.transaction_id))
    assert (kept.party_id, kept.direction, kept.amount) == (item.party_id, item.direction, item.amount)
    assert kept.status == pb.ComplianceCheck.PASSED


@pytest.mark.parametrize(
    ("said", "is_told"),
    [
        (None, True),
        ({"party_id": "another"}, True),
        ({"direction": Money.OUT}, True),
        ({"amount": usd(50_000_01)}, True),
        ({"is_contribution": False}, True),
        ({"is_waiting": False}, False),  # it moved on since it was sent here
    ],
    ids=str,
)
async def test_what_transactions_does_not_have_waiting_is_neither_decided_on_nor_counted(compliance, said, is_told):
    await compliance.clear()
    item = money_in(50_000_00, party_id=compliance.party_id)
    if said is not None:
        compliance.transactions.initiate([item])
        compliance.transactions.facts[item.transaction_id].MergeFrom(EvaluationFacts(**said))
        for name in (name for name, value in said.items() if value is False):
            compliance.transactions.facts[item.transaction_id].ClearField(name)
    beside = money_in(20_000_00, party_id=compliance.party_id)
    compliance.transactions.initiate([beside])
    with capture_logs() as logged:
        undecided, passed = await compliance.evaluate_as_known(item, beside)
    assert undecided == pb.ComplianceCheck()
    assert passed.status == pb.ComplianceCheck.PASSED
    told = [line["transaction_id"] for line in logged if line["event"] == "transaction_not_known"]
    assert told == [item.transaction_id] * is_told
    [rest] = await compliance.evaluate(money_in(30_000_00))
    assert rest.status == pb.ComplianceCheck.PASSED
    with pytest.raises(ComplianceCheckNotFound):
        await compliance.get_check(derived_id("chk", ORG, item.transaction_id))


async def test_two_at_once_never_pass_a_limit_together(compliance):
    await compliance.clear()
    decisions = await asyncio.gather(*(compliance.evaluate(money_in(20_000_00)) for _ in range(8)))
    passed = [d for [d] in decisions if d.status == pb.ComplianceCheck.PASSED]
    assert len(passed) == 2


@pytest.mark.parametrize(
    ("facts", "is_contribution", "code"),
    [
        ({"accreditation": PARTY.ACCREDITED}, True, ""),
        ({}, False, ""),
        ({}, True, "TRANSACTION_LIMIT_EXCEEDED"),
    ],
)
async def test_limits_hold_for_what_a_party_contributes_that_is_not_accredited(
    compliance, facts, is_contribution, code
):
    await compliance.clear(**facts)
    [decision] = await compliance.evaluate(money_in(900_000_00, is_contribution=is_contribution))
    assert decision.failure.code == code


async def test_one_transaction_decided_twice_at_once_has_one_decision(compliance):
    """Of a party that does not exist: there is no row whose lock would keep the two apart."""
    item = money_in(1)
    decisions = await asyncio.gather(*(compliance.evaluate(item) for _ in range(8)))
    assert [decision.failure.code for [decision] in decisions] == ["PARTY_NOT_FOUND"] * 8


async def test_what_an_accredited_party_brought_in_may_be_more_than_a_bigint(compliance):
    await compliance.clear(accreditation=PARTY.ACCREDITED)
    largest = 2**62 - 1
    decisions = await compliance.evaluate(*(money_in(largest) for _ in range(3)))
    decisions += await compliance.evaluate(money_in(largest))
    assert {decision.status for decision in decisions} == {pb.ComplianceCheck.PASSED}


async def test_a_cancelled_transaction_gives_its_limit_back_whatever_failed_before(compliance):
    await compliance.clear()
    item = money_in(50_000_00)
    await compliance.evaluate(item)
    await compliance.hear(events_pb2.TransactionFailed, item.transaction_id, 5, retryable=True)
    await compliance.hear(events_pb2.TransactionCancelled, item.transaction_id, 7, retryable=True)
    [afterwards] = await compliance.evaluate(money_in(50_000_00))
    assert afterwards.status == pb.ComplianceCheck.PASSED


async def test_a_transaction_that_ends_while_it_is_decided_on_uses_nothing_of_a_limit(compliance):
    await compliance.clear()
    item = money_in(50_000_00)
    await compliance.hear(events_pb2.TransactionCancelled, item.transaction_id, 3)
    [decision] = await compliance.evaluate(item)
    assert decision.status == pb.ComplianceCheck.PASSED, "nobody does anything with it"
    [afterwards] = await compliance.evaluate(money_in(50_000_00))
    assert afterwards.status == pb.ComplianceCheck.PASSED


@pytest.mark.parametrize(("arrived", "left"), [(20_000_00, 30_000_00), (49_999_99, 1), (50_000_00, 0), (60_000_00, 0)])
async def test_what_a_wire_brought_counts_against_a_limit_and_not_what_was_announced(compliance, arrived, left):
    await compliance.clear()
    item = money_in(40_000_00)
    await compliance.evaluate(item)
    await compliance.hear(events_pb2.TransactionSettled, item.transaction_id, 7, amount_minor=arrived)
    [over] = await compliance.evaluate(money_in(left + 1))
    assert over.failure.metadata["used_minor"] == str(arrived)
    if left:
        [within] = await compliance.evaluate(money_in(left))
        assert within.status == pb.ComplianceCheck.PASSED
    await compliance.hear(events_pb2.TransactionReturned, item.transaction_id, 9, amount_minor=arrived)
    [afterwards] = await compliance.evaluate(money_in(50_000_00 - left))
    assert afterwards.status == pb.ComplianceCheck.PASSED


@pytest.mark.parametrize(
    "forgery",
    [
        "counted = false, version = version + 9",
        "counted = false, version = 9, seal = (SELECT seal FROM limit_usage WHERE NOT counted)",
        "arrived_minor = 1, version = version + 1",
    ],
    ids=["as of later", "with another's seal", "as if less had arrived"],
)
async def test_nobody_gives_a_used_limit_back_with_sql(compliance, forgery):
    await compliance.clear()
    item, other = money_in(20_000_00), money_in(50_000_00)
    await compliance.evaluate(other)
    await compliance.hear(events_pb2.TransactionCancelled, other.transaction_id, 9)
    await compliance.evaluate(item)
    async with compliance.database.begin(ORG) as tx:
        await tx.execute(sa.text(f"UPDATE limit_usage SET {forgery} WHERE transaction_id = '{item.transaction_id}'"))
    with pytest.raises(NotSealed):  # nor is it refused for what is not ours
        await compliance.evaluate(money_in(30_000_01))
    [second] = await compliance.evaluate(money_in(30_000_00))
    assert second.status == pb.ComplianceCheck.PASSED
    with pytest.raises(NotSealed):
        await compliance.hear(events_pb2.TransactionCancelled, item.transaction_id, 20)
    with pytest.raises(NotSealed):
        await compliance.evaluate(money_in(1))
    [refused] = await compliance.evaluate(money_in(20_000_01))  # which our own rows refuse
    assert refused.failure.metadata["used_minor"] == "3000000"


async def test_nobody_uses_up_the_limit_of_a_party_with_sql(compliance):
    await compliance.clear()
    async with compliance.database.begin(ORG) as tx:
        await tx.execute(
            sa.insert(limit_usage).values(
                org_id=ORG,
                transaction_id="txn_forged",
                party_id=compliance.party_id,
                amount_minor=5_000_000_00,
                currency="USD",
                counted=True,
                version=1,
                counted_at=datetime(9990, 1, 1, tzinfo=UTC),
                seal=b"",
            )
        )
    with pytest.raises(NotSealed):  # it waits, and no refusal is kept
        await compliance.evaluate(money_in(10_01))
    async with compliance.database.begin(ORG) as tx:
        decided = sa.text("SELECT count(*) FROM compliance_checks WHERE resource_type = 'TRANSACTION'")
        assert await tx.scalar(decided) == 0


@pytest.mark.parametrize(("before", "between"), [([False], True), ([], False)], ids=["said once more", "altered"])
async def test_a_used_limit_counts_whatever_sql_writes_between_two_looks(compliance, before, between):
    await compliance.clear()
    await compliance.evaluate(money_in(20_000_00))

    async def write(*, counted: bool) -> None:
        async with compliance.database.begin(ORG) as other:
            await other.execute(sa.update(limit_usage).values(counted=counted, version=limit_usage.c.version + 1))

    class Watched:
        """The transaction, in which somebody else is as quick as can be."""

        def __init__(self, tx) -> None:
            self.info, self._tx = tx.info, tx

        async def execute(self, statement, *values):
            rows = await self._tx.execute(statement, *values)
            await write(counted=between)
            return rows

    for counted in before:
        await write(counted=counted)
    with acting_as(CHECKER):
        async with compliance.database.begin(ORG) as tx:
            _, used = await list_used(Watched(tx), [compliance.party_id], "USD", compliance.clock.now())
    assert used[compliance.party_id][LimitType.DAILY_DEPOSIT] == 20_000_00


async def test_a_limit_that_is_used_again_is_not_given_back_with_the_row_that_was(compliance):
    await compliance.clear()
    item = money_in(50_000_00)
    await compliance.evaluate(item)
    await compliance.hear(events_pb2.TransactionFailed, item.transaction_id, 5)
    async with compliance.database.begin(ORG) as tx:
        was = await tx.scalar(sa.text("SELECT seal FROM limit_usage"))
    await compliance.hear(events_pb2.TransactionRetryScheduled, item.transaction_id, 6)
    back = sa.update(limit_usage).values(counted=False, seal=was)
    for refused in (back.values(version=5), back):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="keeps its rows"):
            async with compliance.database.begin(ORG) as tx:
                await tx.execute(refused)
    async with compliance.database.begin(ORG) as tx:
        await tx.execute(back.values(version=limit_usage.c.version + 1))
    with pytest.raises(NotSealed):
        await compliance.evaluate(money_in(1))


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
