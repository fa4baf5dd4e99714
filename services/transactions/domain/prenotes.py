"""Prenotes: an entry of no amount asks a bank whether an account is there, before the first entry that moves money.

Source: Nacha Operating Rules, Subsection 2.6: entries may follow on the third banking day after the prenote settled, if
it did not come back; after a notification of change, once that is made.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import Enum, auto
from typing import Final, NamedTuple

from services.chassis.values.calendar import add_banking_days
from services.transactions.domain.ach import AchEntry, AchFile, EntryStatus, FileStatus, find_settlement

DESCRIPTION: Final = "PRENOTE"
_DAYS: Final = 3

Sent = tuple[AchEntry, AchFile | None]  # an entry, and the file that it was put into


class Standing(Enum):
    """What is known of an account, of entries that go one way."""

    KNOWN = auto()  # an entry has reached it, and did not come back
    ASKED = auto()  # a prenote is on its way, or not long enough ago
    REFUSED = auto()  # its bank sent the prenote back
    UNKNOWN = auto()


class Judgement(NamedTuple):
    standing: Standing
    return_code: str = ""


def judge_account(earlier: Iterable[Sent], now: datetime) -> Judgement:
    """
    Args:
        earlier: All entries of the account that went the same way, or wait to.
    """
    found = [each for each in earlier if not _is_nothing(*each)]
    prenotes = sorted((each for each in found if each[0].is_prenote), key=lambda each: each[0].created_at)
    if prenotes and prenotes[-1][0].status is EntryStatus.RETURNED:
        return Judgement(Standing.REFUSED, prenotes[-1][0].return_code or "")
    if any(_has_stayed(*each, now) for each in found):
        return Judgement(Standing.KNOWN)
    return Judgement(Standing.ASKED if prenotes else Standing.UNKNOWN)


def _is_nothing(entry: AchEntry, file: AchFile | None) -> bool:
    """Whether no bank of an account ever saw it."""
    is_rejected = file is not None and file.status is FileStatus.REJECTED
    return is_rejected or entry.status is EntryStatus.WITHDRAWN


def _has_stayed(entry: AchEntry, file: AchFile | None, now: datetime) -> bool:
    if entry.status is not EntryStatus.SENT or file is None:
        return False
    settled_at = find_settlement(entry, file)
    return settled_at is not None and now.date() >= add_banking_days(settled_at.date(), _DAYS)
