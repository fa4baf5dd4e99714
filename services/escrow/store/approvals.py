"""What of this service waits for a second person."""

from __future__ import annotations

from realco.escrow.v1 import escrow_accounts_pb2 as pb
from realco.escrow.v1 import events_pb2 as events

from services.chassis.approvals import records
from services.chassis.approvals.messages import has_change
from services.chassis.approvals.requests import name_kind_of
from services.chassis.approvals.writer import ApprovalWriter
from services.chassis.data.transaction import Tx
from services.chassis.values.approval import Change
from services.chassis.values.refusals import ContentOutdated
from services.chassis.values.times import write_time
from services.escrow.domain.account import EscrowAccount

APPROVAL_WRITER = ApprovalWriter(events.ApprovalRequested, events.ApprovalUpdated)
UNFREEZE = name_kind_of(pb.UnfreezeEscrowAccountRequest)


def build_freeze_changes(account: EscrowAccount) -> tuple[Change, ...]:
    """Why it is frozen, and by whom: what a yes ends. Frozen once more, it would end something else."""
    return tuple(
        Change(f"freezes[{number}].{name}", value, None)
        for number, each in enumerate(account.freezes)
        for name, value in (
            ("note", each.note),
            ("frozen_by", each.frozen_by),
            ("freeze_time", write_time(each.frozen_at)),
        )
    )


async def check_unfreezing(tx: Tx, account: EscrowAccount) -> None:
    """Returns if what two persons approved, if two did, ends all for which the account is frozen.

    The account is locked: whoever freezes it once more does so before, and is heard, or after.

    Raises: ContentOutdated, NotSealed.
    """
    approved = await records.find_being_done(tx, UNFREEZE, account.escrow_account_id)
    ended = build_freeze_changes(account)
    if approved is not None and not all(has_change(approved.content, change) for change in ended):
        raise ContentOutdated("It was frozen once more since: ask again, and read why.")
