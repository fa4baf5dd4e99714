"""What two persons decide and this service books: one table of its kinds, and the legs of each.

The parties are in the order of their ids, so that the same decision makes the same legs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from services.escrow.domain.chart import DISTRIBUTABLE, ISSUER_PROCEEDS, LedgerAccountKind, account_of_party
from services.escrow.domain.journal import EntryType, Leg, credit, debit


def _build_release_legs(parts: Mapping[str, int]) -> tuple[Leg, ...]:
    """Each party's subscription becomes ISSUER_PROCEEDS, all or none."""
    kind = LedgerAccountKind.SUBSCRIPTION
    legs = [debit(account_of_party(kind, party_id), minor) for party_id, minor in sorted(parts.items())]
    return (*legs, credit(ISSUER_PROCEEDS, sum(parts.values())))


def _build_declaration_legs(parts: Mapping[str, int]) -> tuple[Leg, ...]:
    """DISTRIBUTABLE becomes each payee's PAYABLE, to the cent."""
    kind = LedgerAccountKind.PAYABLE
    legs = [credit(account_of_party(kind, party_id), minor) for party_id, minor in sorted(parts.items())]
    return (debit(DISTRIBUTABLE, sum(parts.values())), *legs)


@dataclass(frozen=True, slots=True)
class MovementKind:
    """What the book does with one kind of movement.

    Args:
        name: As the notary names it, who heard the persons.
        label: How its journal entry names it.
        build_legs: From what each party has of it, in minor units, by its id.
    """

    name: str
    label: str
    entry_type: EntryType
    build_legs: Callable[[Mapping[str, int]], tuple[Leg, ...]]


CLOSING = MovementKind("CLOSE_OFFERING", "Closing", EntryType.RELEASE, _build_release_legs)
DECLARATION = MovementKind("APPROVE_DISTRIBUTION", "Declaration", EntryType.DISTRIBUTION, _build_declaration_legs)
MOVEMENT_KINDS: Mapping[str, MovementKind] = MappingProxyType({each.name: each for each in (CLOSING, DECLARATION)})
