"""Verifications of bank accounts: the last one of an account and a provider counts, and none is ever deleted."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any

import sqlalchemy as sa

from services.chassis.data.aggregates import Aggregate, list_columns, read_fields
from services.chassis.data.database import Database
from services.chassis.data.reads import Read, Source, compile_for_all, fetch_rows
from services.chassis.data.seals import NotSealed, check_read_row, keep_readable
from services.chassis.data.sql import Row, build_rows
from services.chassis.data.transaction import Tx
from services.chassis.values.failure import read_failure, write_failure
from services.transactions.domain.verifications import (
    VERIFICATION_MOVES,
    Verification,
    VerificationStatus,
    end_of_blocked,
)
from services.transactions.tables.verifications import bank_account_verifications

_c = bank_account_verifications.c


def _read(row: Row) -> Verification:
    status, failure = VerificationStatus(row.status), read_failure(row.failure)
    return read_fields(Verification, row, status=status, failure=failure)


def _list_columns(verification: Verification) -> dict[str, Any]:
    failure = write_failure(verification.failure)
    return list_columns(bank_account_verifications, verification, failure=failure)


VERIFICATIONS = Aggregate(bank_account_verifications, "verification_id", _read, _list_columns, moves=VERIFICATION_MOVES)
_OF_ACCOUNT = Read(
    VERIFICATIONS.select()
    .where(_c.bank_account_id == sa.bindparam("bank_account_id"), _c.provider == sa.bindparam("provider"))
    .order_by(_c.created_at.desc(), _c.verification_id.desc())
)
# Of any organization. Who runs it asks for the seal of what it finds.
_OWNER = compile_for_all(
    sa.select(bank_account_verifications)
    .where(_c.verification_id == sa.bindparam("verification_id"))
    .order_by(_c.org_id)
)


async def list_verifications(source: Source, bank_account_id: str, provider: str) -> list[Verification]:
    """All that the account ever had at this provider, the newest first. Raises: NotSealed."""
    rows = await fetch_rows(source, _OF_ACCOUNT, bank_account_id=bank_account_id, provider=provider)
    return [VERIFICATIONS.read_sealed(source, row) for row in rows]


async def find_owner(database: Database, verification_id: str) -> str | None:
    """The organization that asked for it; None where none did. Raises: NotSealed: none of the rows is ours."""
    text, _ = _OWNER
    found = build_rows(await database.send_for_all(text, verification_id))
    check = partial(check_read_row, database.seals, bank_account_verifications)
    for row in keep_readable(found, check):
        return str(row.org_id)
    for row in found:
        check(row)
    return None


async def end_all(tx: Tx, bank_account_id: str, now: datetime) -> None:
    """That an account that is blocked was verified counts no more.

    What somebody altered counts for nothing anyway, and keeps nothing from being blocked.
    """
    for each in await VERIFICATIONS.list_ours(tx, _c.bank_account_id == bank_account_id):
        with suppress(NotSealed):
            before = await VERIFICATIONS.lock_known(tx, each.verification_id)
            if before.is_open:
                await VERIFICATIONS.save(tx, before, end_of_blocked(before), now)
