"""What providers were asked: one row an attempt, so that a late answer about an earlier attempt finds its own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.transactions.domain.transaction import Transaction
from services.transactions.tables import provider_payments

_c = provider_payments.c


async def insert_attempts(tx: AsyncConnection, rows: Sequence[Transaction], now: datetime) -> None:
    values = [
        {
            "org_id": row.org_id,
            "transaction_id": row.transaction_id,
            "attempt": row.attempts,
            "presentment": max(row.presentments, 1),
            "provider": row.provider,
            "provider_key": row.provider_key,
            "created_at": now,
        }
        for row in rows
    ]
    if values:
        await tx.execute(sa.insert(provider_payments), values)


async def save_provider_reference(tx: AsyncConnection, row: Transaction, provider_reference: str) -> None:
    """Notes under which id the provider has the current attempt."""
    await tx.execute(
        sa.update(provider_payments)
        .where(_c.org_id == row.org_id, _c.transaction_id == row.transaction_id, _c.attempt == row.attempts)
        .values(provider_reference=provider_reference)
    )


async def list_earlier_references(tx: AsyncConnection, row: Transaction) -> frozenset[str]:
    """The provider's ids of the attempts before the current one."""
    statement = sa.select(_c.provider_reference).where(
        _c.org_id == row.org_id, _c.transaction_id == row.transaction_id, _c.attempt < row.attempts
    )
    return frozenset(reference for reference in await tx.scalars(statement) if reference)


async def find_owner(tx: AsyncConnection, provider: str, payment_id: str, reference: str) -> tuple[str, str] | None:
    """(org_id, transaction_id) of a provider's payment, in whatever organization: by its id there, else by our id."""
    by_payment = sa.and_(_c.provider == provider, _c.provider_reference == payment_id)
    by_reference = sa.and_(_c.provider == provider, _c.transaction_id == reference)
    statement = sa.select(_c.org_id, _c.transaction_id).where(sa.or_(by_payment, by_reference)).limit(1)
    row = (await tx.execute(statement)).one_or_none()
    return None if row is None else (row.org_id, row.transaction_id)
