"""Payouts are asked for together, and each is answered by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from realco.compliance.v1.clearances_pb2 import BatchEvaluateTransactionsRequest
from realco.escrow.v1.postings_pb2 import BatchBookPayoutsRequest
from realco.transactions.v1 import bank_accounts_pb2 as bank_pb
from realco.transactions.v1 import payouts_pb2
from realco.transactions.v1 import transactions_pb2 as pb

from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.values.ids import new_id
from services.compliance import clients as compliance_clients
from services.compliance.commands.evaluation import ask_what_waits
from services.escrow import clients as escrow_clients
from services.escrow.commands.postings import check_payouts
from services.escrow.domain.refusals import PayoutNotKnown
from services.transactions.domain.refusals import PayoutNotOrdered
from services.transactions.jobs.evaluate_initiated import evaluate_initiated
from services.transactions.jobs.start_queued import start_queued
from tests.support.peers.wire import Wire
from tests.support.transactions import (
    ADMIN,
    DISTRIBUTIONS,
    ESCROW_ACCOUNT,
    IMPORT,
    INVESTOR,
    TransactionsHarness,
    usd,
)

T = pb.Transaction


@pytest.fixture
async def service(service_database) -> TransactionsHarness:
    return TransactionsHarness(await service_database("transactions"))


async def test_a_batch_of_payouts_answers_each_item_by_itself_and_once(service: TransactionsHarness) -> None:
    await service.confirm(await service.bank_account("inv-001"))
    blocked = await service.bank_account("inv-002")
    foreign = await service.bank_account("inv-003")

    def item(**values) -> payouts_pb2.BatchCreatePayoutsRequest.Item:
        plain = {"idempotency_key": new_id("key"), "type": T.DISTRIBUTION, "amount": usd(10_00), "party_id": "inv-001"}
        return payouts_pb2.BatchCreatePayoutsRequest.Item(**plain | {"escrow_account_id": ESCROW_ACCOUNT} | values)

    delete = bank_pb.DeleteBankAccountRequest(bank_account_id=blocked.bank_account_id)
    await service.ask(ADMIN, "DeleteBankAccount", delete)
    good = item()
    changed = payouts_pb2.BatchCreatePayoutsRequest.Item()
    changed.CopyFrom(good)
    changed.amount.amount_minor += 1
    items = [
        good,
        item(party_id="inv-nobody"),
        item(party_id="inv-002", bank_account_id=blocked.bank_account_id),
        item(bank_account_id=foreign.bank_account_id),
    ]
    request = payouts_pb2.BatchCreatePayoutsRequest(items=items)
    service.distributions.order(request.items)
    answer = await service.ask(DISTRIBUTIONS, "BatchCreatePayouts", request)
    assert [result.failure.code for result in answer.results] == [
        "",
        "NO_PAYOUT_BANK_ACCOUNT",
        "BANK_ACCOUNT_NOT_USABLE",
        "BANK_ACCOUNT_NOT_FOUND",
    ]
    await service.confirm(await service.bank_account("inv-nobody"))  # comes too late for a key that was refused
    again = await service.ask(DISTRIBUTIONS, "BatchCreatePayouts", request)
    assert [result.replayed for result in answer.results] == [False] * 4
    assert [result.replayed for result in again.results] == [True] * 4
    for first, second in zip(answer.results, again.results, strict=True):
        assert (second.transaction, second.failure) == (first.transaction, first.failure)
    request = payouts_pb2.BatchCreatePayoutsRequest(items=[changed, item(party_id="inv-nobody")])
    service.distributions.order(request.items)
    other = await service.ask(DISTRIBUTIONS, "BatchCreatePayouts", request)
    assert [result.failure.code for result in other.results] == ["IDEMPOTENCY_KEY_REUSED", ""]
    listed = await service.ask(INVESTOR, "ListTransactions", pb.ListTransactionsRequest())
    assert [each.transaction_id for each in listed.transactions] == [answer.results[0].transaction.transaction_id]


async def test_a_thousand_payouts_are_created_and_evaluated_a_hundred_at_a_time(service: TransactionsHarness) -> None:
    await service.confirm(await service.bank_account("inv-001"))
    items = [
        payouts_pb2.BatchCreatePayoutsRequest.Item(
            idempotency_key=f"alloc:{number}:1",
            type=T.DISTRIBUTION,
            amount=usd(1 + number),
            escrow_account_id=ESCROW_ACCOUNT,
            party_id="inv-001",
        )
        for number in range(1000)
    ]
    service.distributions.order(items)
    answer = await service.ask(DISTRIBUTIONS, "BatchCreatePayouts", payouts_pb2.BatchCreatePayoutsRequest(items=items))
    assert len({result.transaction.transaction_id for result in answer.results}) == 1000
    await service.run(evaluate_initiated)
    await service.run(evaluate_initiated)
    assert [len(request.items) for request in service.wire.requests("BatchEvaluateTransactions")] == [100, 100]


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"idempotency_key": "alloc:unknown:1"}, id="a key of nothing that was ordered"),
        pytest.param({"party_id": "inv-crook"}, id="another party"),
        pytest.param({"amount": usd(10_01)}, id="a cent more"),
        pytest.param({"bank_account_id": new_id("ba")}, id="another bank account"),
        pytest.param({"escrow_account_id": new_id("esc")}, id="another escrow account"),
        pytest.param({"type": T.ESCROW_WITHDRAWAL}, id="from other money"),
        pytest.param({"distribution_id": new_id("dist")}, id="of another distribution"),
        pytest.param({"description": "Other words"}, id="in other words"),
    ],
)
async def test_a_call_in_the_name_of_distributions_pays_only_what_distributions_ordered(
    service: TransactionsHarness, changed: dict[str, Any]
) -> None:
    """Whoever has its key can call; nobody but its own process answers what it ordered."""
    for party_id in ("inv-001", "inv-crook"):
        await service.confirm(await service.bank_account(party_id))
    ordered = {
        "idempotency_key": new_id("key"),
        "type": T.DISTRIBUTION,
        "amount": usd(10_00),
        "party_id": "inv-001",
        "escrow_account_id": ESCROW_ACCOUNT,
    }
    item = payouts_pb2.BatchCreatePayoutsRequest.Item
    service.distributions.order([item(**ordered)])
    stolen = payouts_pb2.BatchCreatePayoutsRequest(items=[item(**ordered), item(**ordered | changed)])
    with pytest.raises(PayoutNotOrdered):
        await service.ask(DISTRIBUTIONS, "BatchCreatePayouts", stolen)
    listed = await service.ask(ADMIN, "ListTransactions", pb.ListTransactionsRequest())
    assert list(listed.transactions) == []
    honest = payouts_pb2.BatchCreatePayoutsRequest(items=[item(**ordered)])
    other_person = replace(DISTRIBUTIONS, on_behalf_of="admin-2")
    with pytest.raises(PayoutNotOrdered):
        await service.ask(other_person, "BatchCreatePayouts", honest)
    # It has taken no key of what was ordered.
    [result] = (await service.ask(DISTRIBUTIONS, "BatchCreatePayouts", honest)).results
    assert result.HasField("transaction")


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"transaction_id": new_id("txn")}, id="of no transaction"),
        pytest.param({"idempotency_key": "another"}, id="under another key, so once more"),
        pytest.param({"party_id": "inv-crook"}, id="of another party"),
        pytest.param({"amount": usd(50_01)}, id="a cent more"),
        pytest.param({"escrow_account_id": new_id("esc")}, id="of another escrow account"),
        pytest.param({"type": "REFUND"}, id="from other money"),
        pytest.param({"distribution_id": new_id("dist")}, id="of another distribution"),
    ],
)
async def test_escrow_takes_only_what_transactions_is_about_to_pay(
    service: TransactionsHarness, changed: dict[str, Any]
) -> None:
    payout = await service.payout()
    asking = escrow_clients.TransactionsClient(Wire("escrow").open_channel(service.payouts))
    about = {
        "idempotency_key": f"txn:{payout.transaction_id}:1:submit",
        "escrow_account_id": ESCROW_ACCOUNT,
        "transaction_id": payout.transaction_id,
        "type": "DISTRIBUTION",
        "party_id": payout.party_id,
        "amount": payout.amount,
    }
    item = BatchBookPayoutsRequest.Item
    await service.run(evaluate_initiated)
    await service.run(start_queued)
    with acting_as(service_principal("escrow", ADMIN.org_id)):
        await check_payouts(asking, [item(**about)])
        with pytest.raises(PayoutNotKnown):
            await check_payouts(asking, [item(**about), item(**about | changed)])
    await service.work(hurried=True)
    with acting_as(service_principal("escrow", ADMIN.org_id)), pytest.raises(PayoutNotKnown):  # it has been paid
        await check_payouts(asking, [item(**about)])


async def test_a_payout_that_escrow_heard_nothing_of_when_it_asked_back_has_not_failed(
    service: TransactionsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has a login of the database takes the seal from its row for a moment: it may be booked and paid."""
    payout = await service.payout()

    async def know_nothing(request: BatchBookPayoutsRequest, _: None) -> None:
        raise PayoutNotKnown("Not about to pay this.", transaction_id=request.items[0].transaction_id)

    with monkeypatch.context() as patched:
        patched.setattr(service.escrow, "BatchBookPayouts", know_nothing)
        await service.work()
    assert ((await service.get(payout.transaction_id)).status, service.bank.orders) == (T.PROCESSING, [])
    await service.work(hurried=True)
    assert ((await service.get(payout.transaction_id)).status, len(service.bank.orders)) == (T.PENDING_SETTLEMENT, 1)


