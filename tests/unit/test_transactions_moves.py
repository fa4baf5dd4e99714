"""What writes a move is the same statement, whatever this process has written before it."""

from __future__ import annotations

from itertools import permutations

import pytest

from services.chassis.data import sql
from services.transactions.store import moves

BUILDERS = (moves._build_insert, moves._build_move, moves._build_update)


def test_each_statement_is_the_same_in_whatever_order_they_are_run_first(monkeypatch: pytest.MonkeyPatch) -> None:
    together = set()
    for order in permutations(BUILDERS):
        monkeypatch.setattr(sql, "_shapes", {})  # as in a process that has just begun
        for build in BUILDERS:
            build.cache_clear()
        texts = {
            build: [sql.compile_statement(build(is_one))._compiled.string for is_one in (True, False)]
            for build in order
        }
        together.add(tuple(text for build in BUILDERS for text in texts[build]))
    [found] = together
    assert sum(text.startswith("WITH written AS") for text in found) == 4
