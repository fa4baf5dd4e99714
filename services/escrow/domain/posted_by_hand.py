"""What persons posted by hand in an escrow account: whoever has money leave it reads that before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from services.chassis.values.explanation import HOUSE_RULE, Explanation
from services.chassis.values.money import Money

_NAMED_MAX: Final = 10
POSTED_WITHIN: Final = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class PostedByHand:
    """
    Args:
        largest: The largest entries, with what each moved, in minor units.
        by_person: How much the entries that each asked for moved, most first.
        late_minor: What was moved after a deadline.
        last_at: When the last of them was booked; None where there is none.
    """

    largest: Sequence[tuple[str, int]]
    by_person: Mapping[str, int]
    late_minor: int
    last_at: datetime | None


def explain_posted_by_hand(
    posted: PostedByHand, currency: str, deadline: datetime | None = None
) -> tuple[Explanation, ...]:
    """How much was booked because persons said so, and how much of it after the deadline.

    It may be cash that nobody paid in, or a debt, which else reads as if a bank had taken money back.
    """
    if posted.last_at is None:
        return ()
    total = Money(sum(posted.by_person.values()), currency)
    named = [f"{person} ({Money(minor, currency)})" for person, minor in list(posted.by_person.items())[:_NAMED_MAX]]
    more = len(posted.by_person) - len(named)
    statement = (
        f"Within {POSTED_WITHIN.days} days persons posted {total} in its book by hand, with no bank asked, the last"
        f" on {posted.last_at:%Y-%m-%d}, asked for by {', '.join(named)}{f' and {more} more' if more else ''}."
    )
    if deadline is not None and posted.late_minor:
        late = Money(posted.late_minor, currency)
        statement += f" After the deadline of {deadline:%Y-%m-%d %H:%M} UTC: {late}."
    operands = tuple((entry_id, Money(minor, currency)) for entry_id, minor in posted.largest)
    return (Explanation(statement, "MONEY_POSTED_BY_HAND", operands, HOUSE_RULE),)


def explain_more_by_hand() -> Explanation:
    """That it came from more escrow accounts with such entries than are told of one by one, and most from those."""
    statement = "Some of it was transferred from more escrow accounts with entries by hand than these: look there."
    return Explanation(statement, "MONEY_POSTED_BY_HAND", (), HOUSE_RULE)
