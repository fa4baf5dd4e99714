"""What the money of an escrow account rests on: whoever has it leave reads this before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce
from operator import add
from typing import Final

from services.chassis.values.explanation import HOUSE_RULE, Explanation
from services.chassis.values.money import Money
from services.transactions.domain.states import ARRIVED
from services.transactions.domain.transaction import Transaction

# So many payments are counted, and so many of them named.
COUNTED_MAX: Final = 5000
_NAMED_MAX: Final = 10
# Longer than any bank may take money back, and as long as it is told what came by the word of persons.
RECEIVED_WITHIN: Final = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class _Received:
    """Some of what came in.

    Args:
        is_all: All that there is was looked at, and says what this service wrote.
    """

    rows: Sequence[Transaction]
    is_all: bool

    def __str__(self) -> str:
        return f"{'' if self.is_all else 'at least '}{_sum(self.rows)}"

    def name_largest(self) -> tuple[tuple[str, Money], ...]:
        largest = sorted(self.rows, key=lambda row: -row.amount.amount_minor)[:_NAMED_MAX]
        return tuple((row.transaction_id, row.amount) for row in largest)


def explain_received(found: Sequence[Transaction | None], deadline: datetime | None = None) -> list[Explanation]:
    """How much a bank may still take back, how much is there by whose word, and how much came after the deadline.

    Args:
        found: What came in within RECEIVED_WITHIN, whatever has become of it; None: a row that was altered.
    """
    there = [row for row in found if row is not None and row.status in ARRIVED]
    is_all = None not in found and len(found) < COUNTED_MAX

    def take(condition: Callable[[Transaction], bool]) -> _Received:
        return _Received([row for row in there if condition(row)], is_all)

    explanations = []
    if None in found:
        explanations.append(Explanation("What came in was altered in the database.", "MONEY_NOT_FINAL"))
    if (provisional := take(lambda row: not row.is_final and row.final_at is not None)).rows:
        explanations.append(_explain_provisional(provisional))
    if (confirmed := take(lambda row: row.confirmed_by is not None)).rows:
        explanations.append(_explain_confirmed(confirmed))
    if (
        deadline is not None
        and (
            late := take(
                lambda row: row.investment_id is not None and row.settled_at is not None and row.settled_at > deadline
            )
        ).rows
    ):
        explanations.append(_explain_late(late, deadline))
    return explanations


def _explain_provisional(received: _Received) -> Explanation:
    until = max(row.final_at for row in received.rows if row.final_at)
    statement = f"The bank may take {received} that came into the escrow account back, the last until {until:%Y-%m-%d}."
    return Explanation(statement, "MONEY_NOT_FINAL", received.name_largest())


def _explain_confirmed(received: _Received) -> Explanation:
    """No provider was asked."""
    statement = (
        f"By the word of persons {received} came into the escrow account within {RECEIVED_WITHIN.days} days:"
        f" {_spell_persons(received.rows)}. The custodian's statement shows whether it did."
    )
    return Explanation(statement, "MONEY_CONFIRMED_BY_PERSONS", received.name_largest(), HOUSE_RULE)


def _explain_late(received: _Received, deadline: datetime) -> Explanation:
    statement = f"After the deadline of {deadline:%Y-%m-%d %H:%M} UTC came {received}"
    if by_word := [row for row in received.rows if row.confirmed_by is not None]:
        statement += f", by the word of {_spell_persons(by_word)}"
    return Explanation(f"{statement}.", "MONEY_AFTER_DEADLINE", received.name_largest(), HOUSE_RULE)


def _sum(rows: Iterable[Transaction]) -> Money:
    return reduce(add, (row.amount for row in rows))


def _spell_persons(rows: Sequence[Transaction]) -> str:
    """Who confirmed how much, most first."""
    by_person: dict[str, list[Transaction]] = {}
    for row in rows:
        by_person.setdefault(row.confirmed_by or "", []).append(row)
    sums = sorted(
        ((_sum(theirs), person) for person, theirs in by_person.items()), key=lambda one: -one[0].amount_minor
    )
    named = [f"{person} ({amount})" for amount, person in sums[:_NAMED_MAX]]
    more = len(sums) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")
