"""Money that is to move by one decision, as everybody who has a part in it says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from services.chassis.values.money import Money


class MovementLine(NamedTuple):
    """What moves for one party: whose it is, or whose it becomes."""

    party_id: str
    amount: Money


@dataclass(frozen=True, slots=True)
class Movement:
    """All that moves in an escrow account by one decision.

    Args:
        kind: That of the approval.
        resource_id: What it is about.
        content_hash: Of what is decided on.
    """

    kind: str
    resource_id: str
    content_hash: str
    escrow_account_id: str
    lines: tuple[MovementLine, ...]
