"""What is kept of a file for the bank, and what becomes of one that something keeps from leaving."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from datetime import time as time_of_day

import pytest
import sqlalchemy as sa
from realco.transactions.v1 import bank_accounts_pb2 as bank_pb

from services.transactions.tables.ach import ach_entries, ach_files
from services.transactions.tables.metadata import metadata
from tests.integration.ach_desk import CUT_OFF, T, be_kept_from_leaving, leave, order
from tests.integration.test_transactions_ach_files import NEXT_DAY, SETTLED, come_back, status_of
from tests.support.ach import Sent, list_sent
from tests.support.exceptions import list_exceptions
from tests.support.transactions import ADMIN, MONDAY, TransactionsHarness

pytest_plugins = ("tests.integration.ach_desk",)


@pytest.fixture
def service(ach_service: TransactionsHarness) -> TransactionsHarness:
    return ach_service


async def delete_account(service: TransactionsHarness, paid: T) -> None:
    """The bank account that a payment goes to, or is drawn from."""
    request = bank_pb.DeleteBankAccountRequest(bank_account_id=paid.bank_account_id)
    await service.ask(ADMIN, "DeleteBankAccount", request)


async def test_a_file_that_was_kept_from_leaving_leaves_without_what_is_not_wanted_any_more(
    service, folders, monkeypatch
) -> None:
    """However it was kept from it: by a fault, or by a login that held its row, or altered one of its entries."""
    deposit, payout = await order(service)
    await be_kept_from_leaving(service, monkeypatch)
    await delete_account(service, deposit)
    late = CUT_OFF + timedelta(days=3)
    with service.wire.cut(service.compliance):
        await leave(service, late)
    assert folders.sent == [], "nobody says whether it is wanted"
    await leave(service, late + timedelta(minutes=1))
    assert [each.amount_minor for each in list_sent(folders.sent[0])] == [50_00]
    seen = await service.get(deposit.transaction_id)
    assert (seen.status, seen.failure.code) == (T.FAILED, "BANK_ACCOUNT_NOT_USABLE")
    service.clock.set(SETTLED + timedelta(days=4))
    assert await status_of(service, payout) == T.COMPLETED
    async with service.database.begin(ADMIN.org_id) as tx:
        [file] = await tx.execute(sa.select(ach_files).where(ach_files.c.org_id == ADMIN.org_id))
    assert (file.entry_count, file.debit_minor, file.credit_minor) == (1, 0, 50_00)


async def test_a_return_of_what_never_left_calls_a_person_and_keeps_no_other_from_being_applied(
    service, folders, monkeypatch
) -> None:
    deposit, payout = await order(service)
    await be_kept_from_leaving(service, monkeypatch)
    await delete_account(service, deposit)
    await leave(service, CUT_OFF + timedelta(minutes=10))
    [left] = list_sent(folders.sent[0])
    of_debit = ach_entries.c.org_id == ADMIN.org_id, ach_entries.c.is_inbound
    async with service.database.begin(ADMIN.org_id) as tx:
        trace_no = await tx.scalar(sa.select(ach_entries.c.trace_no).where(*of_debit))
    never_left = Sent(f"627{left.line[3:29]}{100_00:010d}{left.line[39:87]}{trace_no:07d}")
    service.clock.set(datetime.combine(NEXT_DAY, time_of_day(15), MONDAY.tzinfo))
    await come_back(service, folders, [(never_left, "R01"), (left, "R03")])
    assert await status_of(service, deposit) == T.FAILED
    assert await status_of(service, payout) == T.RETURNED
    [told] = await list_exceptions(service, kind=["ACH_RETURN_NOT_OURS"])
    assert told.transaction_id == deposit.transaction_id


async def test_a_file_of_which_nothing_is_wanted_any_more_never_leaves(service, folders, monkeypatch) -> None:
    ordered = await order(service)
    await be_kept_from_leaving(service, monkeypatch)
    for each in ordered:
        await delete_account(service, each)
    for day in (3, 4):
        await leave(service, CUT_OFF + timedelta(days=day))
    assert folders.sent == []
    assert [await status_of(service, each) for each in ordered] == [T.FAILED] * 2
    async with service.database.begin(ADMIN.org_id) as tx:
        assert await tx.scalar(sa.select(ach_files.c.status).where(ach_files.c.org_id == ADMIN.org_id)) == "WITHDRAWN"


async def test_nothing_that_is_kept_of_a_file_lets_anybody_try_which_numbers_are_in_it(service, folders) -> None:
    """All else in it stands in the tables, so a digest that anybody makes is found by trying each number."""
    await order(service)
    await leave(service)
    [content] = folders.sent
    plain = {hashlib.new(name, content).hexdigest() for name in ("md5", "sha1", "sha256", "sha512", "sha3_256")}
    kept = ""
    async with service.database.begin_for_all() as tx:
        for table in metadata.sorted_tables:
            kept += str((await tx.execute(sa.text(f"SELECT t::text FROM {table.name} t"))).all())
    assert "achf_" in kept
    assert [each for each in plain if each in kept] == []
