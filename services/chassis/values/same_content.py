"""What is asked for more than once: with the same content, one yes does it once; in other words, it is told to whoever
decides. No I/O."""

from __future__ import annotations

import json
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


def explain_repetition(before: Approval, *, waits_by_itself: bool) -> Explanation:
    """For whoever reads what waits: just this was approved before, and a yes does it once more.

    Args:
        waits_by_itself: It is a resource that waits, and no request.
    """
    said = _tell_approved_resource(before) if waits_by_itself else _tell(before)
    return Explanation(f"{before.created_by} asked for just this before, {said}.", "SAME_CONTENT", _name(before))


def list_differing(then: str, now: str) -> list[str]:
    """In what two contents about the same differ: the amount, and the changes and preconditions by their names."""
    one, other = json.loads(then), json.loads(now)
    found = ["amount"] if one["amount"] != other["amount"] else []
    for part in ("changes", "preconditions"):
        found += [each["field"] for each in other[part] if each not in one[part]]
        found += [each["field"] for each in one[part] if each not in other[part]]
    return list(dict.fromkeys(found)) or ["content"]


def explain_same_effect(other: Approval) -> Explanation:
    """For whoever reads what waits: another request does the same, and both would be done."""
    said = f"{other.created_by} asked for what does the same, with another content, {_tell(other)}."
    return Explanation(said, "SAME_EFFECT", _name(other))


def explain_altered(count: int) -> list[Explanation]:
    """For whoever reads what waits: of so many like it nobody knows whether they were done."""
    if not count:
        return []
    said = f"Requests like it that were altered in the database: {count}. Whether this was done before, nobody knows."
    return [Explanation(said, "REQUESTS_ALTERED", (("count", str(count)),))]


def _tell(other: Approval) -> str:
    if other.status is Status.PENDING:
        return f"and {other.approval_id} waits: a yes to both does it twice"
    return f"{_tell_yes(other)}, and {'it was' if other.status is Status.EXECUTED else 'it is being'} carried out"


def _tell_approved_resource(approved: Approval) -> str:
    """A yes is all that it was, and by now it waits once more."""
    return f"{_tell_yes(approved)}, and since then it was taken back or asked for again"


def _tell_yes(approved: Approval) -> str:
    return f"{_name_approvers(approved)} approved it at {_tell_when(approved)}"


def _name_approvers(approved: Approval) -> str:
    """All of them, in their order."""
    return " and ".join(each.approved_by for each in approved.approvers)


def _name(other: Approval) -> tuple[tuple[str, str], ...]:
    asked = (("approval", other.approval_id), ("asked by", other.created_by))
    if other.status is Status.PENDING:
        return asked
    return (*asked, ("approved by", _name_approvers(other)), ("approved at", _tell_when(other)))


def _tell_when(approved: Approval) -> str:
    return write_time(require_present(approved.decided_at, "who approved it did so at some time"))
