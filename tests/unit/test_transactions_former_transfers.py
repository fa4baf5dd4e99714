"""What Plaid has of before a restore is listed once for all who wait for it, however long that takes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from services.transactions.domain.payments import FormerLife
from services.transactions.providers.plaid.former_transfers import FormerTransfers
from services.transactions.providers.protocols import OutcomeUnknown

RESTORED_AT = datetime(2026, 11, 30, 12, tzinfo=UTC)
LIFE = FormerLife(RESTORED_AT - timedelta(hours=2), RESTORED_AT)
EARLIER = FormerLife(RESTORED_AT - timedelta(days=9), RESTORED_AT)


class SlowPlaid:
    """Two transfers a page, three pages, each after a while."""

    def __init__(self) -> None:
        self.api = SimpleNamespace(transfer_list=None)
        self.asked: list[tuple[datetime, int]] = []
        self.fails = 0

    async def call(self, _ask, request):
        self.asked.append((request.start_date, request.offset))
        await asyncio.sleep(0.03)
        if self.fails:
            self.fails -= 1
            raise OutcomeUnknown("the line went dead")
        page = [
            {"id": str(n), "metadata": {"reference": f"txn_{n}"}} for n in range(request.offset, request.offset + 2)
        ]
        return {"transfers": page, "has_more": request.offset < 4}


@pytest.fixture
def plaid():
    return SlowPlaid()


@pytest.fixture
def former(plaid):
    made = FormerTransfers(plaid, answer_seconds=5, wait_seconds=0.05)
    yield made
    made.close()


async def ask(former, reference, life=LIFE):
    """As a job does: again and again. What it was told meanwhile comes first."""
    told = []
    for _ in range(20):
        try:
            return told, [each["id"] for each in await former.list_transfers(reference, life)]
        except OutcomeUnknown as unknown:
            told.append(str(unknown))
    raise AssertionError(told)


async def test_a_list_that_takes_longer_than_anybody_waits_is_read_to_its_end_and_says_how_far_it_is(plaid, former):
    told, found = await ask(former, "txn_5")
    assert (told[0], found) == ("its transfers of before the restore are still listed: 2 by now", ["5"])
    assert [offset for _, offset in plaid.asked] == [0, 2, 4]


async def test_many_who_wait_have_it_listed_once(plaid, former):
    both = await asyncio.gather(ask(former, "txn_1"), ask(former, "txn_4"), ask(former, "txn_77"))
    assert [found for _, found in both] == [["1"], ["4"], []]
    assert len(plaid.asked) == 3


async def test_what_was_ordered_earlier_or_of_another_life_has_it_listed_anew(plaid, former):
    await ask(former, "txn_1")
    await ask(former, "txn_1", EARLIER)
    later = FormerLife(LIFE.since, RESTORED_AT + timedelta(minutes=1))
    await ask(former, "txn_1", later)
    assert [since for since, offset in plaid.asked if offset == 0] == [
        each.since - timedelta(days=1) for each in (LIFE, EARLIER, later)
    ]


async def test_a_list_that_fails_is_begun_again(plaid, former):
    plaid.fails = 1
    told, found = await ask(former, "txn_2")
    assert (told[0], found) == ("the line went dead", ["2"])
