"""What a yes is counted on is asked of the owner of parties before the transaction that counts it."""

from __future__ import annotations

from services.chassis.calls.auth import current_principal
from services.chassis.calls.parties import Parties
from services.chassis.values.approval import Approval, ApprovalFacts


async def ask_facts(parties: Parties, approval: Approval | None, makers: frozenset[str] = frozenset()) -> ApprovalFacts:
    """Of the caller, who is about to approve it, and of each who did before. Not to be called inside a transaction.

    Args:
        approval: As it was just now; None where there is none.
        makers: Who had a part in it by now.

    Raises:
        SessionEnded: the caller's own session was.
        Unavailable: nobody can tell.
    """
    before = () if approval is None else approval.approvers
    persons = {current_principal().person, *(each.approved_by for each in before)}
    return ApprovalFacts(await parties.list_standings(persons), makers)
