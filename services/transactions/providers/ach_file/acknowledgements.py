"""What a bank says of the files that it fetched: accepted, or rejected whole.

No rule of the network says how it says so, and each bank has words of its own: regular expressions of the
configuration find them. What is found is believed only of the file that it names, and that has its sums. All here is
text: no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Final

from services.transactions.domain.ach import AchFile
from services.transactions.providers.ach_file.nacha import MODIFIERS

_SUMS: Final = ("entries", "debits", "credits")
_ID: Final = re.compile("achf_[0-9a-z]{26}")
# A part of an account number may stand in a bank's words.
_NUMBER: Final = re.compile(r"[0-9]{4,}")
_REASON_CHARACTERS_MAX: Final = 200
# A header of the network has twelve digits for a sum.
_SUM_DIGITS_MAX: Final = 15


# Of a file, and its sums: how many entries, and the cents of its debits and of its credits.
Name = tuple[str | tuple[str, int], tuple[int, int, int]]


@dataclass(frozen=True, slots=True)
class AcknowledgementConfig:
    """
    Args:
        names: Which files of the inbound folder acknowledge ours: `*.ack`.
        accepted: Finds what says that a file is taken. Its groups are `file`, with our name of it, or `date` and
            `modifier`, as they stand in its header; and `entries`, `debits` and `credits`.
        rejected: The same of one that is not; it may have a group `reason`.
        wait_minutes: After which a file that left, and that the bank says nothing of, is told.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012  # pydantic reads it from the class

    names: str
    accepted: re.Pattern[str]
    rejected: re.Pattern[str]
    wait_minutes: int = 120

    @property
    def wait(self) -> timedelta:
        return timedelta(minutes=self.wait_minutes)

    def is_one(self, name: str) -> bool:
        return fnmatchcase(name, self.names)

    def find_fault(self) -> str | None:
        for verdict, pattern in (("accepted", self.accepted), ("rejected", self.rejected)):
            groups = set(pattern.groupindex)
            if not groups.issuperset(_SUMS) or not ("file" in groups or {"date", "modifier"} <= groups):
                words = "entries, debits, credits, and file or date and modifier"
                return f"acknowledgements.{verdict} must have the groups {words}"
        if not self.names or self.wait_minutes < 1:
            return "acknowledgements must name its files, and wait for a minute at least"
        return None


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What a bank says of one file.

    Args:
        file_id: Ours, where it says our name; else it is found by day and number.
        day: Six digits: year, month, day.
        rejected_because: In the bank's words, without numbers; None where it is accepted.
    """

    file_id: str
    day: str
    number: int
    sums: tuple[int, int, int]
    rejected_because: str | None

    @property
    def name(self) -> Name:
        """By which it is found among `list_names` of our files."""
        return (self.file_id or (self.day, self.number), self.sums)


def list_names(file: AchFile) -> tuple[Name, Name]:
    """What a bank may call a file of ours: by its id, or by the day and the number of its header, with its sums."""
    sums = file.entry_count, file.debit_minor, file.credit_minor
    return (file.ach_file_id, sums), ((f"{file.created_on:%y%m%d}", file.number), sums)


class NoAcknowledgement(ValueError):
    """The text says nothing that the configuration finds."""


def read_acknowledgements(config: AcknowledgementConfig, data: bytes) -> list[Acknowledgement]:
    """What the bank says of each file, once. Raises: NoAcknowledgement."""
    text = data.decode("utf-8", "replace")
    found = list(dict.fromkeys([*_find(config.accepted, text, None), *_find(config.rejected, text, "no reason")]))
    if not found:
        raise NoAcknowledgement("it says of no file that it is accepted or rejected")
    return found


def _find(pattern: re.Pattern[str], text: str, otherwise: str | None) -> Iterator[Acknowledgement]:
    """Raises: NoAcknowledgement."""
    for match in pattern.finditer(text):
        said = {name: (value or "").strip() for name, value in match.groupdict().items()}
        named, modifier = _ID.search(said.get("file", "")), said.get("modifier", "")
        if named is None and (len(modifier) != 1 or modifier not in MODIFIERS):
            raise NoAcknowledgement("it names no file of ours")
        reason = _NUMBER.sub("…", " ".join(said.get("reason", "").split()))[:_REASON_CHARACTERS_MAX]
        entries, debits, credited = (_read_number(said[name]) for name in _SUMS)
        yield Acknowledgement(
            file_id=named[0] if named else "",
            day=said.get("date", "")[-6:],
            number=0 if named else MODIFIERS.index(modifier),
            sums=(entries, debits, credited),
            rejected_because=None if otherwise is None else reason or otherwise,
        )


def _read_number(text: str) -> int:
    """Of entries, or of cents: `1,234.56` has 123456. Raises: NoAcknowledgement."""
    digits = re.sub("[,.$ ]", "", text)
    if not (digits.isascii() and digits.isdigit()) or len(digits) > _SUM_DIGITS_MAX:
        raise NoAcknowledgement("a sum of it is no number")
    return int(digits)
