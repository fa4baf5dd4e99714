"""What is asked for more than once with the same content: one yes does it once. No I/O."""

from __future__ import annotations

from collections.abc import Iterable

from services.chassis.values.approval import Approval, Status
from services.chassis.values.explanation import Explanation
from services.chassis.values.invariant import require_present
from services.chassis.values.times import write_time


def join_makers(approval: Approval, same: Iterable[Approval]) -> frozenset[str]:
    """Who made its content: whoever asked for the same, which waits as well, had a part in it."""
    return approval.makers.union(*(each.makers for each in same))


def explain_end(ended: Approval, approved: Approval) -> str:
    """Why what waited is over by the last yes to another one."""
    is_same = approved.content_hash == ended.content_hash
    which = "which has the same content" if is_same else "which is about the same"
    return f"It is over: {approved.approval_id}, {which}, was approved."


def explain_repetition(before: Approval) -> Explanation:
    """For whoever reads what waits: just this was approved before, and a yes does it once more."""
    at = write_time(require_present(before.decided_at, "who approved it did so at some time"))
    done = "it was carried out" if before.status is Status.EXECUTED else "it is being carried out"
    said = f"{before.created_by} asked for just this before, {before.decided_by} approved it at {at}, and {done}."
    operands = (
        ("approval", before.approval_id),
        ("asked by", before.created_by),
        ("approved by", before.decided_by or ""),
        ("approved at", at),
    )
    return Explanation(said, "SAME_CONTENT", operands)
