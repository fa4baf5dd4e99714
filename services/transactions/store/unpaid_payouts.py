"""Calls a person where money that is to be paid stands still, with the move by which it does.

What becomes of it then is told, too. Every move comes by here (moves.py): no way in which a payout ends is forgotten.
What was refused before it was a transaction comes from commands/payouts.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial

from services.chassis.data.transaction import Tx
from services.transactions.domain import unpaid_payouts as rules
from services.transactions.domain.actor import ACTOR
from services.transactions.domain.exceptions import About
from services.transactions.domain.transaction import Transaction
from services.transactions.domain.types import TYPES, TransactionType
from services.transactions.store.exception_reports import note_news, report_as


def follow_payouts(
    tx: Tx, moved: Sequence[tuple[Transaction | None, Transaction]], *, actor: str, now: datetime
) -> None:
    """Of transactions that have moved, each with what it was before."""
    for before, row in moved:
        previous = None if before is None else before.status
        if rules.stands_still(previous, row):
            about = rules.describe_owed(row)
            _report(tx, TYPES[row.type], about, rules.spell_unpaid(row), now, was_ordered=True, actor=actor)
        elif rules.is_ordered_for_a_debt(previous, row):
            news = partial(rules.note_ordered, row=row, now=now)
            note_news(tx, rules.KIND, rules.describe_owed(row), news, now, actor=actor)
        elif rules.is_replacement_given_up(row):
            news = partial(rules.note_given_up, row=row)
            note_news(tx, rules.KIND, rules.describe_owed(row), news, now, actor=actor)
        elif rules.is_paid_for_a_debt(row):
            note_news(tx, rules.KIND, rules.describe_owed(row), partial(rules.note_arrived, row=row), now, actor=actor)
        elif rules.is_taken_back_for_good(row):
            news = partial(rules.note_taken_back, row=row)
            note_news(tx, rules.KIND, rules.describe_refund_of(row), news, now, actor=actor)


def report_refused(tx: Tx, kind: TransactionType, about: About, why: str, now: datetime) -> None:
    """What never becomes a transaction is owed all the same, and nothing pays it by itself.

    Args:
        about: What it was to pay.
    """
    _report(tx, kind, about, why, now, was_ordered=False, actor=ACTOR)


def _report(
    tx: Tx, kind: TransactionType, about: About, why: str, now: datetime, *, was_ordered: bool, actor: str
) -> None:
    finding = partial(rules.find_unpaid, kind=kind, about=about, why=why, was_ordered=was_ordered, now=now)
    report_as(tx, rules.KIND, about, rules.spell_owed(kind, about, why, None), finding, now, actor=actor)
