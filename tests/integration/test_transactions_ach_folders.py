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

from services.transactions.commands.exceptions import report_apart
from services.transactions.jobs.read_ach_files import read_ach_files
from services.transactions.jobs.watch_ach_files import watch_ach_files
from services.transactions.jobs.write_ach_files import write_ach_files
from services.transactions.providers.ach_file import folders as folder_rules
from services.transactions.providers.ach_file.folders import Folder
from tests.integration.ach_desk import CUT_OFF, T, leave, order
from tests.support.ach import build_returns, list_sent
from tests.support.transactions import ADMIN, TransactionsHarness

pytest_plugins = ("tests.integration.ach_desk",)

READING = import_module("services.transactions.jobs.read_ach_files")
WATCHING = import_module("services.transactions.jobs.watch_ach_files")
WRITING = import_module("services.transactions.jobs.write_ach_files")


@pytest.fixture
def service(ach_service: TransactionsHarness) -> TransactionsHarness:
    return ach_service


async def watch(service) -> list[str]:
    """The files that it told to be foreign."""
    with capture_logs() as logs:
        await service.run(watch_ach_files)
    return [each["file"] for each in logs if each["event"] == "ach_file_foreign"]


def list_held(folders) -> list[str]:
    return sorted(folder_rules.spell_name(each.name) for each in (folders.outbound / ".held").glob("*"))


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


def make_dot_name(file: Path) -> Path:
    hidden = file.with_name(".hidden.ach")
    hidden.write_bytes(b"6226" * 100)
    return hidden


def make_link_to_a_long_name(file: Path) -> Path:
    link = file.with_name("zz")
    link.symlink_to("a" * 300)
    return link


def make_long_name(file: Path) -> Path:
    long = file.with_name("a" * 255)
    long.write_bytes(b"x")
    return long


def make_pipe(file: Path) -> Path:
    pipe = file.with_name("pipe.ach")
    os.mkfifo(pipe)
    return pipe


MAKERS = [make_copy, make_forged, make_other_name, make_link, make_folder, make_unreadable_name, make_dot_name]
MAKERS += [make_link_to_a_long_name, make_long_name, make_pipe]


@pytest.mark.parametrize("make", MAKERS)
async def test_what_we_did_not_release_is_taken_away_and_told_and_ours_stays(service, folders, make) -> None:
    await order(service)
    await leave(service)
    [file] = folders.outbound.glob("*.ach")
    told = folder_rules.spell_name(make(file).name)
    assert await watch(service) == [told]
    assert list_held(folders) == [told]
    assert file.exists()


async def test_a_name_that_was_held_before_is_held_again_however_long_it_is(service, folders) -> None:
    await order(service)
    await leave(service)
    [file] = folders.outbound.glob("*.ach")
    for held in (1, 2, 3):
        for make in (make_long_name, make_link_to_a_long_name):
            make(file)
        assert len(await watch(service)) == 2
        assert len(list_held(folders)) == 2 * held


async def test_what_lies_where_files_are_written_is_compared_too(service, folders) -> None:
    await order(service)
    await leave(service)
    [file] = folders.outbound.glob("*.ach")
    staging = folders.outbound / ".staging"
    names = ["evil.ach", f".{file.name}.part", file.name]
    for name in names:
        (staging / name).write_bytes(file.read_bytes())
    assert await watch(service) == sorted(f".staging/{name}" for name in names)
    kept = names
    assert (list_held(folders), file.exists()) == (sorted(kept), True)


async def test_a_file_that_is_being_written_is_left_alone(service, folders, monkeypatch) -> None:
    await order(service)
    staging = folders.outbound / ".staging"

    def stage_a_part(outbound: Path, name: str, content: bytes) -> None:
        staging.mkdir()
        for each in (f".{name}.part", name):
            (staging / each).write_bytes(content[:100])
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(WRITING, "stage", stage_a_part)
        await leave(service)
    assert (await watch(service), len(list(staging.iterdir()))) == ([], 2)
    with monkeypatch.context() as patch:
        patch.setattr(WRITING, "move_out", lambda *_: 1 / 0)
        await service.run(write_ach_files)
    assert (await watch(service), len(list(staging.iterdir()))) == ([], 1), "released, and not moved yet"
    await service.run(write_ach_files)
    assert (await watch(service), len(folders.sent)) == ([], 1)


