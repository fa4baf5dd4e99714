"""Closed loops and what they show: rates and latencies, kept round by round and told as a median with its range.

A closed loop waits for its answers: with many callers its latency is mostly the queue those callers make themselves.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

Cpu = Callable[[], float]


@dataclass(frozen=True)
class Sample:
    """One round of one test."""

    per_second: float
    p50_ms: float
    p95_ms: float
    cpu_ms: float = 0.0  # of the process that does the work, for one of what is counted: it hardly knows of other load


@dataclass
class Series:
    """The rounds of one test."""

    samples: list[Sample] = field(default_factory=list)

    def spread(self, of: str) -> tuple[float, float, float]:
        """Median, least and greatest."""
        values = [getattr(sample, of) for sample in self.samples]
        return statistics.median(values), min(values), max(values)

    def median(self, of: str) -> float:
        return self.spread(of)[0]


class Results:
    """Every test's rounds, by the test's name."""

    def __init__(self) -> None:
        self.series: dict[str, Series] = {}

    def add(self, name: str, sample: Sample) -> None:
        self.series.setdefault(name, Series()).samples.append(sample)

    def rate(self, name: str) -> float:
        return self.series[name].median("per_second")


async def run_callers(
    work: Iterable[Any],
    callers: int,
    call: Callable[[Any], Awaitable[Any]],
    *,
    each: int = 1,
    cpu: Cpu = time.process_time,
) -> Sample:
    """All of `work`, by so many callers at once; every piece of work counts for `each`.

    `cpu` tells how many seconds of CPU the working process has used so far.
    """
    pieces = iter(work)
    taken: list[float] = []

    async def caller() -> None:
        for piece in pieces:
            began = time.perf_counter()
            await call(piece)
            taken.append(time.perf_counter() - began)

    gc.collect()
    began, used = time.perf_counter(), cpu()
    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    return _sample(taken, len(taken) * each, time.perf_counter() - began, cpu() - used)


async def run_for(
    seconds: float, callers: int, call: Callable[[int, int], Awaitable[Any]], *, cpu: Cpu = time.process_time
) -> Sample:
    """`call(caller, number)` again and again, each caller for itself and at least once, until the time is over."""
    taken: list[float] = []

    async def caller(caller_number: int) -> None:
        number = 0
        while number == 0 or time.perf_counter() < deadline:
            before = time.perf_counter()
            await call(caller_number, number)
            taken.append(time.perf_counter() - before)
            number += 1

    gc.collect()
    began, used = time.perf_counter(), cpu()
    deadline = began + seconds
    async with asyncio.TaskGroup() as group:
        for number in range(callers):
            group.create_task(caller(number))
    return _sample(taken, len(taken), time.perf_counter() - began, cpu() - used)


def _sample(taken: list[float], done: int, seconds: float, used: float) -> Sample:
    taken.sort()
    p50, p95 = (_percentile(taken, part) * 1000 for part in (0.50, 0.95))
    return Sample(done / seconds, p50, p95, used / done * 1000)


def _percentile(ordered: list[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]
