"""What `make bench` measures: postings beside COPY and an empty RPC, and the required reads beside their own SQL.

- One run, its tests interleaved round by round, so that a ratio compares what ran in the same minutes.
- SCALE: how many transactions lie in the tables (50,000); four times as many ledger entries do. ROUNDS: 3.
- It ends with status 1 where a book does not tie out afterwards; a slow machine is no failure.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import uvloop
from rich.console import Console

from deploy.local.instance import Instance
from deploy.local.postgres import Postgres
from deploy.local.programs import ROOT
from services.chassis.process import telemetry
from tests.performance import importer, report
from tests.performance.edge import Edge
from tests.performance.measure import Results
from tests.performance.postings import Bench

POSTINGS_A_TEST = 10_000
READ_SECONDS = 1.0
_FILE = ROOT / "bench.json"


async def run(instance: Instance, cluster: Postgres, scale: int, rounds: int, console: Console) -> None:
    before = report.machine()
    count = min(POSTINGS_A_TEST, scale)
    results = Results()
    with console.status(f"loading {scale:,} transactions, {4 * scale:,} ledger entries"):
        bench = await Bench.prepare(cluster, scale)
        edge = await Edge.prepare(instance, scale)
    try:
        for number in range(1, rounds + 1):
            with console.status(f"round {number} of {rounds}"):
                await bench.round(results, count)
                await edge.postings_round(results, count)
                await edge.reads_round(results, READ_SECONDS)
        await bench.check()
        await edge.check()
    finally:
        await edge.close()
        await bench.close()
    given = {"scale": scale, "rounds": rounds, "postings_a_test": count}
    report.show(results, edge.reads(), given, before)
    report.write(_FILE, results, edge.reads(), given, before)


def main() -> int:
    scale, rounds = int(os.environ.get("SCALE") or 50_000), int(os.environ.get("ROUNDS") or 3)
    if scale < 1000 or rounds < 1:
        print("SCALE is 1,000 at least, ROUNDS 1.", file=sys.stderr)
        return 2
    began = time.monotonic()
    console = Console(stderr=True)
    telemetry.configure_logging("bench")
    with tempfile.TemporaryDirectory(prefix="realco-bench-") as folder:
        with console.status("starting an instance and a PostgreSQL beside it"):
            granted = {"SERVICE_GRANTS_FILE": str(importer.write_grants(Path(folder)))}
            instance = Instance(Path(folder) / "instance", environment=granted)
            cluster = Postgres(Path(folder) / "book")
            instance.start()
        try:
            with cluster:
                uvloop.run(run(instance, cluster, scale, rounds, console))
        except AssertionError as error:
            print(f"It does not tie out: {error}", file=sys.stderr)
            return 1
        finally:
            instance.stop()
    print(f"\n{time.monotonic() - began:.0f} s; all of it in {_FILE.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
