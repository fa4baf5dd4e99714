"""Return rates: counted of attempts at debits and of reversals of payouts, which are debits as well, as far as this
service wrote them; and kept, one row an organization.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from services.chassis.calls.auth import current_principal
from services.chassis.data.aggregates import Aggregate, list_columns, read_fields
from services.chassis.data.database import Database
from services.chassis.data.locks import lock_name
from services.chassis.data.reach import is_mine
from services.chassis.data.reads import Read, Source, compile_for_all, fetch_rows
from services.chassis.data.seals import keep_sealed
from services.chassis.data.sql import Row
from services.chassis.data.transaction import Tx
from services.transactions.domain.return_rates import ReturnRates, Tally
from services.transactions.domain.reversals import Reversal, read_reversal
from services.transactions.tables import provider_payments, transactions
from services.transactions.tables.ach import ach_return_rates

# So few that nothing else waits long while they are looked at.
_PAGE = 500
_p, _t = provider_payments.c, transactions.c
RATES = Aggregate(
    ach_return_rates,
    "org_id",
    lambda row: read_fields(ReturnRates, row),
    lambda rates: list_columns(ach_return_rates, rates),
)
_DEBITING = compile_for_all(sa.select(_p.org_id).distinct().where(_p.is_debit, _p.sent_at > sa.bindparam("since")))
_IS_REVERSED = _t.reversal_status.is_not(None)  # so few that an index has them all
_REVERSING = compile_for_all(
    sa.select(_t.org_id).distinct().where(_IS_REVERSED, _t.reversal_ordered_at > sa.bindparam("since"))
)
_COUNTED = compile_for_all(sa.select(ach_return_rates.c.org_id))


def _build_page(time: sa.Column[Any], condition: sa.ColumnElement[bool]) -> Read:
    """Those after a time, and after one of that time, in their order."""
    last = sa.tuple_(
        *(sa.bindparam(name, type_=kind) for name, kind in (("time", time.type), ("id", sa.Text), ("no", sa.Integer)))
    )
    order = (time, _p.transaction_id, _p.attempt)
    behind = sa.select(provider_payments).where(is_mine(provider_payments), condition, sa.tuple_(*order) > last)
    return Read(behind.order_by(*order).limit(_PAGE))


_REVERSALS = Read(
    sa.select(transactions)
    .where(is_mine(transactions), _IS_REVERSED, _t.transaction_id > sa.bindparam("behind"))
    .order_by(_t.transaction_id)
    .limit(_PAGE)
)
_DEBITS = _build_page(_p.sent_at, _p.is_debit)
_RETURNS = _build_page(_p.ended_at, _p.outcome == "RETURNED")


async def list_organizations(database: Database, since: datetime) -> list[str]:
    """Who has debited since then, or has rates from before."""
    debiting = await database.send_for_all(_DEBITING[0], since)
    reversing = await database.send_for_all(_REVERSING[0], since)
    counted = await database.send_for_all(_COUNTED[0])
    return sorted({row["org_id"] for row in (*debiting, *reversing, *counted)})


async def count_returns(source: Source, since: datetime) -> Tally:
    """Of the caller's organization, since then."""
    tally = Tally()
    async for debits in _list_pages(source, _DEBITS, "sent_at", since):
        tally.add_debits(each.outcome for each in debits if each.provider_reference is not None)
    async for returns in _list_pages(source, _RETURNS, "ended_at", since):
        tally.add_returns((each.return_code or "", each.ended_at) for each in returns if each.is_debit)
    async for reversals in _list_reversals(source):
        tally.add_reversals(reversals, since)
    return tally


async def _list_reversals(source: Source) -> AsyncIterator[list[Reversal]]:
    behind = ""
    while True:
        rows = await fetch_rows(source, _REVERSALS, behind=behind)
        found = (read_reversal(row._mapping) for row in keep_sealed(source, transactions, rows))
        yield [each for each in found if each is not None]
        if len(rows) < _PAGE:
            return
        behind = rows[-1].transaction_id


async def _list_pages(source: Source, page: Read, time: str, since: datetime) -> AsyncIterator[list[Row]]:
    last = {"time": since, "id": "", "no": 0}
    while True:
        rows = await fetch_rows(source, page, **last)
        yield keep_sealed(source, provider_payments, rows)
        if len(rows) < _PAGE:
            return
        last = {"time": getattr(rows[-1], time), "id": rows[-1].transaction_id, "no": rows[-1].attempt}


async def find_return_rates(source: Source) -> ReturnRates | None:
    """What was last counted of the caller's organization. Raises: NotSealed."""
    return await RATES.find(source, current_principal().org_id)


async def save_return_rates(tx: Tx, rates: ReturnRates, now: datetime) -> None:
    """In place of what was counted before. Raises: NotSealed."""
    await lock_name(tx, "ach_return_rates")
    before = await RATES.lock(tx, rates.org_id)
    if before is None:
        await RATES.insert(tx, rates)
    elif before.updated_at < now:
        await RATES.save(tx, before, replace(rates, version=before.version), now)
