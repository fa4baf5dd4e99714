"""No single person moves money: what waits for a second one, who that may be, and what they are told."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from realco.approvals.v1 import approvals_pb2
from realco.escrow.v1.journal_pb2 import JournalEntry
from realco.transactions.v1 import bank_accounts_pb2 as bank_pb
from realco.transactions.v1 import transactions_pb2 as pb
from realco.transactions.v1 import webhooks_pb2
from realco.type.v1.approval_pb2 import Approval

from services.chassis.calls.auth import Principal
from services.chassis.values.approval import VALIDITY
from services.chassis.values.approval_policy import ApprovalPolicy, ApprovalRule
from services.chassis.values.errors import DomainError
from services.chassis.values.ids import new_id
from services.transactions.domain.payments import PaymentStatus
from services.transactions.jobs.evaluate_initiated import evaluate_initiated
from tests.support.arrivals import build_arrival
from tests.support.transactions import (
    ADMIN,
    CHECKER,
    ESCROW_ACCOUNT,
    IMPORT,
    INVESTOR,
    ORG,
    TransactionsHarness,
)

T = pb.Transaction
THIRD = Principal("admin-3", "admin", ORG)


@pytest.fixture
async def service(service_database) -> TransactionsHarness:
    return TransactionsHarness(await service_database("transactions"))


async def refused(work: Any) -> str:
    with pytest.raises(DomainError) as refusal:
        await work
    return refusal.value.reason


async def approval_of(service: TransactionsHarness, resource_id: str) -> Approval:
    """The newest about it."""
    request = approvals_pb2.ListApprovalsRequest(resource_id=[resource_id])
    newest: Approval = (await service.ask(CHECKER, "ListApprovals", request)).approvals[0]
    return newest


async def approve(service: TransactionsHarness, transaction_id: str, principal: Principal) -> Any:
    read = await service.get(transaction_id)
    request = pb.ApproveTransactionRequest(transaction_id=transaction_id, etag=read.etag)
    return await service.ask(principal, "ApproveTransaction", request)


async def proceeds(service: TransactionsHarness, party_id: str = "sponsor-1") -> Any:
    """Proceeds that admin-1 asked for, and that wait."""
    payout = await service.payout(party_id, type=T.ESCROW_WITHDRAWAL)
    await service.work()
    return await service.get(payout.transaction_id)


@pytest.mark.parametrize(("who", "status"), [(ADMIN, T.PENDING_APPROVAL), (INVESTOR, T.QUEUED), (IMPORT, T.QUEUED)])
async def test_what_staff_draws_from_an_account_waits_and_what_its_owner_pays_does_not(
    service: TransactionsHarness, who: Principal, status: int
) -> None:
    made = await service.ask(who, "CreateTransaction", await service.deposit_request())
    assert made.status == status


async def test_staffs_debit_is_approved_in_the_inbox_in_the_name_of_who_approves(service: TransactionsHarness) -> None:
    made = await service.ask(ADMIN, "CreateTransaction", await service.deposit_request())
    waiting = await service.waiting(made.transaction_id)
    assert (waiting.kind, waiting.amount, list(waiting.makers)) == ("APPROVE_TRANSACTION", made.amount, ["admin-1"])
    assert waiting.summary == "Contribution: 100.00 USD, drawn from inv-001, account …1102"
    assert await refused(service.grant(waiting, ADMIN)) == "MAKER_IS_CHECKER"
    done = await service.grant(waiting)
    assert (done.status, done.result_id) == (Approval.EXECUTED, made.transaction_id)
    seen = await service.get(made.transaction_id)
    assert (seen.status, seen.approved_by) == (T.QUEUED, CHECKER.person)


async def test_whoever_made_the_account_does_not_approve_what_is_paid_to_it(service: TransactionsHarness) -> None:
    account = await service.bank_account("sponsor-1", principal=THIRD)
    await service.confirm(account)
    service.owe("sponsor-1")
    waiting = await proceeds(service)
    await service.ask(
        THIRD, "DeleteBankAccount", bank_pb.DeleteBankAccountRequest(bank_account_id=waiting.bank_account_id)
    )  # so that the account of the harness is not the one
    assert waiting.bank_account_id == account.bank_account_id
    assert await refused(approve(service, waiting.transaction_id, THIRD)) == "MAKER_IS_CHECKER"


@pytest.mark.parametrize("acts", ["now", "not any more"])
async def test_who_acts_for_the_party_that_is_paid_does_not_approve(service: TransactionsHarness, acts: str) -> None:
    waiting = await proceeds(service)
    held = service.compliance.parties if acts == "now" else service.compliance.former
    held[CHECKER.person] = {"sponsor-1"}
    assert await refused(approve(service, waiting.transaction_id, CHECKER)) == "BENEFICIARY_IS_CHECKER"
    assert await refused(service.grant(await service.waiting(waiting.transaction_id))) == "BENEFICIARY_IS_CHECKER"
    assert (await service.get(waiting.transaction_id)).status == T.PENDING_APPROVAL


async def hear_of_wire(service: TransactionsHarness, transaction_id: str, party: str) -> pb.ConfirmTransactionRequest:
    """What CHECKER, who acts for the party, says once the wire is on its way: that it arrived."""
    await service.work()
    service.compliance.parties[CHECKER.person] = {party}
    return build_arrival(await service.get(transaction_id))


async def test_who_acts_for_a_party_does_not_say_that_its_wire_arrived(service: TransactionsHarness) -> None:
    made = await service.deposit(payment_method=T.WIRE, bank_account_id=None)
    request = await hear_of_wire(service, made.transaction_id, "inv-001")
    assert await refused(service.ask(CHECKER, "ConfirmTransaction", request)) == "BENEFICIARY_IS_CHECKER"


def invest_and_pay(service: TransactionsHarness) -> None:
    """One party has a subscription in the escrow account of sponsor-1, another was owed a distribution; a third has
    committed to its offering."""
    for name in ("subscription:inv-001", "payable:inv-002"):
        service.escrow.post(ESCROW_ACCOUNT, JournalEntry.ADJUSTMENT, "cash", name, 1)
    service.escrow.committed[ESCROW_ACCOUNT] = {"inv-003"}


async def cash_of_the_issuer(service: TransactionsHarness, party_id: str, method: int) -> Any:
    """A deposit that admin-1 ordered."""
    is_drawn = method == T.ACH
    return await service.ask(
        ADMIN,
        "CreateTransaction",
        await service.deposit_request(
            party_id,
            type=T.DEPOSIT,
            payment_method=method,
            investment_id=None,
            **({} if is_drawn else {"bank_account_id": None}),
        ),
    )


@pytest.mark.parametrize("payer", ["sponsor-1", "manager-1"])
@pytest.mark.parametrize("party", ["sponsor-1", "inv-001", "inv-003", "inv-009"])
async def test_who_is_paid_from_an_escrow_account_does_not_say_that_cash_of_its_issuer_arrived(
    service: TransactionsHarness, payer: str, party: str
) -> None:
    invest_and_pay(service)
    made = await cash_of_the_issuer(service, payer, T.WIRE)
    request = await hear_of_wire(service, made.transaction_id, party)
    with service.wire.cut(service.escrow):
        assert await refused(service.ask(CHECKER, "ConfirmTransaction", request)) == "UNAVAILABLE"
    if party == "inv-009":
        assert (await service.ask(CHECKER, "ConfirmTransaction", request)).status == T.COMPLETED
        return
    assert await refused(service.ask(CHECKER, "ConfirmTransaction", request)) == "BENEFICIARY_IS_CHECKER"
    assert (await service.get(made.transaction_id)).status == T.PENDING_SETTLEMENT


async def test_who_is_paid_from_an_escrow_account_does_not_have_cash_drawn_for_it(service: TransactionsHarness) -> None:
    """Whoever pays gains nothing by it."""
    invest_and_pay(service)
    with service.wire.cut(service.escrow):
        assert await refused(cash_of_the_issuer(service, "sponsor-1", T.ACH)) == "UNAVAILABLE"
    made = await cash_of_the_issuer(service, "sponsor-1", T.ACH)
    waiting = await service.waiting(made.transaction_id)
    assert set(waiting.beneficiary_party_ids) == {"inv-001", "inv-002", "inv-003"}
    service.compliance.parties[CHECKER.person] = {"inv-002"}
    assert await refused(approve(service, made.transaction_id, CHECKER)) == "BENEFICIARY_IS_CHECKER"
    service.compliance.parties[CHECKER.person] = {"sponsor-1"}
    assert (await approve(service, made.transaction_id, CHECKER)).status == T.QUEUED


async def test_who_comes_to_be_paid_from_an_escrow_account_while_cash_for_it_waits_does_not_approve_it(
    service: TransactionsHarness,
) -> None:
    service.database.policy = ApprovalPolicy(all_organizations=(ApprovalRule(approvers_needed=2),))
    made = await cash_of_the_issuer(service, "sponsor-1", T.ACH)
    assert (await approve(service, made.transaction_id, CHECKER)).status == T.PENDING_APPROVAL
    late = Principal("admin-4", "admin", ORG)
    service.compliance.parties |= {CHECKER.person: {"inv-007"}, late.person: {"inv-007"}}
    service.escrow.post(ESCROW_ACCOUNT, JournalEntry.ADJUSTMENT, "cash", "payable:inv-007", 1)
    waiting = await service.waiting(made.transaction_id)
    assert list(waiting.beneficiary_party_ids) == []
    for reason in ("UNAVAILABLE", "BENEFICIARY_IS_CHECKER"):
        with service.wire.cut(service.escrow) if reason == "UNAVAILABLE" else nullcontext():
            assert await refused(approve(service, made.transaction_id, late)) == reason
            assert await refused(service.grant(waiting, late)) == reason
    assert (await approve(service, made.transaction_id, THIRD)).status == T.PENDING_APPROVAL
    waiting = await service.waiting(made.transaction_id)
    assert [each.approved_by for each in waiting.approvers] == [THIRD.person]
    assert waiting.comments[-1].text == "The yes of admin-2 counts no longer: acts for inv-007, which gains from it."


@pytest.mark.parametrize(("party", "confirms"), [("sponsor-1", False), ("inv-002", True)])
async def test_who_acts_for_the_sponsor_does_not_say_that_a_contribution_arrived(
    service: TransactionsHarness, party: str, confirms: bool
) -> None:
    """At the closing the sponsor is paid whatever is said to have come in; another investor gains nothing."""
    invest_and_pay(service)
    made = await service.deposit(payment_method=T.WIRE, bank_account_id=None)
    request = await hear_of_wire(service, made.transaction_id, party)
    if confirms:
        assert (await service.ask(CHECKER, "ConfirmTransaction", request)).status == T.COMPLETED
        return
    assert await refused(service.ask(CHECKER, "ConfirmTransaction", request)) == "BENEFICIARY_IS_CHECKER"
    assert (await service.get(made.transaction_id)).status == T.PENDING_SETTLEMENT


async def test_who_acts_for_the_sponsor_does_not_have_a_contribution_drawn(service: TransactionsHarness) -> None:
    made = await service.ask(ADMIN, "CreateTransaction", await service.deposit_request())
    waiting = await service.waiting(made.transaction_id)
    assert list(waiting.beneficiary_party_ids) == ["sponsor-1"]
    service.compliance.parties[CHECKER.person] = {"sponsor-1"}
    assert await refused(service.grant(waiting)) == "BENEFICIARY_IS_CHECKER"
    assert await refused(approve(service, made.transaction_id, CHECKER)) == "BENEFICIARY_IS_CHECKER"
    service.compliance.parties[CHECKER.person] = {"inv-001"}
    assert (await approve(service, made.transaction_id, CHECKER)).status == T.QUEUED


async def test_of_what_waits_for_nobody_escrow_is_not_asked_who_gains(service: TransactionsHarness) -> None:
    request = await service.deposit_request()
    service.wire.fail("ListBeneficiaries", "lost")
    assert (await service.ask(INVESTOR, "CreateTransaction", request)).status == T.QUEUED


async def test_a_transaction_waits_while_escrow_cannot_say_who_gains_from_it(service: TransactionsHarness) -> None:
    request = await service.deposit_request("sponsor-1", type=T.DEPOSIT, investment_id=None)
    service.wire.fail("ListBeneficiaries", "lost", "lost")
    made = await service.ask(ADMIN, "CreateTransaction", request)
    assert made.status == T.INITIATED
    await service.hurry()
    await service.run(evaluate_initiated)
    assert (await service.get(made.transaction_id)).status == T.INITIATED
    await service.work(hurried=True)
    assert list((await service.waiting(made.transaction_id)).beneficiary_party_ids) == []


async def test_escrow_says_once_an_account_who_gains_and_only_of_what_waits_for_an_approval(
    service: TransactionsHarness,
) -> None:
    made = []
    with service.wire.cut(service.compliance):
        for who in (ADMIN, ADMIN, IMPORT):
            request = await service.deposit_request("sponsor-1", type=T.DEPOSIT, investment_id=None)
            made.append(await service.ask(who, "CreateTransaction", request))
    assert [each.status for each in made] == [T.INITIATED] * 3
    service.wire.fail("ListBeneficiaries", "lost")
    for status, asked in ((T.INITIATED, 1), (T.PENDING_APPROVAL, 2)):
        await service.hurry()
        await service.run(evaluate_initiated)
        *waiting, free = [(await service.get(each.transaction_id)).status for each in made]
        assert (waiting, len(service.wire.requests("ListBeneficiaries"))) == ([status] * 2, asked)
        assert free not in (T.INITIATED, T.PENDING_APPROVAL), "nobody approves it, so it does not wait for escrow"


async def test_a_decision_by_the_own_route_is_the_inboxs(service: TransactionsHarness) -> None:
    approved, rejected, cancelled = [await proceeds(service, f"sponsor-{number}") for number in range(3)]
    await approve(service, approved.transaction_id, CHECKER)
    reject = pb.RejectTransactionRequest(transaction_id=rejected.transaction_id, note="no", etag=rejected.etag)
    await service.ask(CHECKER, "RejectTransaction", reject)
    await service.ask(ADMIN, "CancelTransaction", pb.CancelTransactionRequest(transaction_id=cancelled.transaction_id))
    outcomes = [await approval_of(service, each.transaction_id) for each in (approved, rejected, cancelled)]
    assert [each.status for each in outcomes] == [Approval.EXECUTED, Approval.REJECTED, Approval.CANCELLED]
    assert outcomes[1].note == "no"


async def test_what_the_inbox_rejects_or_nobody_approves_in_time_is_cancelled(service: TransactionsHarness) -> None:
    rejected, forgotten = await proceeds(service), await proceeds(service, "sponsor-2")
    waiting = await service.waiting(rejected.transaction_id)
    no = approvals_pb2.RejectApprovalRequest(approval_id=waiting.approval_id, note="no", etag=waiting.etag)
    await service.ask(CHECKER, "RejectApproval", no)
    service.clock.advance(VALIDITY)
    assert await refused(approve(service, forgotten.transaction_id, CHECKER)) == "APPROVAL_EXPIRED"
    await service.expire_approvals()
    for each, why in ((rejected, "rejected: “no”"), (forgotten, "nobody approved it in time")):
        assert (await service.get(each.transaction_id)).failure.code in ("APPROVAL_REJECTED", "APPROVAL_EXPIRED")
        request = pb.ListTransactionStatusChangesRequest(transaction_id=each.transaction_id)
        last = (await service.ask(ADMIN, "ListTransactionStatusChanges", request)).status_changes[-1]
        assert (last.status, last.note) == (T.CANCELLED, why)


async def test_the_approval_says_how_old_the_account_is_and_whether_it_was_ever_paid(
    service: TransactionsHarness,
) -> None:
    first = await proceeds(service)
    explanations = {each.rule: each.statement for each in (await service.waiting(first.transaction_id)).explanations}
    assert explanations["APPROVAL_REASON"] == "the proceeds of an offering are paid out."
    assert explanations["BANK_ACCOUNT_AGE"].startswith("Added 0 days ago; money may go to it from 2024-12-02")
    assert explanations["BANK_ACCOUNT_FIRST_USE"] == "No payout has arrived there."
    assert explanations["PARTY_CLEARED"] == "Compliance clears the party."
    await approve(service, first.transaction_id, CHECKER)
    await service.work()
    service.bank.report(first.transaction_id, PaymentStatus.SETTLED)
    await service.work(hurried=True)
    service.compliance.uncleared["sponsor-1"] = "KYC is EXPIRED"
    payout = await service.payout_to(first.bank_account_id, "sponsor-1", type=T.ESCROW_WITHDRAWAL)
    del service.compliance.uncleared["sponsor-1"]
    await service.work()
    service.compliance.uncleared["sponsor-1"] = "KYC is EXPIRED"
    explanations = {each.rule: each.statement for each in (await service.waiting(payout.transaction_id)).explanations}
    assert explanations["BANK_ACCOUNT_FIRST_USE"] == "First paid to on 2024-12-02."
    assert explanations["PARTY_CLEARED"] == "KYC is EXPIRED"


async def test_a_webhook_is_applied_again_when_a_second_person_agrees(service: TransactionsHarness) -> None:
    made = await service.deposit()
    await service.work()
    await service.hook("evt_1", service.bank.report(made.transaction_id, PaymentStatus.SETTLED))
    await service.work()
    [hook] = (await service.ask(ADMIN, "ListWebhooks", webhooks_pb2.ListWebhooksRequest())).webhooks
    request = webhooks_pb2.ReplayWebhookRequest(idempotency_key=new_id("key"), webhook_id=hook.webhook_id)
    asked = (await service.ask(ADMIN, "ReplayWebhook", request)).approval
    get = webhooks_pb2.GetWebhookRequest(webhook_id=hook.webhook_id)
    assert (await service.ask(ADMIN, "GetWebhook", get)).status == webhooks_pb2.Webhook.APPLIED
    assert (asked.kind, asked.amount, list(asked.beneficiary_party_ids)) == (
        "REPLAY_WEBHOOK",
        made.amount,
        ["inv-001", "sponsor-1"],
    )
    sponsor = Principal("staff-1", "sponsor", ORG)
    assert await refused(service.grant(asked, sponsor)) == "APPROVAL_NOT_FOUND", (
        "who may not read webhooks is told of none"
    )
    assert (await service.grant(asked)).status == Approval.EXECUTED
    assert (await service.ask(ADMIN, "GetWebhook", get)).status == webhooks_pb2.Webhook.RECEIVED
    await service.work()
    assert (await service.ask(ADMIN, "ReplayWebhook", request)).approval == asked, "one replay under one key"


async def test_who_is_paid_from_an_escrow_account_does_not_have_a_webhook_about_its_cash_applied_again(
    service: TransactionsHarness,
) -> None:
    invest_and_pay(service)
    made = await service.deposit("sponsor-1", type=T.DEPOSIT, investment_id=None)
    asked = await service.ask_for_replay(made)
    assert set(asked.beneficiary_party_ids) == {"sponsor-1", "inv-001", "inv-002", "inv-003"}
    service.compliance.parties[CHECKER.person] = {"inv-001"}
    assert await refused(service.grant(asked)) == "BENEFICIARY_IS_CHECKER"


async def test_the_database_lets_nothing_on_that_needed_approval_and_has_none(service: TransactionsHarness) -> None:
    waiting = await proceeds(service)
    jump = sa.text(
        "UPDATE transactions SET status = 'APPROVED', previous_status = status, version = version + 1"
        " WHERE transaction_id = :id"
    )
    with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="approved_by_a_person"):
        async with service.database.begin_for_all() as tx:
            await tx.execute(jump, {"id": waiting.transaction_id})
    forget = sa.text("UPDATE transactions SET approval_reason = '' WHERE transaction_id = :id")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
        async with service.database.begin_for_all() as tx:
            await tx.execute(forget, {"id": waiting.transaction_id})


async def test_a_bank_account_that_waits_too_long_can_be_asked_for_again(service: TransactionsHarness) -> None:
    account = await service.bank_account("inv-001")
    service.clock.advance(VALIDITY + timedelta(seconds=1))
    await service.expire_approvals()
    assert (await approval_of(service, account.bank_account_id)).status == Approval.EXPIRED
    change = bank_pb.UpdateBankAccountRequest(
        bank_account_id=account.bank_account_id, etag=account.etag, default_for_payouts=True
    )
    change.update_mask.paths.append("default_for_payouts")
    assert await service.ask(INVESTOR, "UpdateBankAccount", change) == account
    assert (await service.confirm(account)).status == bank_pb.BankAccount.ACTIVE


async def test_who_changed_the_account_that_is_paid_since_the_payout_waits_does_not_approve_it(
    service: TransactionsHarness,
) -> None:
    account = await service.bank_account("sponsor-1", principal=THIRD)
    await service.confirm(account)
    service.owe("sponsor-1")
    payout = await service.payout_to(account.bank_account_id, "sponsor-1", type=T.ESCROW_WITHDRAWAL)
    await service.run(evaluate_initiated)
    waiting = await service.waiting(payout.transaction_id)
    other, checker = Principal("admin-5", "admin", ORG), Principal("admin-6", "admin", ORG)
    for is_default in (False, True):
        read = bank_pb.GetBankAccountRequest(bank_account_id=account.bank_account_id)
        change = bank_pb.UpdateBankAccountRequest(
            bank_account_id=account.bank_account_id,
            etag=(await service.ask(other, "GetBankAccount", read)).etag,
            default_for_payouts=is_default,
        )
        change.update_mask.paths.append("default_for_payouts")
        await service.ask(other, "UpdateBankAccount", change)
    await service.grant(await service.waiting(account.bank_account_id), checker)
    assert await refused(service.grant(waiting, other)) == "MAKER_IS_CHECKER"
    assert await refused(approve(service, payout.transaction_id, other)) == "MAKER_IS_CHECKER"
    assert (await service.grant(waiting, checker)).status == Approval.EXECUTED
