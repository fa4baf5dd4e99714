"""COPY of rows into tables with the indexes and checks of a ledger: what writing them costs at least."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from tests.performance.measure import Sample

POSTINGS_A_COMMIT = 5000


@dataclass(frozen=True)
class Rows:
    """Those of some postings for one table, in the order of the postings; each posting has as many as the others."""

    table: str
    columns: Sequence[str]
    rows: Sequence[tuple[Any, ...]]


async def copy(connection: asyncpg.Connection, postings: int, tables: Sequence[Rows]) -> Sample:
    """One lane, POSTINGS_A_COMMIT a commit."""
    await connection.execute("CHECKPOINT")  # as before the other tests: every page they touch goes to the log whole
    taken = []
    began = time.perf_counter()
    for first in range(0, postings, POSTINGS_A_COMMIT):
        before = time.perf_counter()
        async with connection.transaction():
            for to in tables:
                each = len(to.rows) // postings
                part = to.rows[first * each : (first + POSTINGS_A_COMMIT) * each]
                await connection.copy_records_to_table(to.table, records=part, columns=to.columns)
        taken.append(time.perf_counter() - before)
    total = time.perf_counter() - began
    return Sample(postings / total, sorted(taken)[len(taken) // 2] * 1000, max(taken) * 1000)
