"""Checks of parties, and the checks that hold the decisions about transactions. Every change is published."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from realco.compliance.v1 import events_pb2 as events
from sqlalchemy.dialects import postgresql as pg

from services.chassis.data import outbox
from services.chassis.data.aggregates import Aggregate, list_columns, read_fields, seal_columns
from services.chassis.data.due import Due
from services.chassis.data.reach import is_mine
from services.chassis.data.reads import Read, Source, fetch_rows
from services.chassis.data.rows import insert_new
from services.chassis.data.seals import keep_sealed
from services.chassis.data.sql import Row
from services.chassis.data.transaction import Tx
from services.chassis.values.explanation import read_explanation, write_explanation
from services.chassis.values.failure import read_failure, write_failure
from services.chassis.values.invariant import invariant
from services.chassis.values.money import Money
from services.compliance import messages
from services.compliance.domain import clearance
from services.compliance.domain.checks import CHECK_MOVES, CheckStatus, ComplianceCheck
from services.compliance.domain.clearance import Check
from services.compliance.tables import compliance_checks

_c = compliance_checks.c
_EVENTS = {
    CheckStatus.MANUAL_REVIEW: events.ComplianceCheckCreated,
    CheckStatus.PASSED: events.ComplianceCheckCompleted,
    CheckStatus.FAILED: events.ComplianceCheckCompleted,
    CheckStatus.EXPIRED: events.ComplianceCheckExpired,
}


def _read_check(row: Row) -> ComplianceCheck:
    return read_fields(
        ComplianceCheck,
        row,
        status=CheckStatus(row.status),
        amount=None if row.amount_minor is None else Money(row.amount_minor, row.currency),
        failure=read_failure(row.failure),
        explanation=None if row.explanation is None else read_explanation(row.explanation),
        makers=tuple(row.makers),
    )


def _list_columns(check: ComplianceCheck) -> dict[str, Any]:
    return list_columns(
        compliance_checks,
        check,
        amount_minor=check.amount and check.amount.amount_minor,
        currency=check.amount and check.amount.currency,
        failure=write_failure(check.failure),
        explanation=None if check.explanation is None else write_explanation(check.explanation),
        makers=list(check.makers),
    )


CHECKS = Aggregate(compliance_checks, "compliance_check_id", _read_check, _list_columns, CHECK_MOVES)


# Those that passed, and whose time ran out.
EXPIRED_CHECKS = Due(compliance_checks, _c.status == "PASSED", _c.expires_at)


async def find_check(tx: Tx, check_id: str) -> ComplianceCheck | None:
    """Raises: NotSealed."""
    return await CHECKS.find(tx, check_id)


async def insert_check(tx: Tx, check: ComplianceCheck) -> None:
    """A check of a locked party."""
    await CHECKS.insert(tx, check)
    await _publish(tx, [check], check.created_at)


async def save_check(tx: Tx, before: ComplianceCheck, after: ComplianceCheck, now: datetime) -> ComplianceCheck:
    """Changes a check of a locked party. Raises: IllegalStatusChange."""
    saved = await CHECKS.save(tx, before, after, now)
    await _publish(tx, [saved], now)
    return saved


async def list_latest_checks(source: Source, party_ids: Collection[str]) -> dict[str, dict[str, Check]]:
    """For each party, the latest check of each required type."""
    found: dict[str, dict[str, Check]] = defaultdict(dict)
    read = _build_latest(tuple(clearance.list_required_types()))
    rows = await fetch_rows(source, read, party_ids=list(party_ids))
    for row in keep_sealed(source, compliance_checks, rows):
        because = row.explanation["statement"] if row.explanation else ""
        found[row.party_id][row.check_type] = Check(row.status, row.expires_at, because)
    return found


async def list_latest_of(tx: Tx, party_id: str) -> dict[str, ComplianceCheck]:
    """The latest check of each required type of one party, for whoever ends them.

    Raises: NotSealed: what would be left out now could be put right afterwards, and would still count.
    """
    latest = await tx.execute(select_latest_checks().where(_c.party_id == party_id))
    return {row.check_type: CHECKS.read_sealed(tx, row) for row in latest}


def select_latest_checks() -> sa.Select[Any]:
    """Each party's latest check of each required type."""
    return (
        sa.select(compliance_checks)
        .ext(pg.distinct_on(_c.party_id, _c.check_type))
        .where(
            is_mine(compliance_checks), _c.resource_type == "PARTY", _c.check_type.in_(clearance.list_required_types())
        )
        .order_by(_c.party_id, _c.check_type, _c.created_at.desc(), _c.compliance_check_id.desc())
    )


@cache
def _build_latest(_required: tuple[str, ...]) -> Read:
    """For these types, which are those that are required."""
    party_ids = sa.bindparam("party_ids", type_=sa.ARRAY(sa.Text))
    return Read(select_latest_checks().where(_c.party_id == sa.any_(party_ids)))


# --- decisions about transactions -------------------------------------------------------------------------------------


async def list_decisions(tx: Tx, transaction_ids: Collection[str]) -> dict[str, ComplianceCheck]:
    """The decisions there are already, by transaction. Raises: NotSealed."""
    found = await tx.execute(_DECISIONS, {"transaction_ids": list(transaction_ids)})
    return {row.resource_id: CHECKS.read_sealed(tx, row) for row in found}


_DECIDED = sa.bindparam("transaction_ids", type_=sa.ARRAY(sa.Text))
_DECISIONS = CHECKS.select().where(_c.resource_type == "TRANSACTION", _c.resource_id == sa.any_(_DECIDED))


async def insert_decisions(tx: Tx, checks: Collection[ComplianceCheck], now: datetime) -> list[ComplianceCheck]:
    """Stores each decision unless its transaction has got one meanwhile; those that were stored.

    The lock of a party that does not exist is nobody's, so two may come to decide on its transaction at once.
    """
    if not checks:
        return []
    rows = [seal_columns(tx, compliance_checks, _list_columns(check)) for check in checks]
    for row in rows:
        invariant(row.pop("makers") == [], "nobody wrote a decision: a row has no makers unless it says otherwise")
    inserted = await insert_new(tx, _c.resource_id, rows)
    stored = [check for check in checks if check.resource_id in inserted]
    await _publish(tx, stored, now)
    return stored


async def _publish(tx: Tx, checks: Collection[ComplianceCheck], now: datetime) -> None:
    changes = [_EVENTS[check.status](compliance_check=messages.to_compliance_check(check)) for check in checks]
    if changes:
        await outbox.enqueue_all(tx, changes, now=now)
