"""What we keep of Plaid: bank accounts as it knows them, its authorizations, and how far its events were read."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.chassis.data.aggregates import Aggregate, list_columns, read_fields
from services.chassis.data.database import Database
from services.chassis.data.reads import compile_for_all
from services.chassis.data.transaction import Tx
from services.transactions.domain.plaid import PlaidItem, PlaidTransfer
from services.transactions.plaid_tables import plaid_cursor, plaid_items, plaid_transfers

_i, _t, _c = plaid_items.c, plaid_transfers.c, plaid_cursor.c
ITEMS = Aggregate(
    plaid_items,
    "account_id",
    lambda row: read_fields(PlaidItem, row),
    lambda item: list_columns(plaid_items, item),
)
TRANSFERS = Aggregate(
    plaid_transfers,
    "authorization_id",
    lambda row: read_fields(PlaidTransfer, row),
    lambda transfer: list_columns(plaid_transfers, transfer),
)
_CURSOR = compile_for_all(sa.select(_c.after_id).where(_c.feed == sa.bindparam("feed")))


async def find_item(tx: Tx, bank_account_id: str, digests: Collection[str]) -> PlaidItem | None:
    """The account as Plaid knows it by one of these digests of its number. Raises: NotSealed."""
    found = await ITEMS.list_all(tx, _i.bank_account_id == bank_account_id)
    return next((each for each in found if each.account_number_digest in digests), None)


async def list_by_key(tx: Tx, provider_key: str) -> list[PlaidTransfer]:
    """The authorizations of an attempt, the first one first. Raises: NotSealed."""
    found = await TRANSFERS.list_all(tx, _t.provider_key == provider_key)
    return sorted(found, key=lambda each: each.number)


async def list_by_reference(tx: Tx, reference: str) -> list[PlaidTransfer]:
    """Newest first. Raises: NotSealed."""
    found = await TRANSFERS.list_all(tx, _t.reference == reference)
    return sorted(found, key=lambda each: (each.created_at, each.presentment, each.number), reverse=True)


async def save_transfer_id(tx: Tx, authorization_id: str, transfer_id: str, now: datetime) -> None:
    """Notes which transfer was made of an authorization; only the first time is written. Raises: NotSealed."""
    kept = await TRANSFERS.lock_known(tx, authorization_id)
    if kept.transfer_id is None:
        await TRANSFERS.save(tx, kept, replace(kept, transfer_id=transfer_id, ended_at=None), now)


async def save_end(tx: Tx, authorization_id: str, now: datetime) -> None:
    """Notes that no transfer is made of an authorization any more. Raises: NotSealed."""
    kept = await TRANSFERS.lock_known(tx, authorization_id)
    if kept.transfer_id is None and kept.ended_at is None:
        await TRANSFERS.save(tx, kept, replace(kept, ended_at=now), now)


async def read_cursor(database: Database, feed: str) -> int:
    """The last event that was stored; 0 where none was."""
    found = await database.send_for_all(_CURSOR[0], feed)
    return int(found[0]["after_id"]) if found else 0


async def advance_cursor(tx: Tx, feed: str, after_id: int, last_id: int, now: datetime) -> bool:
    """Moves it on, with what the same transaction stores; False where somebody else has moved it meanwhile."""
    added = pg.insert(plaid_cursor).values(feed=feed, after_id=0, updated_at=now)
    await tx.execute(added.on_conflict_do_nothing())
    ours = sa.and_(_c.feed == feed, _c.after_id == after_id)
    moved = await tx.execute(sa.update(plaid_cursor).where(ours).values(after_id=last_id, updated_at=now))
    return bool(moved.rowcount == 1)
