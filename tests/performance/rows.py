"""What a run is held to: a row for each figure, with the limit it stands beside and the goals it has.

A row is there in every run, under the same name and in the same unit; what was not measured has no value.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from tests.performance.edge import READ_TARGETS, READERS
from tests.performance.measure import Results
from tests.performance.usage import NAMES

Figure = Callable[[Results], float | None]


class Goal(NamedTuple):
    """`of`: whether the value itself is held to it, or its ratio to the limit."""

    of: Literal["value", "ratio"]
    better: Literal["more", "less"]
    must: float
    stretch: float | None


@dataclass(frozen=True)
class Row:
    """`beside` says what the limit is; empty where there is none. Without a goal it is for information."""

    section: str
    name: str
    unit: str
    value: Figure
    beside: str = ""
    limit: Figure = lambda _: None
    goal: Goal | None = None


class Found(NamedTuple):
    """A row of one run."""

    row: Row
    value: float | None
    limit: float | None

    @property
    def ratio(self) -> float | None:
        return self.value / self.limit if self.value is not None and self.limit else None

    @property
    def met(self) -> Literal["stretch", "must", "no"] | None:
        """Which of its goals it keeps. None: it has none, or was not measured."""
        goal = self.row.goal
        judged = None if goal is None else self.value if goal.of == "value" else self.ratio
        if goal is None or judged is None:
            return None
        if goal.stretch is not None and _keeps(judged, goal.better, goal.stretch):
            return "stretch"
        return "must" if _keeps(judged, goal.better, goal.must) else "no"


def _keeps(value: float, better: str, wanted: float) -> bool:
    return value >= wanted if better == "more" else value <= wanted


def find(results: Results) -> list[Found]:
    return [Found(row, row.value(results), row.limit(results)) for row in ROWS]


def _of(name: str, of: str = "per_second") -> Figure:
    return lambda results: results.median(name, of)


def _p50(name: str) -> Figure:
    return _of(name, "p50_ms")


def _difference(more: Figure, less: Figure) -> Figure:
    def subtract(results: Results) -> float | None:
        one, other = more(results), less(results)
        return one - other if one is not None and other is not None else None

    return subtract


def _busy_cores(results: Results) -> float | None:
    """How many contributions a second the cores could bring at most, if they did nothing else."""
    each = results.median("contribution", "cpu_ms")
    return 1000 * (os.cpu_count() or 1) / each if each else None


def _booked_alone(results: Results) -> float | None:
    """How long the book alone takes for a thousand postings that come together."""
    rate = results.median("gRPC, batches, hot", "per_second")
    return 1000 / rate if rate else None


def _ratio(must: float, stretch: float | None) -> Goal:
    return Goal("ratio", "more", must, stretch)


def _at_most(must: float, stretch: float | None, of: Literal["value", "ratio"] = "value") -> Goal:
    return Goal(of, "less", must, stretch)


def _list_postings() -> Iterator[Row]:
    section, a_second = "Postings", "1/s"
    for name, must in (("hot", 0.40), ("spread", 0.45)):
        value, yardstick, own = _of(f"in process, {name}"), _of(f"yardstick, {name}"), _of(f"COPY, {name}")
        title = f"in process, {name}"
        yield Row(section, title, a_second, value, "COPY, yardstick", yardstick, _ratio(must, 0.60))
        yield Row(section, f"{title}, own rows", a_second, value, "COPY, own rows", own, _ratio(0.33, 0.50))
        for baseline in ("one call a transfer", "one transaction a posting"):
            limit = _of(f"{baseline}, {name}")
            yield Row(section, f"{title}, against {baseline}", a_second, value, baseline, limit)
        batches = _of(f"gRPC, batches, {name}")
        title = f"batches of 100 over gRPC, {name}"
        yield Row(section, title, a_second, batches, "COPY, yardstick", yardstick, _ratio(0.27, 0.45))
        streams = _of(f"gRPC, streams, {name}")
        yield Row(section, f"streams of such batches, {name}", a_second, streams, "COPY, yardstick", yardstick)
    one = "one posting a call"
    empty = "empty RPC"
    yield Row(
        section, f"{one}, 64 in flight", a_second, _of("gRPC, unary"), empty, _of("gRPC, empty"), _ratio(0.4, 0.6)
    )
    for callers in (8, 128):
        value = _of(f"gRPC, unary, {callers} in flight")
        yield Row(section, f"{one}, {callers} in flight", a_second, value, f"{empty}, 64 in flight", _of("gRPC, empty"))
    limit = _p50("gRPC, empty, 1")
    yield Row(section, f"{one}, 1 caller, p50", "ms", _p50("gRPC, unary, 1 in flight"), empty, limit, _at_most(3, 2))


def _list_reads() -> Iterator[Row]:
    section = "Calls"
    for name in ("transaction by id", "escrow balance"):
        cpu, limit = _of(f"{name}, 16", "cpu_ms"), _of("gRPC, empty, 16", "cpu_ms")
        yield Row(section, f"{name}, service CPU", "ms", cpu, "empty RPC", limit, _at_most(2.5, 1.8, "ratio"))
    for name, (p50, p95, callers) in READ_TARGETS.items():
        is_calculated = callers != READERS
        for count in callers:
            held = count == 1 or is_calculated or (count == 16 and name in _WITHIN_TARGET)
            for of, wanted in (("p50", p50), ("p95", p95)):
                value = _of(f"{name}, {count}", f"{of}_ms")
                beside, limit = "its SQL", _of(f"{name}, {count}, SQL", f"{of}_ms")
                goal = _at_most(wanted, wanted / 2) if held else None
                if count > 1 and not is_calculated:
                    beside, limit = "empty RPC", _of(f"gRPC, empty, {count}", f"{of}_ms")
                if count == 16 and of == "p50" and name in _BESIDE_EMPTY:
                    goal = _at_most(2.5, 1.6, "ratio")
                title = f"{name}, {count} {'caller' if count == 1 else 'callers'}, {of}"
                yield Row(section, title, "ms", value, beside, limit, goal)
    added = _difference(_p50("REST, transaction by id, 1"), _p50("transaction by id, 1"))
    limit = _p50("REST, empty, 1")
    yield Row(section, "REST beyond gRPC, 1 caller, p50", "ms", added, "GET of nothing", limit, _at_most(1.5, 0.8))


_WITHIN_TARGET = ("50 newest of a party", "30-day ledger, page of 100")
_BESIDE_EMPTY = ("transaction by id", "escrow balance")


def _list_flows() -> Iterator[Row]:
    section, a_second = "Events and contributions", "1/s"
    alone = "the stream read alone", _of("events, read alone")
    yield Row(section, "events, told to handled", a_second, _of("events, end to end"), *alone, _value(1000, 3000))
    yield Row(section, "read model built anew", a_second, _of("events, read model"), *alone, _value(2000, None))
    rate = _of("contribution")
    yield Row(section, "contributions, REST to funded", a_second, rate, "all cores busy", _busy_cores, _value(25, 50))
    each = _of("contribution", "cpu_ms")
    yield Row(section, "contribution, CPU of all processes", "ms", each, goal=_at_most(60, 40))
    for name in NAMES:
        yield Row(section, f"contribution, CPU of {name}", "ms", _of(f"contribution, {name}", "cpu_ms"))
    last = _of("settled together", "seconds")
    title = "1,000 settle at once: the last in the ledger after"
    yield Row(section, title, "s", last, "the book alone", _booked_alone, _at_most(10, 3))


def _value(must: float, stretch: float | None) -> Goal:
    return Goal("value", "more", must, stretch)


def _list_rest() -> Iterator[Row]:
    section = "At rest"
    yield Row(section, "idle, share of a core", "%", _of("idle", "core_percent"), goal=_at_most(3, 1))
    for name in NAMES:
        yield Row(section, f"idle, {name}", "%", _of(f"idle, {name}", "core_percent"))
    yield Row(section, "idle, SQL statements", "1/s", _of("idle", "statements"), goal=_at_most(5, 2))
    yield Row(section, "idle, memory", "MB", _of("idle", "memory_mb"), goal=_at_most(700, 500))


def _list_growth() -> Iterator[Row]:
    """Of the large book beside the small one; both by one caller's rate, where they are reads."""
    reads = [name for name, (_, _, callers) in READ_TARGETS.items() if callers == READERS]
    for name in ("hot", "spread", *reads):
        large, small = _of(f"large book, {name}"), _of(f"small book, {name}")
        title = f"postings in process, {name}" if name in ("hot", "spread") else name
        yield Row("Growth", f"large book, {title}", "1/s", large, "100,000 entries", small, _ratio(0.85, 0.95))


ROWS = (*_list_postings(), *_list_reads(), *_list_flows(), *_list_rest(), *_list_growth())
