"""The distribution waterfall: who is paid what out of one distribution, tier by tier, and where that leaves everyone.

Guarantees: the lines sum to the distribution to the cent; the result does not depend on the order of the lots; a lot's
accrual is exact (what rounding gave or took stays, signed, in the accrual and is settled by the next payment);
the same facts replayed give the same result. Cents at the edges, exact rationals inside, no float.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from services.chassis.values.invariant import invariant
from services.distributions.domain.capital_accounts import CapitalAccounts, Step
from services.distributions.domain.lots import SPONSOR, State
from services.distributions.domain.refusals import NothingContributed, OutOfDateOrder
from services.distributions.domain.terms import Terms


@dataclass(frozen=True, slots=True)
class Line:
    """What one payee receives, by tier, in minor units. The sponsor's line has ``party_id`` SPONSOR."""

    party_id: str
    amounts: tuple[int, ...]  # one a tier, in the order of the terms

    @property
    def total(self) -> int:
        return sum(self.amounts)


@dataclass(frozen=True, slots=True)
class Result:
    """One calculated distribution: ``lines`` in byte order of payee with the sponsor last, nobody with nothing."""

    on: date
    amount_minor: int
    steps: tuple[Step, ...]  # in the order of the terms; the readable trace
    lines: tuple[Line, ...]
    after: State


def calculate(state: State, terms: Terms, amount_minor: int, on: date, currency: str) -> Result:
    """Pays ``amount_minor`` through the tiers on the day ``on``; where everyone stands after it is in the result.

    Rounding: a tier demands its exact sum, half-even; its cents go out by largest remainder (chassis ``allocate``).
    A lot takes part if it is dated before ``on``: on the same day a distribution precedes a contribution.

    Args:
        currency: Of all amounts; explanations name it.

    Raises: NothingContributed, OutOfDateOrder.
    Source: docs/adr/0006.
    """
    invariant(amount_minor > 0, "a distribution pays something")
    _check_date(state, on)
    accounts = CapitalAccounts(state, terms.preferred_rate, terms.sponsor_share, on, currency)
    left, steps = amount_minor, []
    for tier in terms.tiers:
        step = tier.pay(accounts, left)
        accounts.totals = accounts.totals.add(step.investors, step.sponsor, is_profit=tier.pays_profit)
        left -= step.paid
        steps.append(step)
    after = State(accounts.list_lots(), accounts.totals)
    result = Result(on, amount_minor, tuple(steps), _list_lines(accounts, steps), after)
    invariant(left == 0, "the waterfall left cash undistributed")
    invariant(sum(line.total for line in result.lines) == amount_minor, "the lines do not sum to the distribution")
    return result


def _list_lines(accounts: CapitalAccounts, steps: Sequence[Step]) -> tuple[Line, ...]:
    """What everybody gets. The lots are sorted, so the investors come in byte order."""
    paid = [step.investors_by_party for step in steps]
    lines = [Line(party_id, tuple([by_party[party_id] for by_party in paid])) for party_id in accounts.contributed]
    lines.append(Line(SPONSOR, tuple(step.sponsor for step in steps)))
    return tuple(line for line in lines if any(line.amounts))


def _check_date(state: State, on: date) -> None:
    accrued_through = max((lot.accrued_through for lot in state.lots if lot.contributed_on < on), default=None)
    if accrued_through is None:
        raise NothingContributed(f"No capital was contributed before {on}.")
    if on < accrued_through:
        raise OutOfDateOrder(
            f"The offering is calculated through {accrued_through}; a distribution cannot be dated {on}.",
            earliest_distribution_date=accrued_through,
        )
