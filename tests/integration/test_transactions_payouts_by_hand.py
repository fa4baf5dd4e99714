"""Payouts by wire and check: ordered and approved as any other, sent by a person, owed again if they come back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from realco.escrow.v1.escrow_accounts_pb2 import EscrowAccount
from realco.transactions.v1 import bank_accounts_pb2 as bank_pb
from realco.transactions.v1 import transactions_pb2 as pb
from realco.type.v1.money_pb2 import Money

from services.chassis.calls.auth import Principal
from services.chassis.values.approval_policy import ApprovalPolicy, ApprovalRule
from services.chassis.values.errors import DomainError
from services.transactions.domain.types import PROCEEDS, REFUND_ELSEWHERE
from tests.support.arrivals import build_arrival, confirm, report
from tests.support.transactions import ADMIN, CHECKER, ESCROW_ACCOUNT, ORG, TransactionsHarness, usd

T = pb.Transaction
THIRD = Principal("admin-3", "admin", ORG)


@pytest.fixture
async def service(service_database) -> TransactionsHarness:
    return TransactionsHarness(await service_database("transactions"))


async def refused(call: Any) -> DomainError:
    with pytest.raises(DomainError) as refusal:
        await call
    return refusal.value


async def to_be_sent(service: TransactionsHarness, method: int = T.WIRE, **more: Any) -> Any:
    """A payout whose money escrow has let go, and that waits for whoever sends it."""
    made = await service.payout(payment_method=method, **more)
    await service.work()
    return await service.get(made.transaction_id)


@pytest.mark.parametrize("method", [T.WIRE, T.CHECK])
async def test_a_payout_by_hand_waits_until_another_person_says_that_it_was_sent(
    service: TransactionsHarness, method: int
) -> None:
    waiting = await to_be_sent(service, method)
    assert (waiting.status, waiting.provider, service.bank.orders) == (T.PENDING_SETTLEMENT, "manual", [])
    assert bool(waiting.bank_account_id) is (method == T.WIRE)
    await service.work(hurried=True)
    assert (await service.get(waiting.transaction_id)).status == T.PENDING_SETTLEMENT
    sent = await confirm(service, waiting, "OUT-1")
    assert (sent.status, sent.bank_reference, sent.confirmed_by) == (T.COMPLETED, "OUT-1", CHECKER.person)
    assert sent.finality == (T.FINAL if method == T.WIRE else T.PROVISIONAL)
    service.clock.advance(timedelta(days=5))
    await service.work(hurried=True)
    assert (await service.get(waiting.transaction_id)).finality == T.FINAL


async def test_who_made_or_approved_a_payout_does_not_say_that_it_was_sent(service: TransactionsHarness) -> None:
    made = await service.payout("sponsor-1", type=T.ESCROW_WITHDRAWAL, payment_method=T.WIRE)
    await service.work()
    dossier = await service.waiting(made.transaction_id)
    assert dossier.summary == "Proceeds of an offering: 50.00 USD, paid to sponsor-1, account …1101, by wire"
    assert dossier.explanations[0].statement == f"{PROCEEDS}."
    await service.grant(dossier)
    await service.work()
    waiting = await service.get(made.transaction_id)
    assert waiting.status == T.PENDING_SETTLEMENT
    assert (await refused(confirm(service, waiting))).reason == "MAKER_IS_CHECKER"
    forged = sa.text(
        f"UPDATE transactions SET confirmed_by = '{CHECKER.person}', bank_reference = 'F', version = version + 1"
    )
    with pytest.raises(asyncpg.CheckViolationError, match="approver_does_not_send"):
        async with service.database.begin(ORG) as tx:
            await tx.execute(forged)
    assert (await service.ask(THIRD, "ConfirmTransaction", build_arrival(waiting))).status == T.COMPLETED


async def test_of_several_who_approved_a_payout_none_says_that_it_was_sent(service: TransactionsHarness) -> None:
    rule = ApprovalRule(kinds={"APPROVE_TRANSACTION"}, approvers_needed=2)
    service.database.policy = ApprovalPolicy(all_organizations=(rule,))
    made = await service.payout("sponsor-1", type=T.ESCROW_WITHDRAWAL, payment_method=T.WIRE)
    for person in (CHECKER, THIRD):
        await service.work()
        await service.grant(await service.waiting(made.transaction_id), person)
    await service.work()
    waiting = await service.get(made.transaction_id)
    for person in (CHECKER, THIRD):
        asking = service.ask(person, "ConfirmTransaction", build_arrival(waiting))
        assert (await refused(asking)).reason == "MAKER_IS_CHECKER"


async def test_who_asked_for_a_payout_or_approved_it_where_it_was_ordered_does_not_say_that_it_was_sent(
    service: TransactionsHarness,
) -> None:
    waiting = await to_be_sent(service, makers_and_checkers=["admin-4", CHECKER.person])
    asked = pb.GetTransactionRequest(transaction_id=waiting.transaction_id)
    offered = {who: (await service.ask(who, "GetTransaction", asked)).allowed_actions for who in (CHECKER, THIRD)}
    assert ["confirm" in offered[who] for who in (CHECKER, THIRD)] == [False, True]
    assert (await refused(confirm(service, waiting))).reason == "MAKER_IS_CHECKER"
    assert (await service.ask(THIRD, "ConfirmTransaction", build_arrival(waiting))).status == T.COMPLETED


async def test_who_made_the_account_of_a_payout_does_not_say_that_it_was_sent_and_everybody_else_may(
    service: TransactionsHarness,
) -> None:
    account = await service.bank_account("inv-001", "01", THIRD)
    await service.confirm(account)
    service.owe("inv-001")
    made = await service.payout_to(None, "inv-001", payment_method=T.WIRE)
    await service.work()
    waiting = await service.get(made.transaction_id)
    asked = pb.GetTransactionRequest(transaction_id=waiting.transaction_id)
    assert "confirm" not in (await service.ask(THIRD, "GetTransaction", asked)).allowed_actions
    asking = service.ask(THIRD, "ConfirmTransaction", build_arrival(waiting))
    assert (await refused(asking)).reason == "MAKER_IS_CHECKER"
    # The bank has sent it, whatever somebody writes of the account afterwards.
    async with service.database.begin_for_all() as tx:
        await tx.execute(sa.text("UPDATE bank_accounts SET makers = '{somebody}', version = version + 1"))
    assert (await confirm(service, waiting)).status == T.COMPLETED


@pytest.mark.parametrize("waits_for", ["a second person", "the end of a freeze"])
async def test_who_changed_the_account_while_its_payout_waited_does_not_say_that_it_was_sent(
    service: TransactionsHarness, waits_for: str
) -> None:
    escrow_account = service.escrow.accounts[ESCROW_ACCOUNT]
    if waits_for == "the end of a freeze":
        escrow_account.status = EscrowAccount.FROZEN
        made = await service.payout("sponsor-1", payment_method=T.WIRE)
    else:
        made = await service.payout("sponsor-1", type=T.ESCROW_WITHDRAWAL, payment_method=T.WIRE)
    await service.work()
    found = bank_pb.GetBankAccountRequest(bank_account_id=made.bank_account_id)
    account = await service.ask(THIRD, "GetBankAccount", found)
    for is_default in (False, True):
        change = bank_pb.UpdateBankAccountRequest(
            bank_account_id=account.bank_account_id, etag=account.etag, default_for_payouts=is_default
        )
        change.update_mask.paths.append("default_for_payouts")
        account = await service.ask(THIRD, "UpdateBankAccount", change)
    await service.confirm(account)
    if waits_for == "a second person":
        await service.grant(await service.waiting(made.transaction_id), Principal("admin-4", "admin", ORG))
    escrow_account.status = EscrowAccount.ACTIVE
    await service.work(hurried=True)
    waiting = await service.get(made.transaction_id)
    assert waiting.status == T.PENDING_SETTLEMENT
    asking = service.ask(THIRD, "ConfirmTransaction", build_arrival(waiting))
    assert (await refused(asking)).reason == "MAKER_IS_CHECKER"


async def test_who_is_paid_does_not_say_that_it_was_sent(service: TransactionsHarness) -> None:
    waiting = await to_be_sent(service)
    service.compliance.parties[CHECKER.person] = {"inv-001"}
    assert (await refused(confirm(service, waiting))).reason == "BENEFICIARY_IS_CHECKER"


async def test_what_is_sent_is_what_is_paid(service: TransactionsHarness) -> None:
    waiting = await to_be_sent(service)
    refusal = await refused(confirm(service, waiting, amount=usd(49_00)))
    assert (refusal.reason, list(refusal.fields)) == ("INVALID_FIELD", ["amount"])


async def test_what_may_have_been_sent_is_not_cancelled_by_one_person(service: TransactionsHarness) -> None:
    waiting = await to_be_sent(service)
    assert "cancel" not in waiting.allowed_actions
    cancel = pb.CancelTransactionRequest(transaction_id=waiting.transaction_id)
    assert (await refused(service.ask(ADMIN, "CancelTransaction", cancel))).reason == "ILLEGAL_STATUS_CHANGE"
    asked = await report(service, waiting, "NOT_SENT")
    assert asked.summary == "Distribution: 50.00 USD, paid to inv-001, by wire. It was not sent."
    await service.grant(asked)
    ended = await service.get(waiting.transaction_id)
    assert (ended.status, ended.failure.code) == (T.FAILED, "NOT_SENT")
    assert (await refused(confirm(service, ended))).reason == "ILLEGAL_STATUS_CHANGE"


@pytest.mark.parametrize(
    ("method", "kind"), [(T.WIRE, "WIRE_RETURNED"), (T.CHECK, "CHECK_RETURNED"), (T.WIRE, "CONFIRMED_IN_ERROR")]
)
async def test_what_was_sent_and_came_back_is_returned(service: TransactionsHarness, method: int, kind: str) -> None:
    waiting = await to_be_sent(service, method)
    assert (await refused(report(service, waiting, kind))).reason == "ILLEGAL_STATUS_CHANGE"
    sent = await confirm(service, waiting)
    assert (await refused(report(service, sent, "NOT_SENT"))).reason == "ILLEGAL_STATUS_CHANGE"
    service.clock.advance(timedelta(days=90))
    await service.grant(await report(service, sent, kind))
    back = await service.get(sent.transaction_id)
    assert (back.status, back.failure.code) == (T.RETURNED, kind)


async def test_money_that_ach_does_not_carry_goes_by_wire(service: TransactionsHarness) -> None:
    euros = Money(currency_code="EUR", amount_minor=50_00)
    await service.confirm(await service.bank_account("inv-001", "01"))
    service.escrow.accounts[ESCROW_ACCOUNT].currency_code = "EUR"
    service.owe("inv-001")
    made = await service.payout_to(None, "inv-001", amount=euros)
    await service.work()
    waiting = await service.get(made.transaction_id)
    assert (waiting.payment_method, waiting.status) == (T.WIRE, T.PENDING_SETTLEMENT)
    assert (await confirm(service, waiting)).status == T.COMPLETED
    by_ach = await service.payout_to(None, "inv-001", amount=euros, payment_method=T.ACH)
    assert by_ach.failure.code == "PAYMENT_METHOD_NOT_SUPPORTED"
    debit = await service.deposit_request("sponsor-1", type=T.DEPOSIT, investment_id=None, amount=euros)
    refusal = await refused(service.ask(ADMIN, "CreateTransaction", debit))
    assert (refusal.reason, refusal.metadata) == ("PAYMENT_METHOD_NOT_SUPPORTED", {"payment_method": "ACH"})


async def test_a_check_goes_to_no_bank_account(service: TransactionsHarness) -> None:
    account = await service.confirm(await service.bank_account("inv-001", "01"))
    result = await service.payout_to(account.bank_account_id, "inv-001", payment_method=T.CHECK)
    assert result.failure.code == "INVALID_FIELD"
    service.owe("inv-002")  # who has none
    paid = await service.payout_to(None, "inv-002", payment_method=T.CHECK)
    await service.work()
    assert (await service.get(paid.transaction_id)).status == T.PENDING_SETTLEMENT


async def test_a_refund_by_check_goes_elsewhere_than_its_money_came_from(service: TransactionsHarness) -> None:
    deposit = await service.deposit()
    about = {"type": T.REFUND, "payment_method": T.CHECK, "investment_id": deposit.investment_id}
    made = await service.payout_to(None, "inv-001", approved=True, **about)
    await service.work()
    waiting = await service.waiting(made.transaction_id)
    assert waiting.explanations[0].statement == f"{REFUND_ELSEWHERE}."
    assert waiting.summary == "Refund of a contribution: 50.00 USD, paid to inv-001, by check"


async def test_a_wire_is_not_sent_to_an_account_that_was_retired_or_is_too_new(service: TransactionsHarness) -> None:
    account = await service.confirm(await service.bank_account("inv-001", "01"), cooled_down=False)
    service.owe("inv-001")
    made = await service.payout_to(account.bank_account_id, "inv-001", payment_method=T.WIRE)
    await service.work(hurried=True)
    assert (await service.get(made.transaction_id)).status == T.QUEUED
    delete = bank_pb.DeleteBankAccountRequest(bank_account_id=account.bank_account_id, etag=account.etag)
    await service.ask(ADMIN, "DeleteBankAccount", delete)
    await service.work(hurried=True)
    failed = await service.get(made.transaction_id)
    assert (failed.status, failed.failure.code) == (T.FAILED, "BANK_ACCOUNT_NOT_USABLE")
