"""Requests are counted here and at the other gateways: what one tells, another adds, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.counters import Counters
from gateway.settings import Settings


def counters(**rates: str) -> Counters:
    found = Counters(Settings(**{"rate_per_principal": "100/hour", "rate_per_address": "100/hour", **rates}))
    assert found.take_untold() is None  # somebody carries it from now on
    return found


async def left(of: Counters, name: str) -> int:
    return (await of.read_allowance("principal", name)).left


async def test_what_one_gateway_counted_is_taken_from_the_rate_at_another():
    one, other = counters(), counters()
    for name, cost in (("ann", 60), ("ann", 30), ("bob", 5)):
        assert await one.count("principal", name, cost)
    message = one.take_untold()
    assert one.take_untold() is None  # told once
    await other.add(message)
    assert [await left(other, name) for name in ("ann", "bob", "cid")] == [10, 95, 100]
    assert other.take_untold() is None  # what it was told it does not tell
    assert not await other.count("principal", "ann", 11)
    assert await other.count("principal", "ann", 10)
    # Both admitted something before they heard of each other: together it is more than the rate.
    await one.add(other.take_untold())
    assert (await left(one, "ann"), await one.count("principal", "ann", 1)) == (0, False)


async def test_what_a_gateway_of_another_release_counts_besides_is_left_out():
    one, other = counters(), counters()
    await one.count("principal", "ann", 60)
    told = json.loads(one.take_untold())
    await other.add(json.dumps({"tomorrow": {"a": ["new form"]}, **told}).encode())
    assert await left(other, "ann") == 40


async def test_what_was_refused_is_told_to_nobody():
    one = counters(rate_per_principal="10/hour")
    assert [await one.count("principal", "ann", 9) for _ in range(2)] == [True, False]
    assert [list(numbers.values()) for numbers in json.loads(one.take_untold()).values()] == [[9]]


async def test_a_message_stays_small_however_many_ask_under_however_long_names_and_has_who_asks_most():
    one, other = counters(), counters()
    for number in range(3000):
        await one.count("address", f"{number}" * 500, 1)
    await one.count("principal", "ann", 2)
    message = one.take_untold()
    assert len(message) < 64 * 1024
    await other.add(message)
    assert await left(other, "ann") == 98


async def test_names_that_are_made_up_do_not_fill_the_memory_and_who_asks_here_is_counted_all_the_same():
    one, other = counters(), counters()
    for at in (one, other):
        await at.count("principal", "ann", 10)
    told = one.take_untold()
    for page in range(30):
        made_up = {f"{page * 1000 + number:032x}": 1 for number in range(1000)}
        await other.add(json.dumps({"guarded": made_up}).encode())
    assert len(other._storage.storage) == 20_000
    await other.add(told)
    assert await left(other, "ann") == 80


async def test_nothing_is_kept_to_be_told_where_nobody_carries_it():
    alone = Counters(Settings())
    await alone.count("principal", "ann", 1)
    assert alone.take_untold() is None


async def test_no_more_names_are_kept_to_be_told_than_memory_is_meant_for_while_nobody_takes_them():
    one = counters()
    for number in range(20_100):
        await one.count("address", str(number), 1)
    await one.count("address", "5", 7)
    assert len(one._untold) == 20_000
    assert max(json.loads(one.take_untold())["address"].values()) == 8


NAME = "0" * 32


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xff\xfe",
        b"[" * 60_000,
        [],
        {"principal": 5},
        {"principal": {"ann": 1}},
        {"principal": {NAME + "0": 1}},
        {"principal": {NAME: 0}},
        {"principal": {NAME: -5}},
        {"principal": {NAME: 1.5}},
        {"principal": {NAME: "1"}},
        {"principal": {NAME: True}},
        {"principal": {NAME: 10**30}},
        {"principal": {f"{number:032x}": 1 for number in range(2000)}},
        {"principal": {NAME: 1}, "guarded": None},
    ],
    ids=lambda message: str(message)[:40],
)
async def test_what_is_no_such_message_changes_no_count(message: Any):
    found = counters()
    with pytest.raises(ValueError):  # noqa: PT011
        await found.add(message if isinstance(message, bytes) else json.dumps(message).encode())
    assert not found._storage.storage
