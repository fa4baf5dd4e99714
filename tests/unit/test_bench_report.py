"""bench.json has one schema: whoever compares two runs finds the same rows, measured or not."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from services.distributions.domain.investment import INVESTMENTS_MAX
from tests.performance import bench, flow, report, rows
from tests.performance.measure import Results, Sample

BEFORE = report.machine()
SIZE = {"transactions": 50_000, "ledger_entries": 200_000, "rounds": 3}
KEYS = ["version", "finished", "machine", "scale", "rows", "figures"]
KEYS_OF_A_ROW = [
    *("name", "value", "unit", "limit", "limit_is", "ratio", "must", "stretch", "goal_of", "better", "met"),
]


def build(results: Results) -> dict:
    return json.loads(json.dumps(report.build(results, rows.find(results), SIZE, BEFORE)))


def row(results: Results, name: str) -> dict:
    [found] = [each for each in build(results)["rows"] if each["name"] == name]
    return found


def everything() -> Results:
    """A run that measured whatever a row asks for."""

    class Everything(Results):
        def median(self, name: str, of: str) -> float | None:
            return 7.0

    return Everything()


def rates(posted: float, copied: float) -> Results:
    results = Results()
    results.add("in process, hot", Sample(posted, 1, 2, 3))
    results.add("yardstick, hot", Sample(copied, 1, 2))
    return results


@pytest.mark.parametrize("results", [Results(), rates(10, 20), everything()])
def test_every_run_has_the_same_keys_and_rows(results: Results) -> None:
    built = build(results)
    assert list(built) == KEYS
    assert list(built["scale"]) == list(SIZE)
    assert [list(each) for each in built["rows"]] == [KEYS_OF_A_ROW] * len(rows.ROWS)
    assert [each["name"] for each in built["rows"]] == [each.name for each in rows.ROWS]


def test_no_two_rows_have_the_same_name() -> None:
    names = [each.name for each in rows.ROWS]
    assert len(set(names)) == len(names)


def test_every_row_finds_its_figures_where_all_were_measured() -> None:
    assert all(each["value"] is not None for each in build(everything())["rows"])
    assert all((each["limit"] is None) == (each["limit_is"] is None) for each in build(everything())["rows"])


@pytest.mark.parametrize(("posted", "met"), [(39, "no"), (40, "must"), (59, "must"), (60, "stretch")])
def test_a_ratio_is_held_to_what_must_be_and_to_what_is_wished(posted: float, met: str) -> None:
    found = row(rates(posted, 100), "in process, hot")
    assert (found["value"], found["limit"], found["ratio"]) == (posted, 100, posted / 100)
    assert (found["must"], found["stretch"], found["met"]) == (0.4, 0.6, met)


@pytest.mark.parametrize(("percent", "met"), [(0.9, "stretch"), (3, "must"), (3.1, "no")])
def test_what_should_be_little_is_held_to_its_value(percent: float, met: str) -> None:
    results = Results()
    results.note("idle", core_percent=percent)
    assert row(results, "idle, share of a core")["met"] == met


def test_what_was_not_measured_is_neither_kept_nor_missed() -> None:
    found = row(Results(), "in process, hot")
    assert (found["value"], found["limit"], found["ratio"], found["met"]) == (None, None, None, None)


def test_a_median_is_told_with_its_range() -> None:
    results = Results()
    for rate in (3.0, 1.0, 2.0):
        results.note("contribution", per_second=rate)
    assert build(results)["figures"]["contribution"] == {"per_second": {"median": 2, "least": 1, "greatest": 3}}


@pytest.mark.parametrize(("posted", "word"), [(39, "missed"), (40, "kept"), (60, "kept, stretch")])
def test_the_printed_table_says_in_words_what_its_colors_say(posted: float, word: str) -> None:
    screen = io.StringIO()
    report.show(rows.find(rates(posted, 100)), SIZE, BEFORE, Console(file=screen, width=200))
    [line] = [line for line in screen.getvalue().splitlines() if line.startswith("│ in process, hot ")]
    assert line.split("│")[-2].strip() == word
    assert "not measured" in screen.getvalue()


def test_the_file_is_json(tmp_path: Path) -> None:
    report.write(tmp_path / "bench.json", report.build(Results(), rows.find(Results()), SIZE, BEFORE))
    assert json.loads((tmp_path / "bench.json").read_text())["version"] == report.VERSION


def test_an_investor_of_the_benchmark_makes_no_more_investments_than_a_party_may() -> None:
    each = -(-max(bench.CONTRIBUTIONS, bench.SETTLED_TOGETHER) // flow.INVESTORS)
    assert each <= INVESTMENTS_MAX
