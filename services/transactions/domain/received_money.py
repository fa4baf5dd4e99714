"""What the money of an escrow account rests on: whoever has it leave reads this before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from services.chassis.values.explanation import HOUSE_RULE, Explanation
from services.chassis.values.money import Money
from services.transactions.domain.reversal_rules import TakenBack, find_debit_final_at
from services.transactions.domain.states import ARRIVED, Status
from services.transactions.domain.transaction import Transaction

_NAMED_MAX: Final = 10
_NOTHING_DRAWN_BACK: Final = TakenBack(())
# Longer than any bank may take money back, and as long as it is told what came by the word of persons.
RECEIVED_WITHIN: Final = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Rest:
    """Sums of the payments that are too small to be read one by one, as their rows have it.

    Args:
        provisional: What a bank may still take back, the last of it until `final_at`.
        confirmed: By the word of persons, within RECEIVED_WITHIN.
        late: After the deadline.
    """

    provisional: Money
    final_at: datetime | None
    confirmed: Money
    late: Money


@dataclass(frozen=True, slots=True)
class Received:
    """What came into an escrow account, whatever has become of it.

    Args:
        largest: The largest payments, as this service wrote them.
        has_altered: Some of the largest were altered in the database, and are not among them.
        rest: Of all others that are there, the sums: not of what was taken back.
        unproven: How many others there are, and their amounts, by what no login of the database changes.
        drawn_back: Payouts that were taken back by debits which may come back in their turn: that money came in, too.
    """

    largest: Sequence[Transaction]
    has_altered: bool
    rest: Sequence[Rest]
    unproven: Sequence[tuple[int, Money]] = ()
    drawn_back: TakenBack = _NOTHING_DRAWN_BACK


@dataclass(frozen=True, slots=True)
class Sources:
    """The escrow accounts that money was transferred from, most of it first.

    Args:
        is_all: There are no others, as far as rows are as this service wrote them.
        has_altered: Some of the transfers were altered in the database, and led nowhere.
    """

    escrow_account_ids: Sequence[str]
    is_all: bool
    has_altered: bool


@dataclass(frozen=True, slots=True)
class CameBack:
    """Payouts of which persons said that they came back, or were never sent.

    Args:
        is_all: There are no others; else these are the largest, or some were altered in the database.
    """

    payouts: Sequence[Transaction]
    is_all: bool


class _Part:
    """Some of what came in, by who said that it came; None: a provider told it."""

    def __init__(
        self,
        received: Received,
        condition: Callable[[Transaction], bool],
        pick: Callable[[Rest], Money],
        drawn_back: TakenBack = _NOTHING_DRAWN_BACK,
    ) -> None:
        self.rows = [row for row in received.largest if row.status in ARRIVED and condition(row)]
        self.rows = sorted([*self.rows, *drawn_back.payouts], key=lambda row: -row.amount.amount_minor)
        amounts = [(row.confirmed_by, row.amount) for row in self.rows]
        amounts += [(None, amount) for amount in map(pick, received.rest) if amount.amount_minor]
        is_all = drawn_back.is_all and not drawn_back.has_altered
        self._is_least = received.has_altered or bool(received.unproven) or not is_all
        self._by_person = Counter[str | None]()
        for person, amount in amounts:
            self._by_person[person] += amount.amount_minor
        self._currency = amounts[0][1].currency if amounts else ""

    def __bool__(self) -> bool:
        return bool(self._by_person)

    def __str__(self) -> str:
        return f"{'at least ' if self._is_least else ''}{Money(self._by_person.total(), self._currency)}"

    def spell_persons(self) -> str:
        """Who confirmed how much of what is proven, most first; empty where nobody did."""
        sums = [(person, minor) for person, minor in self._by_person.most_common() if person is not None]
        named = [f"{person} ({Money(minor, self._currency)})" for person, minor in sums[:_NAMED_MAX]]
        more = len(sums) - len(named)
        return ", ".join(named) + (f" and {more} more" if more else "")

    def name_largest(self) -> tuple[tuple[str, Money], ...]:
        return tuple((row.transaction_id, row.amount) for row in self.rows[:_NAMED_MAX])


def explain_received(received: Received, now: datetime, deadline: datetime | None = None) -> list[Explanation]:
    """How much a bank may still take back, how much is there by whose word, and how much came after the deadline.

    Args:
        received: Within RECEIVED_WITHIN, and after the deadline.
    """
    since, explanations = now - RECEIVED_WITHIN, list[Explanation]()
    if received.has_altered or received.drawn_back.has_altered:
        explanations.append(Explanation("What came in was altered in the database.", "MONEY_ALTERED", (), HOUSE_RULE))
    explanations += [_explain_unproven(count, amount) for count, amount in received.unproven]
    if provisional := _Part(received, _may_go_back, lambda rest: rest.provisional, received.drawn_back):
        ends = [find_debit_final_at(row) or row.final_at for row in provisional.rows]
        ends += [each.final_at for each in received.rest]
        until = max((end for end in ends if end is not None), default=None)
        explanations.append(_explain_provisional(provisional, until, received.drawn_back.payouts))
    if confirmed := _Part(received, lambda row: _is_confirmed_since(row, since), lambda rest: rest.confirmed):
        explanations.append(_explain_confirmed(confirmed))
    if deadline is not None and (
        late := _Part(received, lambda row: _is_paid_after(row, deadline), lambda rest: rest.late)
    ):
        explanations.append(_explain_late(late, deadline))
    return explanations


def explain_came_back(found: CameBack) -> list[Explanation]:
    """How much is there to be paid once more because persons said so. No bank was asked."""
    if not found.payouts and found.is_all:
        return []
    if not found.payouts:
        return [Explanation("Payouts that came back were altered in the database.", "MONEY_ALTERED", (), HOUSE_RULE)]
    total = Money(sum(row.amount.amount_minor for row in found.payouts), found.payouts[0].amount.currency)
    statement = (
        f"By the word of persons {'' if found.is_all else 'at least '}{total} that was paid out came back, or was never"
        f" sent, within {RECEIVED_WITHIN.days} days. The custodian's statement shows whether it did."
    )
    operands = tuple((row.transaction_id, row.amount) for row in found.payouts[:_NAMED_MAX])
    return [Explanation(statement, "MONEY_BACK_BY_PERSONS", operands, HOUSE_RULE)]


def explain_taken_back(received: Received) -> list[Explanation]:
    """What had come in where money was transferred from, and was taken back there: it was moved on."""
    gone = [row for row in received.largest if row.status is Status.RETURNED]
    if not gone:
        return []
    currency, minor = gone[0].amount.currency, sum(row.amount.amount_minor for row in gone)
    least = "at least " if received.has_altered or received.unproven else ""
    statement = f"{least}{Money(minor, currency)} that had come in is not there any more: it was taken back."
    operands = tuple((row.transaction_id, row.amount) for row in gone[:_NAMED_MAX])
    return [Explanation(statement, "MONEY_TAKEN_BACK", operands, HOUSE_RULE)]


def explain_altered_sources() -> Explanation:
    """That nobody knows where all of it came from."""
    statement = "Transfers to the escrow account, or to one that its money came from, were altered in the database."
    return Explanation(statement, "MONEY_ALTERED", (), HOUSE_RULE)


def explain_more_sources() -> Explanation:
    """That it came from more escrow accounts than are told of one by one, and most from those that are."""
    statement = "Some of it was transferred from more escrow accounts than these: look at what it rests on there."
    return Explanation(statement, "MORE_SOURCES", (), HOUSE_RULE)


def _explain_unproven(count: int, amount: Money) -> Explanation:
    statement = (
        f"Beside the largest payments that came in there are {count} of {amount} in all, of which nobody has proven"
        " what the database says: whether their banks may still take them back, who confirmed them, and when."
    )
    return Explanation(statement, "MONEY_NOT_PROVEN", (("unproven", amount),), HOUSE_RULE)


def _may_go_back(row: Transaction) -> bool:
    return not row.is_final and row.final_at is not None


def _is_confirmed_since(row: Transaction, since: datetime) -> bool:
    return row.confirmed_by is not None and row.settled_at is not None and row.settled_at > since


def _is_paid_after(row: Transaction, deadline: datetime) -> bool:
    return row.investment_id is not None and row.settled_at is not None and row.settled_at > deadline


def _explain_provisional(part: _Part, until: datetime | None, drawn_back: Sequence[Transaction]) -> Explanation:
    last = "" if until is None else f", the last until {until:%Y-%m-%d}"
    statement = f"The bank may take {part} that came into the escrow account back{last}."
    if drawn_back:
        amount = Money(sum(row.amount.amount_minor for row in drawn_back), drawn_back[0].amount.currency)
        statement += f" Of it, {amount} had been paid out, and was taken back by debits."
    return Explanation(statement, "MONEY_NOT_FINAL", part.name_largest())


def _explain_confirmed(part: _Part) -> Explanation:
    """No provider was asked."""
    persons = part.spell_persons()
    statement = (
        f"By the word of persons {part} came into the escrow account within {RECEIVED_WITHIN.days} days"
        f"{': ' if persons else ''}{persons}. The custodian's statement shows whether it did."
    )
    return Explanation(statement, "MONEY_CONFIRMED_BY_PERSONS", part.name_largest(), HOUSE_RULE)


def _explain_late(part: _Part, deadline: datetime) -> Explanation:
    statement = f"After the deadline of {deadline:%Y-%m-%d %H:%M} UTC came {part}"
    if persons := part.spell_persons():
        statement += f", by the word of {persons}"
    return Explanation(f"{statement}.", "MONEY_AFTER_DEADLINE", part.name_largest(), HOUSE_RULE)
