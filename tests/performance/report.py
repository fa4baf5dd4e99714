"""What a run found: tables for people, bench.json for programs; ratios against limits of the same run."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from rich.console import Console
from rich.table import Table

from tests.performance.edge import READERS, Read
from tests.performance.measure import Results, Series

_POSTINGS = {
    "COPY, hot": "COPY of the same rows, hot: the limit",
    "in process, hot": "posted in process, one hot escrow account",
    "COPY, spread": "COPY of the same rows, spread: the limit",
    "in process, spread": "posted in process, 1,000 escrow accounts",
    "gRPC, empty": "empty RPC (health), 64 in flight: the limit",
    "gRPC, unary": "PostJournalEntry, 64 in flight",
    "gRPC, unary, 1 in flight": "PostJournalEntry, 1 in flight",
    "gRPC, unary, 8 in flight": "PostJournalEntry, 8 in flight",
    "gRPC, batches, hot": "BatchPostJournalEntries(100), hot",
    "gRPC, batches, spread": "BatchPostJournalEntries(100), 1,000 accounts",
}


class Ratio(NamedTuple):
    """`must` is what the design is held to; None where it is for information."""

    name: str
    of: str
    to: str
    must: float | None


RATIOS = (
    Ratio("in process / COPY, hot", "in process, hot", "COPY, hot", 0.50),
    Ratio("in process / COPY, spread", "in process, spread", "COPY, spread", 0.50),
    Ratio("hot / spread, in process", "in process, hot", "in process, spread", 0.80),
    Ratio("batches over gRPC / COPY, hot", "gRPC, batches, hot", "COPY, hot", 0.35),
    Ratio("batches over gRPC / COPY, spread", "gRPC, batches, spread", "COPY, spread", 0.35),
    Ratio("unary over gRPC / empty RPC", "gRPC, unary", "gRPC, empty", 0.75),
    Ratio("batches / unary, over gRPC, hot", "gRPC, batches, hot", "gRPC, unary", None),
)


def machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": platform.system(),
        "python": platform.python_version(),
        "load_average": [round(value, 1) for value in os.getloadavg()],
    }


def ratios(results: Results) -> dict[str, dict[str, float | None]]:
    return {
        ratio.name: {"value": round(results.rate(ratio.of) / results.rate(ratio.to), 3), "must": ratio.must}
        for ratio in RATIOS
    }


def show(results: Results, reads: list[Read], given: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    console = Console(width=None if Console().is_terminal else 120, highlight=False)
    size = f"{before['cores']} cores, {before['memory_gib']} GiB, load {before['load_average'][0]} before"
    console.print(f"\n{given['scale']:,} transactions, rounds: {given['rounds']}; {size}")
    console.print(
        "Medians \\[least..greatest]. Absolute figures belong to this machine and minute; the ratios travel.\n"
    )
    console.print(_postings_table(results))
    console.print(_ratios_table(results))
    console.print(_reads_table(results, reads))


def _postings_table(results: Results) -> Table:
    table = Table(title="Postings", title_justify="left")
    table.add_column("what")
    for column in ("per second", "p50 ms", "p95 ms", "CPU µs"):
        table.add_column(column, justify="right")
    for name, words in _POSTINGS.items():
        series = results.series[name]
        cells = [_ms(series, "p50_ms"), _ms(series, "p95_ms"), f"{series.median('cpu_ms') * 1000:.0f}"]
        table.add_row(words, _range(series), *([] if name.startswith("COPY") else cells))
    return table


def _ratios_table(results: Results) -> Table:
    table = Table(title="Ratios of this run", title_justify="left")
    table.add_column("what")
    for column in ("ratio", "goal"):
        table.add_column(column, justify="right")
    for name, found in ratios(results).items():
        value, must = found["value"] or 0.0, found["must"]
        table.add_row(name, _colored(f"{value:.2f}", must is None or value >= must), f"{must:.2f}" if must else "")
    return table


def _reads_table(results: Results, reads: list[Read]) -> Table:
    table = Table(title="The required reads, at the gRPC edge: p50 / p95 ms", title_justify="left")
    table.add_column("read")
    for column in ("target", "1 caller", "/ SQL", "16 callers", "/ SQL", "CPU ms"):
        table.add_column(column, justify="right")
    for read in reads:
        cells = [f"{read.p50_ms_wanted:g} / {read.p95_ms_wanted:g}"]
        for callers in READERS:
            series = results.series[f"{read.name}, {callers}"]
            p50, p95 = series.median("p50_ms"), series.median("p95_ms")
            kept = p50 <= read.p50_ms_wanted and p95 <= read.p95_ms_wanted
            ratio = to_sql(results, read, callers)
            cells += [_colored(f"{p50:.1f} / {p95:.1f}", kept), f"x{ratio:.1f}" if ratio else ""]
        cells.append(f"{results.series[f'{read.name}, {READERS[0]}'].median('cpu_ms'):.1f}")
        table.add_row(read.name, *cells)
    return table


def to_sql(results: Results, read: Read, callers: int) -> float | None:
    """How many times its own SQL a read takes, by medians."""
    if not read.sql:
        return None
    name = f"{read.name}, {callers}"
    return results.series[name].median("p50_ms") / results.series[f"{name}, SQL"].median("p50_ms")


def _range(series: Series) -> str:
    median, least, greatest = series.spread("per_second")
    return f"{median:,.0f} \\[{least:,.0f}..{greatest:,.0f}]"


def _ms(series: Series, of: str) -> str:
    return f"{series.median(of):.1f}"


def _colored(text: str, good: bool) -> str:
    return text if good else f"[yellow]{text}[/]"


def write(file: Path, results: Results, reads: list[Read], given: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    found = {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {**before, "load_average_after": machine()["load_average"]},
        "given": given,
        "ratios": ratios(results),
        "results": {name: _of_series(series) for name, series in results.series.items()},
        "reads": {
            read.name: {
                "p50_ms_wanted": read.p50_ms_wanted,
                "p95_ms_wanted": read.p95_ms_wanted,
                "to_sql": {str(callers): to_sql(results, read, callers) for callers in READERS},
            }
            for read in reads
        },
    }
    file.write_text(json.dumps(found, indent=2) + "\n")


def _of_series(series: Series) -> dict[str, dict[str, float]]:
    return {
        of: dict(zip(("median", "least", "greatest"), (round(value, 3) for value in series.spread(of)), strict=True))
        for of in ("per_second", "p50_ms", "p95_ms", "cpu_ms")
    }
