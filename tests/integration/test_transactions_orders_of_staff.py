"""What staff orders for others, before anybody approves it: what its dossier says, and what it keeps nobody from."""

from __future__ import annotations

from typing import Any

import pytest
from realco.transactions.v1 import transactions_pb2 as pb

from services.chassis.values.errors import DomainError
from services.chassis.values.ids import new_id
from tests.support.bulk import vary
from tests.support.transactions import ADMIN, INVESTOR, TransactionsHarness, usd

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
    same = f"inv-001 ordered just the same on 2024-12-02, and {before.transaction_id} is QUEUED"
    assert told == ([] if ends else [f"{same}: what is meant once would be done twice."])


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
