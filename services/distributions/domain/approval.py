"""Approval of a calculated distribution: by another person, and of exactly these numbers.

The content hash binds an approval to what was approved: any change of a cent, a payee, a term or a date changes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from datetime import date
from typing import Any, Final

from services.chassis.values.approvals import hash_content, write_content
from services.chassis.values.money import Money
from services.chassis.values.refusals import ContentChanged
from services.distributions.domain.terms import Terms
from services.distributions.domain.tiers import Tier
from services.distributions.domain.waterfall import Line

_FORMAT: Final = "distribution/2"  # hashed too: a later format can never collide with this one


def build_content(distribution_id: str, amount: Money, on: date, terms: Terms, lines: Iterable[Line]) -> dict[str, Any]:
    """What of a calculated distribution is decided on; the order of ``lines`` does not matter."""
    return {
        "format": _FORMAT,
        "id": distribution_id,
        "amount_minor": amount.amount_minor,
        "currency": amount.currency,
        "date": on.isoformat(),
        "tiers": [_list_terms_of(tier) for tier in terms.tiers],
        "lines": sorted([line.party_id, *line.amounts] for line in lines),
    }


def hash_built(content: dict[str, Any]) -> str:
    """The hash of its canonical text: that of the approval, too."""
    return hash_content(write_content(content))


def _list_terms_of(tier: Tier) -> list[str]:
    return [tier.kind, *(f"{each.name}={getattr(tier, each.name)}" for each in fields(tier))]


def check_content(expected_hash: str, current_hash: str | None) -> None:
    """Refuses to go on with anything but what was seen or approved; execution asks again. Raises: ContentChanged."""
    if expected_hash != current_hash:
        raise ContentChanged("The distribution has changed since it was seen.", content_hash=current_hash or "")
