"""What `make bench` measures, each figure beside its limit of the same run, and against its goals (rows.py).

- An idle instance first; then postings, reads and baselines, interleaved round by round, so that a ratio compares what
  ran in the same minutes; then events, and contributions through everything, which move the clock.
- SCALE: how many transactions lie in the tables (50,000); four times as many ledger entries do. ROUNDS: 3.
- It ends with status 1 where a book does not tie out afterwards, or a part could not be measured: what was measured
  until then is shown nevertheless. A slow machine is no failure.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import traceback
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop
from rich.console import Console

from deploy.local.instance import Instance
from deploy.local.postgres import Postgres
from deploy.local.programs import ROOT
from services.chassis.process import telemetry
from tests.performance import growth, idle, importer, report, rows
from tests.performance.baselines import Baselines
from tests.performance.edge import Edge
from tests.performance.events import Events
from tests.performance.flow import Flow
from tests.performance.measure import Results
from tests.performance.postings import Bench
from tests.performance.rest import Rest
from tests.performance.yardstick import Yardstick

POSTINGS_A_TEST = 10_000
BASELINE_POSTINGS = 1000
READ_SECONDS = 0.7
EVENTS = 5000
CONTRIBUTIONS, SETTLED_TOGETHER = 200, 1000
_FILE = ROOT / "bench.json"


class Run:
    """One run: its servers, its size, and what it has found so far."""

    def __init__(self, instance: Instance, cluster: Postgres, folder: Path, scale: int, rounds: int) -> None:
        self.instance, self.cluster, self.folder = instance, cluster, folder
        self.scale, self.rounds = scale, rounds
        self.results = Results()
        self.console = Console(stderr=True)

    async def measure(self) -> None:
        """Raises: AssertionError where something does not tie out."""
        with self.console.status("looking at an idle instance"):
            await idle.measure(self.instance, self.results)
        await self._measure_books()
        with self.console.status(f"telling {EVENTS:,} events, {self.rounds} times"):
            async with Events.opened(self.cluster, self.folder / "events") as events:
                await events.measure(self.results, self.rounds, EVENTS)
        with self.console.status(f"contributing {CONTRIBUTIONS} times, then {SETTLED_TOGETHER:,} times at once"):
            await Flow.measure(self.instance, self.results, CONTRIBUTIONS, SETTLED_TOGETHER)

    async def _measure_books(self) -> None:
        count = min(POSTINGS_A_TEST, self.scale)
        async with AsyncExitStack() as opened:
            with self.console.status(f"loading {self.scale:,} transactions, {4 * self.scale:,} ledger entries"):
                bench = await Bench.prepare(self.cluster, self.scale)
                opened.push_async_callback(bench.close)
                yardstick = await Yardstick.prepare(self.cluster, self.scale)
                opened.push_async_callback(yardstick.close)
                baselines = await Baselines.prepare(self.cluster)
                opened.push_async_callback(baselines.close)
                edge = await Edge.prepare(self.instance, self.scale)
                opened.push_async_callback(edge.close)
                rest = Rest(self.instance, self.scale)
            for number in range(1, self.rounds + 1):
                with self.console.status(f"round {number} of {self.rounds}"):
                    await bench.round(self.results, count)
                    await yardstick.round(self.results, count)
                    await baselines.round(self.results, min(BASELINE_POSTINGS, count))
                    await edge.postings_round(self.results, count)
                    await edge.reads_round(self.results, READ_SECONDS)
                    await rest.round(self.results, READ_SECONDS)
            for tested in (bench, baselines, edge):
                await tested.check()
            if growth.is_large(self.scale):
                with self.console.status(f"comparing with {4 * growth.SMALL_SCALE:,} ledger entries"):
                    await growth.measure(bench, edge, self.folder, self.results, self.rounds, READ_SECONDS)


def main() -> int:
    scale, rounds = int(os.environ.get("SCALE") or 50_000), int(os.environ.get("ROUNDS") or 3)
    if scale < 1000 or rounds < 1:
        print("SCALE is 1,000 at least, ROUNDS 1.", file=sys.stderr)
        return 2
    began, before = time.monotonic(), report.machine()
    telemetry.configure_logging("bench")
    with tempfile.TemporaryDirectory(prefix="realco-bench-") as name:
        folder = Path(name)
        granted = {"SERVICE_GRANTS_FILE": str(importer.write_grants(folder))}
        cluster = Postgres(folder / "book")
        run = Run(Instance(folder / "instance", environment=granted), cluster, folder, scale, rounds)
        failed = False
        try:
            with run.instance, cluster:
                uvloop.run(run.measure())
        except Exception:
            failed = True
            traceback.print_exc()
    size = {"transactions": scale, "ledger_entries": 4 * scale, "rounds": rounds}
    found = rows.find(run.results)
    report.show(found, size, before)
    report.write(_FILE, report.build(run.results, found, size, before))
    print(f"\n{time.monotonic() - began:.0f} s; all of it in {_FILE.name}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
