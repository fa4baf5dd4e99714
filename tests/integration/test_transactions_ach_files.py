"""ACH by files: what was ordered leaves in one at the cut-off, once, and what the bank sends back is applied, once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from datetime import time as time_of_day
from importlib import import_module
from typing import Any

import achkit
import pytest
import sqlalchemy as sa
from realco.transactions.v1 import bank_accounts_pb2 as bank_pb

from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.values.calendar import add_banking_days
from services.chassis.values.money import Money
from services.transactions.domain.exceptions import About, ExceptionKind
from services.transactions.jobs.read_ach_files import read_ach_files
from services.transactions.providers import ach_file
from services.transactions.providers.ach_file.nacha import ENTRY_MINOR_MAX
from services.transactions.providers.protocols import Declined, OutcomeUnknown
from services.transactions.store.exception_reports import report
from services.transactions.tables.ach import ach_entries, ach_files
from services.transactions.vault import Vault
from tests.integration.ach_desk import CUT_OFF, Folders, T, be_kept_from_leaving, leave, order
from tests.integration.test_transactions_ach_altered import TRANSACTION, TRANSACTION_RIGHT, alter, put_right
from tests.support.ach import Sent, build_returns, change_line, list_sent
from tests.support.exceptions import list_exceptions, resolve
from tests.support.payment_orders import an_order
from tests.support.transactions import ADMIN, MONDAY, TransactionsHarness

pytest_plugins = ("tests.integration.ach_desk",)

MAKING = import_module("services.transactions.jobs.write_ach_files")
SETTLED = CUT_OFF.replace(day=3, hour=13)
NEXT_DAY = SETTLED.date()


@pytest.fixture
def service(ach_service: TransactionsHarness) -> TransactionsHarness:
    return ach_service


async def status_of(service: TransactionsHarness, made: Any) -> int:
    await service.work(hurried=True)
    status: int = (await service.get(made.transaction_id)).status
    return status


async def come_back(
    service: TransactionsHarness, folders: Folders, back: Sequence[tuple[Sent, str]], on: date = NEXT_DAY
) -> None:
    folders.put(f"returns-{on}.ach", build_returns(back, on))
    await service.run(read_ach_files)


def find_sent(folders: Folders, amount_minor: int) -> Sent:
    [found] = [each for each in list_sent(folders.sent[-1]) if each.amount_minor == amount_minor]
    return found


async def test_what_was_ordered_leaves_at_the_cut_off_in_one_file_and_settles_on_its_day(service, folders) -> None:
    deposit, payout = await order(service)
    await leave(service, CUT_OFF - timedelta(minutes=1))
    assert folders.sent == []
    await leave(service)
    await leave(service, CUT_OFF + timedelta(hours=1))
    [content] = folders.sent
    assert achkit.validate(content.decode()) == {"ok": True, "errors": []}
    assert sorted((each.code, each.account_number, each.amount_minor) for each in list_sent(content)) == [
        ("22", "000111111108", 50_00),
        ("27", "000111111102", 100_00),
    ]
    assert [await status_of(service, each) for each in (deposit, payout)] == [T.PENDING_SETTLEMENT] * 2
    service.clock.set(SETTLED - timedelta(minutes=1))
    assert await status_of(service, deposit) == T.PENDING_SETTLEMENT
    service.clock.set(SETTLED)
    assert await status_of(service, deposit) == T.SETTLED
    assert await status_of(service, payout) == T.COMPLETED


async def test_no_number_of_an_account_lies_in_clear_in_the_database(service) -> None:
    await order(service)
    async with service.database.begin(ADMIN.org_id) as tx:
        rows = (await tx.execute(sa.select(ach_entries).where(ach_entries.c.org_id == ADMIN.org_id))).all()
    assert len(rows) == 2
    assert all("0001111111" not in str(row) for row in rows)


async def test_a_debit_that_comes_back_is_presented_again_by_a_later_file_and_says_so(service, folders) -> None:
    deposit, _ = await order(service)
    await leave(service)
    service.clock.set(SETTLED + timedelta(days=1))
    assert await status_of(service, deposit) == T.SETTLED
    await come_back(service, folders, [(find_sent(folders, 100_00), "R01")], (SETTLED + timedelta(days=1)).date())
    seen = await service.get(deposit.transaction_id)
    assert (seen.status, seen.failure.metadata["network_code"]) == (T.PENDING_RETRY, "R01")
    service.clock.set(seen.next_attempt_time.ToDatetime().astimezone(MONDAY.tzinfo))
    await service.work()
    await leave(service, service.clock.now().replace(hour=20, minute=30))
    [again] = list_sent(folders.sent[-1])
    assert (again.amount_minor, b"RETRY PYMT" in folders.sent[-1]) == (100_00, True)
    assert (await service.get(deposit.transaction_id)).presentments == 2


async def test_who_dates_a_return_back_leaves_no_less_time_to_cancel_what_is_presented_again(service, folders) -> None:
    deposit, _ = await order(service)
    await leave(service)
    back = [(find_sent(folders, 100_00), "R01")]
    service.clock.set(SETTLED + timedelta(days=21))
    assert await status_of(service, deposit) in (T.SETTLED, T.COMPLETED)
    await come_back(service, folders, back, (SETTLED + timedelta(days=1)).date())
    seen = await service.get(deposit.transaction_id)
    assert seen.status == T.PENDING_RETRY
    again_at = seen.next_attempt_time.ToDatetime().astimezone(MONDAY.tzinfo)
    assert again_at.date() == add_banking_days(service.clock.now().date(), 3)


async def test_a_return_is_applied_once_however_often_and_late_it_comes(service, folders) -> None:
    deposit, payout = await order(service)
    await leave(service)
    back = [(find_sent(folders, 100_00), "R10"), (find_sent(folders, 50_00), "R03")]
    for on in (NEXT_DAY, NEXT_DAY, NEXT_DAY + timedelta(days=40)):
        service.clock.set(datetime.combine(on, time_of_day(15), MONDAY.tzinfo))
        await service.work()
        await come_back(service, folders, back, on)
    for made, code in ((deposit, "R10"), (payout, "R03")):
        seen = await service.get(made.transaction_id)
        assert (seen.status, seen.failure.metadata["network_code"]) == (T.RETURNED, code)
    first, *others = folders.list_of("processed")
    assert (others[0], len(others)) == (f"{first}.2", 2), "the second of one day has the name of the first"
    request = bank_pb.GetBankAccountRequest(bank_account_id=deposit.bank_account_id)
    account = await service.ask(ADMIN, "GetBankAccount", request)
    assert (account.status, account.block_network_code) == (bank_pb.BankAccount.BLOCKED, "R10")


async def test_what_is_not_wanted_any_more_when_its_file_is_made_is_not_in_it(service, folders) -> None:
    deposit, payout = await order(service)
    request = bank_pb.DeleteBankAccountRequest(bank_account_id=deposit.bank_account_id)
    await service.ask(ADMIN, "DeleteBankAccount", request)
    await leave(service)
    assert [each.amount_minor for each in list_sent(folders.sent[0])] == [50_00]
    seen = await service.get(deposit.transaction_id)
    assert (seen.status, seen.failure.code) == (T.FAILED, "BANK_ACCOUNT_NOT_USABLE")
    assert await status_of(service, payout) == T.PENDING_SETTLEMENT


async def test_nothing_leaves_while_nobody_says_whether_it_is_wanted(service, folders) -> None:
    await order(service)
    with service.wire.cut(service.compliance):
        await leave(service)
        assert folders.sent == []
    await leave(service, CUT_OFF + timedelta(minutes=1))
    assert len(list_sent(folders.sent[0])) == 2


@pytest.mark.parametrize("step", ["stage", "move_out", "write_file", "blind_file"])
async def test_a_crash_at_any_step_releases_one_file_and_the_same(service, folders, monkeypatch, step) -> None:
    await order(service)

    def crash(*_: object) -> None:
        raise OSError("the machine went away")

    with monkeypatch.context() as patch:
        # What is staged is not released yet where its digest is made.
        patch.setattr(Vault if step == "blind_file" else MAKING, step, crash)
        try:
            await leave(service)
        except OSError:
            assert step == "move_out"
    assert folders.sent == []
    await leave(service, CUT_OFF + timedelta(minutes=1))
    await leave(service, CUT_OFF + timedelta(minutes=2))
    [content] = folders.sent
    assert len(list_sent(content)) == 2
    assert list((folders.outbound / ".staging").iterdir()) == []


async def test_files_of_a_bank_that_are_none_or_about_others_move_nothing_and_wait_for_a_person(
    service, folders
) -> None:
    deposit, _ = await order(service)
    await leave(service)
    sent = find_sent(folders, 100_00)
    good = build_returns([(sent, "R01")], NEXT_DAY)
    folders.put("cut.ach", good[:300])
    folders.put("sums.ach", change_line(good, 6, 5, "000009"))
    folders.put("others.ach", change_line(good, 4, 15, "9999999"))
    other_amount = build_returns([(Sent(sent.line[:29] + "0000009999" + sent.line[39:]), "R01")], NEXT_DAY)
    folders.put("amount.ach", other_amount)
    await service.run(read_ach_files)
    assert (folders.list_of("rejected"), folders.list_of("questions")) == (
        ["cut.ach", "sums.ach"],
        ["amount.ach", "others.ach"],
    )
    assert await status_of(service, deposit) == T.PENDING_SETTLEMENT
    folders.put("good.ach", good)
    (folders.inbound / "being-written.ach").write_bytes(good[:200])
    await service.run(read_ach_files)
    assert folders.list_of("processed") == ["good.ach"]
    assert (folders.inbound / "being-written.ach").exists()
    assert (await service.get(deposit.transaction_id)).status == T.PENDING_RETRY


async def test_a_notification_of_change_moves_no_money(service, folders) -> None:
    deposit, _ = await order(service)
    await leave(service)
    await come_back(service, folders, [(find_sent(folders, 100_00), "C01")])
    assert await status_of(service, deposit) == T.PENDING_SETTLEMENT
    assert len(folders.list_of("processed")) == 1


async def test_the_same_key_is_the_same_entry_another_order_under_it_is_none_and_one_too_large_is_refused(
    service,
) -> None:
    deposit, _ = await order(service)
    orders = service.dependencies.providers.orders[ach_file.NAME]
    seen = await service.get(deposit.transaction_id)
    known = an_order(
        key=f"txn:{deposit.transaction_id}:1", reference=deposit.transaction_id, bank_account_id=deposit.bank_account_id
    )
    with acting_as(service_principal("transactions", ADMIN.org_id)):
        assert (await orders.submit(known)).payment_id == seen.provider_reference
        with pytest.raises(OutcomeUnknown):
            await orders.submit(replace(known, amount=Money(100_01, "USD")))
        with pytest.raises(Declined):
            await orders.submit(replace(known, key="txn:1:1", amount=Money(ENTRY_MINOR_MAX + 1, "USD")))
        assert len(await orders.list_payments(deposit.transaction_id)) == 1
    assert await orders.get_payment("ach_nothing") is None


async def test_a_file_whose_entries_somebody_altered_does_not_leave(service, folders, monkeypatch) -> None:
    await order(service)
    await be_kept_from_leaving(service, monkeypatch)
    async with service.database.begin(ADMIN.org_id) as tx:
        await tx.execute(sa.update(ach_entries).values(change_code="C01", version=ach_entries.c.version + 1))
    await leave(service, CUT_OFF + timedelta(minutes=1))
    assert folders.sent == []


async def test_what_has_not_left_has_not_settled_and_what_leaves_late_settles_late(
    service, folders, monkeypatch
) -> None:
    deposit, payout = await order(service)
    await be_kept_from_leaving(service, monkeypatch)
    service.clock.set(SETTLED + timedelta(hours=1))
    assert [await status_of(service, each) for each in (deposit, payout)] == [T.PENDING_SETTLEMENT] * 2
    await leave(service, CUT_OFF + timedelta(days=1))
    assert len(folders.sent) == 1
    assert await status_of(service, deposit) == T.PENDING_SETTLEMENT
    service.clock.set(SETTLED + timedelta(days=1))
    assert await status_of(service, deposit) == T.SETTLED


async def test_a_return_of_what_somebody_altered_keeps_no_other_from_being_applied_and_is_followed_later(
    service, folders, ach_urls
) -> None:
    deposit, payout = await order(service)
    await leave(service)
    back = [(find_sent(folders, 100_00), "R10"), (find_sent(folders, 50_00), "R03")]
    await alter(service, TRANSACTION)
    await come_back(service, folders, back)
    assert (len(folders.list_of(".reading")), list(folders.inbound.glob("*.ach"))) == (1, [])
    assert (await service.get(payout.transaction_id)).status == T.RETURNED
    await put_right(ach_urls, TRANSACTION_RIGHT)
    assert await status_of(service, deposit) == T.RETURNED
    await service.run(read_ach_files)
    assert (folders.list_of(".reading"), len(folders.list_of("processed"))) == ([], 1)


async def test_rows_made_up_for_files_keep_none_from_leaving(service, folders) -> None:
    await order(service)
    async with service.database.begin(ADMIN.org_id) as tx:
        for number in range(40):
            made_up = {"org_id": ADMIN.org_id, "ach_file_id": f"achf_{number}", "created_on": CUT_OFF.date()}
            made_up |= {"number": number, "status": "MADE", "entry_count": 1, "debit_minor": 1, "credit_minor": 0}
            made_up |= {"is_acknowledged": False}
            times = {"created_at": CUT_OFF, "updated_at": CUT_OFF, "version": 1}
            await tx.execute(sa.insert(ach_files).values(made_up | times))
    await leave(service)
    assert len(list_sent(folders.sent[0])) == 2


async def test_no_two_files_of_a_day_have_one_number_though_a_login_altered_the_first(
    service, folders, monkeypatch
) -> None:
    """By their number the bank tells them apart."""
    await order(service)
    monkeypatch.setattr(MAKING, "TOTAL_MINOR_MAX", 60_00)
    await leave(service)
    async with service.database.begin(ADMIN.org_id) as tx:
        of_ours = ach_files.c.org_id == ADMIN.org_id
        await tx.execute(sa.update(ach_files).where(of_ours).values(version=ach_files.c.version + 1))
    monkeypatch.setattr(MAKING, "TOTAL_MINOR_MAX", 100_00)
    await leave(service, CUT_OFF + timedelta(minutes=1))
    assert sorted(content.splitlines()[0][33:34] for content in folders.sent) == [b"A", b"B"]


async def test_what_one_file_does_not_hold_has_the_next_one(service, folders, monkeypatch) -> None:
    await order(service)
    monkeypatch.setattr(MAKING, "TOTAL_MINOR_MAX", 60_00)
    await leave(service)
    monkeypatch.setattr(MAKING, "TOTAL_MINOR_MAX", 100_00)
    await leave(service, CUT_OFF + timedelta(minutes=1))
    assert sorted([each.amount_minor for each in list_sent(file)] for file in folders.sent) == [[50_00], [100_00]]


async def test_a_file_that_cannot_be_put_away_keeps_no_other_from_being_read(service, folders) -> None:
    await order(service)
    await leave(service)
    good = build_returns([(find_sent(folders, 100_00), "R01")], NEXT_DAY)
    folders.put("processed", b"not a folder")
    folders.put("a.ach", good)
    folders.put("z.ach", b"not a file")
    await service.run(read_ach_files)
    assert folders.list_of("rejected") == ["processed", "z.ach"]


async def test_rows_that_sql_wrote_are_in_no_file_and_keep_no_other_from_it(service, folders) -> None:
    await order(service)
    async with service.database.begin(ADMIN.org_id) as tx:
        rows = (await tx.execute(sa.select(ach_entries).where(ach_entries.c.org_id == ADMIN.org_id))).all()
        made_up = dict(rows[0]._mapping) | {"ach_entry_id": "ach_0", "provider_key": "x", "amount_minor": 999_00}
        await tx.execute(sa.insert(ach_entries).values(made_up))
    await leave(service)
    assert sorted(each.amount_minor for each in list_sent(folders.sent[0])) == [50_00, 100_00]


async def test_a_return_is_recorded_however_many_entries_of_its_number_sql_made_up(service, folders) -> None:
    deposit, _ = await order(service)
    await leave(service)
    sent = next(each for each in list_sent(folders.sent[0]) if each.amount_minor == 100_00)
    async with service.database.begin_for_all() as tx:
        forged = sa.text(
            "INSERT INTO ach_entries SELECT (e).* FROM (SELECT jsonb_populate_record(e, jsonb_build_object("
            "'org_id', 'org-0' || n)) AS e FROM ach_entries e, generate_series(1, 2500) n) forged"
        )
        await tx.execute(forged)
    folders.put("r.ach", build_returns([(sent, "R02")], (CUT_OFF + timedelta(days=1)).date()))
    await service.run(read_ach_files)
    assert (await service.get(deposit.transaction_id)).status == T.RETURNED


async def test_who_ordered_what_waits_for_its_file_has_no_part_in_what_is_about_none(service, folders) -> None:
    await order(service)
    about = About(provider_payment_id="pi_1")
    with acting_as(service_principal("transactions", ADMIN.org_id)):
        async with service.database.begin() as tx:
            report(tx, ExceptionKind.PAYMENT_NOT_OURS, about, "What is it?", service.clock.now())
    [found] = await list_exceptions(service)
    await resolve(service, found, "It is our own fee.", ADMIN)
    assert await list_exceptions(service, status=["OPEN"]) == []
