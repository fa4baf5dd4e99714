"""What a run found: tables for people, bench.json for programs."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from tests.performance.measure import Results
from tests.performance.rows import Found

# Of bench.json: it changes when a key or a row goes, or means something else.
VERSION = 1
_WORDS = {"stretch": "[green]kept, stretch[/]", "must": "[green]kept[/]", "no": "[yellow]missed[/]", None: ""}


def machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": platform.system(),
        "python": platform.python_version(),
        "load_average": [round(value, 1) for value in os.getloadavg()],
    }


def build(results: Results, found: Sequence[Found], scale: Mapping[str, int], before: Mapping[str, Any]) -> Any:
    """All of bench.json: the same keys in every run, and the same rows in the same order."""
    return {
        "version": VERSION,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {**before, "load_average_after": machine()["load_average"]},
        "scale": dict(scale),
        "rows": [_row(one) for one in found],
        "figures": {
            name: {
                of: dict(zip(("median", "least", "greatest"), map(_round, spread), strict=True)) for of, spread in its
            }
            for name, its in ((name, series.items()) for name, series in results.all().items())
        },
    }


def _row(one: Found) -> dict[str, Any]:
    row, goal = one.row, one.row.goal
    return {
        "name": row.name,
        "value": _round(one.value),
        "unit": row.unit,
        "limit": _round(one.limit),
        "limit_is": row.beside or None,
        "ratio": _round(one.ratio),
        "must": goal and goal.must,
        "stretch": goal and goal.stretch,
        "goal_of": goal and goal.of,
        "better": goal and goal.better,
        "met": one.met,
    }


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def write(file: Path, built: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(built, indent=2) + "\n")


def show(
    found: Sequence[Found], scale: Mapping[str, int], before: Mapping[str, Any], console: Console | None = None
) -> None:
    console = console or Console(width=None if Console().is_terminal else 140, highlight=False)
    size = f"{before['cores']} cores, {before['memory_gib']} GiB, load {before['load_average'][0]} before"
    console.print(f"\n{scale['ledger_entries']:,} ledger entries, rounds: {scale['rounds']}; {size}")
    console.print("Medians. Absolute figures belong to this machine and minute; the ratios travel.\n")
    for section, rows in groupby(found, lambda one: one.row.section):
        console.print(_table(section, list(rows)))
    judged = [one.met for one in found if one.met]
    missed, held = judged.count("no"), sum(one.row.goal is not None for one in found)
    console.print(f"{held} goals: {len(judged) - missed} kept, {missed} missed, {held - len(judged)} not measured.")


def _table(section: str, rows: Sequence[Found]) -> Table:
    table = Table(title=section, title_justify="left")
    for column in ("what", "found", "limit", "ratio", "goal", "it is"):
        table.add_column(column, justify="left" if column in ("what", "it is") else "right")
    for one in rows:
        limit = "" if one.limit is None else f"{_text(one.limit)} ({one.row.beside})"
        ratio = "" if one.ratio is None else f"{one.ratio:.2f}"
        value = "not measured" if one.value is None else f"{_text(one.value)} {one.row.unit}"
        table.add_row(one.row.name, value, limit, ratio, _goal(one), _WORDS[one.met])
    return table


def _goal(one: Found) -> str:
    goal = one.row.goal
    if goal is None:
        return ""
    bound = "≥" if goal.better == "more" else "≤"
    stretch = "" if goal.stretch is None else f" ({goal.stretch:g})"
    return f"{'ratio ' if goal.of == 'ratio' else ''}{bound} {goal.must:g}{stretch}"


def _text(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
