"""Payouts that a debit took back, or is about to: that debit may come back in its turn.

What came back is found by its history, which nobody edits: a row may be altered so that what it says does not find it.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

import sqlalchemy as sa

from services.chassis.data.reach import is_mine
from services.chassis.data.seals import keep_sealed
from services.chassis.data.transaction import Tx
from services.transactions.domain.reversal_rules import TakenBack, may_debit_come_back
from services.transactions.domain.reversals import UNDER_WAY
from services.transactions.domain.states import ARRIVED
from services.transactions.domain.types import INBOUND
from services.transactions.store.transactions import build_transaction, select_transactions
from services.transactions.tables import transaction_history, transactions
from services.transactions.tables.transactions import CAME_BACK

_c = transactions.c
_READ_MAX = 1_000
# Longer than any debit may come back after it was drawn.
_FINAL_WITHIN = timedelta(days=100)


async def list_taken_back(tx: Tx, party_ids: Collection[str], since: datetime) -> TakenBack:
    """Those that were paid to these parties, also where the debit does not count yet, or came back itself.

    Args:
        since: When the first of them came back.
    """
    return await _list_taken_back(tx, _c.party_id.in_(party_ids), since, _c.reversal_status.in_(UNDER_WAY))


async def list_drawn_back(tx: Tx, escrow_account_id: str, now: datetime) -> TakenBack:
    """Those that were paid from an escrow account, and whose debit brought money that may yet be taken out of it."""
    found = await _list_taken_back(tx, _c.escrow_account_id == escrow_account_id, now - _FINAL_WITHIN)
    return found._replace(payouts=[row for row in found.payouts if may_debit_come_back(row, now)])


async def _list_taken_back(
    tx: Tx, condition: sa.ColumnElement[bool], since: datetime, besides: sa.ColumnElement[bool] | None = None
) -> TakenBack:
    h = transaction_history.c
    came_back = sa.select(h.transaction_id).where(
        *(is_mine(transaction_history), CAME_BACK, h.from_status.in_(sorted(ARRIVED)), h.occurred_at >= since)
    )
    which: sa.ColumnElement[bool] = _c.transaction_id.in_(came_back)
    which = which if besides is None else sa.or_(which, besides)
    query = (
        select_transactions()
        .where(is_mine(transactions), condition, _c.type.not_in(sorted(INBOUND)), which)
        .order_by(_c.created_at.desc(), _c.transaction_id)
        .limit(_READ_MAX)
    )
    rows = (await tx.execute(query)).all()
    proven = keep_sealed(tx, transactions, rows)
    found = [row for row in map(build_transaction, proven) if row.is_drawn_back]
    known = {row.transaction_id for row in proven}
    altered = [row.transaction_id for row in rows if row.transaction_id not in known]
    return TakenBack(found, altered, len(rows) < _READ_MAX)
