"""An offering's distributions calculated one after the other, from its contributions alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from fractions import Fraction

from services.distributions.domain.lots import Lot, State
from services.distributions.domain.terms import Terms
from services.distributions.domain.waterfall import Result, calculate


@dataclass(frozen=True, slots=True)
class Distributed:
    """An earlier distribution as a fact. ``terms`` are its own where they differ from the offering's."""

    on: date
    amount_minor: int
    terms: Terms | None = None


def open_lot(party_id: str, lot_id: str, on: date, amount_minor: int) -> Lot:
    """A contribution on which nothing was paid yet."""
    return Lot(party_id, lot_id, on, amount_minor, amount_minor, Fraction(0), on)


def replay(
    contributions: Iterable[Lot], distributions: Iterable[Distributed], terms: Terms
) -> tuple[State, tuple[Result, ...]]:
    """The state after all these facts, from nothing, and the result of each distribution on the way.

    ``contributions`` are lots in any condition: only what opened them is read. Within a day distributions come first,
    in the order given.
    """
    state = State(
        tuple(open_lot(lot.party_id, lot.lot_id, lot.contributed_on, lot.contributed) for lot in contributions)
    )
    results = []
    for past in sorted(distributions, key=lambda past: past.on):
        result = calculate(state, past.terms or terms, past.amount_minor, past.on, "USD")
        results.append(result)
        state = result.after
    return state, tuple(results)
