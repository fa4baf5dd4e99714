"""Closed loops and what they show: rates and latencies, kept round by round and told as a median with its range.

A closed loop waits for its answers: with many callers its latency is mostly the queue those callers make themselves.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

Cpu = Callable[[], float]


@dataclass(frozen=True)
class Sample:
    """One round of one test."""

    per_second: float
    p50_ms: float
    p95_ms: float
    cpu_ms: float = 0.0  # of the process that does the work, for one of what is counted: it hardly knows of other load


class Results:
    """What was found: of each test the figures of its rounds, by the test's name and by what they are of."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, list[float]]] = {}

    def add(self, name: str, sample: Sample) -> None:
        self.note(name, **asdict(sample))

    def note(self, name: str, **figures: float) -> None:
        """One round's figures of a test that is no loop."""
        series = self._found.setdefault(name, {})
        for of, value in figures.items():
            series.setdefault(of, []).append(value)

    def spread(self, name: str, of: str) -> tuple[float, float, float] | None:
        """Median, least and greatest over the rounds. None: it was not measured."""
        values = self._found.get(name, {}).get(of)
        return (statistics.median(values), min(values), max(values)) if values else None

    def median(self, name: str, of: str) -> float | None:
        found = self.spread(name, of)
        return found[0] if found else None

    def all(self) -> dict[str, dict[str, tuple[float, float, float]]]:
        """Every spread."""
        return {
            name: {of: (statistics.median(values), min(values), max(values)) for of, values in series.items()}
            for name, series in self._found.items()
        }


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
