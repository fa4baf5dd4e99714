"""What a login hides of the approvals about a bank account does not outlive the bank's return that came meanwhile."""

from __future__ import annotations

import asyncpg
import pytest
from realco.approvals.v1.approvals_pb2 import RejectApprovalRequest
from realco.transactions.v1 import bank_accounts_pb2 as pb
from realco.type.v1.approval_pb2 import Approval

from services.chassis.calls.auth import Principal
from services.chassis.data.seals import NotSealed
from services.chassis.values.errors import DomainError
from services.transactions.domain.payments import PaymentStatus
from tests.integration.test_transactions_forbidden_accounts import OTHER, THIRD, Status, get, unblocking, write
from tests.support import servers
from tests.support.sessions import ENDED_AT, sign_in
from tests.support.transactions import ADMIN, ORG, TransactionsHarness


@pytest.fixture
async def service(service_database) -> TransactionsHarness:
    return TransactionsHarness(await service_database("transactions"))


ALTERING = "UPDATE approvals SET note = 'x', version = version + 1 WHERE resource_id = :id"
HIDING = "UPDATE approvals SET note = coalesce(note, '') || 'x', version = version + 1 WHERE approval_id = :id"
BACK = "UPDATE approvals SET note = nullif(left(note, -1), ''){} WHERE approval_id = '{}'"


async def put_right(service: TransactionsHarness, admin_dsn: str, asked: Approval) -> None:
    """What was hidden, as an operator does."""
    back = BACK.format(", version = version - 1", asked.approval_id)
    await servers.put_right(admin_dsn, service.database, back)


async def test_who_hid_an_approval_does_not_put_it_back(service: TransactionsHarness) -> None:
    account = await service.bank_account(OTHER)
    asked = await service.waiting(account.bank_account_id)
    await write(service, HIDING, asked.approval_id)
    for version in ("", ", version = version - 1"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="approvals keeps its rows as they are"):
            await write(service, BACK.format(version, asked.approval_id), asked.approval_id)
    with pytest.raises(NotSealed):
        await service.grant(asked, THIRD)


@pytest.mark.parametrize("is_own", [True, False], ids=["its own", "another party's"])
async def test_no_approval_that_sql_altered_keeps_a_return_from_forbidding_an_account(
    service: TransactionsHarness, *, is_own: bool
) -> None:
    theirs = await service.confirm(await service.bank_account(OTHER))
    deposit = await service.deposit("inv-001")
    await service.work()
    await write(service, ALTERING, deposit.bank_account_id if is_own else theirs.bank_account_id)
    service.bank.report(deposit.transaction_id, PaymentStatus.RETURNED, "R07", at=service.clock.now())
    await service.work(hurried=True)
    assert (await get(service, deposit.bank_account_id)).block_reason == pb.BankAccount.RETURNED_BY_BANK
    other = await get(service, theirs.bank_account_id)
    expected = (Status.SUSPENDED, 0) if is_own else (Status.BLOCKED, pb.BankAccount.ALTERED)
    assert (other.status, other.block_reason) == expected


@pytest.mark.parametrize("before", ["in a session that was ended", "and rejected"])
async def test_what_sql_hid_when_another_thing_was_known_of_an_account_is_approved_by_nobody(
    service: TransactionsHarness, postgres: servers.TestPostgres, before: str
) -> None:
    deposit = await service.deposit("inv-001")
    await service.work()
    theirs = await service.bank_account(OTHER, principal=sign_in(ADMIN))
    asked = await service.waiting(theirs.bank_account_id)
    if before == "and rejected":
        no = RejectApprovalRequest(approval_id=asked.approval_id, etag=asked.etag, note="Not theirs.")
        asked = await service.ask(THIRD, "RejectApproval", no)
    else:
        service.compliance.ended[ADMIN.person] = ENDED_AT
    await write(service, HIDING, asked.approval_id)
    service.bank.report(deposit.transaction_id, PaymentStatus.RETURNED, "R10", at=service.clock.now())
    await service.work(hurried=True)
    await put_right(service, postgres.admin_dsn, asked)
    for each in await service.list_waiting(theirs.bank_account_id):
        with pytest.raises(DomainError):
            await service.grant(each, Principal("admin-4", "admin", ORG))
    assert (await get(service, theirs.bank_account_id)).block_reason == pb.BankAccount.ALTERED


async def test_a_yes_to_what_could_not_be_ended_counts_for_nothing_once_it_can_be_read_again(
    service: TransactionsHarness, postgres: servers.TestPostgres
) -> None:
    theirs = await service.confirm(await service.bank_account(OTHER))
    first, second = [await service.deposit("inv-001") for _ in (1, 2)]
    await service.work()
    service.bank.report(first.transaction_id, PaymentStatus.RETURNED, "R10", at=service.clock.now())
    await service.work(hurried=True)
    asked = await service.waiting(theirs.bank_account_id)
    await write(service, HIDING, asked.approval_id)
    service.bank.report(second.transaction_id, PaymentStatus.RETURNED, "R16", at=service.clock.now())
    await service.work(hurried=True)
    assert (await get(service, second.bank_account_id)).block_network_code == "R16"
    await put_right(service, postgres.admin_dsn, asked)
    with pytest.raises(DomainError) as refusal:
        await service.grant(asked, THIRD)
    assert refusal.value.reason == "ILLEGAL_STATUS_CHANGE"
    assert (await get(service, theirs.bank_account_id)).block_reason == pb.BankAccount.ALTERED


async def test_what_was_asked_about_one_return_is_not_approved_after_another_of_the_same_code_whatever_sql_hid(
    service: TransactionsHarness, postgres: servers.TestPostgres
) -> None:
    first, second = [await service.deposit("inv-001") for _ in (1, 2)]
    await service.work()
    service.bank.report(first.transaction_id, PaymentStatus.RETURNED, "R07", at=service.clock.now())
    await service.work(hurried=True)
    blocked = await get(service, first.bank_account_id)
    asked = (await service.ask(ADMIN, "UnblockBankAccount", unblocking(blocked))).approval
    await write(service, HIDING, asked.approval_id)
    service.bank.report(second.transaction_id, PaymentStatus.RETURNED, "R07", at=service.clock.now())
    await service.work(hurried=True)
    await put_right(service, postgres.admin_dsn, asked)
    with pytest.raises(DomainError) as refusal:
        await service.grant(asked, THIRD)
    assert refusal.value.reason == "CONTENT_OUTDATED"
    assert (await get(service, blocked.bank_account_id)).status == Status.BLOCKED


async def test_an_account_is_retired_whatever_sql_made_of_approvals_about_it(service: TransactionsHarness) -> None:
    account = await service.confirm(await service.bank_account(OTHER))
    await write(service, ALTERING, account.bank_account_id)
    request = pb.DeleteBankAccountRequest(bank_account_id=account.bank_account_id)
    assert (await service.ask(ADMIN, "DeleteBankAccount", request)).status == Status.DELETED
