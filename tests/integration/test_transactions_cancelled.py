"""What a withdrawal or refund makes pointless is cancelled, whatever it waits for; what a bank has goes to its end."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa
from realco.approvals.v1 import approvals_pb2
from realco.distributions.v1.offerings_pb2 import Investment
from realco.transactions.v1 import transactions_pb2 as pb
from realco.transactions.v1.contributions_pb2 import CancelContributionsRequest, CancelContributionsResponse
from realco.type.v1.approval_pb2 import Approval

from services.chassis.values.ids import new_id
from services.transactions.domain.payments import PaymentStatus
from tests.support.transactions import (
    ADMIN,
    CHECKER,
    DISTRIBUTIONS,
    IMPORT,
    MONDAY,
    TransactionsHarness,
    usd,
)

T = pb.Transaction


@pytest.fixture
async def service(service_database) -> TransactionsHarness:
    return TransactionsHarness(await service_database("transactions"))


async def cancel(service: TransactionsHarness, *made: T) -> CancelContributionsResponse:
    request = CancelContributionsRequest(investment_ids=[each.investment_id for each in made])
    return await service.ask(DISTRIBUTIONS, "CancelContributions", request)


def withdraw(service: TransactionsHarness, made: T) -> None:
    service.distributions.investments[made.investment_id].status = Investment.CANCELLING


async def initiated(service: TransactionsHarness) -> T:
    service.wire.fail("BatchEvaluateTransactions", "lost")
    return await service.deposit()


async def waiting_for_approval(service: TransactionsHarness) -> T:
    return await service.ask(ADMIN, "CreateTransaction", await service.deposit_request())


async def queued(service: TransactionsHarness) -> T:
    return await service.deposit()


async def to_be_presented_again(service: TransactionsHarness) -> T:
    made = await service.deposit()
    await service.work()
    service.bank.report(made.transaction_id, PaymentStatus.RETURNED, "R01", at=service.clock.now())
    await service.work(hurried=True)
    return made


@pytest.mark.parametrize(
    ("make", "status"),
    [
        (initiated, T.INITIATED),
        (waiting_for_approval, T.PENDING_APPROVAL),
        (queued, T.QUEUED),
        (to_be_presented_again, T.PENDING_RETRY),
    ],
)
async def test_a_contribution_that_waits_is_cancelled_once_its_investment_wants_it_no_more_and_says_why(
    service: TransactionsHarness, make, status
) -> None:
    made = await make(service)
    assert (await service.get(made.transaction_id)).status == status
    orders = len(service.bank.orders)
    withdraw(service, made)
    assert list((await cancel(service, made)).on_their_way) == []
    seen = await service.get(made.transaction_id)
    assert (seen.status, seen.failure.code) == (T.CANCELLED, "INVESTMENT_NOT_PENDING")
    assert (await service.events(made.transaction_id))[-1] == "TransactionCancelled"
    service.clock.set(MONDAY + timedelta(days=30))
    await service.work(hurried=True)
    assert len(service.bank.orders) == orders, "nothing of it gets to a bank"
    assert (await service.get(made.transaction_id)).status == T.CANCELLED


async def test_nobody_is_asked_any_more_to_approve_a_contribution_that_was_cancelled(
    service: TransactionsHarness,
) -> None:
    made = await waiting_for_approval(service)
    waits = await service.waiting(made.transaction_id)
    withdraw(service, made)
    await cancel(service, made)
    request = approvals_pb2.GetApprovalRequest(approval_id=waits.approval_id)
    assert (await service.ask(CHECKER, "GetApproval", request)).status == Approval.CANCELLED


async def test_what_a_bank_has_is_told_and_followed_to_its_end(service: TransactionsHarness) -> None:
    made = await queued(service)
    await service.work()
    withdraw(service, made)
    [told] = (await cancel(service, made)).on_their_way
    assert (told.transaction_id, told.status, told.amount) == (made.transaction_id, T.PENDING_SETTLEMENT, usd(100_00))
    assert told.aggregate_version == (await service.get(made.transaction_id)).aggregate_version
    service.bank.report(made.transaction_id, PaymentStatus.SETTLED)
    await service.work(hurried=True)
    [told] = (await cancel(service, made)).on_their_way
    assert told.status == T.SETTLED, "the bank may still take it back"
    service.clock.set(MONDAY + timedelta(days=30))
    await service.work(hurried=True)
    assert (await service.get(made.transaction_id)).status == T.COMPLETED
    assert list((await cancel(service, made)).on_their_way) == []


async def test_an_announced_wire_is_neither_cancelled_nor_on_its_way(service: TransactionsHarness) -> None:
    request = pb.CreateTransactionRequest(
        idempotency_key=new_id("key"),
        type=T.ESCROW_DEPOSIT,
        payment_method=T.WIRE,
        amount=usd(100_00),
        escrow_account_id=service.distributions.offering.escrow_account_id,
        party_id="inv-001",
        investment_id=service.distributions.invest("inv-001", 100_00),
    )
    made = await service.ask(IMPORT, "CreateTransaction", request)
    await service.work()
    withdraw(service, made)
    assert list((await cancel(service, made)).on_their_way) == []
    assert (await service.get(made.transaction_id)).status == T.PENDING_SETTLEMENT


async def test_a_call_cancels_nothing_of_an_investment_that_takes_contributions_by_what_distributions_says_itself(
    service: TransactionsHarness,
) -> None:
    kept, gone = await queued(service), await service.deposit("inv-002")
    withdraw(service, gone)
    await cancel(service, kept, gone)
    statuses = [(await service.get(each.transaction_id)).status for each in (kept, gone)]
    assert statuses == [T.QUEUED, T.CANCELLED]


async def test_of_an_investment_with_a_contribution_that_was_altered_in_the_database_nothing_is_said(
    service: TransactionsHarness,
) -> None:
    altered, sound = await queued(service), await service.deposit("inv-002")
    async with service.database.begin_for_all() as tx:
        statement = sa.text("UPDATE transactions SET attempts = 1, version = version + 1 WHERE transaction_id = :id")
        await tx.execute(statement, {"id": altered.transaction_id})
    for each in (altered, sound):
        withdraw(service, each)
    answer = await cancel(service, altered, sound)
    assert list(answer.unknown_investment_ids) == [altered.investment_id]
    assert (await service.get(sound.transaction_id)).status == T.CANCELLED
