"""A transfer between two escrow accounts is in both books, at each moment as much as there was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
from realco.escrow.v1 import escrow_accounts_pb2 as accounts_pb

from services.chassis.values.refusals import EscrowAccountClosed
from tests.support.escrow import SPONSOR, Escrow, Payment

OWED = f"returns_receivable:{SPONSOR}"
UNAPPLIED = f"unapplied:{SPONSOR}"


@pytest.fixture
async def escrow(escrow_urls: SimpleNamespace) -> AsyncIterator[Escrow]:
    async with Escrow(escrow_urls) as escrow:
        yield escrow


def transfer(source: str, to: str, minor: int = 100) -> Payment:
    payment = Payment(source, "TRANSFER", minor, party=SPONSOR, method="INTERNAL_TRANSFER")
    payment.transaction.to_escrow_account_id, payment.transaction.presentments = to, 0
    return payment


async def two_accounts(escrow: Escrow) -> tuple[str, str]:
    """The first has 150 to distribute, the second nothing."""
    source, to = [await escrow.open() for _ in range(2)]
    await escrow.post(source, ("cash", 150), ("distributable", -150))
    return source, to


@pytest.mark.parametrize(
    ("facts", "left", "arrived"),
    [
        ([], {"cash": 150, "in_transit": -100, "distributable": 50}, {}),
        (["SUBMITTED"], {"cash": 150, "in_transit": -100, "distributable": 50}, {}),
        (["SUBMITTED", "SETTLED"], {"cash": 50, "distributable": 50}, {"cash": 100, "distributable": 100}),
        (["SETTLED", "SUBMITTED"], {"cash": 50, "distributable": 50}, {"cash": 100, "distributable": 100}),
        (
            ["SUBMITTED", "SETTLED", "SETTLED", "COMPLETED"],
            {"cash": 50, "distributable": 50},
            {"cash": 100, "distributable": 100},
        ),
        (["SUBMITTED", "FAILED"], {"cash": 150, "distributable": 150}, {}),
        (["CANCELLED"], {"cash": 150, "distributable": 150}, {}),
        (["SUBMITTED", "SETTLED", "RETURNED"], {"cash": 150, "distributable": 150}, {}),
        (["SUBMITTED", "SETTLED", "COMPLETED", "RETURNED", "RETURNED"], {"cash": 150, "distributable": 150}, {}),
    ],
)
async def test_what_leaves_one_book_comes_into_the_other_or_back(
    escrow: Escrow, facts: list[str], left: dict[str, int], arrived: dict[str, int]
) -> None:
    source, to = await two_accounts(escrow)
    payment = transfer(source, to)
    assert (await payment.submit(escrow)).HasField("journal_entry")
    for fact in [None, *facts]:
        if fact is not None:
            await payment.happens(escrow, fact)
        posted = [await escrow.posted(account) for account in (source, to)]
        assert sum(each.get("cash", 0) for each in posted) == 150, "the bank has as much as before"
        there = sum(each.get("distributable", 0) - each.get("in_transit", 0) for each in posted)
        assert there == 150, "it is somebody's, or on its way"
    assert [await escrow.posted(account) for account in (source, to)] == [left, arrived]
    assert all([(await escrow.trial_balance(account)).balanced for account in (source, to)])


async def test_what_is_not_there_leaves_no_book(escrow: Escrow) -> None:
    source, to = await two_accounts(escrow)
    refused = await transfer(source, to, 151).submit(escrow)
    assert refused.failure.code == "INSUFFICIENT_AVAILABLE_BALANCE"
    assert await escrow.posted(source) == {"cash": 150, "distributable": 150}


async def test_into_a_frozen_account_it_comes_unapplied_and_into_a_closed_one_nothing_is_booked(escrow: Escrow) -> None:
    source, to = await two_accounts(escrow)
    payment = transfer(source, to, 60)
    await payment.submit(escrow)
    await escrow.freeze(to)
    await payment.happens(escrow, "SUBMITTED", "SETTLED")
    assert await escrow.posted(to) == {"cash": 60, UNAPPLIED: 60}
    closed = await escrow.open()
    other = transfer(source, closed, 60)
    await other.submit(escrow)
    await escrow.call("CloseEscrowAccount", accounts_pb.CloseEscrowAccountRequest(escrow_account_id=closed))
    with pytest.raises(EscrowAccountClosed):
        await other.happens(escrow, "SETTLED")
    assert await escrow.posted(source) == {"cash": 90, "in_transit": -60, "distributable": 30}


async def test_what_was_spent_there_before_it_went_back_the_sponsor_owes_there(escrow: Escrow) -> None:
    source, to = await two_accounts(escrow)
    payment = transfer(source, to)
    await payment.submit(escrow)
    await payment.happens(escrow, "SUBMITTED", "SETTLED")
    await escrow.post(to, ("distributable", 70), ("cash", -70))
    await payment.happens(escrow, "RETURNED")
    assert await escrow.posted(source) == {"cash": 150, "distributable": 150}
    assert await escrow.posted(to) == {"in_transit": -70, OWED: 70}


async def test_two_that_cross_do_not_wait_for_one_another(escrow: Escrow) -> None:
    source, to = await two_accounts(escrow)
    await escrow.post(to, ("cash", 150), ("distributable", -150))
    both = [transfer(source, to, 1) for _ in range(8)] + [transfer(to, source, 1) for _ in range(8)]
    for each in both:
        await each.submit(escrow)
    await asyncio.gather(*(each.happens(escrow, "SUBMITTED", "SETTLED") for each in both))
    assert [await escrow.posted(each) for each in (source, to)] == [{"cash": 150, "distributable": 150}] * 2
