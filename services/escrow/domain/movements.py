"""What two persons decide and this service books: the legs of a closing and of a declaration.

The parties are in the order of their ids, so that the same decision makes the same legs.
"""

from __future__ import annotations

from collections.abc import Mapping

from services.escrow.domain.chart import DISTRIBUTABLE, ISSUER_PROCEEDS, LedgerAccountKind, account_of_party
from services.escrow.domain.journal import Leg, credit, debit


def build_release_legs(parts: Mapping[str, int]) -> tuple[Leg, ...]:
    """Each party's subscription becomes ISSUER_PROCEEDS, all or none."""
    kind = LedgerAccountKind.SUBSCRIPTION
    legs = [debit(account_of_party(kind, party_id), minor) for party_id, minor in sorted(parts.items())]
    return (*legs, credit(ISSUER_PROCEEDS, sum(parts.values())))


def build_declaration_legs(parts: Mapping[str, int]) -> tuple[Leg, ...]:
    """DISTRIBUTABLE becomes each payee's PAYABLE, to the cent."""
    kind = LedgerAccountKind.PAYABLE
    legs = [credit(account_of_party(kind, party_id), minor) for party_id, minor in sorted(parts.items())]
    return (debit(DISTRIBUTABLE, sum(parts.values())), *legs)
