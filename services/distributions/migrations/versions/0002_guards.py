"""Which moves a status may make, whose rows are whose, and what the app role may do."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from services.chassis.data.migrations import app_role, enable_rls, grant_app

revision = "0002"
down_revision = "0001"
compatible_with = "0002"

# As domain/states.py had them when this was written; a test compares.
_MOVES = {
    "offerings": """
        OPEN>CLOSING CLOSING>CLOSED CLOSING>OPEN OPEN>REFUNDING REFUNDING>REFUNDED
    """,
    "investments": """
        PENDING>ACTIVE ACTIVE>COMPLETED PENDING>CANCELLED
        PENDING>RECONFIRM_REQUIRED RECONFIRM_REQUIRED>PENDING RECONFIRM_REQUIRED>CANCELLED
    """,
    "distributions": """
        DRAFT>PENDING_APPROVAL PENDING_APPROVAL>APPROVED APPROVED>QUEUED QUEUED>PROCESSING PROCESSING>COMPLETED
        PENDING_APPROVAL>DRAFT APPROVED>DRAFT DRAFT>CANCELLED PENDING_APPROVAL>CANCELLED APPROVED>CANCELLED
        QUEUED>FAILED PROCESSING>FAILED PROCESSING>PARTIALLY_FAILED COMPLETED>PARTIALLY_FAILED
        FAILED>PROCESSING PARTIALLY_FAILED>PROCESSING
    """,
    "allocations": """
        PENDING>PROCESSING PROCESSING>COMPLETED PENDING>ON_HOLD ON_HOLD>PENDING PENDING>CANCELLED ON_HOLD>CANCELLED
        PROCESSING>FAILED PROCESSING>RETURNED COMPLETED>RETURNED FAILED>PROCESSING RETURNED>PROCESSING
    """,
}

_REFUSE_ILLEGAL_MOVE = """
    CREATE FUNCTION refuse_illegal_move() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
    BEGIN
        IF NOT EXISTS (
            SELECT FROM allowed_moves
            WHERE machine = TG_TABLE_NAME AND from_status = OLD.status AND to_status = NEW.status
        ) THEN
            RAISE EXCEPTION '% does not move from % to %', TG_TABLE_NAME, OLD.status, NEW.status
                USING ERRCODE = '23514';
        END IF;
        RETURN NEW;
    END $$
"""


def upgrade() -> None:
    _guard_moves()
    enable_rls(
        op,
        "offerings",
        "investments",
        "contributions",
        "distributions",
        "distribution_tiers",
        "allocations",
        "payouts",
        "sagas",
    )
    grant_app(op, "distributions", select_insert=["allowed_moves"])
    op.execute(f"REVOKE INSERT ON allowed_moves FROM {app_role(op.get_bind(), 'distributions')}")


def _guard_moves() -> None:
    """A move that is not listed cannot be stored, whoever writes it (reliability rule c7)."""
    op.bulk_insert(
        sa.table("allowed_moves", sa.column("machine"), sa.column("from_status"), sa.column("to_status")),
        [
            {"machine": machine, "from_status": move.split(">")[0], "to_status": move.split(">")[1]}
            for machine, moves in _MOVES.items()
            for move in moves.split()
        ],
    )
    op.execute(_REFUSE_ILLEGAL_MOVE)
    for machine in _MOVES:
        op.execute(
            f"CREATE TRIGGER refuse_illegal_move BEFORE UPDATE OF status ON {machine} FOR EACH ROW"
            " WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION refuse_illegal_move()"
        )
