"""What providers may have been asked: one row an attempt, so that a late answer about an earlier one finds its own.

The row is there before the provider is asked, and nobody can delete it: an attempt that has one may have been sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.chassis.data.database import ARE_SET, Database
from services.chassis.data.reach import is_mine
from services.chassis.data.reads import Read, Source, compile_for_all, compile_write_for_all, fetch_row, fetch_rows
from services.chassis.data.rows import build_new, build_values_table, list_by_column, name_new
from services.chassis.data.seals import (
    NotSealed,
    check_read_row,
    check_row,
    check_rows,
    keep_readable,
    seal_of,
    seals_of,
)
from services.chassis.data.sql import Row, build_rows
from services.chassis.data.transaction import Tx
from services.chassis.data.versions import is_restored
from services.transactions.domain.return_rates import Outcome
from services.transactions.domain.returns import network_code_of
from services.transactions.domain.states import ARRIVED, Status
from services.transactions.domain.transaction import Transaction
from services.transactions.tables import provider_payments

_c = provider_payments.c
# In which the current attempt has not ended.
_UNDER_WAY = ARRIVED | {Status.PROCESSING, Status.PENDING_SETTLEMENT}
_OUTCOMES = {Status(each.value): each for each in Outcome}
_OF_TRANSACTION = sa.select(provider_payments).where(
    is_mine(provider_payments), _c.transaction_id == sa.bindparam("this_id")
)
_ATTEMPT = _c.attempt == sa.bindparam("this")
_CURRENT = Read(_OF_TRANSACTION.where(_ATTEMPT))
_EARLIER = Read(_OF_TRANSACTION.where(_c.attempt < sa.bindparam("this")))
_COLUMNS = tuple(column.name for column in provider_payments.columns)
_VALUES = build_values_table(*((column.name, column.type) for column in provider_payments.columns))
_INSERT = compile_write_for_all(
    pg.insert(provider_payments)
    .from_select(_COLUMNS, sa.select(*(_VALUES.c[name] for name in _COLUMNS)).where(ARE_SET))
    .on_conflict_do_nothing()
    .returning(_c.org_id, _c.transaction_id, is_restored(_c.transaction_id).label("is_restored"))
)
_WRITTEN = ("provider_reference", "sent_at", "outcome", "return_code", "ended_at")
_CHANGING = (*_WRITTEN, "seal")
_SAVE = (
    sa.update(provider_payments)
    .where(is_mine(provider_payments), _c.transaction_id == sa.bindparam("this_id"), _ATTEMPT)
    .values(build_new((name, _c[name].type) for name in _CHANGING))
)
# Of any organization, by the provider's id or by ours. Who runs them asks for the seal of what they find.
_PAGE = 1_000
_OWNERS = tuple(
    compile_for_all(
        sa.select(provider_payments)
        .where(
            _c.provider == sa.bindparam("provider"),
            column == sa.bindparam("known_by"),
            sa.tuple_(_c.org_id, _c.attempt)
            > sa.tuple_(sa.bindparam("behind", type_=sa.Text), sa.bindparam("behind_attempt", type_=sa.Integer)),
        )
        .order_by(_c.org_id, _c.attempt)
        .limit(_PAGE)
    )
    for column in (_c.provider_reference, _c.transaction_id)
)


async def insert_attempts(database: Database, rows: Sequence[Transaction], now: datetime) -> set[tuple[str, str]]:
    """Notes that the current attempts are about to be sent; the (org_id, transaction_id) of those never sent before.

    Should it be sent twice, those that the first noted count as if they may have been sent. So do those of before a
    restore of this database: they may have been sent after the backup.
    """
    if not rows:
        return set()
    attempts: list[dict[str, Any]] = [
        {
            "org_id": row.org_id,
            "transaction_id": row.transaction_id,
            "attempt": row.attempts,
            "presentment": max(row.presentments, 1),
            "provider": row.provider,
            "provider_key": row.provider_key,
            "provider_reference": None,
            "sent_at": now,
            "is_debit": row.is_debit,
            "outcome": None,
            "return_code": None,
            "ended_at": None,
        }
        for row in rows
    ]
    values = [{**each, "seal": seal_of(database.reader, provider_payments, each)} for each in attempts]
    text, arguments = _INSERT.fill(list_by_column(_COLUMNS, values))
    inserted = await database.send_for_all(text, *arguments)
    return {(each["org_id"], each["transaction_id"]) for each in inserted if not each["is_restored"]}


async def read_attempt(tx: Tx, row: Transaction) -> Row:
    """The current attempt, which was noted before.

    Raises:
        NotSealed: it is not as it was noted, or could not be, because somebody else's row has its key at the provider.
    """
    found = await fetch_row(tx, _CURRENT, this_id=row.transaction_id, this=row.attempts)
    if found is None:
        seals_of(tx).refuse(provider_payments.name, f"{row.org_id} {row.transaction_id} {row.attempts}")
    return check_row(tx, provider_payments, found)


async def save_sending(tx: Tx, row: Transaction, now: datetime) -> None:
    """Notes that the current attempt is about to be sent once more. Raises: NotSealed."""
    attempt = await read_attempt(tx, row)
    await _save(tx, row, attempt, sent_at=max(now, attempt.sent_at))


async def save_provider_reference(tx: Tx, row: Transaction, provider_reference: str) -> None:
    """Notes under which id the provider has the current attempt. Raises: NotSealed."""
    await _save(tx, row, await read_attempt(tx, row), provider_reference=provider_reference)


async def save_ends(tx: Tx, before: Sequence[Transaction], moved: Sequence[Transaction], now: datetime) -> None:
    """Notes how attempts at debits ended that this move ends otherwise than well.

    What somebody altered is in the log, and keeps no return from being recorded: it is not counted.
    """
    for was, row in zip(before, moved, strict=True):
        if row.is_debit and was.status in _UNDER_WAY and row.status in _OUTCOMES:
            with suppress(NotSealed):
                await _save_end(tx, row, _OUTCOMES[row.status], now)


async def _save_end(tx: Tx, row: Transaction, outcome: Outcome, now: datetime) -> None:
    """Raises: NotSealed."""
    found = await fetch_row(tx, _CURRENT, this_id=row.transaction_id, this=row.attempts)
    if found is None:  # nothing was ordered
        return
    code = network_code_of(row.failure) if outcome is Outcome.RETURNED else ""
    attempt = check_row(tx, provider_payments, found)
    await _save(tx, row, attempt, outcome=outcome.value, return_code=code or None, ended_at=now)


async def _save(tx: Tx, row: Transaction, attempt: Row, **changes: Any) -> None:
    written = attempt._mapping | changes
    values = {name: written[name] for name in _WRITTEN}
    seal = seal_of(tx, provider_payments, written)
    which = {"this_id": row.transaction_id, "this": row.attempts}
    await tx.execute(_SAVE, name_new(_CHANGING, values | {"seal": seal}) | which)


async def list_earlier_references(source: Source, row: Transaction) -> frozenset[str]:
    """The provider's ids of the attempts before the current one.

    Raises:
        NotSealed: else whoever may write here could make the current payment look like an earlier one.
    """
    if row.attempts <= 1:  # of which the transaction's seal is
        return frozenset()
    found = await fetch_rows(source, _EARLIER, this_id=row.transaction_id, this=row.attempts)
    earlier = check_rows(source, provider_payments, found)
    return frozenset(each.provider_reference for each in earlier if each.provider_reference)


async def find_owner(database: Database, provider: str, payment_id: str, reference: str) -> tuple[str, str] | None:
    """(org_id, transaction_id) of a provider's payment, in whatever organization: by its id there, else by our id.

    However many rows somebody made up: it goes through them, a page at a time.

    Raises:
        NotSealed: else whoever may write here could have a webhook applied to something else, or to nothing.
    """
    check, others = partial(check_read_row, database.seals, provider_payments), None
    for (text, names), known_by in zip(_OWNERS, (payment_id, reference), strict=True):
        asked: dict[str, Any] = {"provider": provider, "known_by": known_by, "behind": "", "behind_attempt": 0}
        while True:
            found = build_rows(await database.send_for_all(text, *map(asked.__getitem__, names)))
            for row in keep_readable(found, check):
                return row.org_id, row.transaction_id
            others = others or next(iter(found), None)
            if len(found) < _PAGE:
                break
            asked |= {"behind": found[-1].org_id, "behind_attempt": found[-1].attempt}
    if others is not None:
        check(others)
    return None
