"""A leg is one of those its journal entry announces, and agrees with what its ledger account keeps."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0002"
down_revision = "0001"

_SQL = Path(__file__).resolve().parents[1] / "sql"


def upgrade() -> None:
    op.execute((_SQL / "0002_check_legs.sql").read_text())
