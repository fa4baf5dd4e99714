"""A bank's return forbids an account at a bank, and not only the id under which it stands here."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa
from realco.approvals.v1.approvals_pb2 import RejectApprovalRequest
from realco.transactions.v1 import bank_accounts_pb2 as pb
from realco.transactions.v1.transactions_pb2 import Transaction
from realco.type.v1.approval_pb2 import Approval

from services.chassis.calls.auth import Principal, acting_as
from services.chassis.data.seals import NotSealed
from services.chassis.values.errors import DomainError
from services.chassis.values.ids import new_id
from services.transactions.commands.bank_accounts import block_altered_account
from services.transactions.domain.payments import PaymentStatus
from services.transactions.store.bank_accounts import ALTERED_MAX
from tests.support.exceptions import list_exceptions
from tests.support.sessions import ENDED_AT, sign_in
from tests.support.transactions import ADMIN, ORG, ROUTING_NUMBER, TransactionsHarness

Status = pb.BankAccount.Status
OTHER = "inv-002"
THIRD = Principal("admin-3", "admin", ORG)


@pytest.fixture
async def service(service_database) -> TransactionsHarness:
    return TransactionsHarness(await service_database("transactions"))


async def forbid(service: TransactionsHarness, code: str = "R07") -> pb.BankAccount:
    """An account of inv-001 that its bank forbids when a debit comes back."""
    deposit = await service.deposit("inv-001")
    await service.work()
    service.bank.report(deposit.transaction_id, PaymentStatus.RETURNED, code, at=service.clock.now())
    await service.work(hurried=True)
    return await get(service, deposit.bank_account_id)


async def get(service: TransactionsHarness, bank_account_id: str) -> pb.BankAccount:
    return await service.ask(ADMIN, "GetBankAccount", pb.GetBankAccountRequest(bank_account_id=bank_account_id))


def unblocking(account: pb.BankAccount, **more: object) -> pb.UnblockBankAccountRequest:
    values = {"idempotency_key": new_id("key"), "bank_account_id": account.bank_account_id, "note": "A new mandate."}
    return pb.UnblockBankAccountRequest(**values | more)


async def unblock(service: TransactionsHarness, account: pb.BankAccount) -> Approval:
    asked = (await service.ask(ADMIN, "UnblockBankAccount", unblocking(account))).approval
    return await service.grant(asked)


async def test_it_is_added_anew_for_no_party_not_even_once_it_was_retired(service: TransactionsHarness) -> None:
    account = await forbid(service)
    assert (account.status, account.block_reason) == (Status.BLOCKED, pb.BankAccount.RETURNED_BY_BANK)
    retire = pb.DeleteBankAccountRequest(bank_account_id=account.bank_account_id)
    for status in (Status.BLOCKED, Status.DELETED):
        assert (await get(service, account.bank_account_id)).status == status
        for party_id in ("inv-001", OTHER):
            with pytest.raises(DomainError) as refusal:
                await service.bank_account(party_id)
            assert (refusal.value.reason, list(refusal.value.fields), refusal.value.metadata) == (
                "BANK_ACCOUNT_BLOCKED",
                ["account_number"],
                {},
            )
        await service.ask(ADMIN, "DeleteBankAccount", retire)
    assert (await service.bank_account(OTHER, "03")).status == Status.PENDING, "another number is another account"


@pytest.mark.parametrize("written", ["0001111111{}", "00000001111111{}", "1111111{}"])
async def test_it_is_the_same_however_its_number_is_written(service: TransactionsHarness, written: str) -> None:
    await forbid(service)
    request = pb.CreateBankAccountRequest(
        idempotency_key=new_id("key"),
        party_id=OTHER,
        account_holder_name="Ada Investor",
        routing_number=ROUTING_NUMBER,
        account_number=written.format("02"),
    )
    with pytest.raises(DomainError) as refusal:
        await service.ask(ADMIN, "CreateBankAccount", request)
    [blocked] = (await service.ask(ADMIN, "ListBankAccounts", pb.ListBankAccountsRequest())).bank_accounts
    assert refusal.value.metadata == {"bank_account_id": blocked.bank_account_id}, "staff is told which"


async def test_nobody_has_the_account_of_another_party_blocked_by_naming_it(service: TransactionsHarness) -> None:
    theirs = await service.confirm(await service.bank_account(OTHER))
    again = await service.bank_account("inv-001")
    account = await forbid(service, "R10")
    assert (await get(service, theirs.bank_account_id)).status == Status.SUSPENDED
    seen = await get(service, again.bank_account_id)
    assert (seen.status, seen.block_network_code) == (Status.BLOCKED, "R10"), "the party's own under another id"
    asked = (await service.ask(ADMIN, "UnblockBankAccount", unblocking(account))).approval
    told = {each.rule: each.statement for each in (await service.waiting(account.bank_account_id)).explanations}
    assert told["BANK_ACCOUNT_OWNERS"] == "2 parties have this account."
    assert asked.kind == "UNBLOCK_BANK_ACCOUNT"


async def test_a_return_forbids_it_though_sql_altered_its_row_which_is_not_put_right_afterwards(
    service: TransactionsHarness,
) -> None:
    deposit = await service.deposit("inv-001")
    again = await service.bank_account("inv-001")
    await service.work()
    ids = [deposit.bank_account_id, again.bank_account_id]
    async with service.database.begin(ORG) as tx:
        await tx.execute(sa.text("UPDATE bank_accounts SET makers = makers || '{x}'::text[], version = version + 1"))
    service.bank.report(deposit.transaction_id, PaymentStatus.RETURNED, "R16", at=service.clock.now())
    await service.work(hurried=True)
    seen = [await get(service, each) for each in ids]
    assert [each.block_network_code for each in seen] == ["R16", "R16"]
    assert {each.block_reason for each in seen} == {pb.BankAccount.ALTERED}, "whoever made it is not known any more"
    with pytest.raises(DomainError, match="forbidden"):
        await service.bank_account(OTHER)
    async with service.database.begin(ORG) as tx:
        await tx.execute(sa.text("UPDATE bank_accounts SET makers = array_remove(makers, 'x'), version = version + 1"))
    for each in ids:
        with pytest.raises(NotSealed):
            await get(service, each)


async def test_a_return_is_recorded_however_many_accounts_with_its_number_sql_made_up(
    service: TransactionsHarness,
) -> None:
    deposit = await service.deposit("inv-001")
    again = await service.bank_account("inv-001")
    await service.work()
    made_up = """
        INSERT INTO bank_accounts SELECT (jsonb_populate_record(b, jsonb_build_object(
            'bank_account_id', b.bank_account_id || n, 'status', 'PENDING', 'default_for_payouts', false,
            'confirmed_at', NULL))).*
        FROM bank_accounts b, generate_series(1, 500) n
    """
    async with service.database.begin(ORG) as tx:
        await tx.execute(sa.text(made_up))
    service.bank.report(deposit.transaction_id, PaymentStatus.RETURNED, "R16", at=service.clock.now())
    await service.work(hurried=True)
    assert (await service.get(deposit.transaction_id)).status == Transaction.RETURNED
    seen = [await get(service, each) for each in (deposit.bank_account_id, again.bank_account_id)]
    assert [each.block_network_code for each in seen] == ["R16", "R16"]
    told = await list_exceptions(service, kind=["BANK_ACCOUNT_ALTERED"])
    assert len(told) == ALTERED_MAX + 1
    assert any("some of them are not blocked" in each.cause for each in told)


async def test_what_an_altered_row_might_have_forbidden_is_forbidden_until_two_persons_say_otherwise(
    service: TransactionsHarness,
) -> None:
    first = await service.deposit("inv-001")
    second = await service.deposit("inv-001", bank_account_id=first.bank_account_id)
    await service.work()
    service.bank.report(first.transaction_id, PaymentStatus.RETURNED, "R07", at=service.clock.now())
    service.bank.report(second.transaction_id, PaymentStatus.RETURNED, "R01", at=service.clock.now())
    await service.work(hurried=True)
    async with service.database.begin(ORG) as tx:
        erasing = (
            "UPDATE bank_accounts SET block_reason = NULL, block_network_code = NULL, version = version + 1"
            " WHERE bank_account_id = :id"
        )
        await tx.execute(sa.text(erasing), {"id": first.bank_account_id})
    service.clock.set(service.clock.now() + timedelta(days=7))  # the second presentment of the other debit is due
    await service.work(hurried=True)
    account = await get(service, first.bank_account_id)
    assert (account.status, account.block_reason) == (Status.BLOCKED, pb.BankAccount.ALTERED)
    with pytest.raises(DomainError, match="forbidden"):
        await service.bank_account(OTHER)
    await unblock(service, account)
    seen = await get(service, account.bank_account_id)
    assert (seen.status, seen.HasField("block_reason")) == (Status.DELETED, False), "it is added anew"


async def test_as_another_party_s_it_waits_for_a_second_person_who_is_told_why(service: TransactionsHarness) -> None:
    drawn = [await service.deposit_request(party_id) for party_id in (OTHER, "inv-003")]
    theirs = await service.confirm(await get(service, drawn[0].bank_account_id))
    account = await forbid(service)
    for request in drawn:
        seen = await get(service, request.bank_account_id)
        assert (seen.status, seen.HasField("confirm_time")) == (Status.SUSPENDED, False)
        with pytest.raises(DomainError) as refusal:
            await service.ask(ADMIN, "CreateTransaction", request)
        assert refusal.value.reason == "BANK_ACCOUNT_NOT_USABLE"
    waiting = await service.waiting(theirs.bank_account_id)
    told = {each.rule: each.statement for each in waiting.explanations}
    assert told["BANK_ACCOUNT_FORBIDDEN"] == (
        f"The same account is blocked as {account.bank_account_id} of inv-001: a bank's return forbids it (R07)."
    )
    await service.grant(waiting, THIRD)
    assert (await get(service, theirs.bank_account_id)).status == Status.ACTIVE


async def test_another_return_outdates_what_is_asked_about_another_party_s_and_suspends_none_that_was_confirmed_since(
    service: TransactionsHarness,
) -> None:
    drawn = await service.deposit_request(OTHER)
    theirs = await service.confirm(await get(service, drawn.bank_account_id))
    first = await service.deposit("inv-001")
    later = [await service.deposit("inv-001", bank_account_id=first.bank_account_id) for _ in (1, 2)]
    await service.work()

    async def come_back(transaction: object, code: str) -> None:
        service.bank.report(transaction.transaction_id, PaymentStatus.RETURNED, code, at=service.clock.now())
        await service.work(hurried=True)

    await come_back(first, "R10")
    asked = await service.waiting(theirs.bank_account_id)
    await come_back(later[0], "R16")
    with pytest.raises(DomainError):
        await service.grant(asked, THIRD)
    await service.grant(await service.waiting(theirs.bank_account_id), THIRD)
    await come_back(later[1], "R10")
    assert (await get(service, theirs.bank_account_id)).status == Status.ACTIVE


async def test_a_row_that_sql_altered_says_of_no_return_that_others_knew_it(service: TransactionsHarness) -> None:
    drawn = await service.deposit_request(OTHER)
    theirs = await service.confirm(await get(service, drawn.bank_account_id))
    first = await service.deposit("inv-001")
    second = await service.deposit("inv-001", bank_account_id=first.bank_account_id)
    await service.work()
    with acting_as(ADMIN):
        async with service.database.begin() as tx:
            await block_altered_account(tx, first.bank_account_id, second.transaction_id, service.clock.now())
    service.bank.report(first.transaction_id, PaymentStatus.RETURNED, "R10", at=service.clock.now())
    await service.work(hurried=True)
    assert (await get(service, theirs.bank_account_id)).status == Status.SUSPENDED


@pytest.mark.parametrize("code", ["R07", "R16"])
async def test_what_was_asked_about_one_return_is_not_approved_after_another(
    service: TransactionsHarness, code: str
) -> None:
    first, second = await service.deposit("inv-001"), await service.deposit("inv-001")
    await service.work()
    service.bank.report(first.transaction_id, PaymentStatus.RETURNED, "R07", at=service.clock.now())
    await service.work(hurried=True)
    account = await get(service, first.bank_account_id)
    asked = (await service.ask(ADMIN, "UnblockBankAccount", unblocking(account))).approval
    service.bank.report(second.transaction_id, PaymentStatus.RETURNED, code, at=service.clock.now())
    await service.work(hurried=True)
    assert (await get(service, account.bank_account_id)).block_network_code == code
    with pytest.raises(DomainError) as refusal:
        await service.grant(asked)
    assert refusal.value.reason == "ETAG_MISMATCH"


async def test_two_persons_unblock_it_and_it_is_paid_to_once_it_is_confirmed_by_another_than_who_asked(
    service: TransactionsHarness,
) -> None:
    account = await forbid(service)
    assert "unblock" in account.allowed_actions
    asked = (await service.ask(ADMIN, "UnblockBankAccount", unblocking(account))).approval
    assert (asked.kind, list(asked.beneficiary_party_ids)) == ("UNBLOCK_BANK_ACCOUNT", ["inv-001"])
    assert "A new mandate." in (await service.waiting(account.bank_account_id)).content
    with pytest.raises(DomainError):
        await service.grant(asked, ADMIN)
    await service.grant(asked)
    seen = await get(service, account.bank_account_id)
    assert (seen.status, seen.HasField("block_reason"), "unblock" in seen.allowed_actions) == (
        Status.PENDING,
        False,
        False,
    )
    assert (await service.bank_account(OTHER)).status == Status.PENDING
    waiting = await service.waiting(account.bank_account_id)
    assert waiting.kind == "CONFIRM_BANK_ACCOUNT"
    with pytest.raises(DomainError) as refusal:
        await service.grant(waiting, ADMIN)
    assert refusal.value.reason == "MAKER_IS_CHECKER"
    await service.grant(waiting, THIRD)
    assert (await get(service, account.bank_account_id)).status == Status.ACTIVE


async def test_a_retired_one_stays_retired_and_may_be_added_anew(service: TransactionsHarness) -> None:
    account = await forbid(service)
    await service.ask(ADMIN, "DeleteBankAccount", pb.DeleteBankAccountRequest(bank_account_id=account.bank_account_id))
    done = await unblock(service, account)
    assert done.status == Approval.EXECUTED
    assert (await get(service, account.bank_account_id)).status == Status.DELETED
    assert (await service.bank_account("inv-001")).status == Status.PENDING


async def test_each_that_stands_for_it_is_unblocked_by_itself(service: TransactionsHarness) -> None:
    other = await service.bank_account("inv-001")
    account = await forbid(service)
    await unblock(service, account)
    assert (await get(service, other.bank_account_id)).status == Status.BLOCKED
    with pytest.raises(DomainError, match="forbidden"):
        await service.bank_account("inv-003")


async def test_what_no_bank_forbids_or_has_changed_since_is_not_unblocked(service: TransactionsHarness) -> None:
    usable = await service.bank_account(OTHER, "03")
    assert "unblock" not in usable.allowed_actions
    with pytest.raises(DomainError) as refusal:
        await service.ask(ADMIN, "UnblockBankAccount", unblocking(usable))
    assert refusal.value.reason == "ILLEGAL_STATUS_CHANGE"
    account = await forbid(service)
    with pytest.raises(DomainError) as refusal:
        await service.ask(ADMIN, "UnblockBankAccount", unblocking(account, etag=usable.etag))
    assert refusal.value.reason == "ETAG_MISMATCH"


async def write(service: TransactionsHarness, sql: str, row_id: str) -> None:
    async with service.database.begin(ORG) as tx:
        await tx.execute(sa.text(sql), {"id": row_id})


@pytest.mark.parametrize("code", ["R10", "R02"])
async def test_a_return_that_asks_anew_about_an_account_does_not_forget_in_which_session_it_was_asked_for(
    service: TransactionsHarness, code: str
) -> None:
    deposit = await service.deposit("inv-001")
    await service.work()
    theirs = await service.bank_account(OTHER, principal=sign_in(ADMIN))
    service.compliance.ended[ADMIN.person] = ENDED_AT
    service.bank.report(deposit.transaction_id, PaymentStatus.RETURNED, code, at=service.clock.now())
    await service.work(hurried=True)
    asked = await service.waiting(theirs.bank_account_id)
    assert (asked.created_by, "service:transactions" in asked.makers) == (ADMIN.person, True)
    with pytest.raises(DomainError) as refusal:
        await service.grant(asked, Principal("admin-4", "admin", ORG))
    assert refusal.value.reason == "MAKER_SESSION_ENDED"


async def test_a_return_asks_for_nothing_that_a_person_rejected(service: TransactionsHarness) -> None:
    deposit = await service.deposit("inv-001")
    await service.work()
    theirs = await service.bank_account(OTHER)
    asked = await service.waiting(theirs.bank_account_id)
    no = RejectApprovalRequest(approval_id=asked.approval_id, etag=asked.etag, note="Not theirs.")
    await service.ask(THIRD, "RejectApproval", no)
    service.bank.report(deposit.transaction_id, PaymentStatus.RETURNED, "R10", at=service.clock.now())
    await service.work(hurried=True)
    assert (await get(service, theirs.bank_account_id)).status == Status.SUSPENDED
    assert await service.list_waiting(theirs.bank_account_id) == []
