"""What came into an escrow account: the largest payments one by one, each proven, and the sums of all others."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from services.chassis.data.reach import is_mine
from services.chassis.data.seals import keep_sealed
from services.chassis.data.sql import bound_sum
from services.chassis.data.transaction import Tx
from services.chassis.values.currencies import MINOR_DIGITS
from services.chassis.values.money import Money
from services.transactions.domain.rails import BY_HAND
from services.transactions.domain.received_money import CameBack, Received, Rest, Sources
from services.transactions.domain.states import ARRIVED, Status
from services.transactions.domain.transaction import FINAL
from services.transactions.domain.types import INBOUND
from services.transactions.store.transactions import build_transaction, select_transactions
from services.transactions.tables import transaction_history, transactions

_c = transactions.c
# So many are read and proven: whoever pays in cents by the thousand hides nothing that is larger. Of the others the
# sums are told as what there is at least: a login of the database may write what their rows say.
_LARGEST_MAX = 1_000
_AMOUNT = sa.func.coalesce(_c.corrected_minor, _c.amount_minor)


async def read_received_since(
    tx: Tx, escrow_account_id: str, since: datetime, confirmed_since: datetime, deadline: datetime | None
) -> Received:
    """
    Args:
        since: When the oldest of them came.
        confirmed_since: Of what persons confirmed, so far back is summed.
        deadline: Of what is paid for investments, what came after it is summed.
    """
    largest = select_transactions().where(*_came(escrow_account_id, since)).order_by(_AMOUNT.desc(), _c.transaction_id)
    rows = (await tx.execute(largest.limit(_LARGEST_MAX))).all()
    proven = keep_sealed(tx, transactions, rows)
    rest, unproven = list[Rest](), list[tuple[int, Money]]()
    if len(rows) == _LARGEST_MAX:
        others = _c.transaction_id.not_in([row.transaction_id for row in rows]) & _c.currency.in_(MINOR_DIGITS)
        summed = _sum_up(confirmed_since, deadline).where(*_came(escrow_account_id, since), others)
        rest = [
            Rest(
                Money(int(row.provisional), row.currency),
                row.final_at,
                Money(int(row.confirmed), row.currency),
                Money(int(row.late), row.currency),
            )
            for row in await tx.execute(summed)
        ]
        # By what never changes of them: of what was announced, and whatever became of it.
        counted = sa.select(sa.func.count(), bound_sum(sa.func.sum(_c.amount_minor)), _c.currency).group_by(_c.currency)
        for count, minor, currency in await tx.execute(counted.where(*_came(escrow_account_id, since), others)):
            unproven.append((count, Money(int(minor), currency)))
    return Received([build_transaction(row) for row in proven], len(proven) < len(rows), rest, unproven)


async def read_came_back(tx: Tx, escrow_account_id: str, since: datetime) -> CameBack:
    """The payouts by wire or check, and the transfers, of which persons said that they came back, or were never sent.

    No provider says so on these rails. One that was sent again since is among them.

    Args:
        since: When the first of them was said to.
    """
    h = transaction_history.c
    is_back = sa.or_(
        h.to_status == Status.RETURNED,
        sa.and_(h.from_status == Status.PENDING_SETTLEMENT, h.to_status == Status.FAILED),
    )
    of_row = (h.org_id == _c.org_id, h.transaction_id == _c.transaction_id)
    query = (
        select_transactions()
        .where(*(is_mine(transactions), _c.escrow_account_id == escrow_account_id, _c.type.not_in(sorted(INBOUND))))
        .where(_c.payment_method.in_(BY_HAND), sa.exists().where(*of_row, is_back, h.occurred_at >= since))
        .order_by(_AMOUNT.desc(), _c.transaction_id)
    )
    rows = (await tx.execute(query.limit(_LARGEST_MAX))).all()
    proven = keep_sealed(tx, transactions, rows)
    is_all = len(proven) == len(rows) < _LARGEST_MAX
    return CameBack([build_transaction(row) for row in proven], is_all)


async def trace_sources(tx: Tx, escrow_account_id: str, since: datetime) -> Sources:
    """From where money was transferred, to this escrow account or to one of its sources.

    Args:
        since: When the first of the transfers was made.
    """
    sums, frontier, is_all, has_altered = Counter[str](), {escrow_account_id}, True, False
    reached = set(frontier)
    while frontier:
        arrived = select_transactions().where(is_mine(transactions), _c.to_escrow_account_id.in_(frontier))
        arrived = arrived.where(_has_come(since)).order_by(_AMOUNT.desc(), _c.transaction_id)
        rows = (await tx.execute(arrived.limit(_LARGEST_MAX))).all()
        proven = keep_sealed(tx, transactions, rows)
        has_altered |= len(proven) < len(rows)
        is_all &= len(rows) < _LARGEST_MAX
        for row in proven:
            sums[row.escrow_account_id] += build_transaction(row).amount.amount_minor
        frontier = {row.escrow_account_id for row in proven} - reached
        reached |= frontier
    del sums[escrow_account_id]
    return Sources([each for each, _ in sums.most_common()], is_all, has_altered)


def _has_come(since: datetime) -> sa.ColumnElement[bool]:
    """Asked of its history, which nobody edits: a row may be altered so that it is not found."""
    h = transaction_history.c
    return sa.exists().where(
        *(h.org_id == _c.org_id, h.transaction_id == _c.transaction_id),
        *(h.to_status == Status.SETTLED, h.occurred_at >= since),
    )


def _came(escrow_account_id: str, since: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    here = sa.and_(_c.escrow_account_id == escrow_account_id, _c.type.in_(sorted(INBOUND)))
    return is_mine(transactions), sa.or_(here, _c.to_escrow_account_id == escrow_account_id), _has_come(since)


def _sum_up(confirmed_since: datetime, deadline: datetime | None) -> sa.Select[Any]:
    """By currency. It names nobody: who confirmed what says a row that nobody proves."""
    provisional = _c.finality != FINAL
    confirmed = sa.and_(_c.confirmed_by.is_not(None), _c.settled_at > confirmed_since)
    late = sa.false() if deadline is None else sa.and_(_c.investment_id.is_not(None), _c.settled_at > deadline)

    def add(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[Any]:
        return bound_sum(sa.func.sum(_AMOUNT).filter(condition))

    return (
        sa.select(
            *(_c.currency, add(provisional).label("provisional")),
            sa.func.max(_c.final_at).filter(provisional).label("final_at"),
            *(add(confirmed).label("confirmed"), add(late).label("late")),
        )
        .where(_c.status.in_(sorted(ARRIVED)))
        .group_by(_c.currency)
    )
