"""What providers may have been asked: one row an attempt, so that a late answer about an earlier one finds its own.

The row is there before the provider is asked, and nobody can delete it: an attempt that has one may have been sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.chassis.data.seals import check_row, check_rows, keep_sealed, seal_of, seals_of
from services.chassis.data.statements import Row
from services.chassis.data.transaction import Tx
from services.transactions.domain.transaction import Transaction
from services.transactions.tables import provider_payments

_c = provider_payments.c


async def insert_attempts(tx: Tx, rows: Sequence[Transaction], now: datetime) -> set[tuple[str, str]]:
    """Notes that the current attempts are about to be sent; the (org_id, transaction_id) of those never sent before."""
    if not rows:
        return set()
    attempts = [
        {
            "org_id": row.org_id,
            "transaction_id": row.transaction_id,
            "attempt": row.attempts,
            "presentment": max(row.presentments, 1),
            "provider": row.provider,
            "provider_key": row.provider_key,
            "provider_reference": None,
            "sent_at": now,
        }
        for row in rows
    ]
    values = [{**each, "seal": seal_of(tx, provider_payments, each)} for each in attempts]
    statement = pg.insert(provider_payments).values(values).on_conflict_do_nothing()
    inserted = await tx.execute(statement.returning(_c.org_id, _c.transaction_id))
    return {(each.org_id, each.transaction_id) for each in inserted}


async def read_attempt(tx: Tx, row: Transaction) -> Row:
    """The current attempt, which was noted before.

    Raises:
        NotSealed: it is not as it was noted, or could not be, because somebody else's row has its key at the provider.
    """
    found = (await tx.execute(sa.select(provider_payments).where(*_current(row)))).one_or_none()
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


async def _save(tx: Tx, row: Transaction, attempt: Row, **changes: Any) -> None:
    seal = seal_of(tx, provider_payments, {**attempt._mapping, **changes})
    await tx.execute(sa.update(provider_payments).where(*_current(row)).values(**changes, seal=seal))


async def list_earlier_references(tx: Tx, row: Transaction) -> frozenset[str]:
    """The provider's ids of the attempts before the current one.

    Raises:
        NotSealed: else whoever may write here could make the current payment look like an earlier one.
    """
    statement = sa.select(provider_payments).where(
        _c.org_id == row.org_id, _c.transaction_id == row.transaction_id, _c.attempt < row.attempts
    )
    earlier = check_rows(tx, provider_payments, await tx.execute(statement))
    return frozenset(each.provider_reference for each in earlier if each.provider_reference)


def _current(row: Transaction) -> tuple[sa.ColumnElement[bool], ...]:
    return _c.org_id == row.org_id, _c.transaction_id == row.transaction_id, _c.attempt == row.attempts


async def find_owner(tx: Tx, provider: str, payment_id: str, reference: str) -> tuple[str, str] | None:
    """(org_id, transaction_id) of a provider's payment, in whatever organization: by its id there, else by our id.

    Raises:
        NotSealed: else whoever may write here could have a webhook applied to something else, or to nothing.
    """
    by_payment = sa.and_(_c.provider == provider, _c.provider_reference == payment_id)
    by_reference = sa.and_(_c.provider == provider, _c.transaction_id == reference)
    found = (await tx.execute(sa.select(provider_payments).where(sa.or_(by_payment, by_reference)))).all()
    if not found:
        return None
    row = next(iter(keep_sealed(tx, provider_payments, found)), None) or check_row(tx, provider_payments, found[0])
    return row.org_id, row.transaction_id
