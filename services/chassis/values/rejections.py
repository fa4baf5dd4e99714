"""Who said no before to what is asked for anew: the same, what does the same, or what is like it. No I/O.

What is asked for anew after a no is often another resource: the payment that was rejected is cancelled, and another one
ordered. So it is found by what both are about (`ApprovalDetails.matter`), and told whatever its amount and words.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from services.chassis.values.approval import Approval, Status
from services.chassis.values.explanation import Explanation
from services.chassis.values.invariant import require_present
from services.chassis.values.text import quote
from services.chassis.values.times import write_time

# Payments come again in the regular course, to the same parties: who said no to one long ago did not mean the next.
_NO_TO_MONEY_TOLD_WITHIN: Final = timedelta(days=30)
_OTHER_NO_TOLD_WITHIN: Final = timedelta(days=365)
_TOLD_MAX: Final = 10


def find_told_since(approval: Approval, now: datetime) -> datetime:
    """Since when it is told that somebody said no to what is like it."""
    return now - (_OTHER_NO_TOLD_WITHIN if approval.amount is None else _NO_TO_MONEY_TOLD_WITHIN)


def explain_rejections(
    approval: Approval, rejected: Iterable[Approval], living: Iterable[Approval], now: datetime
) -> list[Explanation]:
    """Who said no before, first to the same, then to what is like it. A no to the same resource is told for good.

    Args:
        rejected: All about the same matter, the last one first.
        living: What else about it waits or was approved.
    """
    same: list[Explanation] = []
    alike: list[Explanation] = []
    for each in _drop_overruled(rejected, living):
        does_same = _is_same(each, approval) or each.effect_hash == approval.effect_hash
        is_late = _time_of(each) > find_told_since(approval, now)
        if is_late or (does_same and each.resource_id == approval.resource_id):
            (same if does_same else alike).append(_explain_rejection(each, approval, does_same=does_same))
    told = [*same, *alike]
    return [*told[:_TOLD_MAX], *_explain_more(len(told) - _TOLD_MAX)]


def _drop_overruled(rejected: Iterable[Approval], living: Iterable[Approval]) -> Sequence[Approval]:
    """Those to which nobody said yes since, word for word: else a yes to a cent, or to other words, would hide a no."""
    noes = list(rejected)
    approved = [each for each in living if each.status in (Status.APPROVED, Status.EXECUTED)] if noes else []
    return [no for no in noes if not any(_overrules(yes, no) for yes in approved)]


def _overrules(yes: Approval, no: Approval) -> bool:
    return yes.anew_hash == no.anew_hash and _time_of(yes) > _time_of(no)


def _time_of(decided: Approval) -> datetime:
    return require_present(decided.decided_at, "who decided did so at some time")


def _is_same(one: Approval, other: Approval) -> bool:
    return (one.kind, one.content_hash) == (other.kind, other.content_hash)


def _explain_rejection(rejected: Approval, approval: Approval, *, does_same: bool) -> Explanation:
    who = require_present(rejected.decided_by, "somebody said no")
    when = write_time(_time_of(rejected))
    why = f": {quote(rejected.note)}" if rejected.note else ", and gave no reason"
    what = _tell_what(rejected, approval, does_same=does_same)
    operands = (("approval", rejected.approval_id), ("asked by", rejected.created_by))
    return Explanation(
        f"{who} said no at {when}, when {rejected.created_by} asked for {what}{why}.",
        "REJECTED_BEFORE",
        (*operands, ("rejected by", who), ("rejected at", when)),
    )


def _tell_what(rejected: Approval, approval: Approval, *, does_same: bool) -> str:
    if _is_same(rejected, approval):
        return "just this"
    if does_same and rejected.resource_id == approval.resource_id:
        return "what does the same, with another content"
    if does_same:
        return f"the same, as {rejected.resource_id}"
    differs = rejected.amount is not None and rejected.amount != approval.amount
    moved = f", of {rejected.amount}" if differs else ""
    return f"what is like it{moved}, {quote(rejected.summary)}"


def _explain_more(count: int) -> list[Explanation]:
    """That so many others were rejected before those that are told."""
    if count <= 0:
        return []
    said = f"Earlier requests for it, or for what is like it, that were rejected as well: {count}."
    return [Explanation(said, "REJECTED_BEFORE", (("count", str(count)),))]
