"""What we keep of Plaid: bank accounts as it knows them, and its authorizations."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from services.chassis.data.aggregates import Aggregate, list_columns, read_fields
from services.chassis.data.transaction import Tx
from services.transactions.domain.plaid import PlaidItem, PlaidTransfer
from services.transactions.tables.plaid import plaid_items, plaid_transfers

_i, _t = plaid_items.c, plaid_transfers.c
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


async def find_item(tx: Tx, bank_account_id: str, digest: str) -> PlaidItem | None:
    """The account as Plaid knows it by this digest of its number. Raises: NotSealed."""
    known_by = _i.bank_account_id == bank_account_id, _i.account_number_digest == digest
    return next(iter(await ITEMS.list_all(tx, *known_by)), None)


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
