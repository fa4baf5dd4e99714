"""Lists are walked page by page, forth and back, and cut by time."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from realco.escrow.v1 import holds_pb2 as holds_pb
from realco.escrow.v1 import journal_pb2 as journal_pb

from services.chassis.calls.auth import acting_as
from services.chassis.data.paging import read_page, time_range
from tests.support import chassis

COUNT = 23


@pytest.fixture
async def database(urls):
    async with chassis.opened(urls) as database:
        with acting_as(chassis.ADMIN):
            async with database.begin() as tx:
                rows = [{"org_id": "org_1", "note_id": f"n{number:02}"} for number in range(COUNT)]
                await tx.execute(sa.insert(chassis.notes), rows)
            yield database


async def read(database, page_size: int, token: str, *, descending: bool):
    request = holds_pb.ListHoldsRequest(escrow_account_id="esc_1", page_size=page_size, page_token=token)
    key = chassis.notes.c.note_id
    async with database.begin() as tx:
        page = await read_page(tx, request, sa.select(chassis.notes), [key], descending=descending)
    return page._replace(rows=[row.note_id for row in page.rows])


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("page_size", [1, 5, 23, 50])
async def test_a_list_is_walked_to_its_end_and_back_over_the_same_pages(database, page_size, descending):
    forth = [await read(database, page_size, "", descending=descending)]
    while forth[-1].next_page_token:
        forth.append(await read(database, page_size, forth[-1].next_page_token, descending=descending))
    notes = [note for page in forth for note in page.rows]
    assert notes == sorted((f"n{number:02}" for number in range(COUNT)), reverse=descending)
    assert forth[0].previous_page_token == ""
    back = [forth[-1]]
    while back[-1].previous_page_token:
        back.append(await read(database, page_size, back[-1].previous_page_token, descending=descending))
    assert [page.rows for page in reversed(back)] == [page.rows for page in forth]


async def test_what_is_added_before_the_first_page_is_found_by_going_back(database):
    first = await read(database, 5, "", descending=True)
    second = await read(database, 5, first.next_page_token, descending=True)
    async with database.begin() as tx:
        await tx.execute(sa.insert(chassis.notes).values(org_id="org_1", note_id="n99"))
    again = await read(database, 5, second.previous_page_token, descending=True)
    assert again.rows == first.rows
    before = await read(database, 5, again.previous_page_token, descending=True)
    assert (before.rows, before.previous_page_token) == (["n99"], "")
    assert before.next_page_token != ""


def ledger(first: datetime | None, last: datetime | None) -> journal_pb.ListLedgerEntriesRequest:
    request = journal_pb.ListLedgerEntriesRequest()
    for name, moment in (("from_time", first), ("to_time", last)):
        if moment is not None:
            getattr(request, name).FromDatetime(moment)
    return request


DAY = datetime(2026, 11, 26, tzinfo=UTC)


@pytest.mark.parametrize(
    ("first", "last", "verdict"),
    [
        (None, None, (None, None)),
        (DAY, None, (DAY, None)),
        (None, DAY, (None, DAY)),
        (DAY, DAY.replace(hour=1), (DAY, DAY.replace(hour=1))),
        (DAY, DAY, (DAY, DAY)),  # nothing lies in it
    ],
)
def test_a_time_range_is_open_where_it_names_no_end(first, last, verdict):
    assert time_range(ledger(first, last)) == verdict
