"""A session proves that it is its service's, or it writes nothing: a login is not enough (ADR 39).

A connection of the service begins with a text that only a key of it makes (`Seals.list_session_proofs`), in a setting
that no other session sees. The database has the SHA-256 of it, and refuses each statement that writes in a session
without it. The owner of the tables, who migrates and restores, needs none.
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum, auto
from hashlib import sha256

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from services.chassis.data.database import Database
from services.chassis.data.guards import SEARCH_PATH, Op, quote
from services.chassis.data.roles import SESSION_PROOF
from services.chassis.data.seals import seals_of
from services.chassis.data.tables import session_proofs
from services.chassis.data.transaction import Tx
from services.chassis.process.telemetry import log

# The one table that is written before anybody has proven anything: by `adopt_session_proof`.
TABLE = session_proofs.name
_GIVEN = f"coalesce(current_setting('{SESSION_PROOF}', true), '')"
_IS_PROVEN = f"EXISTS (SELECT FROM {TABLE} WHERE proof_digest = sha256(convert_to({_GIVEN}, 'UTF8')))"
# Each statement sees what the database knows by now, and not what it knew when a transaction began.
_IS_OF_NOW = "current_setting('transaction_isolation') = 'read committed'"
# Within these, the current user is the owner, and the session's is who signed in. The code says that nothing is wrong
# with the work itself.
_REQUIRE = f"""
CREATE OR REPLACE FUNCTION realco_require_session_proof() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET {SEARCH_PATH} AS $$
BEGIN
  IF {_IS_OF_NOW} AND {_IS_PROVEN} OR pg_has_role(session_user, current_user, 'MEMBER') THEN
    RETURN NULL;
  END IF;
  RAISE EXCEPTION '% is written by its service alone: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = '58000';
END $$
"""
_MAY_ADOPT = f"({_IS_OF_NOW} AND ({_IS_PROVEN} OR NOT EXISTS (SELECT FROM {TABLE})))"
# The first service that asks is the one whose database it is; from then on whoever proves to be it adds a proof.
_ADOPT = f"""
CREATE OR REPLACE FUNCTION adopt_session_proof(p_digest bytea) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET {SEARCH_PATH} AS $$
BEGIN
  -- Who may adopt nothing keeps no lock, either.
  IF NOT {_MAY_ADOPT} OR EXISTS (SELECT FROM {TABLE} WHERE proof_digest = p_digest) THEN
    RETURN;
  END IF;
  LOCK TABLE {TABLE} IN SHARE ROW EXCLUSIVE MODE;
  IF {_MAY_ADOPT} THEN
    INSERT INTO {TABLE} (proof_digest) VALUES (p_digest) ON CONFLICT DO NOTHING;
  END IF;
END $$
"""  # noqa: S608  # of these constants


class Standing(Enum):
    """Whose a session is, as its database sees it."""

    OURS = auto()
    NOT_PROVEN = auto()  # it begins without any
    ANOTHERS = auto()  # with one that the database does not know
    NOBODYS_YET = auto()  # the database knows none


_FIND_STANDING = sa.text(f"SELECT {_IS_PROVEN}, {_GIVEN} = '', EXISTS (SELECT FROM {TABLE})")  # noqa: S608


def create_session_proofs(op: Op) -> None:
    """The first step: where the digests stand, what asks for the proof, and what adopts one."""
    op.create_table(
        TABLE,
        sa.Column("proof_digest", postgresql.BYTEA(), nullable=False),
        sa.Column("adopted_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("proof_digest"),
    )
    for statement in (_REQUIRE, _ADOPT):
        op.execute(statement)


def require_session_proof(op: Op, name: str) -> None:
    """Refuses whatever a session writes in the table that does not prove to be the service's."""
    op.execute(
        "CREATE OR REPLACE TRIGGER require_session_proof BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE"
        f" ON {quote(op, name)} FOR EACH STATEMENT EXECUTE FUNCTION realco_require_session_proof()"
    )


async def list_strange_proofs(tx: Tx) -> list[datetime]:
    """When the database adopted proofs that none of the keys of this service makes."""
    known = [sha256(proof.encode()).digest() for proof in seals_of(tx).list_session_proofs()]
    query = sa.select(session_proofs.c.adopted_at).where(session_proofs.c.proof_digest.not_in(known))
    return list(await tx.scalars(query.order_by(session_proofs.c.adopted_at)))


async def find_standing(tx: Tx) -> Standing:
    is_proven, is_empty, is_adopted = (await tx.execute(_FIND_STANDING)).one()
    if is_proven:
        return Standing.OURS
    if not is_adopted:
        return Standing.NOBODYS_YET
    return Standing.NOT_PROVEN if is_empty else Standing.ANOTHERS


async def adopt_session_proof(database: Database) -> None:
    """Has the database know what the sessions of this service prove.

    One on which no service was started takes it; one that knows an older key of this service takes it from a session
    that proves that. Any other stays as it is.
    """
    newest, *older = database.seals.list_session_proofs()
    digest = sha256(newest.encode()).digest()
    for proof in (newest, *older):
        async with database.open_proving(proof) as connection:
            await connection.execute("SELECT public.adopt_session_proof($1)", digest)
    log.info("session_proof_known", digest=digest.hex())
