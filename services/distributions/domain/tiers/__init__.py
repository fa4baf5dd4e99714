"""The kinds of tiers a waterfall can have, one file each. A new one is a file here, a line below, and its message."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from fractions import Fraction
from typing import Final, TypeAlias

from services.chassis.values.invariant import invariant
from services.distributions.domain.tiers.catch_up import CatchUp
from services.distributions.domain.tiers.preferred_return import PreferredReturn
from services.distributions.domain.tiers.return_of_capital import ReturnOfCapital
from services.distributions.domain.tiers.split import Split

Tier: TypeAlias = ReturnOfCapital | PreferredReturn | CatchUp | Split

KINDS: Final[Mapping[str, type[Tier]]] = {
    kind.kind: kind for kind in (ReturnOfCapital, PreferredReturn, CatchUp, Split)
}


def build_tier(kind: str, parameters: Mapping[str, str]) -> Tier:
    """The tier that a contract or a row names. A parameter that is absent has its documented default."""
    return KINDS[kind](**{name: Fraction(text) for name, text in parameters.items()})


def list_parameters(tier: Tier) -> dict[str, str]:
    """The tier's parameters by name, as exact decimals."""
    return {each.name: spell_decimal(getattr(tier, each.name)) for each in fields(tier)}


def spell_decimal(value: Fraction) -> str:
    """`2/25` -> `0.08`. Raises InvariantViolation for what no decimal is: the contract takes only decimals."""
    millionths = value * 1_000_000
    invariant(millionths.denominator == 1 and value >= 0, "a parameter has at most six decimals")
    whole, rest = divmod(int(millionths), 1_000_000)
    return f"{whole}.{rest:06d}".rstrip("0").rstrip(".")