@pytest.mark.parametrize(
    "make", [Path.touch, lambda path: path.symlink_to("a" * 300), lambda path: path.symlink_to(".")]
)
async def test_what_stands_in_the_place_of_the_folder_for_what_is_held_keeps_nothing_from_being_held(
    service, folders, make
) -> None:
    await order(service)
    await leave(service)
    [file] = folders.outbound.glob("*.ach")
    make(folders.outbound / ".held")
    make_other_name(file)
    assert await watch(service) == [".held", "PAYROLL.TXT"]
    assert list_held(folders) == ["PAYROLL.TXT"]
    [aside] = await watch(service)
    assert aside.startswith(".held.")
    assert list_held(folders) == sorted([aside, "PAYROLL.TXT"])
    assert await watch(service) == []


async def test_what_cannot_be_told_or_held_keeps_no_other_from_it(service, folders, monkeypatch) -> None:
    await order(service)
    await leave(service)
    [file] = folders.outbound.glob("*.ach")
    for make in (make_dot_name, make_other_name):
        make(file)

    async def refuse_one(*args, **more) -> None:
        await report_apart(*args, **more)
        if args[3].file_name == ".hidden.ach":
            raise RuntimeError("the database is away")

    put_away = Folder.put_away

    def hold_one(folder: Folder, name: str, kept: Folder) -> None:
        if name == ".hidden.ach":
            raise PermissionError(name)
        put_away(folder, name, kept)

    monkeypatch.setattr(WATCHING, "report_apart", refuse_one)
    monkeypatch.setattr(Folder, "put_away", hold_one)
    with capture_logs() as logs, pytest.raises(PermissionError):
        await service.run(watch_ach_files)
    assert [each["file"] for each in logs if each["event"] == "ach_file_foreign"] == [".hidden.ach", "PAYROLL.TXT"]
    assert list_held(folders) == ["PAYROLL.TXT"]


async def test_however_many_files_lie_there_what_is_not_named_as_ours_is_not_read_and_held_before_it_is_told(
    service, folders, monkeypatch
) -> None:
    await order(service)
    await leave(service)
    [ours] = folders.outbound.glob("*.ach")
    large = folders.outbound / "a.ach"
    large.touch()
    os.truncate(large, folder_rules.FILE_BYTES_MAX)
    for number in range(50):
        os.link(large, folders.outbound / f"b{number}.ach")
    read, held, read_whole = [], [], Folder.read_whole

    def read_and_note(folder: Folder, name: str) -> bytes | None:
        read.append(name)
        return read_whole(folder, name)

    async def tell_once_all_are_held(*args, **more) -> None:
        held.append(len(list_held(folders)))
        await report_apart(*args, **more)

    monkeypatch.setattr(Folder, "read_whole", read_and_note)
    monkeypatch.setattr(WATCHING, "report_apart", tell_once_all_are_held)
    assert await service.run(watch_ach_files) == 51
    assert (read, held) == ([ours.name], [51] * 51)


async def test_a_file_of_a_row_that_sql_made_up_is_none_of_ours(service, folders) -> None:
    await order(service)
    await leave(service)
    [file] = folders.outbound.glob("*.ach")
    async with service.database.begin(ADMIN.org_id) as tx:
        await tx.execute(sa.text("UPDATE ach_files SET version = version + 1"))
    assert await watch(service) == [file.name]


async def test_a_file_that_nobody_takes_to_the_bank_is_told(service, folders) -> None:
    await order(service)
    await leave(service)
    [file] = folders.outbound.glob("*.ach")
    os.utime(file, (time.time() + 86_400,) * 2)  # whatever its own clock says
    for hours, told in ((0, []), (5, [file.name])):
        service.clock.advance(timedelta(hours=hours))
        with capture_logs() as logs:
            await service.run(watch_ach_files)
        assert [each["file"] for each in logs if each["event"] == "ach_file_not_fetched"] == told


