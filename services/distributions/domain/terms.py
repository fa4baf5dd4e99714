"""The waterfall terms of an offering: what investors and sponsor have agreed, checked once, then never doubted.

Terms that would pay nobody, or never reach the agreed shares, cannot be constructed: every refusal names its field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from services.distributions.domain.refusals import TermsInvalid
from services.distributions.domain.tiers import Tier, build_tier, list_parameters
from services.distributions.domain.tiers.catch_up import CatchUp
from services.distributions.domain.tiers.preferred_return import PreferredReturn
from services.distributions.domain.tiers.return_of_capital import ReturnOfCapital
from services.distributions.domain.tiers.split import Split

CAPITAL_FIRST: Final[tuple[Tier, ...]] = (ReturnOfCapital(), PreferredReturn(), CatchUp(), Split())
_ONLY_CATCH_UP_MAY_BE_LEFT_OUT: Final = (ReturnOfCapital.kind, PreferredReturn.kind, Split.kind)


@dataclass(frozen=True, slots=True)
class Terms:
    """The tiers, in the order in which they are paid.

    Raises: TermsInvalid.
    Source: the operating agreement, as docs/adr/0006 reads it.
    """

    tiers: tuple[Tier, ...] = CAPITAL_FIRST

    def __post_init__(self) -> None:
        wrong = _find_order_faults(self.tiers)
        if not wrong:
            for index, tier in enumerate(self.tiers):
                faults = tier.find_faults(self.sponsor_share)
                wrong |= {f"tiers[{index}].{tier.kind.lower()}.{name}": why for name, why in faults.items()}
        if wrong:
            field, why = next(iter(wrong.items()))
            raise TermsInvalid(f"{field}: {why}", fields=wrong)

    @property
    def preferred_rate(self) -> Fraction:
        """A year."""
        return next(tier.rate for tier in self.tiers if isinstance(tier, PreferredReturn))

    @property
    def sponsor_share(self) -> Fraction:
        """The sponsor's share of profit: that of the split, and the aim of the catch-up."""
        return next(tier.sponsor_share for tier in self.tiers if isinstance(tier, Split))


def build_terms(tiers: Sequence[tuple[str, Mapping[str, str]]]) -> Terms:
    """Terms from kinds and parameters; the default tiers if there are none. Raises: TermsInvalid."""
    return Terms(tuple(build_tier(kind, parameters) for kind, parameters in tiers) or CAPITAL_FIRST)


def list_tiers(terms: Terms) -> list[tuple[str, dict[str, str]]]:
    """The kinds and parameters of the terms: every parameter, whether it was given or is a default."""
    return [(tier.kind, list_parameters(tier)) for tier in terms.tiers]


def _find_order_faults(tiers: tuple[Tier, ...]) -> dict[str, str]:
    kinds = [tier.kind for tier in tiers]
    if len(set(kinds)) != len(kinds):
        return {"tiers": "names a tier twice"}
    missing = [kind for kind in _ONLY_CATCH_UP_MAY_BE_LEFT_OUT if kind not in kinds]
    if missing:
        return {"tiers": f"leaves out {', '.join(missing)}"}
    if kinds[-1] != Split.kind:
        return {"tiers": "must end with SPLIT, which takes all that is left"}
    if CatchUp.kind in kinds and kinds.index(CatchUp.kind) < kinds.index(PreferredReturn.kind):
        return {"tiers": "must pay PREFERRED_RETURN before CATCH_UP, which catches up with it"}
    return {}
