"""What persons said about money that is to move: kept as it was said."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from services.chassis.calls.auth import current_principal
from services.chassis.data.locks import lock_name
from services.chassis.data.reach import is_mine
from services.chassis.data.seals import check_rows, seal_of
from services.chassis.data.transaction import Tx
from services.chassis.values.ids import new_id
from services.chassis.values.session import Session
from services.compliance.domain.statements import Act, Statement, Subject
from services.compliance.tables import statements

_c = statements.c


async def lock_statements(tx: Tx, kind: str, resource_id: str) -> list[Statement]:
    """As `list_statements`; until the end of the transaction nobody else says anything on what they say now."""
    await lock_name(tx, "statements", kind, resource_id)
    return await list_statements(tx, kind, resource_id)


async def insert_statement(tx: Tx, kind: str, resource_id: str, statement: Statement) -> None:
    values: dict[str, Any] = {
        "org_id": current_principal().org_id,
        "statement_id": new_id("stm"),
        "kind": kind,
        "resource_id": resource_id,
        "act": statement.act.value,
        "person_id": statement.person_id,
        "content_hash": statement.subject.content_hash,
        "movement_digest": statement.subject.movement_digest,
        "makers": sorted(statement.makers),
        "beneficiary_party_ids": sorted(statement.beneficiary_party_ids),
        "approvers_needed": statement.approvers_needed,
        "created_at": statement.said_at,
        "expires_at": statement.expires_at,
        **statement.session._asdict(),
    }
    await tx.execute(sa.insert(statements).values(**values, seal=seal_of(tx, statements, values)))


async def list_statements(tx: Tx, kind: str, resource_id: str) -> list[Statement]:
    """Oldest first. Raises: NotSealed: one of them was written past this service."""
    mine = (is_mine(statements), _c.kind == kind, _c.resource_id == resource_id)
    found = await tx.execute(sa.select(statements).where(*mine).order_by(_c.statement_id))
    return [
        Statement(
            Act(row.act),
            row.person_id,
            row.created_at,
            row.expires_at,
            Session.of_row(row),
            Subject(row.content_hash, row.movement_digest),
            frozenset(row.makers),
            frozenset(row.beneficiary_party_ids),
            row.approvers_needed,
        )
        for row in check_rows(tx, statements, found)
    ]
