"""Same-day entries: what is ordered in time leaves in time, settles on that day, and whatever is late is late."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from importlib import import_module

import pytest

from services.transactions.domain.same_day import ENTRY_MINOR_MAX, SameDay, Window
from tests.integration.ach_desk import CUT_OFF, T, leave, order
from tests.support.ach import list_sent
from tests.support.money import usd
from tests.support.transactions import MONDAY, TransactionsHarness

pytest_plugins = ("tests.integration.ach_desk",)

MAKING = import_module("services.transactions.jobs.write_ach_files")
# A Monday in winter: 9:45, 10:15 and 13:00 in New York.
WINDOW_AT, LEAVES_BY = MONDAY.replace(hour=14, minute=45), MONDAY.replace(hour=15, minute=15)
SETTLES_AT = MONDAY.replace(hour=18)
NEXT_DAY = CUT_OFF.replace(day=3, hour=13)


@pytest.fixture
def service(ach_service: TransactionsHarness) -> TransactionsHarness:
    return ach_service


@pytest.fixture
def same_day() -> SameDay:
    return SameDay([Window(time(9, 45), time(10, 15), time(13))])


async def status_at(service: TransactionsHarness, made, at: datetime) -> int:
    service.clock.set(at)
    await service.work(hurried=True)
    status: int = (await service.get(made.transaction_id)).status
    return status


async def test_what_is_ordered_before_the_cut_off_of_a_window_settles_by_it_on_the_same_day(service, folders) -> None:
    deposit, payout = await order(service)
    await leave(service, WINDOW_AT - timedelta(minutes=1))
    assert folders.sent == []
    await leave(service, WINDOW_AT)
    [content] = folders.sent
    headers = [line for line in content.decode().splitlines() if line[0] == "5"]
    assert {(line[63:69], line[69:75]) for line in headers} == {("SD1300", "241202")}
    assert await status_at(service, deposit, SETTLES_AT - timedelta(minutes=1)) == T.PENDING_SETTLEMENT
    assert await status_at(service, deposit, SETTLES_AT) == T.SETTLED
    assert await status_at(service, payout, SETTLES_AT) == T.COMPLETED
    settled = (await service.get(deposit.transaction_id)).settle_time.ToDatetime(MONDAY.tzinfo)
    assert settled == SETTLES_AT
    await leave(service)
    assert len(folders.sent) == 1, "what left by the window does not leave once more"


async def test_what_is_more_than_a_million_leaves_at_the_next_cut_off_instead(service, folders) -> None:
    for _ in range(2):
        service.owe("inv-003")
    await service.payout("inv-003", "09", amount=usd(ENTRY_MINOR_MAX + 1))
    await order(service)
    await leave(service, WINDOW_AT)
    assert sorted(each.amount_minor for each in list_sent(folders.sent[0])) == [50_00, 100_00]
    await leave(service)
    left = [[each.amount_minor for each in list_sent(content)] for content in folders.sent]
    assert [ENTRY_MINOR_MAX + 1] in left


async def test_what_missed_its_window_leaves_as_before_and_settles_on_the_next_day(service, folders) -> None:
    deposit, _ = await order(service)
    await leave(service, LEAVES_BY)  # nobody was there until the bank takes no more
    assert folders.sent == []
    await leave(service)
    [content] = folders.sent
    assert {line[63:75] for line in content.decode().splitlines() if line[0] == "5"} == {"      241203"}
    assert await status_at(service, deposit, SETTLES_AT + timedelta(hours=3)) == T.PENDING_SETTLEMENT
    assert await status_at(service, deposit, NEXT_DAY) == T.SETTLED


async def test_what_leaves_after_the_banks_deadline_settles_on_the_next_day(service, folders, monkeypatch) -> None:
    deposit, _ = await order(service)
    with monkeypatch.context() as patch:
        patch.setattr(MAKING, "write_file", lambda *_: 1 / 0)
        await leave(service, WINDOW_AT)
    await leave(service, LEAVES_BY)
    assert len(folders.sent) == 1
    assert await status_at(service, deposit, SETTLES_AT) == T.PENDING_SETTLEMENT
    assert await status_at(service, deposit, NEXT_DAY) == T.SETTLED


async def test_what_is_ordered_after_the_cut_off_is_not_in_the_file_of_the_window(service, folders) -> None:
    service.clock.set(WINDOW_AT + timedelta(minutes=5))
    await order(service)
    await leave(service, WINDOW_AT + timedelta(minutes=10))
    assert folders.sent == []
    await leave(service)
    assert len(list_sent(folders.sent[0])) == 2
