"""Who gains by what is booked in an escrow account: nobody who acts for one of them decides it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from services.escrow.domain.chart import Direction, LedgerAccount, Owner, line_of
from services.escrow.domain.journal import Layer, Leg


@dataclass(frozen=True, slots=True)
class Beneficiaries:
    """Whose the money of one escrow account can be.

    Args:
        party_ids: The parties that are paid from it in the end: they have a ledger account of their own in it, or have
            committed to its offering, whose money may be on its way.
    """

    sponsor_party_id: str
    party_ids: frozenset[str]

    def list_owners(self, account: LedgerAccount) -> frozenset[str]:
        """The parties that gain where this ledger account is credited."""
        match line_of(account.kind).owner:
            case Owner.PARTY:
                return frozenset({account.party_id})
            case Owner.INVESTOR:
                return frozenset({account.party_id, self.sponsor_party_id})
            case Owner.SPONSOR:
                return frozenset({self.sponsor_party_id})
            case Owner.PAYEES:
                return self.party_ids | {self.sponsor_party_id}
            case Owner.NOBODY:
                return frozenset()


def list_grown(legs: Iterable[Leg]) -> frozenset[LedgerAccount]:
    """The ledger accounts that all of it together credits, in whatever layer: more is owed to them, or less by them."""
    credited: Counter[tuple[LedgerAccount, Layer]] = Counter()
    for leg in legs:
        sign = 1 if leg.direction is Direction.CREDIT else -1
        credited[leg.ledger_account, leg.layer] += sign * leg.amount_minor
    return frozenset(account for (account, _), minor in credited.items() if minor > 0)