async def test_compliance_decides_on_what_was_initiated_exactly_so_while_it_waits(service: TransactionsHarness) -> None:
    asking = compliance_clients.TransactionsClient(Wire("compliance").open_channel(service.evaluations))
    made, deposit = [await service.payout()], await service.deposit_request()
    with service.wire.cut(service.compliance):
        made.append(await service.ask(IMPORT, "CreateTransaction", deposit))
    items = [
        BatchEvaluateTransactionsRequest.Item(
            transaction_id=each.transaction_id,
            party_id=each.party_id,
            direction=each.direction,
            amount=each.amount,
            is_contribution=bool(each.investment_id),
        )
        for each in made
    ]
    more = BatchEvaluateTransactionsRequest.Item(transaction_id=new_id("txn"), party_id=made[0].party_id, amount=usd(1))

    async def find_waiting() -> set[str]:
        with acting_as(service_principal("compliance", ADMIN.org_id)):
            return set(await ask_what_waits(asking, BatchEvaluateTransactionsRequest(items=[*items, more])))

    assert await find_waiting() == {each.transaction_id for each in made}
    await service.work(hurried=True)
    assert await find_waiting() == set()
    with acting_as(service_principal("compliance", "org-other")):
        assert not await ask_what_waits(asking, BatchEvaluateTransactionsRequest(items=items))
