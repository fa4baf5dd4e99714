"""Acknowledgements: nothing settles before the bank accepts its file, and what it rejects has failed, and says why."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from importlib import import_module
from typing import Any

import pytest
import sqlalchemy as sa
from realco.transactions.v1 import exceptions_pb2
from realco.type.v1.event_pb2 import EventMeta
from structlog.testing import capture_logs

from services.chassis.calls.auth import Principal, acting_as, service_principal
from services.chassis.data.heard_persons import record_persons
from services.chassis.values.errors import DomainError
from services.transactions.domain.ach import FileStatus
from services.transactions.jobs.read_ach_files import read_ach_files
from services.transactions.jobs.watch_ach_files import watch_ach_files
from services.transactions.store import ach
from tests.integration.ach_desk import CUT_OFF, Folders, T, leave, order
from tests.support.ach import build_returns, list_sent
from tests.support.exceptions import list_exceptions, resolve
from tests.support.transactions import ADMIN, TransactionsHarness

pytest_plugins = ("tests.integration.ach_desk",)

E = exceptions_pb2.PaymentException
SUMS = "2 100.00 50.00"
SETTLED = CUT_OFF.replace(day=3, hour=13)


@pytest.fixture
def service(ach_service: TransactionsHarness) -> TransactionsHarness:
    return ach_service


@pytest.fixture
def acknowledges() -> bool:
    return True


async def send(service: TransactionsHarness) -> tuple[Any, Any]:
    """A contribution and a payout that left."""
    made = await order(service)
    await leave(service)
    return made


def name_of(folders: Folders) -> str:
    [file] = folders.outbound.glob("*.ach")
    return file.name


async def say(service: TransactionsHarness, folders: Folders, verdict: str, name: str = "", sums: str = SUMS) -> None:
    """The bank says something of the only file."""
    word, _, reason = verdict.partition(" ")
    folders.put(f"{word[:3]}.ack", f"FILE {name or name_of(folders)} {word} {sums} {reason}".encode())
    await service.run(read_ach_files)


async def statuses(service: TransactionsHarness, made: tuple[Any, Any]) -> list[int]:
    await service.work(hurried=True)
    return [(await service.get(each.transaction_id)).status for each in made]


async def list_kinds(service: TransactionsHarness) -> list[int]:
    return [each.kind for each in await list_exceptions(service)]


async def test_nothing_settles_before_the_bank_has_accepted_its_file(service, folders) -> None:
    made = await send(service)
    service.clock.set(SETTLED + timedelta(hours=1))
    assert await statuses(service, made) == [T.PENDING_SETTLEMENT] * 2
    await say(service, folders, "ACCEPTED")
    assert await statuses(service, made) == [T.SETTLED, T.COMPLETED]
    settled = (await service.get(made[0].transaction_id)).settle_time.ToDatetime(SETTLED.tzinfo)
    assert settled == SETTLED, "on its day, whenever the bank says so"
    assert folders.list_of("processed") == ["ACC.ack"]


async def test_what_the_bank_rejects_has_failed_once_and_says_why_and_its_number_nowhere(service, folders) -> None:
    made = await send(service)
    name = name_of(folders)
    for _ in range(2):
        await say(service, folders, "REJECTED BATCH OUT OF BALANCE, ACCOUNT 000111111102", name)
        assert await statuses(service, made) == [T.FAILED] * 2
    for each in made:
        failure = (await service.get(each.transaction_id)).failure
        assert failure.message.endswith("“the file was rejected: BATCH OUT OF BALANCE, ACCOUNT …”.")
        assert (await service.events(each.transaction_id)).count("TransactionFailed") == 1
    [told] = await list_exceptions(service, kind=["ACH_FILE_REJECTED"])
    assert (told.kind, told.occurrence_count) == (E.ACH_FILE_REJECTED, 1)
    assert (told.cause, told.severity) == ("The bank says: “BATCH OUT OF BALANCE, ACCOUNT …”", E.HIGH)
    service.clock.set(SETTLED + timedelta(days=1))
    assert await statuses(service, made) == [T.FAILED] * 2


@pytest.mark.parametrize(("first", "second", "after"), [
    ("ACCEPTED", "REJECTED WHY", [T.SETTLED, T.COMPLETED]),
    ("REJECTED WHY", "ACCEPTED", [T.FAILED, T.FAILED]),
])  # fmt: skip
async def test_what_the_bank_says_first_of_a_file_counts_and_the_contrary_calls_a_person(
    service, folders, first, second, after
) -> None:
    made = await send(service)
    name = name_of(folders)
    service.clock.set(SETTLED)
    await say(service, folders, first, name)
    assert await statuses(service, made) == after
    await say(service, folders, second, name)
    assert await statuses(service, made) == after
    assert E.ACH_ACKNOWLEDGEMENT_NOT_OURS in await list_kinds(service)


@pytest.mark.parametrize(("name", "sums"), [
    ("org-1-20241202-00-achf_00000000000000000000000000.ach", SUMS),
    ("", "2 100.00 50.01"),
    ("", "3 100.00 50.00"),
])  # fmt: skip
async def test_what_is_said_of_another_file_or_of_other_sums_is_not_believed(service, folders, name, sums) -> None:
    service.dependencies = replace(service.dependencies, operator_org_id=ADMIN.org_id)
    made = await send(service)
    await say(service, folders, "REJECTED WHY", name, sums)
    assert await statuses(service, made) == [T.PENDING_SETTLEMENT] * 2
    assert (folders.list_of("questions"), await list_kinds(service)) == (["REJ.ack"], [E.ACH_ACKNOWLEDGEMENT_NOT_OURS])


@pytest.mark.parametrize(("code", "status"), [("R02", T.RETURNED), ("C01", T.PENDING_SETTLEMENT)])
async def test_what_came_back_had_been_accepted_whatever_is_said_later(service, folders, code, status) -> None:
    made = await send(service)
    sent = next(each for each in list_sent(folders.sent[0]) if each.amount_minor == 100_00)
    folders.put("r.ach", build_returns([(sent, code)], SETTLED.date(), corrected="000222222222"))
    await service.run(read_ach_files)
    await say(service, folders, "REJECTED WHY")
    assert await statuses(service, made) == [status, T.PENDING_SETTLEMENT]
    assert E.ACH_ACKNOWLEDGEMENT_NOT_OURS in await list_kinds(service)


@pytest.mark.parametrize("code", ["R02", "C01"])
async def test_a_return_of_what_was_rejected_calls_a_person_and_moves_nothing(service, folders, code) -> None:
    made = await send(service)
    sent = next(each for each in list_sent(folders.sent[0]) if each.amount_minor == 100_00)
    await say(service, folders, "REJECTED WHY")
    folders.put("r.ach", build_returns([(sent, code)], SETTLED.date(), corrected="000222222222"))
    await service.run(read_ach_files)
    assert await statuses(service, made) == [T.FAILED] * 2
    assert E.ACH_REJECTED_FILE_PAID in await list_kinds(service)


async def test_a_file_of_which_the_bank_says_nothing_in_time_is_told_and_neither_settles_nor_fails(
    service, folders
) -> None:
    made, name = await send(service), name_of(folders)
    (folders.outbound / name).unlink()
    for minutes, kinds in ((119, []), (121, [E.ACH_FILE_NOT_ACKNOWLEDGED])):
        service.clock.set(CUT_OFF + timedelta(minutes=minutes))
        await service.run(watch_ach_files)
        assert await list_kinds(service) == kinds
    service.clock.set(SETTLED + timedelta(days=90))
    [told] = await list_exceptions(service)
    await resolve(service, told, "The bank will send it.", Principal("admin-9", "admin", ADMIN.org_id))
    await service.run(watch_ach_files)
    [again] = await list_exceptions(service, kind=["ACH_FILE_NOT_ACKNOWLEDGED"])
    assert again.status == E.OPEN, "however long ago it left"
    assert await statuses(service, made) == [T.PENDING_SETTLEMENT] * 2
    await say(service, folders, "ACCEPTED", name)
    assert await statuses(service, made) == [T.SETTLED, T.COMPLETED]


async def test_nobody_says_alone_that_a_file_is_settled_who_had_a_part_in_a_payment_in_it_or_is_paid(
    service, folders
) -> None:
    """Of a file that was rejected two persons decide what is paid anew, as long as its exception is open."""
    deposit, _ = await send(service)
    await say(service, folders, "REJECTED WHY")
    [told] = await list_exceptions(service)
    orders = await service.get(deposit.transaction_id)
    with acting_as(service_principal("transactions", ADMIN.org_id)):
        async with service.database.begin() as tx:
            await record_persons(tx, "inv-002", ["payee"], EventMeta(aggregate_version=1))
    for person, reason in ((orders.created_by, "MAKER_IS_CHECKER"), ("payee", "BENEFICIARY_IS_CHECKER")):
        with pytest.raises(DomainError) as refused:
            await resolve(service, told, "Asked the bank.", Principal(person, "admin", ADMIN.org_id))
        assert refused.value.reason == reason
    await resolve(service, told, "Asked the bank.", Principal("admin-9", "admin", ADMIN.org_id))


async def test_a_file_that_waits_for_its_acknowledgement_is_told_where_none_is_expected_any_more(
    service, folders
) -> None:
    made = await send(service)
    providers = service.dependencies.providers
    without = replace(providers.ach_files, acknowledgements=None)
    service.dependencies = replace(service.dependencies, providers=replace(providers, ach_files=without))
    for fetched in folders.outbound.glob("*.ach"):
        fetched.unlink()
    service.clock.set(SETTLED + timedelta(days=1))
    await service.run(watch_ach_files)
    assert await list_kinds(service) == [E.ACH_FILE_NOT_ACKNOWLEDGED]
    assert await statuses(service, made) == [T.PENDING_SETTLEMENT] * 2


async def test_a_file_that_somebody_altered_is_accepted_and_rejected_by_nobody(service, folders) -> None:
    made = await send(service)
    async with service.database.begin(ADMIN.org_id) as tx:
        await tx.execute(sa.text("UPDATE ach_files SET version = version + 1"))
    await say(service, folders, "REJECTED WHY")
    assert await statuses(service, made) == [T.PENDING_SETTLEMENT] * 2


async def test_what_says_nothing_is_kept_and_told_and_returns_are_read_as_before(service, folders) -> None:
    service.dependencies = replace(service.dependencies, operator_org_id=ADMIN.org_id)
    await send(service)
    folders.put("x.ack", b"HELLO")
    await service.run(read_ach_files)
    assert (folders.list_of("rejected"), await list_kinds(service)) == (["x.ack"], [E.ACH_FILE_UNREADABLE])


async def test_what_the_bank_rejected_goes_no_second_time_for_what_is_in_it_has_failed(service, folders) -> None:
    await send(service)
    name, [whole] = name_of(folders), folders.sent
    await say(service, folders, "REJECTED WHY", name)
    assert (await service.run(watch_ach_files), folders.sent) == (1, [])
    assert await list_kinds(service) == [E.ACH_FILE_REJECTED], "it lay there still"
    await service.run(watch_ach_files)
    (folders.outbound / name).write_bytes(whole)
    assert (await service.run(watch_ach_files), folders.sent) == (1, [])
    told = next(each for each in await list_exceptions(service) if each.kind == E.ACH_FILE_FOREIGN)
    assert told.cause.startswith("The bank rejected it,"), "somebody laid it there again"


async def test_what_was_accepted_before_anybody_looked_and_lies_there_again_is_taken_away(service, folders) -> None:
    await send(service)
    name, [whole] = name_of(folders), folders.sent
    (folders.outbound / name).unlink()
    await say(service, folders, "ACCEPTED", name)
    await service.run(watch_ach_files)
    (folders.outbound / name).write_bytes(whole)
    assert (await service.run(watch_ach_files), folders.sent) == (1, [])


async def test_an_acknowledgement_of_a_name_that_another_has_that_is_still_read_is_one(
    service, folders, monkeypatch
) -> None:
    made = await send(service)
    reading = import_module("services.transactions.jobs.read_ach_files")

    async def fail(*_: object) -> str:
        raise OSError("the disk is full")

    folders.put("ACC.ack", b"FILE x ACCEPTED 1 1.00 1.00")
    with monkeypatch.context() as broken:
        broken.setattr(reading, "apply_acknowledgements", fail)
        with pytest.raises(OSError, match="full"):
            await service.run(read_ach_files)
    service.clock.set(SETTLED)
    await say(service, folders, "ACCEPTED")
    assert await statuses(service, made) == [T.SETTLED, T.COMPLETED]
    assert (folders.list_of("processed"), folders.list_of("rejected")) == (["ACC.ack.2"], ["ACC.ack"])


async def test_however_many_rows_sql_made_up_like_a_file_it_is_found_among_those_that_left(service) -> None:
    await send(service)
    async with service.database.begin_for_all() as tx:
        forged = sa.text(
            "INSERT INTO ach_files SELECT (f).* FROM (SELECT jsonb_populate_record(f, jsonb_build_object("
            "'org_id', 'org-0' || n)) AS f FROM ach_files f, generate_series(1, 2500) n) forged"
        )
        await tx.execute(forged)
    for found in (
        await ach.list_not_fetched(service.database),
        await ach.list_acknowledgeable(service.database, CUT_OFF.date()),
    ):
        assert [(org_id, file.status) for org_id, file in found] == [(ADMIN.org_id, FileStatus.LEFT)]


async def test_a_file_of_many_lines_is_read_apart_and_our_files_are_listed_once_for_it(
    service, folders, monkeypatch
) -> None:
    await send(service)
    listed, threads = [], []
    job = import_module("services.transactions.jobs.apply_acknowledgements")
    list_ours, read = ach.list_acknowledgeable, job.read_acknowledgements

    async def list_and_count(*about: Any) -> Any:
        listed.append(about)
        return await list_ours(*about)

    def read_and_tell(*about: Any) -> Any:
        threads.append(threading.get_ident())
        return read(*about)

    monkeypatch.setattr(ach, "list_acknowledgeable", list_and_count)
    monkeypatch.setattr(job, "read_acknowledgements", read_and_tell)
    lines = [f"FILE {name_of(folders)} ACCEPTED {number} 1 1" for number in range(3, 8)]
    folders.put("many.ack", "\n".join(lines).encode())
    await service.run(read_ach_files)
    assert len(listed) == 1
    assert threads
    assert threading.get_ident() not in threads


async def test_a_number_that_no_computer_reads_is_told_and_its_file_is_put_away(service, folders) -> None:
    await send(service)
    with capture_logs() as logs:
        await say(service, folders, "ACCEPTED", sums=f"2 {'1' * 5000} 50.00")
    assert "ach_file_unreadable" in {each["event"] for each in logs}
    assert [path.name for path in (folders.inbound / "rejected").iterdir()] == ["ACC.ack"]
