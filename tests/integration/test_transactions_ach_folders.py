"""The folders that we share with the bank: whoever else writes there is found out, and keeps nobody from going on."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from importlib import import_module
from pathlib import Path

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from services.transactions.jobs.read_ach_files import read_ach_files
from services.transactions.jobs.watch_ach_files import watch_ach_files
from services.transactions.jobs.write_ach_files import write_ach_files
from services.transactions.providers.ach_file import folders as folder_rules
from tests.integration.ach_desk import CUT_OFF, T, leave, order
from tests.support.ach import build_returns, list_sent
from tests.support.transactions import ADMIN

pytest_plugins = ("tests.integration.ach_desk",)

READING = import_module("services.transactions.jobs.read_ach_files")


async def watch(service) -> list[str]:
    """The files that it told to be foreign."""
    with capture_logs() as logs:
        await service.run(watch_ach_files)
    return [each["file"] for each in logs if each["event"] == "ach_file_foreign"]


def list_held(folders) -> list[str]:
    return sorted(folder_rules.spell_name(each) for each in (folders.outbound / ".held").glob("*"))


async def test_a_file_that_lies_there_as_it_was_released_is_left_to_the_bank(service, folders) -> None:
    await order(service)
    await leave(service)
    sent = folders.sent
    assert (await watch(service), folders.sent == sent, list_held(folders)) == ([], True, [])


async def test_a_file_in_which_somebody_changed_where_the_money_goes_is_taken_away_and_told(service, folders) -> None:
    await order(service)
    await leave(service)
    [file] = folders.outbound.glob("*.ach")
    whole = file.read_bytes()
    account = list_sent(whole)[0].account_number.encode()
    file.write_bytes(whole.replace(account, b"6" * len(account)))
    assert await watch(service) == [file.name]
    assert (folders.sent, list_held(folders)) == ([], [file.name])
    assert await watch(service) == [], "what was taken away counts as fetched no more than what lies there"
    file.write_bytes(whole)
    assert await watch(service) == [], "put back as it was, it goes"


async def test_a_file_that_the_bank_has_fetched_goes_no_second_time(service, folders) -> None:
    await order(service)
    await leave(service)
    [file] = folders.outbound.glob("*.ach")
    whole = file.read_bytes()
    file.unlink()
    assert await watch(service) == []
    for laid in (1, 2):
        file.write_bytes(whole)
        assert await watch(service) == [file.name]
        assert (folders.sent, len(list_held(folders))) == ([], laid)


async def test_a_file_that_left_days_ago_goes_no_second_time_though_nobody_looked_meanwhile(service, folders) -> None:
    await order(service)
    await leave(service)
    [file] = folders.outbound.glob("*.ach")
    service.clock.set(CUT_OFF + timedelta(days=3))  # Thursday, the third banking day after it
    assert await watch(service) == []
    service.clock.set(CUT_OFF + timedelta(days=4))
    assert await watch(service) == [file.name]
    assert (folders.sent, list_held(folders)) == ([], [file.name])


async def test_that_a_file_was_fetched_does_not_put_off_its_settlement(service, folders) -> None:
    deposit, _ = await order(service)
    await leave(service)
    [file] = folders.outbound.glob("*.ach")
    file.unlink()
    service.clock.set(CUT_OFF + timedelta(days=1))
    await watch(service)
    await service.work(hurried=True)
    assert (await service.get(deposit.transaction_id)).status == T.SETTLED


def make_copy(file: Path) -> Path:
    copy = file.with_name(file.name.replace("-00-", "-01-"))
    copy.write_bytes(file.read_bytes())
    return copy


def make_forged(file: Path) -> Path:
    forged = file.with_name(file.name[:-9] + "00000.ach")
    forged.write_bytes(file.read_bytes())
    return forged


def make_other_name(file: Path) -> Path:
    other = file.with_name("PAYROLL.TXT")
    other.write_bytes(b"6226" * 100)
    return other


def make_link(file: Path) -> Path:
    link = file.with_name("link.ach")
    link.symlink_to(file)
    return link


def make_folder(file: Path) -> Path:
    folder = file.with_name("folder.ach")
    folder.mkdir()
    return folder


def make_unreadable_name(file: Path) -> Path:
    odd = Path(os.fsdecode(os.fsencode(file.parent) + b"/R\xdcCK.ach"))
    odd.write_bytes(b"x")
    return odd


@pytest.mark.parametrize(
    "make", [make_copy, make_forged, make_other_name, make_link, make_folder, make_unreadable_name]
)
async def test_what_we_did_not_release_is_taken_away_and_told_and_ours_stays(service, folders, make) -> None:
    await order(service)
    await leave(service)
    [file] = folders.outbound.glob("*.ach")
    told = folder_rules.spell_name(make(file))
    assert await watch(service) == [told]
    assert list_held(folders) == [told]
    assert file.exists()


async def test_a_file_of_a_row_that_sql_made_up_is_none_of_ours(service, folders) -> None:
    await order(service)
    await leave(service)
    [file] = folders.outbound.glob("*.ach")
    async with service.database.begin(ADMIN.org_id) as tx:
        await tx.execute(sa.text("UPDATE ach_files SET version = version + 5"))
    assert await watch(service) == [file.name]


async def test_a_file_that_nobody_takes_to_the_bank_is_told(service, folders) -> None:
    await order(service)
    await leave(service)
    [file] = folders.outbound.glob("*.ach")
    for hours, told in ((0, []), (5, [file.name])):
        then = time.time() - hours * 3600
        os.utime(file, (then, then))
        with capture_logs() as logs:
            await service.run(watch_ach_files)
        assert [each["file"] for each in logs if each["event"] == "ach_file_not_fetched"] == told


async def test_a_file_of_an_odd_name_or_size_keeps_no_other_from_being_read(service, folders, monkeypatch) -> None:
    deposit, _ = await order(service)
    await leave(service)
    sent = next(each for each in list_sent(folders.sent[0]) if each.amount_minor == 100_00)
    monkeypatch.setattr(READING, "FILE_BYTES_MAX", 10_000)
    folders.put(os.fsdecode(b"a\xff.ach"), b"junk")
    folders.put("b-large.ach", b"1" * 10_001)
    folders.put("c.ach", build_returns([(sent, "R02")], (CUT_OFF + timedelta(days=1)).date()))
    await service.run(read_ach_files)
    assert len(folders.list_of("rejected")) == 2
    assert folders.list_of("processed") == ["c.ach"]
    assert (await service.get(deposit.transaction_id)).status == T.RETURNED


async def test_a_file_that_cannot_leave_or_be_put_away_waits_for_the_next_minute(service, folders) -> None:
    """A job that says that it did something is run again at once."""
    await order(service)
    folders.put("processed", b"not a folder")
    (folders.outbound / ".staging").write_bytes(b"not a folder")
    service.clock.set(CUT_OFF)
    assert await service.run(write_ach_files) == 0
    (folders.outbound / ".staging").unlink()
    assert await service.run(write_ach_files) == 1
    sent = list_sent(folders.sent[0])
    folders.put("r.ach", build_returns([(sent[0], "R02")], (CUT_OFF + timedelta(days=1)).date()))
    (folders.inbound / "rejected").write_bytes(b"not a folder")
    assert await service.run(read_ach_files) == 0
