"""What staff orders for others, before anybody approves it: what its dossier says, and what it keeps nobody from."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from realco.transactions.v1 import payouts_pb2
from realco.transactions.v1 import transactions_pb2 as pb

from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.values.errors import DomainError
from services.chassis.values.ids import new_id
from services.transactions.domain.payments import PaymentStatus
from tests.support.bulk import vary
from tests.support.transactions import ADMIN, ESCROW_ACCOUNT, IMPORT, INVESTOR, ORG, TransactionsHarness, usd

T = pb.Transaction


@pytest.fixture
async def service(service_database) -> TransactionsHarness:
    return TransactionsHarness(await service_database("transactions"))


async def refused(work: Any) -> DomainError:
    with pytest.raises(DomainError) as refusal:
        await work
    return refusal.value


async def test_what_staff_ordered_and_nobody_approved_takes_no_room_of_what_its_payer_orders(
    service: TransactionsHarness,
) -> None:
    whole = await service.deposit_request(amount=usd(1_000_00))
    ordered = await service.ask(ADMIN, "CreateTransaction", whole)
    assert (await refused(service.ask(ADMIN, "CreateTransaction", vary(whole)))).reason == "COMMITMENT_EXCEEDED"
    paid = await service.ask(INVESTOR, "CreateTransaction", vary(whole, amount=usd(600_00)))
    assert paid.status == T.QUEUED
    over = vary(whole, amount=usd(400_01))
    assert (await refused(service.ask(INVESTOR, "CreateTransaction", over))).reason == "COMMITMENT_EXCEEDED"
    # What is approved all the same finds too little left when it begins.
    await service.grant(await service.waiting(ordered.transaction_id))
    with service.wire.cut(service.distributions):
        await service.work()
        assert (await service.get(ordered.transaction_id)).status == T.QUEUED
    await service.hurry()
    await service.work()
    ended = await service.get(ordered.transaction_id)
    assert (ended.status, ended.failure.code) == (T.FAILED, "COMMITMENT_EXCEEDED")
    assert [each.reference for each in service.bank.orders] == [paid.transaction_id]


async def test_the_dossier_of_a_debit_says_who_committed_its_payer(service: TransactionsHarness) -> None:
    request = await service.deposit_request()
    service.distributions.investments[request.investment_id].created_by = "admin-1"
    waiting = await service.waiting((await service.ask(ADMIN, "CreateTransaction", request)).transaction_id)
    [told] = [each for each in waiting.explanations if each.rule == "COMMITTED_BY"]
    assert told.statement == "admin-1 committed inv-001 to the investment, and does NOT act for inv-001."


@pytest.mark.parametrize("ends", [False, True])
async def test_the_dossier_of_a_payment_says_that_the_same_was_ordered_lately(
    service: TransactionsHarness, ends: bool
) -> None:
    request = await service.deposit_request(amount=usd(100_00))
    before = await service.ask(INVESTOR, "CreateTransaction", request)
    if ends:
        cancel = pb.CancelTransactionRequest(transaction_id=before.transaction_id, idempotency_key=new_id("key"))
        await service.ask(INVESTOR, "CancelTransaction", cancel)
    waiting = await service.waiting((await service.ask(ADMIN, "CreateTransaction", vary(request))).transaction_id)
    told = [each.statement for each in waiting.explanations if each.rule == "SAME_PAYMENT"]
    same = f"inv-001 ordered the same amount for the same party on 2024-12-02, and {before.transaction_id} is QUEUED"
    assert told == ([] if ends else [f"{same}: what is meant once would be done twice."])


@pytest.mark.parametrize("decoys", [{}, {"payment_method": T.WIRE, "bank_account_id": None}], ids=["debits", "wires"])
async def test_orders_that_wait_do_not_hide_that_the_same_was_paid(
    service: TransactionsHarness, decoys: dict[str, Any]
) -> None:
    investment_id = service.distributions.invest("inv-001", 1_000_00)
    request = await service.deposit_request(amount=usd(10_00), investment_id=investment_id)
    paid = await service.ask(INVESTOR, "CreateTransaction", request)
    await service.work()
    for _ in range(11):
        await service.ask(ADMIN, "CreateTransaction", vary(request, **decoys))
    await service.work()
    last = await service.ask(ADMIN, "CreateTransaction", vary(request))
    waiting = await service.waiting(last.transaction_id)
    told = [each.statement for each in waiting.explanations if each.rule == "SAME_PAYMENT"]
    assert (len(told), f"{paid.transaction_id} is PENDING_SETTLEMENT" in told[0]) == (11, True)
    assert told[-1] == "2 more of the same amount were ordered for the same party lately."


async def test_what_was_paid_and_then_altered_is_told_to_whoever_pays_as_much_again(
    service: TransactionsHarness,
) -> None:
    """A login of the database calls it ended, so that nobody sees that it was paid."""
    request = await service.deposit_request("sponsor-1", type=T.DEPOSIT, investment_id=None)
    paid = await service.ask(ADMIN, "CreateTransaction", request)
    await service.grant(await service.waiting(paid.transaction_id))
    await service.work()
    async with service.database.begin_for_all() as tx:
        ended = "UPDATE transactions SET status = 'FAILED', previous_status = status, version = version + 1"
        await tx.execute(sa.text(f"{ended} WHERE transaction_id = :id"), {"id": paid.transaction_id})
    last = await service.ask(ADMIN, "CreateTransaction", vary(request))
    told = {each.rule for each in (await service.waiting(last.transaction_id)).explanations}
    assert ("MONEY_ALTERED" in told, "SAME_PAYMENT" in told) == (True, False)


async def test_who_confirms_an_account_reads_its_holder_and_who_added_it(service: TransactionsHarness) -> None:
    account = await service.bank_account("inv-001", "09", principal=ADMIN)
    waiting = await service.waiting(account.bank_account_id)
    [told] = [each for each in waiting.explanations if each.rule == "ADDED_BY"]
    holder = f"Its holder is named “{account.account_holder_name}”"
    added = "it was added or changed by admin-1, who does NOT act for inv-001"
    assert told.statement == f"{holder}; {added}."


async def test_the_dossier_of_cash_of_the_issuer_says_who_named_the_issuer(service: TransactionsHarness) -> None:
    service.escrow.accounts[ESCROW_ACCOUNT].created_by = "admin-7"
    request = await service.deposit_request("sponsor-1", type=T.DEPOSIT, investment_id=None)
    waiting = await service.waiting((await service.ask(ADMIN, "CreateTransaction", request)).transaction_id)
    [told] = [each for each in waiting.explanations if each.rule == "SPONSOR_NAMED_BY"]
    assert told.statement == (
        "admin-7 named sponsor-1 the sponsor of the escrow account, and does NOT act for sponsor-1."
    )


@pytest.mark.parametrize(("party_id", "method", "refusal"), [
    ("inv-001", T.ACH, "INVALID_FIELD"),
    ("inv-001", T.WIRE, None),  # from whom it came two persons say
    ("sponsor-1", T.ACH, None),
])  # fmt: skip
async def test_cash_of_the_issuer_is_drawn_from_nobody_else(
    service: TransactionsHarness, party_id: str, method: int, refusal: str | None
) -> None:
    values = {"type": T.DEPOSIT, "investment_id": None, "payment_method": method}
    request = await service.deposit_request(
        party_id, **values, **({} if method == T.ACH else {"bank_account_id": None})
    )
    for item in (request, vary(request, amount=usd(1))):
        ordering = service.ask(ADMIN, "CreateTransaction", item)
        if refusal is None:
            await ordering
        else:
            why = await refused(ordering)
            assert (why.reason, dict(why.fields)) == (
                refusal,
                {"party_id": "must be the sponsor of the escrow account"},
            )


async def test_whoever_has_money_leave_reads_what_the_bank_may_take_back_of_what_came_in(
    service: TransactionsHarness,
) -> None:
    """Whoever brought it in, and however it leaves: the same is told of distributions and closings."""
    drawn = await service.deposit_request("sponsor-1", type=T.DEPOSIT, investment_id=None, amount=usd(80_00))
    paid = (await service.ask(IMPORT, "CreateTransaction", drawn)).transaction_id
    await service.work()
    await service.hook("evt_1", service.bank.report(paid, PaymentStatus.SETTLED))
    await service.work()
    account = await service.confirm(await service.bank_account("sponsor-1"))
    wanted = {"type": T.WITHDRAWAL, "investment_id": None, "bank_account_id": account.bank_account_id}
    order = vary(await service.deposit_request("sponsor-1"), amount=usd(50_00), **wanted)
    waiting = await service.waiting((await service.ask(ADMIN, "CreateTransaction", order)).transaction_id)
    [told] = [each for each in waiting.explanations if each.rule == "MONEY_NOT_FINAL"]
    until = (await service.get(paid)).final_time.ToDatetime().date()
    said = f"The bank may take 80.00 USD that came into the escrow account back, the last until {until}."
    assert told.statement == said
    assert [(each.name, each.amount) for each in told.operands] == [(paid, usd(80_00))]
    with acting_as(service_principal("distributions", ORG)):
        asked = payouts_pb2.GetReceivedMoneyRequest(escrow_account_id=ESCROW_ACCOUNT)
        found = await service.payouts.GetReceivedMoney(asked, None)
    assert [each.statement for each in found.explanations] == [said]
