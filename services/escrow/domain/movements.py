"""What two persons decide and this service books: the legs of a closing and of a declaration."""

from __future__ import annotations

from collections.abc import Mapping

from services.escrow.domain.chart import DISTRIBUTABLE, ISSUER_PROCEEDS, LedgerAccountKind, account_of_party
from services.escrow.domain.journal import Leg, credit, debit


def build_release_legs(parts: Mapping[str, int]) -> tuple[Leg, ...]:
    """Each party's subscription becomes ISSUER_PROCEEDS, all or none."""
    legs = [debit(account_of_party(LedgerAccountKind.SUBSCRIPTION, each), minor) for each, minor in parts.items()]
    return (*legs, credit(ISSUER_PROCEEDS, sum(parts.values())))


def build_declaration_legs(parts: Mapping[str, int]) -> tuple[Leg, ...]:
    """DISTRIBUTABLE becomes each payee's PAYABLE, to the cent."""
    legs = [credit(account_of_party(LedgerAccountKind.PAYABLE, each), minor) for each, minor in parts.items()]
    return (debit(DISTRIBUTABLE, sum(parts.values())), *legs)
