"""Who writes in a service's database proves to be the service: a login is not enough (ADR 39).

A connection of the service begins with a text that only its keys make (`Seals.prove_writer`), in a setting that no
other session sees. The database has the SHA-256 of it, from the first start of the service on, and refuses each
statement that writes in a session without it. The owner of the tables, who migrates and restores, needs none.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from services.chassis.data.guards import SEARCH_PATH, Op, quote
from services.chassis.data.roles import WRITER_PROOF
from services.chassis.data.transaction import Tx

# The one table that is written before anybody has a proof: by `adopt_writer`.
WRITER = "writer"
_PROOF = f"coalesce(current_setting('{WRITER_PROOF}', true), '')"
_IS_WRITER = f"EXISTS (SELECT FROM writer WHERE proof_digest = sha256(convert_to({_PROOF}, 'UTF8')))"
# Within these, the current user is the owner, and the session's is who signed in.
_REQUIRE = f"""
CREATE OR REPLACE FUNCTION realco_require_writer() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET {SEARCH_PATH}
AS $$
BEGIN
  IF {_IS_WRITER} OR pg_has_role(session_user, current_user, 'MEMBER') THEN
    RETURN NULL;
  END IF;
  RAISE EXCEPTION '% is written by its service alone: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = '42501';
END $$
"""  # of these constants
# Answers whether the session is the service's. The first service that asks is it.
_ADOPT = f"""
CREATE OR REPLACE FUNCTION adopt_writer() RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET {SEARCH_PATH} AS $$
BEGIN
  IF {_PROOF} <> '' AND NOT EXISTS (SELECT FROM writer) THEN
    INSERT INTO writer (proof_digest) VALUES (sha256(convert_to({_PROOF}, 'UTF8'))) ON CONFLICT DO NOTHING;
  END IF;
  RETURN {_IS_WRITER};
END $$
"""  # noqa: S608  # of these constants


def create_writer(op: Op) -> None:
    """The first step: where the digest stands, what asks for the proof, and what adopts the service that has it."""
    op.create_table(
        WRITER,
        sa.Column("only_row", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("proof_digest", postgresql.BYTEA(), nullable=False),
        sa.Column("adopted_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("only_row", name="writer_only_row"),
        sa.PrimaryKeyConstraint("only_row"),
    )
    for statement in (_REQUIRE, _ADOPT):
        op.execute(statement)


def require_writer(op: Op, name: str) -> None:
    """Refuses whatever a session writes in the table that does not prove to be the service's."""
    op.execute(
        "CREATE OR REPLACE TRIGGER require_writer BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE"
        f" ON {quote(op, name)} FOR EACH STATEMENT EXECUTE FUNCTION realco_require_writer()"
    )


async def adopt_writer(tx: Tx) -> bool:
    """Whether the database takes what this service writes. One that no service was started on does from now on."""
    return bool(await tx.scalar(sa.text("SELECT adopt_writer()")))
