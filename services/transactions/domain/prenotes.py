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
from services.chassis.values.failure import Failure
from services.transactions.domain.ach import AchEntry, AchFile, EntryStatus, FileStatus, PrenoteEntry, find_settlement
from services.transactions.domain.returns import NETWORK_CODE, Action, find_return_code

DESCRIPTION: Final = "PRENOTE"
_DAYS: Final = 3
# What a bank sends back for another reason than the account: it is asked once more, and no more.
_OF_NO_ACCOUNT: Final = frozenset({Action.AGREED, Action.INCIDENT})

Sent = tuple[AchEntry, AchFile | None]  # an entry, and the file that it was put into


class Standing(Enum):
    """What is known of an account, of entries that go one way."""

    KNOWN = auto()  # an entry has reached it, and did not come back
    ASKED = auto()  # a prenote is on its way, or was so short a time ago that it may still come back
    REFUSED = auto()  # its bank sent the prenote back
    UNKNOWN = auto()


class Judgement(NamedTuple):
    standing: Standing
    return_code: str = ""


def judge_account(earlier: Iterable[Sent], before: datetime, confirmed_at: datetime | None) -> Judgement:
    """
    Args:
        earlier: All entries of the account that went the same way, or wait to.
        before: The cut-off for which it is asked: what waits leaves at one.
        confirmed_at: When persons confirmed the account last, who knew what had come back by then.
    """
    seen = [each for each in earlier if _was_seen(*each, confirmed_at)]
    prenotes = [entry for entry, _ in seen if isinstance(entry, PrenoteEntry)]
    asked = sorted(prenotes, key=lambda each: each.created_at)
    back = [each for each in asked if each.status is EntryStatus.RETURNED]
    if back and back[-1] is asked[-1] and (len(back) > 1 or not _is_of_no_account(back[-1])):
        return Judgement(Standing.REFUSED, back[-1].return_code or "")
    found = [(entry, file) for entry, file in seen if not _is_of_no_account(entry)]
    if any(_has_stayed(*each, before) for each in found):
        return Judgement(Standing.KNOWN)
    return Judgement(Standing.ASKED if any(isinstance(entry, PrenoteEntry) for entry, _ in found) else Standing.UNKNOWN)


def build_failure(return_code: str) -> Failure:
    """Why nothing moves to an account, or from it, whose bank sent a prenote back."""
    message = f"Its bank sent a prenote back ({return_code}): {find_return_code(return_code).name}."
    return Failure("INVALID_PAYMENT_DATA", message, retryable=False, metadata={NETWORK_CODE: return_code})


def _was_seen(entry: AchEntry, file: AchFile | None, confirmed_at: datetime | None) -> bool:
    """Whether the bank of an account saw it, or will, and what the bank said is not over."""
    if entry.status is EntryStatus.RETURNED:
        return confirmed_at is None or entry.updated_at >= confirmed_at
    is_rejected = file is not None and file.status is FileStatus.REJECTED
    return not is_rejected and entry.status is not EntryStatus.WITHDRAWN


def _is_of_no_account(entry: AchEntry) -> bool:
    return entry.status is EntryStatus.RETURNED and find_return_code(entry.return_code or "").action in _OF_NO_ACCOUNT


def _has_stayed(entry: AchEntry, file: AchFile | None, before: datetime) -> bool:
    if entry.status is not EntryStatus.SENT or file is None:
        return False
    settled_at = find_settlement(entry, file)
    return settled_at is not None and before.date() >= add_banking_days(settled_at.date(), _DAYS)
