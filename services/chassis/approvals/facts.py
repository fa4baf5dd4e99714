"""What a yes is counted on is asked of the owner of parties before the transaction that counts it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from services.chassis.calls.auth import current_principal
from services.chassis.calls.parties import Parties
from services.chassis.values.approval import (
    LOCKED_OUT_RULE,
    Approval,
    ApprovalFacts,
    MakerSessionEnded,
)
from services.chassis.values.errors import DomainError
from services.chassis.values.explanation import Explanation
from services.chassis.values.session import Identity, list_ended


class Drift(NamedTuple):
    """The persons who had a part in an approval, and the parties that gain from it, by now."""

    makers: frozenset[str]
    beneficiary_party_ids: frozenset[str]

    def join(self, makers: Iterable[str], beneficiary_party_ids: Iterable[str]) -> Drift:
        return Drift(self.makers.union(makers), self.beneficiary_party_ids.union(beneficiary_party_ids))


async def ask_facts(
    parties: Parties,
    approval: Approval | None,
    makers: frozenset[str] = frozenset(),
    beneficiary_party_ids: frozenset[str] = frozenset(),
) -> ApprovalFacts:
    """Of the caller, who is about to approve it, of each who did before, and of whoever asked for it.

    Not to be called inside a transaction.

    Args:
        approval: As it was just now; None where there is none.
        makers: Who had a part in it by now.
        beneficiary_party_ids: Who gains from it by now.

    Raises:
        SessionEnded: the caller's own session was.
        Unavailable: nobody can tell.
    """
    persons = {Identity(current_principal().person)}
    if approval is not None:
        persons |= {Identity(each.approved_by) for each in approval.approvers}
        persons |= {each.identity for each in approval.list_askers()}
    return ApprovalFacts(await parties.list_standings(persons), makers, beneficiary_party_ids)


async def explain_ended_session(parties: Parties, approval: Approval) -> Explanation | None:
    """For whoever reads an approval that waits: why no yes counts; None where one does, or nobody can tell."""
    askers = approval.list_askers()
    who_asked = {each.identity for each in askers}
    try:
        ended = list_ended(askers, await parties.list_standings(who_asked)) if who_asked else []
    except DomainError:  # who reads in an ended session reads, and a yes is not counted while nobody can tell
        return None
    if not ended:
        return None
    refusal, operands = MakerSessionEnded(), tuple(("asked by", each.person) for each in ended)
    return Explanation(refusal.message, refusal.reason, operands, LOCKED_OUT_RULE)
