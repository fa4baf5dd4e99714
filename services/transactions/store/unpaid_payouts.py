"""Calls a person where money that is to be paid stands still, with the move by which it does.

What becomes of it then is told, too. Every move comes by here (moves.py): no way in which a payout ends is forgotten.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from services.chassis.data.reach import is_mine
from services.chassis.data.transaction import Tx
from services.transactions.domain import unpaid_payouts as rules
from services.transactions.domain.exceptions import About, ExceptionKind, ExceptionStatus, spell_subject
from services.transactions.domain.states import Status
from services.transactions.domain.transaction import Transaction
from services.transactions.store.reports import save_cause, save_found
from services.transactions.tables.exceptions import payment_exceptions

_KIND = ExceptionKind.PAYOUT_NOT_PAID
_c = payment_exceptions.c


class _News(NamedTuple):
    """Of a debt for which a person was called.

    Args:
        found_until: Says nothing of what was found later.
    """

    about: About
    cause: str
    found_until: datetime | None = None

    @property
    def subject(self) -> str:
        return spell_subject(_KIND, self.about)


async def follow_payouts(
    tx: Tx, moved: Sequence[tuple[Transaction | None, Transaction]], *, actor: str, now: datetime
) -> None:
    """Of transactions that have moved, each with what it was before."""
    unpaid, news = list[_News](), list[_News]()
    for before, row in moved:
        if rules.stands_still(None if before is None else before.status, row):
            unpaid.append(_News(rules.describe_owed(row), rules.spell_unpaid(row)))
        elif (said := _find_news(before, row, now)) is not None:
            news.append(said)
    for each in sorted(unpaid, key=lambda each: each.subject):
        await save_found(tx, _KIND, each.about, each.cause, now, actor=actor)
    is_open = await _list_open(tx, {each.subject for each in news}) if news else frozenset[str]()
    for each in sorted((each for each in news if each.subject in is_open), key=lambda each: each.subject):
        await save_cause(tx, _KIND, each.about, each.cause, now, actor=actor, found_until=each.found_until)


def _find_news(before: Transaction | None, row: Transaction, now: datetime) -> _News | None:
    if row.is_inbound:
        if row.status is Status.RETURNED and row.investment_id is not None:
            return _News(rules.describe_refund_of(row), rules.spell_came_back(row))
    elif before is None:
        return _News(rules.describe_owed(row), rules.spell_ordered_anew(row, now))
    elif row.status is Status.SETTLED:
        # Of a refund to several cards an earlier part may come back while a later one is on its way.
        return _News(rules.describe_owed(row), rules.spell_arrived(row), row.created_at)
    return None


async def _list_open(tx: Tx, subjects: Collection[str]) -> frozenset[str]:
    """For which of these somebody was called. Whoever hides one by SQL has it say less, and no more."""
    which = (_c.kind == _KIND, _c.status == ExceptionStatus.OPEN, _c.subject.in_(subjects))
    return frozenset(await tx.scalars(sa.select(_c.subject).where(is_mine(payment_exceptions), *which)))
