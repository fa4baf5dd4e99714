"""Whoever approves a refund reads every reason that holds, and not the first one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from realco.transactions.v1 import transactions_pb2

from services.chassis.calls.auth import Principal
from services.transactions.commands.exceptions import report_apart
from services.transactions.domain.exceptions import About, ExceptionKind
from services.transactions.domain.payments import PaymentStatus
from services.transactions.domain.types import (
    REFUND_BY_HAND,
    REFUND_CAME_BACK,
    REFUND_CAME_BACK_BY_PERSONS,
    REFUND_ELSEWHERE,
    REFUND_IN_QUESTION,
    REFUND_NOT_FINAL,
    REFUND_NOT_RECEIVED,
    REFUND_REJECTED,
)
from tests.integration.test_transactions_refund_accounts import T, contribute, refund
from tests.support.arrivals import build_arrival, report
from tests.support.transactions import CHECKER, ORG, TransactionsHarness, usd


@pytest.fixture
async def service(service_database) -> TransactionsHarness:
    return TransactionsHarness(await service_database("transactions"))


@pytest.mark.parametrize(("doubt", "approved"), [
    (REFUND_REJECTED, False),
    (REFUND_REJECTED, True),
    (REFUND_IN_QUESTION, True),
    (REFUND_CAME_BACK, True),
    (REFUND_BY_HAND, False),
    (REFUND_NOT_RECEIVED, False),
    (REFUND_NOT_FINAL, False),
])  # fmt: skip
async def test_who_names_another_account_hides_no_other_reason_from_whoever_approves(
    service: TransactionsHarness, doubt: str, approved: bool
) -> None:
    other = await service.confirm(await service.bank_account("inv-001", "05"))
    paid = await contribute(service, "02", amount=usd(50_00))
    minor, more = 50_00, {}
    if doubt == REFUND_REJECTED:
        await say_no(service, await refund(service, paid, amount=usd(50_00), approved=False))
    if doubt != REFUND_NOT_FINAL:
        service.clock.advance(timedelta(days=65))
        await service.work()
    if doubt == REFUND_IN_QUESTION:
        about = About(transaction_id=paid.transaction_id)
        await report_apart(service.dependencies, ORG, ExceptionKind.PAYMENT_NOT_OURS, about, "It was paid back there.")
    if doubt == REFUND_CAME_BACK:
        await return_refund(service, await refund(service, paid, amount=usd(50_00)))
    if doubt == REFUND_BY_HAND:
        more = {"has_entries_by_hand": True}
    if doubt == REFUND_NOT_RECEIVED:
        minor += 1
    made = await refund(service, paid, other.bank_account_id, amount=usd(minor), approved=approved, **more)
    assert made.status == T.PENDING_APPROVAL
    waiting = await service.waiting(made.transaction_id)
    [told] = [each.statement for each in waiting.explanations if each.rule == "APPROVAL_REASON"]
    assert told == f"{REFUND_ELSEWHERE}; {doubt}."
    kept = (await service.ask(CHECKER, "ListTransactionStatusChanges", list_changes(made))).status_changes[-1].note
    assert kept == f"{REFUND_ELSEWHERE}; {doubt}"


async def test_a_reason_that_became_true_while_a_refund_waits_is_told_to_whoever_approves(
    service: TransactionsHarness,
) -> None:
    paid = await contribute(service, "02", amount=usd(50_00))
    waiting = await refund(service, paid, amount=usd(50_00), approved=False)

    async def read_reasons() -> list[str]:
        found = (await service.waiting(waiting.transaction_id)).explanations
        return [each.statement for each in found if each.rule == "APPROVAL_REASON"]

    assert await read_reasons() == [f"{REFUND_NOT_FINAL}."]
    about = About(transaction_id=paid.transaction_id)
    await report_apart(service.dependencies, ORG, ExceptionKind.PAYMENT_NOT_OURS, about, "It was paid back there.")
    assert await read_reasons() == [f"{REFUND_NOT_FINAL}.", f"{REFUND_IN_QUESTION}."]
    service.bank.report(paid.transaction_id, PaymentStatus.RETURNED, "R10")
    await service.hook("evt_back", (await service.get(paid.transaction_id)).provider_reference)
    await service.work()
    told = await read_reasons()
    assert told[0] == f"{REFUND_NOT_FINAL}."
    assert f"{REFUND_NOT_RECEIVED}." in told, "nothing is there of it any more"


async def test_a_refund_that_persons_say_came_back_is_not_said_to_have_come_back_by_its_bank(
    service: TransactionsHarness,
) -> None:
    paid = await contribute(service, "02", amount=usd(50_00))
    service.clock.advance(timedelta(days=65))
    await service.work()
    first = await refund(service, paid, amount=usd(50_00), payment_method=T.CHECK)
    await service.grant(await service.waiting(first.transaction_id))
    await service.work()
    arrival = build_arrival(await service.get(first.transaction_id), "CHK-1")
    sent = await service.ask(Principal("admin-4", "admin", ORG), "ConfirmTransaction", arrival)
    await service.grant(await report(service, sent, "CHECK_RETURNED"))
    again = await refund(service, paid, amount=usd(50_00))
    assert again.status == T.PENDING_APPROVAL
    told = str((await service.waiting(again.transaction_id)).explanations)
    assert (REFUND_CAME_BACK_BY_PERSONS in told, REFUND_CAME_BACK in told) == (True, False)


async def say_no(service: TransactionsHarness, waiting: Any) -> None:
    said = transactions_pb2.RejectTransactionRequest(
        transaction_id=waiting.transaction_id, note="Fraud.", etag=waiting.etag
    )
    assert (await service.ask(CHECKER, "RejectTransaction", said)).status == T.CANCELLED


async def return_refund(service: TransactionsHarness, paid: Any) -> None:
    service.bank.report(paid.transaction_id, PaymentStatus.SETTLED)
    await service.work(hurried=True)
    service.bank.report(paid.transaction_id, PaymentStatus.RETURNED, "R03")
    await service.hook("evt_back", (await service.get(paid.transaction_id)).provider_reference)
    await service.work()
    assert (await service.get(paid.transaction_id)).status == T.RETURNED


def list_changes(made: Any) -> transactions_pb2.ListTransactionStatusChangesRequest:
    return transactions_pb2.ListTransactionStatusChangesRequest(transaction_id=made.transaction_id)
