"""How much one person may have waiting, so that nobody alone keeps the others from deciding or stopping it. No I/O.

Who takes something away ends, in one transaction, all that was asked for and would give it back; and who decides reads
all that was written beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from services.chassis.values.approval import Approval, Comment, Status
from services.chassis.values.errors import DomainError, Kind

# Of one maker and one kind, about one resource.
OPEN_MAX = 20
# What waits no more is read for two weeks (records.py), so who asks and takes it back does not do so without end. What
# another person's act ended counts for nothing: else that person alone would keep this one from asking.
CANCELLED_COUNTS = timedelta(days=1)
COMMENTS_MAX = 100
COMMENTS_OF_PERSON_MAX = 20


class TooManyApprovals(DomainError):
    kind = Kind.FAILED_PRECONDITION
    reason = "TOO_MANY_APPROVALS"


class TooManyComments(DomainError):
    kind = Kind.FAILED_PRECONDITION
    reason = "TOO_MANY_COMMENTS"


def check_may_ask(asked: Iterable[Approval], now: datetime) -> None:
    """
    Args:
        asked: What one person asked for of one kind about one resource.

    Raises: TooManyApprovals.
    """
    if sum(_counts_at(each, now) for each in asked) >= OPEN_MAX:
        message = (
            f"You have asked for this {OPEN_MAX} times: it waits, or you took it back within a day. Wait until somebody"
            " decides, or for a day."
        )
        raise TooManyApprovals(message, approvals_max=OPEN_MAX)


def _counts_at(approval: Approval, now: datetime) -> bool:
    if approval.status is Status.CANCELLED:
        return approval.decided_by == approval.created_by and approval.updated_at > now - CANCELLED_COUNTS
    return approval.is_open_at(now)


def find_met_bound(approval: Approval, person: str) -> int | None:
    """How many comments there are, of the person or of all, where one more would be too many."""
    mine = sum(each.created_by == person for each in approval.comments)
    if mine >= COMMENTS_OF_PERSON_MAX:
        return COMMENTS_OF_PERSON_MAX
    return COMMENTS_MAX if len(approval.comments) >= COMMENTS_MAX else None


def add_comment(approval: Approval, comment: Comment) -> Approval:
    """Raises: TooManyComments."""
    bound = find_met_bound(approval, comment.created_by)
    if bound is not None:
        whose = "You have" if bound == COMMENTS_OF_PERSON_MAX else "All together have"
        raise TooManyComments(f"{whose} written {bound} comments on it: decide it.", comments_max=bound)
    return replace(approval, comments=(*approval.comments, comment))
