"""Who approved something before is asked about again when another person is about to: a yes may count no longer.

Where several have to approve, days may lie between the first and the last of them. Meanwhile the first may have begun
to act for a party that gains, or somebody ended the sessions in one of which the yes was said, or that person had a
part in it. Such a yes is taken out and noted beside the approval before the next one counts, so whoever decides reads
it first: the version is another one.
"""

from __future__ import annotations

from collections.abc import Collection

from services.chassis.approvals import records
from services.chassis.approvals.changes import ApprovalEvents
from services.chassis.calls.parties import Parties
from services.chassis.data.operations import Operations
from services.chassis.process.telemetry import log
from services.chassis.values.approval import Approval, drop_yes, explain_lapse

# Who writes that a yes counts no longer; in whose name what was approved is done.
SUBJECT = "service:approvals"


async def drop_lapsed(
    operations: Operations, events: ApprovalEvents, parties: Parties, read: Approval, makers: Collection[str]
) -> None:
    """Takes out each yes that counts no longer. Not to be called inside a transaction.

    Args:
        read: The approval as it was just now.
        makers: Who had a part in it by now.

    Raises:
        SessionEnded: the caller's own session was.
        Unavailable: nobody can tell.
    """
    lapsed: dict[str, str] = {}
    for each in read.approvers:
        standing = await parties.get_standing(each.approved_by)
        why = explain_lapse(each, makers, read.beneficiary_party_ids, *standing)
        if why is not None:
            lapsed[each.approved_by] = why
    if not lapsed:
        return
    now = operations.clock.now()
    async with operations.database.begin() as tx:
        approval = await records.find_approval(tx, read.org_id, read.approval_id, lock=True)
        # Where it is not as it was read, whoever changed it asked the same just now.
        if approval is None or approval.version != read.version or not approval.is_open_at(now):
            return
        await events.save(tx, drop_yes(approval, lapsed, SUBJECT, now), now)
    for person, why in lapsed.items():
        log.warning("yes_lapsed", approval_id=read.approval_id, person=person, reason=why)
