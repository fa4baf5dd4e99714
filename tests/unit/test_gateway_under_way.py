"""Requests under way and bodies waited for: each has its own room, and none of it is for one address alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from gateway.problems import Problem
from gateway.under_way import UnderWay

SECONDS = 60.0


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Senders:
    """Requests whose bodies come when a test says so."""

    def __init__(self, requests_max: int) -> None:
        self.under_way = UnderWay(requests_max)
        self.ended: list[tuple[str, str]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._came: list[asyncio.Event] = []

    async def begin(self, addresses: Sequence[str]) -> None:
        for address in addresses:
            came = asyncio.Event()
            self._came.append(came)
            self._tasks.append(asyncio.create_task(self._send(f"{address}{len(self._came) - 1}", address, came)))
            await settle()

    async def bring(self, number: int) -> None:
        self._came[number].set()
        await settle()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _send(self, name: str, address: str, came: asyncio.Event) -> None:
        try:
            with self.under_way.take():
                async with self.under_way.receive(address, SECONDS):
                    await came.wait()
                self.ended.append((name, "came"))
                await asyncio.Event().wait()
        except TimeoutError:
            self.ended.append((name, "given up"))
        except Problem as problem:
            self.ended.append((name, problem.code))


@pytest.mark.parametrize(
    ("addresses", "given_up"),
    [
        (["a", "a", "a"], []),
        (["a", "a", "a", "a"], ["a0"]),
        (["b", "a", "a", "a"], ["a1"]),  # b is older, and alone
        (["b", "a", "a", "a", "a"], ["a1", "a2"]),
        (["a", "b", "c", "d"], ["a0"]),
    ],
)
async def test_of_the_address_that_most_bodies_are_to_come_from_the_oldest_is_given_up(addresses, given_up):
    senders = Senders(3)
    with capture_logs() as logged:
        await senders.begin(addresses)
    await senders.stop()
    assert senders.ended == [(name, "given up") for name in given_up]
    told = [line["address"] for line in logged if line["event"] == "bodies_given_up"]
    assert told == [name[0] for name in given_up[:1]]  # once a minute


async def test_of_many_addresses_that_begin_one_each_the_oldest_is_given_up_and_not_who_sends_a_few_at_once():
    senders = Senders(40)
    with capture_logs() as logged:
        await senders.begin([f"many-{number}-" for number in range(38)] + ["b", "b", "b"])
    await senders.stop()
    assert senders.ended == [("many-0-0", "given up")]
    assert [line["address"] for line in logged if line["event"] == "bodies_given_up"] == ["many"]


async def test_whoever_waits_for_a_body_takes_no_room_from_what_is_under_way():
    senders = Senders(2)
    await senders.begin(["a", "a"])
    with senders.under_way.take(), senders.under_way.take(), pytest.raises(Problem), senders.under_way.take():
        pass
    await senders.bring(0)
    with senders.under_way.take(), pytest.raises(Problem), senders.under_way.take():
        pass
    await senders.stop()
    with senders.under_way.take(), senders.under_way.take():
        pass


async def test_a_body_that_comes_when_there_is_no_room_any_more_is_refused_and_not_answered():
    senders = Senders(2)
    await senders.begin(["a", "a"])
    with senders.under_way.take(), senders.under_way.take():
        await senders.bring(1)
    await senders.bring(0)
    await senders.stop()
    assert senders.ended == [("a1", "UNAVAILABLE"), ("a0", "came")]


async def test_a_body_that_does_not_come_in_time_is_given_up_and_forgotten():
    under_way = UnderWay(1)
    for _ in range(3):
        with under_way.take(), pytest.raises(TimeoutError):
            async with under_way.receive("a", 0.001):
                await asyncio.Event().wait()
    assert (under_way._bodies, under_way._addresses) == ({}, {})
