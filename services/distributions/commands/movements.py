"""What persons decided that moves inside the book, as a saga orders it of escrow."""

from __future__ import annotations

from collections.abc import Awaitable

from services.chassis.calls.peers import find_refusal
from services.chassis.values.errors import DomainError
from services.distributions.clients import Compliance
from services.distributions.domain.refusals import MovementNotOrdered


async def order_movement(
    notary: Compliance, ordering: Awaitable[object], kind: str, resource_id: str
) -> DomainError | None:
    """Why escrow refuses it for good; None where it is booked. What is refused, nobody has done later.

    Args:
        ordering: The call of escrow.
        kind: Of the approval by which it was decided about the resource.

    Raises:
        DomainError: the outcome is unknown; the same is ordered again.
    """
    # Escrow asked us, and heard something else than what was committed before: somebody has to look.
    refusal = await find_refusal(ordering, unclear={MovementNotOrdered.reason})
    if refusal is not None:
        await notary.record_withdrawal(kind, resource_id, after_refusal=True)
    return refusal
