"""Nobody alone has so much waiting that the others cannot work."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from services.chassis.values import approval_bounds as bounds
from services.chassis.values.approval import SUBJECT, VALIDITY, Approval, Comment, Status, mark_cancelled
from services.chassis.values.approval_bounds import TooManyApprovals, TooManyComments, add_comment, check_may_ask
from tests.support.approvals import NOW, WAITING

DAY = timedelta(days=1)
ENDED = mark_cancelled(WAITING, WAITING.created_by, NOW)


@pytest.mark.parametrize(
    ("last", "now", "may_ask"),
    [
        (WAITING, NOW, False),
        (WAITING, NOW + VALIDITY, True),
        (replace(WAITING, expires_at=None), NOW + VALIDITY, False),
        (replace(WAITING, status=Status.REJECTED), NOW, True),
        (replace(WAITING, status=Status.EXECUTED), NOW, True),
        (replace(WAITING, status=Status.EXPIRED), NOW, True),
        (ENDED, NOW, False),
        (replace(ENDED, decided_by="somebody else"), NOW, True),
        (ENDED, NOW + DAY, True),
    ],
    ids=[
        "waits",
        "time ran out",
        "never ends",
        "rejected",
        "done",
        "expired",
        "taken back",
        "ended by another",
        "taken back a day ago",
    ],
)
def test_one_may_ask_once_more_when_one_of_those_that_wait_ended_and_a_day_after_it_was_cancelled(
    last: Approval, now: datetime, may_ask: bool
) -> None:
    others = [replace(WAITING, expires_at=None)] * (bounds.OPEN_MAX - 1)
    check_may_ask(others, now)
    if may_ask:
        check_may_ask([*others, last], now)
        return
    with pytest.raises(TooManyApprovals) as refusal:
        check_may_ask([*others, last], now)
    assert refusal.value.metadata == {"approvals_max": str(bounds.OPEN_MAX)}


@pytest.mark.parametrize(
    ("written", "bound"),
    [
        ({"bob": 19, SUBJECT: 80}, None),
        ({"bob": 20}, 20),
        ({"bob": 0, "ann": 20}, None),
        ({"bob": 19, SUBJECT: 81}, 100),
    ],
)
def test_one_person_writes_so_many_comments_and_all_together_no_more_than_can_be_read(
    written: dict[str, int], bound: int | None
) -> None:
    before = tuple(Comment(person, "Why?", NOW) for person, count in written.items() for _ in range(count))
    commented = replace(WAITING, comments=before)
    comment = Comment("bob", "Why now?", NOW)
    if bound is None:
        assert add_comment(commented, comment).comments == (*before, comment)
        return
    with pytest.raises(TooManyComments) as refusal:
        add_comment(commented, comment)
    assert refusal.value.metadata == {"comments_max": str(bound)}
