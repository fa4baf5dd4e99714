"""What was taken out of the bank's way moved nothing, until it lies there again and the bank has fetched it."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from services.transactions.jobs.watch_ach_files import watch_ach_files
from tests.integration.ach_desk import CUT_OFF, T, leave, order
from tests.integration.test_transactions_ach_altered import FILE, FILE_RIGHT, alter, put_right
from tests.support.exceptions import list_exceptions
from tests.support.transactions import TransactionsHarness

pytest_plugins = ("tests.integration.ach_desk",)


@pytest.fixture
def service(ach_service: TransactionsHarness) -> TransactionsHarness:
    return ach_service


async def read_statuses(service: TransactionsHarness, made: list[T], days: int) -> list[T.Status]:
    """Of what was ordered, so many days after it left."""
    service.clock.set(CUT_OFF + timedelta(days=days))
    await service.run(watch_ach_files)
    await service.work(hurried=True)
    return [(await service.get(each.transaction_id)).status for each in made]


WAITS = [T.PENDING_SETTLEMENT, T.PENDING_SETTLEMENT]
DONE = [T.SETTLED, T.COMPLETED]


@pytest.mark.parametrize("lay_back", [Path.rename, shutil.copy], ids=["moved back", "copied back"])
@pytest.mark.parametrize("what", ["its row", "itself"])
async def test_of_a_file_that_was_altered_nothing_moves_before_it_lies_there_again_and_is_fetched(
    service, folders, ach_urls, what, lay_back
) -> None:
    """Its row by a login of the database, or itself by who writes into the folder."""
    made = list(await order(service))
    await leave(service)
    [file] = folders.outbound.glob("*.ach")
    whole = file.read_bytes()
    if what == "its row":
        await alter(service, FILE)
    else:
        file.write_bytes(whole + b" ")
    assert await service.run(watch_ach_files) == 1
    [told] = await list_exceptions(service, kind=["ACH_FILE_FOREIGN"])
    cause = (
        "What the database says of it is not what we wrote." if what == "its row" else "It is not as we released it."
    )
    assert (told.file_name, told.cause) == (file.name, cause)
    if what == "its row":
        await put_right(ach_urls, FILE_RIGHT)
    assert await read_statuses(service, made, 2) == WAITS
    held = folders.outbound / ".held" / file.name
    held.write_bytes(whole)
    lay_back(held, file)
    assert (await service.run(watch_ach_files), folders.sent) == (0, [whole])
    file.unlink()
    assert await read_statuses(service, made, 3) == DONE


@pytest.mark.parametrize("is_there", [True, False], ids=["its copy is kept", "its copy is gone"])
async def test_what_was_held_and_lies_nowhere_any_more_has_moved_nothing_days_later_either(
    service, folders, is_there
) -> None:
    """Whoever writes beside it may take our folder away, too."""
    made = list(await order(service))
    await leave(service)
    [file] = folders.outbound.glob("*.ach")
    whole = file.read_bytes()
    file.write_bytes(whole + b" ")
    await service.run(watch_ach_files)
    if not is_there:
        shutil.rmtree(folders.outbound / ".held")
    for days in (2, 9, 30):
        assert await read_statuses(service, made, days) == WAITS
    file.write_bytes(whole)
    for _ in range(2):
        assert await service.run(watch_ach_files) == 0, "it is put back, however late"
    await service.work(hurried=True)
    assert [(await service.get(each.transaction_id)).status for each in made] == WAITS, "the bank has it from now on"
    file.unlink()
    assert await read_statuses(service, made, 31) == DONE
    seen = [await service.get(each.transaction_id) for each in made]
    assert {each.settle_time.ToDatetime().date() for each in seen} == {(CUT_OFF + timedelta(days=31)).date()}
    assert seen[0].finality == T.PROVISIONAL


async def test_a_copy_in_the_place_of_what_is_held_puts_nothing_off_and_no_file_before_the_bank_twice(
    service, folders
) -> None:
    """Whoever writes beside it lays it there, while the bank fetches the file."""
    made = list(await order(service))
    await leave(service)
    [file] = folders.outbound.glob("*.ach")
    held = folders.outbound / ".held"
    held.mkdir(exist_ok=True)
    shutil.copy(file, held)
    file.unlink()
    assert await service.run(watch_ach_files) == 0
    (held / file.name).rename(file)
    assert await service.run(watch_ach_files) == 1
    [told] = await list_exceptions(service, kind=["ACH_FILE_FOREIGN"])
    assert told.cause.startswith("It was fetched before")
    assert await read_statuses(service, made, 3) == DONE
