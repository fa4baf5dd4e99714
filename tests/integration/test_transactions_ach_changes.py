"""What a bank asks us to correct is another account: no payout goes there by a file, and debits name it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from google.protobuf.field_mask_pb2 import FieldMask
from realco.transactions.v1 import bank_accounts_pb2 as bank_pb

from services.chassis.values.errors import DomainError
from services.transactions.jobs.read_ach_files import read_ach_files
from tests.integration.ach_desk import CUT_OFF, Folders, T, leave, order
from tests.support.ach import build_returns, list_sent
from tests.support.exceptions import list_exceptions
from tests.support.transactions import ADMIN, CHECKER, INVESTOR, TransactionsHarness

pytest_plugins = ("tests.integration.ach_desk",)

B = bank_pb.BankAccount
NEXT_DAY = (CUT_OFF + timedelta(days=1)).date()
THEIRS = "000999888777"


@pytest.fixture
def service(ach_service: TransactionsHarness) -> TransactionsHarness:
    return ach_service


async def ask_for(
    service: TransactionsHarness, folders: Folders, amount_minor: int, code: str = "C01", corrected: str = THEIRS
) -> None:
    """The bank of the entry of this amount asks for something."""
    [sent] = [each for each in list_sent(folders.sent[-1]) if each.amount_minor == amount_minor]
    folders.put("noc.ach", build_returns([(sent, code)], NEXT_DAY, corrected))
    await service.run(read_ach_files)


async def list_accounts(service: TransactionsHarness, party_id: str) -> list[B]:
    request = bank_pb.ListBankAccountsRequest(party_id=[party_id])
    return list((await service.ask(ADMIN, "ListBankAccounts", request)).bank_accounts)[::-1]


async def want_payouts(service: TransactionsHarness, account: B, by: Any = ADMIN) -> B:
    request = bank_pb.UpdateBankAccountRequest(
        bank_account_id=account.bank_account_id,
        etag=account.etag,
        update_mask=FieldMask(paths=["default_for_payouts"]),
        default_for_payouts=True,
    )
    changed: B = await service.ask(by, "UpdateBankAccount", request)
    return changed


async def send(service: TransactionsHarness) -> tuple[Any, Any]:
    made = await order(service)
    await leave(service)
    return made


@pytest.mark.parametrize(("code", "corrected", "routing_number", "last4", "account_type"), [
    ("C01", THEIRS, "021000021", "8777", B.CHECKING),
    ("C02", "322271627", "322271627", "1102", B.CHECKING),
    ("C03", f"322271627   {THEIRS}", "322271627", "8777", B.CHECKING),
    ("C05", "37", "021000021", "1102", B.SAVINGS),
    ("C06", f"{THEIRS:17}   37", "021000021", "8777", B.SAVINGS),
    ("C07", f"322271627{THEIRS:17}37", "322271627", "8777", B.SAVINGS),
])  # fmt: skip
async def test_what_a_bank_asks_for_is_added_beside_the_old_account_and_waits(
    service, folders, code, corrected, routing_number, last4, account_type
) -> None:
    await send(service)
    for _ in range(2):
        await ask_for(service, folders, 100_00, code, corrected)
    old, new = await list_accounts(service, "inv-001")
    assert (new.routing_number, new.account_number_last4, new.account_type) == (routing_number, last4, account_type)
    assert (new.status, new.default_for_payouts, new.created_by) == (B.PENDING, False, "service:transactions")
    assert (new.account_holder_name, new.holder_type) == (old.account_holder_name, old.holder_type)
    assert (new.replaces_bank_account_id, old.replaced_by_bank_account_id) == (
        old.bank_account_id,
        new.bank_account_id,
    )
    [told] = await list_exceptions(service)
    assert (told.bank_account_id, told.occurrence_count) == (old.bank_account_id, 1)
    assert told.cause.startswith(f"The bank says {code}, to be done by 2024-12-10. {new.bank_account_id} has")
    assert THEIRS not in told.cause
    assert await service.list_waiting(new.bank_account_id) == [], "nobody is asked about what a file alone says"


async def test_a_payout_goes_where_it_was_to_go_whatever_a_file_asks_for(service, folders) -> None:
    """Somebody writes a file that asks for an account of his own."""
    await send(service)
    await ask_for(service, folders, 50_00)
    service.owe("inv-002")
    await service.payout_to(None, "inv-002")
    await service.work()
    await leave(service, CUT_OFF + timedelta(days=1))
    assert [each.account_number for each in list_sent(folders.sent[-1])] == ["000111111108"]


async def test_the_new_account_is_paid_once_one_person_wants_it_and_another_confirms_and_the_old_one_is_retired(
    service, folders
) -> None:
    await send(service)
    await ask_for(service, folders, 50_00)
    old, new = await list_accounts(service, "inv-002")
    wanted = await want_payouts(service, new)
    with pytest.raises(DomainError) as refused:
        await service.grant(await service.waiting(new.bank_account_id), ADMIN)
    assert refused.value.reason == "MAKER_IS_CHECKER"
    await service.confirm(wanted)
    old, new = await list_accounts(service, "inv-002")
    assert (old.status, new.status, new.default_for_payouts) == (B.DELETED, B.ACTIVE, True)
    service.owe("inv-002")
    await service.payout_to(None, "inv-002")
    await service.work()
    await leave(service, CUT_OFF + timedelta(days=1))
    assert [each.account_number for each in list_sent(folders.sent[-1])] == [THEIRS]


async def test_the_old_account_is_drawn_from_no_more_and_the_new_one_is(service, folders) -> None:
    await send(service)
    await ask_for(service, folders, 100_00)
    old, new = await list_accounts(service, "inv-001")
    for account, ends in ((old, f"draw from {new.bank_account_id}."), (new, "")):
        request = await service.deposit_request("inv-001", "77", bank_account_id=account.bank_account_id)
        if ends:
            with pytest.raises(DomainError) as refused:
                await service.ask(INVESTOR, "CreateTransaction", request)
            assert (refused.value.reason, refused.value.message.endswith(ends)) == ("BANK_ACCOUNT_NOT_USABLE", True)
        else:
            await service.ask(INVESTOR, "CreateTransaction", request)
    await service.work()
    await leave(service, CUT_OFF + timedelta(days=1))
    assert [each.account_number for each in list_sent(folders.sent[-1])] == [THEIRS]


async def test_who_does_not_believe_it_retires_the_new_account_and_the_old_one_is_as_before(service, folders) -> None:
    await send(service)
    await ask_for(service, folders, 100_00)
    old, new = await list_accounts(service, "inv-001")
    request = bank_pb.DeleteBankAccountRequest(bank_account_id=new.bank_account_id)
    await service.ask(CHECKER, "DeleteBankAccount", request)
    old, new = await list_accounts(service, "inv-001")
    assert (new.status, old.replaced_by_bank_account_id) == (B.DELETED, "")
    again = await service.deposit_request("inv-001", "77", bank_account_id=old.bank_account_id)
    assert (await service.ask(INVESTOR, "CreateTransaction", again)).status == T.QUEUED


async def test_an_account_that_the_party_has_already_is_not_added_twice_and_drawn_from_until_it_is_retired(
    service, folders
) -> None:
    await send(service)
    known = await service.bank_account("inv-001", "55")
    await ask_for(service, folders, 100_00, "C01", "000111111155")
    old, same = await list_accounts(service, "inv-001")
    assert (same.bank_account_id, old.replaced_by_bank_account_id) == (known.bank_account_id, known.bank_account_id)
    request = bank_pb.DeleteBankAccountRequest(bank_account_id=known.bank_account_id)
    await service.ask(CHECKER, "DeleteBankAccount", request)
    assert (await list_accounts(service, "inv-001"))[0].replaced_by_bank_account_id == ""


@pytest.mark.parametrize(("code", "corrected"), [("C04", "ADA"), ("C02", "021000022"), ("C01", "000111111102")])
async def test_what_makes_no_sense_or_is_so_already_is_told_and_adds_nothing(service, folders, code, corrected) -> None:
    await send(service)
    await ask_for(service, folders, 100_00, code, corrected)
    assert len(await list_accounts(service, "inv-001")) == 1
    [told] = await list_exceptions(service)
    assert told.cause.endswith("nothing was added.")


async def test_an_account_that_is_blocked_is_not_added_by_a_file(service, folders) -> None:
    deposit, payout = await send(service)
    back = [each for each in list_sent(folders.sent[0]) if each.amount_minor == 100_00]
    folders.put("r.ach", build_returns([(back[0], "R02")], NEXT_DAY))
    await service.run(read_ach_files)
    await ask_for(service, folders, 50_00, "C01", "000111111102")
    assert len(await list_accounts(service, "inv-002")) == 1
    assert any("are forbidden" in each.cause for each in await list_exceptions(service))
    assert deposit is not payout


async def test_the_database_pays_nothing_that_a_file_alone_asked_for(service, folders) -> None:
    await send(service)
    await ask_for(service, folders, 50_00)

    async def confirm_alone() -> None:
        alone = (
            "UPDATE bank_accounts SET status = 'ACTIVE', confirmed_at = now(), confirmation = 'PERSONS',"
            " version = version + 1"
            " WHERE created_by LIKE 'service:%'"
        )
        async with service.database.begin(ADMIN.org_id) as tx:
            await tx.execute(sa.text(alone))

    with pytest.raises(asyncpg.CheckViolationError):
        await confirm_alone()
