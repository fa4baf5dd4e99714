"""Approval of a calculated distribution: by another person, and of exactly these numbers.

The content hash binds an approval to what was approved: any change of a cent, a payee, a term or a date changes it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import date
from fractions import Fraction
from typing import ClassVar, Final

from services.chassis.values.errors import DomainError, Kind
from services.chassis.values.money import Money
from services.distributions.domain.terms import Terms
from services.distributions.domain.waterfall import Line

_FORMAT: Final = "distribution/1"  # hashed too: a later format can never collide with this one


class MakerIsChecker(DomainError):
    """Whoever made or submitted a distribution does not approve it."""

    kind: ClassVar[Kind] = Kind.PERMISSION_DENIED
    reason: ClassVar[str] = "MAKER_IS_CHECKER"


class ContentChanged(DomainError):
    """The distribution is no longer what the approver saw. Metadata: ``content_hash``, the current one."""

    kind: ClassVar[Kind] = Kind.FAILED_PRECONDITION
    reason: ClassVar[str] = "CONTENT_CHANGED"


def content_hash(distribution_id: str, amount: Money, on: date, terms: Terms, lines: Iterable[Line]) -> str:
    """SHA-256 in hex over the canonical JSON of a calculated distribution; the order of ``lines`` does not matter."""
    content = {
        "format": _FORMAT,
        "id": distribution_id,
        "amount_minor": amount.amount_minor,
        "currency": amount.currency,
        "date": on.isoformat(),
        "terms": {
            "preferred_rate_bps": str(Fraction(terms.preferred_rate_bps)),
            "catch_up_sponsor_share_bps": terms.catch_up_sponsor_share_bps,
            "sponsor_carry_bps": terms.sponsor_carry_bps,
            "order": [tier.value for tier in terms.order],
        },
        "lines": sorted(
            [line.party_id, line.return_of_capital, line.preferred_return, line.catch_up, line.split] for line in lines
        ),
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def check_approval(makers: Iterable[str], checker: str, expected_hash: str, current_hash: str) -> None:
    """Lets ``checker`` approve what they saw, unless they had a hand in it.

    ``makers`` are the persons behind it (who created, calculated, submitted), ``checker`` the person now approving:
    persons, not the service that carries their request. Raises: MakerIsChecker, ContentChanged.
    """
    if checker in set(makers):
        raise MakerIsChecker("A distribution is approved by somebody who did not make it.")
    check_content(expected_hash, current_hash)


def check_content(expected_hash: str, current_hash: str) -> None:
    """Refuses to go on with anything but what was seen or approved; execution asks again. Raises: ContentChanged."""
    if expected_hash != current_hash:
        raise ContentChanged("The distribution has changed since it was seen.", content_hash=current_hash)