async def test_a_file_of_an_odd_name_or_size_keeps_no_other_from_being_read(service, folders, monkeypatch) -> None:
    deposit, _ = await order(service)
    await leave(service)
    sent = next(each for each in list_sent(folders.sent[0]) if each.amount_minor == 100_00)
    monkeypatch.setattr(folder_rules, "FILE_BYTES_MAX", 10_000)
    folders.put(os.fsdecode(b"a\xff.ach"), b"junk")
    folders.put("b-large.ach", b"1" * 10_001)
    folders.put("c.ach", build_returns([(sent, "R02")], (CUT_OFF + timedelta(days=1)).date()))
    await service.run(read_ach_files)
    assert len(folders.list_of("rejected")) == 2
    assert folders.list_of("processed") == ["c.ach"]
    assert (await service.get(deposit.transaction_id)).status == T.RETURNED


async def test_a_file_that_cannot_be_put_away_waits_for_the_next_minute(service, folders, monkeypatch) -> None:
    """A job that says that it did something is run again at once."""
    await order(service)
    await leave(service)
    sent = list_sent(folders.sent[0])
    folders.put("r.ach", build_returns([(sent[0], "R02")], (CUT_OFF + timedelta(days=1)).date()))
    open_own = Folder.open_own

    def refuse_one(folder: Folder, name: str) -> Folder:
        if name == "processed":
            raise PermissionError(name)
        return open_own(folder, name)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "open_own", refuse_one)
        with pytest.raises(PermissionError):
            await service.run(read_ach_files)
    assert await service.run(read_ach_files) == 1


@pytest.mark.parametrize("make", [make_link_to_a_long_name, make_pipe, make_long_name, make_link])
async def test_what_is_no_file_is_put_away_and_keeps_no_other_from_being_read(service, folders, make) -> None:
    deposit, _ = await order(service)
    await leave(service)
    sent = next(each for each in list_sent(folders.sent[0]) if each.amount_minor == 100_00)
    odd = make(folders.inbound / "file.ach")
    long_ago = time.time() - 60
    os.utime(odd, (long_ago, long_ago), follow_symlinks=False)
    folders.put("zzz.ach", build_returns([(sent, "R02")], (CUT_OFF + timedelta(days=1)).date()))
    with capture_logs() as logs:
        assert await service.run(read_ach_files) == 2
    assert [each["file"] for each in logs if each["event"] == "ach_file_unreadable"] == [odd.name]
    assert (folders.list_of("rejected"), folders.list_of("processed")) == ([odd.name], ["zzz.ach"])
    assert (await service.get(deposit.transaction_id)).status == T.RETURNED


async def test_a_file_that_is_replaced_while_it_is_read_is_read_in_its_turn(service, folders, monkeypatch) -> None:
    deposit, payout = await order(service)
    await leave(service)
    sent, day = list_sent(folders.sent[0]), (CUT_OFF + timedelta(days=1)).date()
    ours = {each.amount_minor == 100_00: each for each in sent}
    folders.put("RETURNS.ACH", build_returns([(ours[True], "R02")], day))

    async def apply_and_replace(*args):
        folders.put("RETURNS.ACH", build_returns([(ours[False], "R03")], day))
        return await applied(*args)

    applied = READING._apply
    with monkeypatch.context() as patch:
        patch.setattr(READING, "_apply", apply_and_replace)
        assert await service.run(read_ach_files) == 1
    assert await service.run(read_ach_files) == 1
    assert folders.list_of("processed") == ["RETURNS.ACH", "RETURNS.ACH.2"]
    for each in (deposit, payout):
        assert (await service.get(each.transaction_id)).status == T.RETURNED


@pytest.mark.parametrize(("name", "hours"), [("late.ach", -1), (".part", 5), (".part", 3)])
async def test_a_file_that_lies_there_unread_is_told(service, folders, name, hours) -> None:
    folders.put(name, b"x")
    then = time.time() - hours * 3600
    os.utime(folders.inbound / name, (then, then))
    with capture_logs() as logs:
        assert await service.run(read_ach_files) == 0
    told = [each["file"] for each in logs if each["event"] == "ach_file_unreadable"]
    assert told == ([] if hours == 3 else [name])
    assert (folders.inbound / name).exists()
