"""An entry and its legs come in one statement, checked once, and agree with what their ledger accounts keep."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0002"
down_revision = "0001"
compatible_with = "0002"

_SQL = Path(__file__).resolve().parents[1] / "sql"


def upgrade() -> None:
    for file in ("checks", "post_journal_entries"):
        for statement in (_SQL / f"0002_{file}.sql").read_text().split("\n----\n"):
            op.execute(statement)
