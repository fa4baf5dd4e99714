"""Entries that settle on the day on which they leave: by which window, how much, and when that is too late.

The Federal Reserve's windows are times of New York, summer and winter; a bank has deadlines of its own before them.
Source: Nacha Operating Rules, Section 8 (Same Day Entry: a million dollars at most); FedACH Processing Schedule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from services.chassis.values.calendar import is_banking_day

ENTRY_MINOR_MAX: Final = 1_000_000_00
_ZONE: Final = "America/New_York"


@dataclass(frozen=True, slots=True)
class Window:
    """Times of a banking day in New York.

    Args:
        cut_off: What was ordered before it leaves then.
        deadline: Of the bank: what leaves later settles on the next banking day.
        settles: When what left in time settles.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012  # pydantic reads it from the class

    cut_off: time
    deadline: time
    settles: time


@dataclass(frozen=True, slots=True, kw_only=True)
class SameDayWays:
    """
    Args:
        debits: Whether what is drawn is to settle on the same day, and `credits` whether what is paid is.
    """

    debits: bool = True
    credits: bool = True

    def takes(self, *, is_inbound: bool, amount_minor: int) -> bool:
        return (self.debits if is_inbound else self.credits) and amount_minor <= ENTRY_MINOR_MAX


NOT_SAME_DAY: Final = SameDayWays(debits=False, credits=False)


@dataclass(frozen=True, slots=True)
class SameDay(SameDayWays):
    """
    Args:
        windows: By which they leave: whoever makes files says when.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012  # pydantic reads it from the class

    windows: Sequence[Window]

    def find_fault(self) -> str | None:
        """What of it can never be, if anything is."""
        if not self.windows or not (self.debits or self.credits):
            return "same_day must have a window, and take debits or credits"
        times = [each for window in self.windows for each in (window.cut_off, window.deadline, window.settles)]
        if any(each.tzinfo is not None for each in times):
            return "same_day has times of New York, without a zone"
        if any(not window.cut_off < window.deadline < window.settles for window in self.windows):
            return "a window of same_day has its cut_off before its deadline, and settles after it"
        try:
            read_zone()
        except ZoneInfoNotFoundError:
            return f"same_day needs the time zones of this machine, and it knows no {_ZONE}"
        return None


@dataclass(frozen=True, slots=True)
class OpenWindow:
    """A window through which a file may leave now.

    Args:
        before: What was ordered before it leaves.
        leaves_by: When that is too late.
    """

    before: datetime
    leaves_by: datetime
    settles_at: datetime


@cache
def read_zone() -> ZoneInfo:
    """Raises: ZoneInfoNotFoundError."""
    return ZoneInfo(_ZONE)


def find_open_window(windows: Sequence[Window], now: datetime) -> OpenWindow | None:
    """The last one whose cut-off is over and whose deadline is not; None where there is none."""
    there = now.astimezone(read_zone())
    if not is_banking_day(there.date()):
        return None
    found = [each for each in windows if each.cut_off <= there.time() < each.deadline]
    if not found:
        return None
    window = max(found, key=lambda each: each.cut_off)
    times = (window.cut_off, window.deadline, window.settles)
    before, leaves_by, settles_at = (datetime.combine(there, each, read_zone()).astimezone(UTC) for each in times)
    return OpenWindow(before, leaves_by, settles_at)


def spell_descriptive_date(settles_at: datetime | None) -> str:
    """What the company's descriptive date says of a same-day entry: `SD1300`; empty of another one."""
    return "" if settles_at is None else f"SD{settles_at.astimezone(read_zone()):%H%M}"
