"""How much money a party may bring in: the first limit a transaction would pass, with its working.

Limits hold for investors who are not accredited, on money coming in. A window is a calendar day or month (UTC) of
business time; what was counted in it and not given back counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

from services.chassis.values.explanation import Explanation
from services.chassis.values.money import Money, spell_money
from services.compliance.domain.refusals import TransactionLimitExceeded


class LimitType(Enum):
    """In the order they are tried: the narrowest window first."""

    PER_TRANSACTION = "PER_TRANSACTION"
    DAILY_DEPOSIT = "DAILY_DEPOSIT"
    MONTHLY_DEPOSIT = "MONTHLY_DEPOSIT"


WITH_A_WINDOW = tuple(limit_type for limit_type in LimitType if limit_type is not LimitType.PER_TRANSACTION)
# By party, what counts in the window of each limit that has one, in minor units of one currency.
Used = dict[str, Counter[LimitType]]


@dataclass(frozen=True, slots=True)
class Limit:
    limit_type: LimitType
    amount_minor: int
    currency: str


@dataclass(frozen=True, slots=True)
class Breach:
    """A limit that a transaction would pass."""

    limit: Limit
    used_minor: int
    requested_minor: int
    window_start: datetime | None  # None: one transaction, no window

    @property
    def remaining_minor(self) -> int:
        return max(0, self.limit.amount_minor - self.used_minor)

    @property
    def working(self) -> str:
        """One sentence with every figure of the decision."""
        limit, currency = self.limit, self.limit.currency
        name = limit.limit_type.value.replace("_", " ").lower()
        since = f" since {self.window_start:%Y-%m-%d}" if self.window_start else ""
        return (
            f"{name} limit {spell_money(limit.amount_minor, currency)}:"
            f" {spell_money(self.used_minor, currency)} used{since}"
            f" + {spell_money(self.requested_minor, currency)} requested"
            f" = {spell_money(self.used_minor + self.requested_minor, currency)},"
            f" {spell_money(self.used_minor + self.requested_minor - limit.amount_minor, currency)} too much"
        )

    @property
    def explanation(self) -> Explanation:
        """The working with its figures. The source is the organization's own setting."""
        since = f"used since {self.window_start:%Y-%m-%d}" if self.window_start else "used"
        figures = {
            "limit": self.limit.amount_minor,
            since: self.used_minor,
            "requested": self.requested_minor,
            "remaining": self.remaining_minor,
        }
        operands = tuple((name, Money(minor, self.limit.currency)) for name, minor in figures.items())
        return Explanation(self.working, self.limit.limit_type.value, operands)

    def refuse(self) -> TransactionLimitExceeded:
        return TransactionLimitExceeded(
            self.working,
            limit_type=self.limit.limit_type.value,
            limit_minor=self.limit.amount_minor,
            used_minor=self.used_minor,
            requested_minor=self.requested_minor,
            remaining_minor=self.remaining_minor,
            window_start_time=self.window_start,
            currency_code=self.limit.currency,
        )


def window_start(limit_type: LimitType, now: datetime) -> datetime | None:
    """The beginning of the window `now` lies in."""
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    match limit_type:
        case LimitType.PER_TRANSACTION:
            return None
        case LimitType.DAILY_DEPOSIT:
            return midnight
        case LimitType.MONTHLY_DEPOSIT:
            return midnight.replace(day=1)


def first_breach(
    limits: Sequence[Limit], used_minor: Mapping[LimitType, int], requested_minor: int, now: datetime
) -> Breach | None:
    """The first limit that `requested_minor` more would pass; reaching a limit exactly is allowed.

    Args:
        used_minor: What counts already in each limit's window; a limit without an entry has nothing used.
    """
    by_type = {limit.limit_type: limit for limit in limits}
    for limit_type in LimitType:
        limit = by_type.get(limit_type)
        used = used_minor.get(limit_type, 0)
        if limit is not None and used + requested_minor > limit.amount_minor:
            return Breach(limit, used, requested_minor, window_start(limit_type, now))
    return None
