"""The waterfall terms of an offering: what investors and sponsor have agreed, checked once, then never doubted.

Terms that would pay nobody, or never reach the agreed shares, cannot be constructed: every refusal names its field.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import ClassVar, Final

from services.chassis.values.errors import DomainError, Kind

BPS: Final = 10_000  # basis points in a whole
PREFERRED_RATE_BPS_MAX: Final = BPS  # 100 % a year: beyond it the number is a typing error, not an agreement


class Tier(Enum):
    """One step of the waterfall; the value is the name contracts, rows and hashes use."""

    RETURN_OF_CAPITAL = "RETURN_OF_CAPITAL"
    PREFERRED_RETURN = "PREFERRED_RETURN"
    CATCH_UP = "CATCH_UP"
    SPLIT = "SPLIT"


CAPITAL_FIRST: Final = (Tier.RETURN_OF_CAPITAL, Tier.PREFERRED_RETURN, Tier.CATCH_UP, Tier.SPLIT)
PREFERRED_FIRST: Final = (Tier.PREFERRED_RETURN, Tier.RETURN_OF_CAPITAL, Tier.CATCH_UP, Tier.SPLIT)  # operating cash


class TermsInvalid(DomainError):
    """The terms contradict themselves. ``fields`` names each field and what is wrong with it."""

    kind: ClassVar[Kind] = Kind.INVALID_ARGUMENT
    reason: ClassVar[str] = "TERMS_INVALID"


@dataclass(frozen=True, slots=True)
class Terms:
    """Simple cumulative preferred return, ACT/365F, on unreturned capital; then catch-up; then the split.

    ``catch_up_sponsor_share_bps`` is the sponsor's share of the catch-up tier (10,000 = a full catch-up);
    ``sponsor_carry_bps`` the sponsor's share of profit, in the split and as the catch-up's aim.
    An agreement without a catch-up leaves that tier out of ``order``; its share is then not read.

    Raises: TermsInvalid.
    Source: the operating agreement, as docs/adr/0006 reads it.
    """

    preferred_rate_bps: int | Fraction  # a year; a Fraction where the agreement says 8 1/3 %
    catch_up_sponsor_share_bps: int
    sponsor_carry_bps: int
    order: tuple[Tier, ...] = CAPITAL_FIRST

    def __post_init__(self) -> None:
        wrong = {**_wrong_rates(self), **_wrong_order(self.order)}
        if wrong:
            field, why = next(iter(wrong.items()))
            raise TermsInvalid(f"{field}: {why}", fields=wrong, field=field)

    @property
    def preferred_rate(self) -> Fraction:
        return Fraction(self.preferred_rate_bps) / BPS


def _wrong_rates(terms: Terms) -> dict[str, str]:
    wrong = {}
    if not 0 <= terms.preferred_rate_bps <= PREFERRED_RATE_BPS_MAX:
        wrong["preferred_rate_bps"] = f"must lie between 0 and {PREFERRED_RATE_BPS_MAX}"
    if not 0 <= terms.sponsor_carry_bps < BPS:
        wrong["sponsor_carry_bps"] = f"must lie between 0 and {BPS - 1}: investors keep some of the profit"
    if Tier.CATCH_UP in terms.order:
        # At a share equal to the carry the sponsor would chase its aim for ever; below it, fall behind.
        if not 0 < terms.catch_up_sponsor_share_bps <= BPS:
            wrong["catch_up_sponsor_share_bps"] = f"must lie between 1 and {BPS}"
        elif "sponsor_carry_bps" not in wrong and terms.catch_up_sponsor_share_bps <= terms.sponsor_carry_bps:
            wrong["catch_up_sponsor_share_bps"] = "must exceed sponsor_carry_bps, or the catch-up never ends"
    return wrong


def _wrong_order(order: tuple[Tier, ...]) -> dict[str, str]:
    if len(set(order)) != len(order):
        return {"order": "names a tier twice"}
    missing = [tier.value for tier in CAPITAL_FIRST if tier not in order and tier is not Tier.CATCH_UP]
    if missing:
        return {"order": f"leaves out {', '.join(missing)}"}
    if order[-1] is not Tier.SPLIT:
        return {"order": "must end with SPLIT, which takes all that is left"}
    if Tier.CATCH_UP in order and order.index(Tier.CATCH_UP) < order.index(Tier.PREFERRED_RETURN):
        return {"order": "must pay PREFERRED_RETURN before CATCH_UP, which catches up with it"}
    return {}
