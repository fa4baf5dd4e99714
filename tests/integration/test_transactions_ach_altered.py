"""What a login of the database alters hides nothing that the bank says of it: that waits, and is told."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from asyncpg.exceptions import InsufficientPrivilegeError
from realco.transactions.v1 import exceptions_pb2

from services.chassis.calls.auth import acting_as
from services.transactions.jobs.read_ach_files import read_ach_files
from services.transactions.jobs.watch_ach_files import watch_ach_files
from services.transactions.store.exceptions import list_exceptions_of
from tests.integration.ach_desk import ACKNOWLEDGED, CUT_OFF, SUMS, Folders, T, leave, order
from tests.support.ach import Sent, build_returns, list_sent
from tests.support.chassis import as_superuser
from tests.support.exceptions import list_exceptions
from tests.support.transactions import ADMIN, TransactionsHarness

pytest_plugins = ("tests.integration.ach_desk",)

E = exceptions_pb2.PaymentException
NEXT_DAY = CUT_OFF.date() + timedelta(days=1)
OF_DEPOSIT = "WHERE is_inbound"
WAITS = "1 not applied, for rows that somebody altered"
ENTRY = f"UPDATE ach_entries SET change_code = 'C05', version = version + 1 {OF_DEPOSIT}"
ENTRY_RIGHT = f"UPDATE ach_entries SET change_code = NULL, version = version - 1 {OF_DEPOSIT}"
FILE = "UPDATE ach_files SET fetched_at = now(), version = version + 1"
FILE_RIGHT = "UPDATE ach_files SET fetched_at = NULL, version = version - 1"
TRANSACTION = "UPDATE transactions SET next_attempt_at = now(), version = version + 1 WHERE amount_minor = 10000"
TRANSACTION_RIGHT = "UPDATE transactions SET next_attempt_at = NULL, version = version - 1 WHERE amount_minor = 10000"


@pytest.fixture
def service(ach_service: TransactionsHarness) -> TransactionsHarness:
    return ach_service


@pytest.fixture
def acknowledges() -> bool:
    """What is said of a file that was accepted or rejected is a table of its own below."""
    return True


async def send(service: TransactionsHarness, folders: Folders) -> tuple[Any, Any, dict[int, Sent]]:
    """A contribution and a payout that left, and how they stand in the file, by their amounts."""
    deposit, payout = await order(service)
    await leave(service)
    return deposit, payout, {each.amount_minor: each for each in list_sent(folders.sent[0])}


async def alter(service: TransactionsHarness, *statements: str) -> None:
    """As a login of the service, in its organization."""
    async with service.database.begin(ADMIN.org_id) as tx:
        for statement in statements:
            await tx.execute(sa.text(statement))


async def put_right(urls: SimpleNamespace, *statements: str) -> None:
    """As an operator does."""
    async with as_superuser(urls) as admin:
        await admin.execute("SET session_replication_role = replica")
        for statement in statements:
            await admin.execute(statement)


async def list_waiting(service: TransactionsHarness) -> list[Any]:
    return await list_exceptions(service, kind=["ACH_FILE_NOT_APPLIED"])


@pytest.mark.parametrize("statement", [
    "UPDATE ach_entries SET trace_no = trace_no + 5000, version = version + 1",
    "UPDATE ach_entries SET trace_no = trace_no + 5000",
    "UPDATE ach_entries SET ach_file_id = 'achf_1', version = version + 1",
    "UPDATE ach_entries SET effective_on = effective_on + 1, version = version + 1",
    "UPDATE ach_files SET fetched_at = fetched_at + interval '1 second'",
    "UPDATE ach_files SET fetched_at = fetched_at + interval '1 second', version = version + 1",
    "UPDATE ach_files SET left_at = left_at + interval '1 second', version = version + 1",
    "UPDATE ach_files SET updated_at = updated_at + interval '1 second'",
])  # fmt: skip
async def test_no_login_alters_by_what_a_return_is_found_or_so_that_it_can_be_put_back(
    service, folders, statement
) -> None:
    deposit, _, sent = await send(service, folders)
    for fetched in folders.outbound.glob("*.ach"):
        fetched.unlink()
    await service.run(watch_ach_files)
    with pytest.raises(InsufficientPrivilegeError, match="keeps its rows as they are"):
        await alter(service, statement)
    folders.put("r.ach", build_returns([(sent[100_00], "R10")], NEXT_DAY))
    await service.run(read_ach_files)
    assert (await service.get(deposit.transaction_id)).status == T.RETURNED


@pytest.mark.parametrize(("altered", "right", "payout_status"), [
    ([ENTRY], [ENTRY_RIGHT], T.RETURNED),
    ([ENTRY, "UPDATE provider_payments SET sent_at = sent_at + interval '1 day'"],
     [ENTRY_RIGHT, "UPDATE provider_payments SET sent_at = sent_at - interval '1 day'"], T.RETURNED),
    ([FILE], [FILE_RIGHT], T.PENDING_SETTLEMENT),
    ([TRANSACTION], [TRANSACTION_RIGHT], T.RETURNED),
], ids=["its entry", "its entry and its attempt", "its file", "its transaction"])  # fmt: skip
async def test_a_return_of_what_a_login_altered_waits_is_told_to_whose_it_is_and_is_applied_once_that_is_put_right(
    service, folders, ach_urls, altered, right, payout_status
) -> None:
    deposit, payout, sent = await send(service, folders)
    await alter(service, *altered)
    folders.put("r.ach", build_returns([(sent[100_00], "R10"), (sent[50_00], "R03")], NEXT_DAY))
    for _ in range(2):
        await service.run(read_ach_files)
    assert folders.list_of(".reading") == ["r.ach"]
    assert service.dependencies.alarms["files of the bank"] == WAITS
    found = {each.transaction_id: each for each in await list_waiting(service)}
    told = found[deposit.transaction_id]
    assert (told.severity, told.provider_payment_id, told.file_name) == (E.HIGH, sent[100_00].trace, "r.ach")
    assert (told.occurrence_count, told.cause.startswith("The bank says R10. It is not applied yet")) == (2, True)
    assert (await service.get(payout.transaction_id)).status == payout_status
    with acting_as(ADMIN):  # what whoever approves is told of
        async with service.database.begin() as tx:
            read = await list_exceptions_of(tx, deposit.escrow_account_id)
    assert told.payment_exception_id in {each.payment_exception_id for each in read.found}

    await put_right(ach_urls, *right)
    await service.run(read_ach_files)
    assert (folders.list_of(".reading"), folders.list_of("processed")) == ([], ["r.ach"])
    assert "files of the bank" not in service.dependencies.alarms
    for each in (deposit, payout):
        assert (await service.get(each.transaction_id)).status == T.RETURNED
        assert (await service.events(each.transaction_id)).count("TransactionReturned") == 1


async def test_what_a_login_altered_of_an_entry_or_a_file_it_cannot_put_back(service, folders) -> None:
    await send(service, folders)
    await alter(service, ENTRY, FILE)
    for back in (ENTRY_RIGHT, FILE_RIGHT):
        for statement in (back, back.replace(", version = version - 1", "")):
            with pytest.raises(InsufficientPrivilegeError, match="keeps its rows as they are"):
                await alter(service, statement)


async def test_what_was_applied_of_a_file_that_waits_is_not_applied_or_told_again(service, folders) -> None:
    service.dependencies = replace(service.dependencies, operator_org_id=ADMIN.org_id)
    _, _, sent = await send(service, folders)
    foreign = Sent(sent[50_00].line[:-7] + "9999999")
    await alter(service, ENTRY)
    changes = [(sent[50_00], "C05"), (sent[50_00], "C06")]
    folders.put("c.ach", build_returns([*changes, (sent[100_00], "C05")], NEXT_DAY, "27"))
    folders.put("r.ach", build_returns([(foreign, "R03"), (sent[100_00], "R10")], NEXT_DAY))
    for _ in range(3):
        await service.run(read_ach_files)
    assert folders.list_of(".reading") == ["c.ach", "r.ach"]
    found = [(each.kind, each.occurrence_count) for each in await list_exceptions(service)]
    assert sorted(found) == sorted([
        (E.ACH_CHANGE_ASKED_FOR, 2),
        (E.ACH_RETURN_NOT_OURS, 1),
        (E.ACH_FILE_NOT_APPLIED, 3),
        (E.ACH_FILE_NOT_APPLIED, 3),
    ])  # fmt: skip


async def test_what_sql_made_up_holds_up_no_file_and_what_is_altered_is_said_of_what_is_about_none(
    service, folders
) -> None:
    service.dependencies = replace(service.dependencies, operator_org_id=ADMIN.org_id)
    _, _, sent = await send(service, folders)
    async with service.database.begin(ADMIN.org_id) as tx:
        made_up = sa.text(
            "INSERT INTO ach_entries SELECT (e).* FROM (SELECT jsonb_populate_record(e, jsonb_build_object("
            "'ach_entry_id', 'ach_0', 'provider_key', 'x', 'transaction_id', 'txn_0', 'trace_no', 9999999)) AS e"
            " FROM ach_entries e WHERE is_inbound) made_up"
        )
        await tx.execute(made_up)
    folders.put("r.ach", build_returns([(Sent(sent[100_00].line[:-7] + "9999999"), "R10")], NEXT_DAY))
    await service.run(read_ach_files)
    assert folders.list_of("questions") == ["r.ach"]
    [told] = await list_exceptions(service)
    assert told.kind == E.ACH_RETURN_NOT_OURS
    assert told.cause.endswith("Some of our entries or files were altered in the database: it may be about one.")


@pytest.mark.parametrize(("verdict", "statuses"), [
    ("ACCEPTED", [T.SETTLED, T.COMPLETED]), ("REJECTED WHY", [T.FAILED, T.FAILED])
])  # fmt: skip
async def test_what_the_bank_says_of_a_file_that_a_login_altered_waits_and_is_told_until_it_is_put_right(
    service, folders, ach_urls, verdict, statuses
) -> None:
    *made, _ = await send(service, folders)
    [file] = folders.outbound.glob("*.ach")
    await alter(service, FILE)
    word, _, reason = verdict.partition(" ")
    folders.put("x.ack", f"FILE {file.name} {word} 2 100.00 50.00 {reason}".encode())
    service.clock.set(CUT_OFF + timedelta(days=2))
    for _ in range(2):
        await service.run(read_ach_files)
    assert (folders.list_of(".reading"), service.dependencies.alarms["files of the bank"]) == (["x.ack"], WAITS)
    [told] = await list_waiting(service)
    assert (told.file_name, told.occurrence_count) == (file.name, 2)
    assert told.cause.startswith(f"The bank says {word}, in “x.ack”. It is not applied yet")

    await put_right(ach_urls, FILE_RIGHT)
    await service.run(read_ach_files)
    await service.work(hurried=True)
    assert (folders.list_of(".reading"), folders.list_of("processed")) == ([], ["x.ack"])
    assert [(await service.get(each.transaction_id)).status for each in made] == statuses


async def test_a_file_of_which_a_login_hides_what_came_back_is_not_rejected(service, folders, ach_urls) -> None:
    *made, sent = await send(service, folders)
    [file] = folders.outbound.glob("*.ach")
    folders.put("r.ach", build_returns([(sent[100_00], "R02")], NEXT_DAY))
    await service.run(read_ach_files)
    await alter(service, ENTRY)
    folders.put("x.ack", f"FILE {file.name} REJECTED 2 100.00 50.00 WHY".encode())
    await service.run(read_ach_files)
    assert folders.list_of(".reading") == ["x.ack"]
    await put_right(ach_urls, ENTRY_RIGHT)
    await service.run(read_ach_files)
    await service.work(hurried=True)
    assert folders.list_of("questions") == ["x.ack"]
    assert [(await service.get(each.transaction_id)).status for each in made] == [T.RETURNED, T.PENDING_SETTLEMENT]


async def test_what_the_bank_says_of_a_day_and_number_that_an_altered_file_has_too_waits(service, folders) -> None:
    """It is said of one of them, and nobody knows of which."""
    *made, _ = await send(service, folders)
    copied = """
        INSERT INTO ach_files SELECT (jsonb_populate_record(f, jsonb_build_object(
            'ach_file_id', 'achf_copy', 'status', 'MADE', 'left_at', NULL, 'digest', NULL))).* FROM ach_files f;
    """
    await alter(
        service,
        copied,
        "UPDATE ach_files SET version = version + 1, status = 'LEFT', left_at = now(),"
        " digest = 'x' WHERE ach_file_id = 'achf_copy'",
    )
    providers = service.dependencies.providers
    by_day = replace(ACKNOWLEDGED, accepted=re.compile(rf"(?P<date>\d{{6}})/(?P<modifier>\S) ACCEPTED {SUMS}"))
    files = replace(providers.ach_files, acknowledgements=by_day)
    service.dependencies = replace(service.dependencies, providers=replace(providers, ach_files=files))
    folders.put("x.ack", b"241202/A ACCEPTED 2 100.00 50.00")
    service.clock.set(CUT_OFF + timedelta(days=2))
    await service.run(read_ach_files)
    await service.work(hurried=True)
    assert (folders.list_of(".reading"), len(await list_waiting(service))) == (["x.ack"], 1)
    assert [(await service.get(each.transaction_id)).status for each in made] == [T.PENDING_SETTLEMENT] * 2
