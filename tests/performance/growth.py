"""What a large book costs more than a small one: the same tests on both, in the same minutes.

The small one has an instance and a PostgreSQL of its own beside those of the run, so it is measured only where the
run's book is large: `make bench SCALE=1250000` loads 5,000,000 entries, and compares.
"""

from __future__ import annotations

from pathlib import Path

from deploy.local.instance import Instance
from deploy.local.postgres import Postgres
from tests.performance import importer
from tests.performance.edge import Edge
from tests.performance.measure import Results
from tests.performance.postings import Bench

SMALL_SCALE = 25_000  # 100,000 entries
LARGE_SCALE = 10 * SMALL_SCALE  # from which on there is something to compare


def is_large(scale: int) -> bool:
    return scale >= LARGE_SCALE


async def measure(
    large_bench: Bench, large_edge: Edge, folder: Path, results: Results, rounds: int, seconds: float
) -> None:
    """Raises: AssertionError where the small book does not tie out."""
    environment = {"SERVICE_GRANTS_FILE": str(importer.write_grants(folder))}
    with Instance(folder / "small", environment=environment) as instance, Postgres(folder / "small-book") as cluster:
        bench, edge = await Bench.prepare(cluster, SMALL_SCALE), await Edge.prepare(instance, SMALL_SCALE)
        try:
            books = [("large", large_bench, large_edge), ("small", bench, edge)]
            for _ in range(rounds):
                books.reverse()  # who comes first is not always the same
                for title, posting, reading in books:
                    found = Results()
                    await posting.round(found, SMALL_SCALE // 5)
                    await reading.reads_round(found, seconds)
                    _note(results, title, found, [read.name for read in reading.reads()])
            await bench.check()
        finally:
            await edge.close()
            await bench.close()


def _note(results: Results, title: str, found: Results, reads: list[str]) -> None:
    for name in ("hot", "spread"):
        results.note(f"{title} book, {name}", per_second=found.median(f"in process, {name}", "per_second") or 0.0)
    for read in reads:
        results.note(f"{title} book, {read}", per_second=found.median(f"{read}, 1", "per_second") or 0.0)
