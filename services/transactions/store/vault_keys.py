"""The keys of the vault, wrapped. They are no organization's, and only the worker's login reads them.

A trigger has nobody change a row who does not prove to be this service: with a row of these spoilt, all that its key
sealed would not open. What is only added to them says nothing, since it bears no seal.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.chassis.data.aggregates import list_columns, read_fields
from services.chassis.data.database import Database
from services.chassis.data.reads import compile_for_all
from services.chassis.data.seals import check_read_row, keep_readable, seal_of, seals_of
from services.chassis.data.sql import Row, build_rows
from services.chassis.data.transaction import Tx
from services.transactions.domain.vault_keys import Purpose, VaultKey
from services.transactions.tables.vault_keys import vault_keys

_c = vault_keys.c
_ALL = compile_for_all(sa.select(vault_keys).order_by(_c.created_at, _c.vault_key_id))


async def list_vault_keys(database: Database) -> list[VaultKey]:
    """Those that this service wrote, the oldest first."""

    def read(row: Row) -> VaultKey:
        check_read_row(database.seals, vault_keys, row)
        return read_fields(VaultKey, row, purpose=Purpose(row.purpose))

    return keep_readable(build_rows(await database.send_for_all(_ALL[0])), read)


async def is_index_in_use(database: Database) -> bool:
    """Whether accounts are known by their digests."""
    return bool(await database.send_for_all("SELECT 1 AS is_there FROM public.bank_accounts LIMIT 1"))


async def insert_vault_key(tx: Tx, key: VaultKey) -> bool:
    """False where there is one for the index already."""
    added = pg.insert(vault_keys).values(_build_row(tx, key)).on_conflict_do_nothing()
    return bool((await tx.execute(added)).rowcount == 1)


async def save_wrapped(tx: Tx, before: VaultKey, after: VaultKey, now: datetime) -> bool:
    """Keeps it as it is wrapped now; False where somebody else has done so meanwhile."""
    after = replace(after, version=before.version + 1, updated_at=now)
    digest = await tx.scalar(sa.select(_c.proof_digest).where(_c.vault_key_id == before.vault_key_id))
    values = _build_row(tx, after)
    for fixed in ("vault_key_id", "purpose", "created_at"):
        del values[fixed]
    values["proof"] = seals_of(tx).prove(digest, vault_keys.name, before.vault_key_id, before.version)
    here = _c.vault_key_id == before.vault_key_id, _c.version == before.version
    return bool((await tx.execute(sa.update(vault_keys).where(*here).values(values))).rowcount == 1)


def _build_row(tx: Tx, key: VaultKey) -> dict[str, object]:
    proof_digest = seals_of(tx).digest_proof(vault_keys.name, key.vault_key_id, key.version)
    row = list_columns(vault_keys, key, proof_digest=proof_digest)
    return row | {"seal": seal_of(tx, vault_keys, row)}
