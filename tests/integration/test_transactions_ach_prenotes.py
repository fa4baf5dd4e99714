"""Where a bank is asked about an account first: what moves money waits until the bank has not said no."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, timedelta

import achkit
import pytest
from realco.transactions.v1 import bank_accounts_pb2 as bank_pb
from realco.transactions.v1.exceptions_pb2 import PaymentException

from services.chassis.data.restores import find_restore, record_restore_seen
from services.chassis.values.calendar import add_banking_days
from services.transactions.domain.ach import ASKED_AGAIN_AFTER
from services.transactions.jobs.read_ach_files import read_ach_files
from services.transactions.jobs.watch_ach_files import watch_ach_files
from tests.integration.ach_desk import CUT_OFF, Folders, T, be_kept_from_leaving, leave, order
from tests.support.ach import Sent, build_returns, list_sent
from tests.support.exceptions import list_exceptions
from tests.support.restores import restored_to_here
from tests.support.transactions import ADMIN, TransactionsHarness

pytest_plugins = ("tests.integration.ach_desk",)

SETTLED = date(2024, 12, 3)
ASKED = sorted([("23", "000111111108", 0), ("28", "000111111102", 0)])
MOVED = sorted([("22", "000111111108", 50_00), ("27", "000111111102", 100_00)])


@pytest.fixture
def prenotes() -> bool:
    return True


@pytest.fixture
def service(ach_service: TransactionsHarness) -> TransactionsHarness:
    return ach_service


async def fetch(service: TransactionsHarness, folders: Folders, at: datetime = CUT_OFF) -> list[Sent]:
    """What the bank finds at a cut-off, and takes away."""
    await leave(service, at)
    found = [each for content in folders.sent for each in list_sent(content)]
    for content in folders.sent:
        assert achkit.validate(content.decode()) == {"ok": True, "errors": []}
    for path in folders.outbound.glob("*.ach"):
        path.unlink()
    await service.run(watch_ach_files)
    return found


def spell(sent: Iterable[Sent]) -> list[tuple[str, str, int]]:
    return sorted((each.code, each.account_number, each.amount_minor) for each in sent)


def cut_off_on(day: date) -> datetime:
    return CUT_OFF.replace(year=day.year, month=day.month, day=day.day)


async def come_back(service: TransactionsHarness, folders: Folders, sent: Sent, code: str, on: date) -> None:
    service.clock.set(datetime.combine(on, CUT_OFF.timetz()))
    folders.put(f"returns-{on}-{code}.ach", build_returns([(sent, code)], on))
    await service.run(read_ach_files)


async def test_the_first_entry_of_an_account_waits_for_its_prenote_and_the_next_does_not(service, folders) -> None:
    deposit, payout = await order(service)
    assert spell(await fetch(service, folders)) == ASKED
    third = add_banking_days(SETTLED, 3)
    assert await fetch(service, folders, cut_off_on(add_banking_days(SETTLED, 2))) == []
    assert spell(await fetch(service, folders, cut_off_on(third))) == MOVED
    again = await service.deposit(bank_account_id=deposit.bank_account_id)
    await service.work()
    [sent] = await fetch(service, folders, cut_off_on(add_banking_days(third, 1)))
    assert sent.code == "27"
    service.clock.set(cut_off_on(add_banking_days(third, 3)))
    await service.work(hurried=True)
    assert [(await service.get(each.transaction_id)).status for each in (deposit, payout, again)] == [
        *(T.SETTLED, T.COMPLETED, T.SETTLED)
    ]


@pytest.mark.parametrize(
    ("code", "status"),
    [("R02", bank_pb.BankAccount.BLOCKED), ("R03", bank_pb.BankAccount.PENDING)],
    ids=["which forbids the account", "which does not"],
)
async def test_what_waits_for_a_prenote_that_comes_back_fails_with_its_code(service, folders, code, status) -> None:
    deposit, payout = await order(service)
    [debit] = [each for each in await fetch(service, folders) if each.code == "28"]
    await come_back(service, folders, debit, code, SETTLED + timedelta(days=1))
    assert folders.list_of("processed") != []
    assert [each.code for each in await fetch(service, folders, cut_off_on(add_banking_days(SETTLED, 3)))] == ["22"]
    seen = await service.get(deposit.transaction_id)
    why = seen.failure
    assert (seen.status, why.code, why.metadata["network_code"]) == (T.FAILED, "INVALID_PAYMENT_DATA", code)
    request = bank_pb.GetBankAccountRequest(bank_account_id=deposit.bank_account_id)
    assert (await service.ask(ADMIN, "GetBankAccount", request)).status == status
    if status == bank_pb.BankAccount.PENDING:
        more = await service.deposit(bank_account_id=deposit.bank_account_id)
        await service.work()
        refused = await service.get(more.transaction_id)
        assert (refused.status, refused.failure.metadata["network_code"]) == (T.FAILED, code)
    assert (await service.get(payout.transaction_id)).status == T.PENDING_SETTLEMENT


async def test_a_prenote_that_comes_back_late_is_told_of_the_account_and_of_no_payment(service, folders) -> None:
    deposit, _ = await order(service)
    [debit] = [each for each in await fetch(service, folders) if each.code == "28"]
    await fetch(service, folders, cut_off_on(add_banking_days(SETTLED, 3)))
    await come_back(service, folders, debit, "R02", add_banking_days(SETTLED, 4))
    assert (await service.get(deposit.transaction_id)).status == T.PENDING_SETTLEMENT, "its own entry is on its way"
    request = bank_pb.GetBankAccountRequest(bank_account_id=deposit.bank_account_id)
    account = await service.ask(ADMIN, "GetBankAccount", request)
    assert (account.status, account.block_network_code) == (bank_pb.BankAccount.BLOCKED, "R02")


@pytest.mark.parametrize("is_in_a_file", [False, True])
async def test_after_a_restore_no_prenote_leaves_before_somebody_has_looked(
    ach_urls, service, folders, monkeypatch, *, is_in_a_file
) -> None:
    await order(service)
    if is_in_a_file:
        await be_kept_from_leaving(service, monkeypatch)
    async with restored_to_here(ach_urls):
        pass
    assert await fetch(service, folders, CUT_OFF + ASKED_AGAIN_AFTER) == []
    async with service.database.begin_for_all() as tx:
        await record_restore_seen(tx, await find_restore(tx), [], [], person="ops-1", now=service.clock.now())
    assert spell(await fetch(service, folders, CUT_OFF + 2 * ASKED_AGAIN_AFTER)) == ASKED


async def test_a_notice_of_change_that_a_prenote_brings_is_as_any_other(service, folders) -> None:
    deposit, _ = await order(service)
    [debit] = [each for each in await fetch(service, folders) if each.code == "28"]
    on = SETTLED + timedelta(days=1)
    service.clock.set(datetime.combine(on, CUT_OFF.timetz()))
    folders.put("changes.ach", build_returns([(debit, "C01")], on, corrected="000222222222"))
    await service.run(read_ach_files)
    request = bank_pb.ListBankAccountsRequest(party_id=["inv-001"])
    accounts = (await service.ask(ADMIN, "ListBankAccounts", request)).bank_accounts
    assert [each.replaces_bank_account_id for each in accounts if each.replaces_bank_account_id] == [
        deposit.bank_account_id
    ]
    await fetch(service, folders, cut_off_on(add_banking_days(SETTLED, 3)))
    assert (await service.get(deposit.transaction_id)).status == T.FAILED, "who draws names the other one"


async def test_a_bank_that_says_nothing_of_the_account_is_asked_once_more_and_no_more(service, folders) -> None:
    deposit, _ = await order(service)
    asked = CUT_OFF.date(), add_banking_days(CUT_OFF.date(), 2)  # what comes back is made anew for the next cut-off
    for day, code in zip(asked, ("R06", "R24"), strict=True):
        [debit] = [each for each in await fetch(service, folders, cut_off_on(day)) if each.code == "28"]
        back = add_banking_days(day, 1)
        await come_back(service, folders, debit, code, back)
        await fetch(service, folders, cut_off_on(back))
    seen = await service.get(deposit.transaction_id)
    assert (seen.status, seen.failure.metadata["network_code"]) == (T.FAILED, "R24")
    [told] = await list_exceptions(service)
    assert (told.kind, told.bank_account_id) == (PaymentException.RETURN_TO_REVIEW, deposit.bank_account_id)
    assert (told.occurrence_count, told.cause) == (1, "R24, of a prenote: duplicate entry")
