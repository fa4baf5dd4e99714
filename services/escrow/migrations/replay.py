"""Brings the chart of accounts and the book's functions and triggers to what this code says they are.

Each stands once: the chart in `domain/chart.py`, each function in a file of `sql/`. Every migration that needs a change
of them runs this again, so a file is edited, never copied. What older code still calls keeps its signature; a changed
signature is a new function with a new name, and the old one is dropped a release later.

A kind that is new in the chart has ledger accounts in the escrow accounts that are opened from then on. The migration
that adds it gives them to those that are there, too: CONTRIBUTING.md, "To add one more".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa

from services.escrow.domain.chart import CHART

_FOLDER = Path(__file__).parent / "sql"
_FILL_CHART = sa.text(
    "INSERT INTO ledger_account_kinds (kind, of_party, normal_balance, may_be_overdrawn)"
    " VALUES (:kind, :of_party, :normal_balance, :may_be_overdrawn)"
    " ON CONFLICT (kind) DO UPDATE SET of_party = excluded.of_party, normal_balance = excluded.normal_balance,"
    " may_be_overdrawn = excluded.may_be_overdrawn"
)


def replay_current(op: Any) -> None:
    """Fills the chart and makes every function and trigger anew."""
    connection = op.get_bind()
    for line in CHART:
        row = {
            "kind": line.kind.value,
            "of_party": line.of_party,
            "normal_balance": line.normal_balance.value,
            "may_be_overdrawn": line.may_be_overdrawn,
        }
        connection.execute(_FILL_CHART, row)
    # The files are newer than the tables of a migration before the last: what they name may be still to come.
    op.execute("SET LOCAL check_function_bodies = off")
    for file in sorted(_FOLDER.glob("*.sql")):
        for statement in file.read_text().split("\n----\n"):
            op.execute(statement)
    op.execute("SET LOCAL check_function_bodies = on")
