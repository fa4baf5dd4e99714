"""Who gains where a ledger account is credited approves no entry, batch, reversal or end of a hold that credits it."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable

import pytest
from realco.approvals.v1 import approvals_pb2
from realco.escrow.v1 import escrow_accounts_pb2 as accounts_pb
from realco.escrow.v1 import holds_pb2 as holds_pb
from realco.escrow.v1 import journal_pb2 as journal_pb
from realco.type.v1.approval_pb2 import Approval

from services.chassis.approvals.service import ApprovalsServicer
from services.chassis.calls.auth import acting_as
from services.chassis.values.errors import DomainError
from services.chassis.values.second_person import BeneficiaryIsChecker
from services.escrow.domain.chart import CHART
from tests.support.escrow import SPONSOR, Escrow, key, new_entry, refusal
from tests.support.ledger_accounts import ledger_account
from tests.support.persons import Persons

# Two have money in it: one paid a subscription, the other is owed a distribution. The third has yet to pay.
INVESTOR, PAYEE, COMMITTED = "inv-001", "inv-002", "inv-003"
STRANGER = "inv-009"
EVERYBODY = {SPONSOR, INVESTOR, PAYEE, COMMITTED}
# Who gains where a ledger account is credited.
GAINING = {
    "cash": set(),
    "in_transit": set(),
    "returns_receivable:inv-001": {INVESTOR},  # a debt, which shrinks
    "subscription:inv-001": {INVESTOR, SPONSOR},  # whom a closing releases it to
    "issuer_proceeds": {SPONSOR},
    "distributable": EVERYBODY,
    "payable:inv-002": {PAYEE},
    "fees": set(),
    "reserves": set(),
    "withholding": set(),
    "suspense": set(),
    "unapplied:inv-001": {INVESTOR},
    "provider_fees": {SPONSOR},  # who closes nothing before it is made good
}
HELD = {line.kind.lower() for line in CHART if line.may_be_held}


def against(name: str) -> str:
    """The ledger account on the other side, from which nobody gains."""
    return {"suspense": "fees", "in_transit": "cash"}.get(name, "suspense")


def entry_of(name: str, minor: int) -> journal_pb.NewJournalEntry:
    return new_entry((against(name), minor), (name, -minor))


async def open_account(escrow: Escrow) -> str:
    """One that has money of each kind."""
    account = await escrow.open()
    escrow.distributions.committed[account] = {INVESTOR, COMMITTED}
    credited = [(name, -100) for name in GAINING if name.partition(":")[0] in HELD]
    owed = [("cash", 700), ("returns_receivable:inv-001", 100), ("provider_fees", 100)]
    assert len(credited) * 100 == sum(minor for _, minor in owed)
    await escrow.post(account, *owed, *credited)
    await escrow.post(account, ("cash", 100), ("in_transit", -100))
    return account


async def ask_for_entry(escrow: Escrow, account: str, name: str) -> Approval:
    request = journal_pb.PostJournalEntryRequest(
        escrow_account_id=account, idempotency_key=key(), journal_entry=entry_of(name, 5)
    )
    return await escrow.ask("PostJournalEntry", request)


async def ask_for_batch(escrow: Escrow, account: str, name: str) -> Approval:
    """It takes less from the ledger account than it puts there: together they are a gain."""
    back = new_entry((name, 2), (against(name), -2))
    items = [{"idempotency_key": key(), "journal_entry": entry} for entry in (entry_of(name, 5), back)]
    request = journal_pb.BatchPostJournalEntriesRequest(escrow_account_id=account, items=items)
    return await escrow.ask("BatchPostJournalEntries", request)


async def ask_for_reversal(escrow: Escrow, account: str, name: str) -> Approval:
    taken = await escrow.post(account, (name, 5), (against(name), -5))
    reversal = new_entry(reverses_journal_entry_id=taken.journal_entry_id)
    request = journal_pb.PostJournalEntryRequest(
        escrow_account_id=account, idempotency_key=key(), journal_entry=reversal
    )
    return await escrow.ask("PostJournalEntry", request)


async def ask_for_capture(escrow: Escrow, account: str, name: str) -> Approval:
    hold = await escrow.hold(account, against(name), 5)
    request = holds_pb.CaptureHoldRequest(
        idempotency_key=key(),
        escrow_account_id=account,
        hold_id=hold.hold_id,
        to_ledger_account=ledger_account(name),
    )
    return await escrow.ask("CaptureHold", request, dataclasses.replace(escrow.admin, subject="admin-9"))


async def ask_for_release(escrow: Escrow, account: str, name: str) -> Approval:
    hold = await escrow.hold(account, name, 5)
    request = holds_pb.ReleaseHoldRequest(idempotency_key=key(), escrow_account_id=account, hold_id=hold.hold_id)
    return await escrow.ask("ReleaseHold", request, dataclasses.replace(escrow.admin, subject="admin-9"))


async def find_excluded(escrow: Escrow, asked: Approval) -> set[str]:
    """The parties for which nobody acts who may approve it."""
    excluded = set()
    for party in (*sorted(EVERYBODY), STRANGER):
        checker, persons = dataclasses.replace(escrow.admin, subject=f"for-{party}"), Persons()
        persons.parties[checker.person] = frozenset({party})
        inbox = ApprovalsServicer(escrow.dependencies, escrow.approvals, persons)
        request = approvals_pb2.ApproveApprovalRequest(
            idempotency_key=key(),
            approval_id=asked.approval_id,
            content_hash=asked.content_hash,
            etag=asked.etag,
            validate_only=True,
        )
        with acting_as(checker):
            try:
                await inbox.ApproveApproval(request, None)
            except BeneficiaryIsChecker:
                excluded.add(party)
    return excluded


WAYS: dict[str, Callable[[Escrow, str, str], Awaitable[Approval]]] = {
    "an entry": ask_for_entry,
    "a batch": ask_for_batch,
    "a reversal": ask_for_reversal,
    "a capture": ask_for_capture,
    "a release": ask_for_release,
}


def test_the_table_has_each_kind_of_ledger_account():
    assert [name.partition(":")[0].upper() for name in GAINING] == [line.kind.value for line in CHART]


@pytest.mark.parametrize("way", WAYS)
async def test_nobody_approves_what_a_party_gains_from_for_which_they_act(escrow: Escrow, way: str):
    ask = WAYS[way]
    names = [name for name in GAINING if ask is not ask_for_release or name.partition(":")[0] in HELD]
    if ask is ask_for_capture:
        names.remove("in_transit")  # nothing that is held goes there
    account = await open_account(escrow)
    excluded = {name: await find_excluded(escrow, await ask(escrow, account, name)) for name in names}
    assert excluded == {name: GAINING[name] for name in names}


async def test_who_gains_from_an_account_that_moves_again_changes_its_bank_or_ends_does_not_approve_that(
    escrow: Escrow,
):
    account, empty, asked = await open_account(escrow), await escrow.open(), {}
    request = accounts_pb.ChangeEscrowAccountCustodianRequest(escrow_account_id=account, custodian_name="Another Bank")
    asked["another custodian"] = await escrow.ask("ChangeEscrowAccountCustodian", request)
    await escrow.freeze(account)
    unfreeze = accounts_pb.UnfreezeEscrowAccountRequest(escrow_account_id=account)
    asked["unfreezing"] = await escrow.ask("UnfreezeEscrowAccount", unfreeze)
    close = accounts_pb.CloseEscrowAccountRequest(escrow_account_id=empty)
    asked["closing"] = await escrow.ask("CloseEscrowAccount", close)
    excluded = {what: await find_excluded(escrow, each) for what, each in asked.items()}
    assert excluded == {"another custodian": {SPONSOR}, "unfreezing": EVERYBODY, "closing": {SPONSOR}}


@pytest.mark.parametrize("has_paid", [False, True], ids=["who has committed", "who has paid"])
async def test_who_came_in_since_it_was_asked_for_does_not_approve_it_and_keeps_nobody_else_from_it(
    escrow: Escrow, has_paid: bool
):
    account = await open_account(escrow)
    asked = await ask_for_entry(escrow, account, "distributable")
    if has_paid:
        await escrow.post(account, ("cash", 5), (f"subscription:{STRANGER}", -5))
    else:
        escrow.distributions.committed[account].add(STRANGER)
    assert await find_excluded(escrow, asked) == {*EVERYBODY, STRANGER}
    assert await approve(escrow, asked) == ""


async def test_while_distributions_is_away_nobody_asks_for_or_approves_what_an_investor_may_gain_from(escrow: Escrow):
    account = await open_account(escrow)
    asked = {name: await ask_for_entry(escrow, account, name) for name in ("distributable", "fees")}
    escrow.distributions.away = True
    assert (await refusal(ask_for_entry(escrow, account, "distributable")))[0] == "UNAVAILABLE"
    said = {name: await approve(escrow, each) for name, each in asked.items()}
    assert said == {"distributable": "UNAVAILABLE", "fees": ""}, "of fees nobody is paid"
    assert (await escrow.posted(account))["distributable"] == 100
    escrow.distributions.away = False
    assert await approve(escrow, asked["distributable"]) == ""


async def approve(escrow: Escrow, asked: Approval) -> str:
    """What the yes of somebody who acts for nobody is refused with; empty where it is done."""
    request = approvals_pb2.ApproveApprovalRequest(
        idempotency_key=key(), approval_id=asked.approval_id, content_hash=asked.content_hash, etag=asked.etag
    )
    inbox = ApprovalsServicer(escrow.dependencies, escrow.approvals, Persons())
    with acting_as(dataclasses.replace(escrow.admin, subject="checker")):
        try:
            done = await inbox.ApproveApproval(request, None)
        except DomainError as refused:
            return refused.reason
    assert done.status == Approval.EXECUTED
    return ""
