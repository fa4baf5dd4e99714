"""In whose name what begins now goes on, and who has a part in it: of each saga one of these says it."""

from __future__ import annotations

from services.chassis.calls.auth import current_principal
from services.chassis.data.transaction import Tx
from services.distributions.domain.sagas import Mandate
from services.distributions.store.sagas import list_mandates


def mandate_of_caller() -> Mandate:
    """The caller asks for it: alone, or by an approval."""
    principal = current_principal()
    return Mandate(principal.person, principal.session, principal.makers_and_checkers)


def mandate_of_service() -> Mandate:
    """Nobody asked for it: it is done in the name of this service, not of whoever caused the event."""
    return Mandate(current_principal().subject)


async def inherit_mandate(tx: Tx, saga_id: str) -> Mandate:
    """The caller has done once more what that saga did: whoever had a part in that has one in this, too.

    Raises: NotSealed.
    """
    before = (await list_mandates(tx, [saga_id]))[saga_id]
    return mandate_of_caller().join(before.persons)
