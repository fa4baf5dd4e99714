"""The files of the ACH network: ours are written, and those of our bank read, to the character.

A file is lines of 94 characters: a header, batches of entries, each batch with its control, the file's control, and
lines of nines until their number is a multiple of ten. Source: Nacha Operating Rules, Appendix Three (formats),
Subsection 3.1.2 (returns) and 3.2 (notifications of change). All here is text and numbers: no I/O.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import groupby
from types import MappingProxyType
from typing import Final, Literal

LINE: Final = 94
BLOCK: Final = 10
ENTRY_MINOR_MAX: Final = 10**10 - 1
TOTAL_MINOR_MAX: Final = 10**12 - 1  # of all debits of a file, and of all credits
TRACES_MAX: Final = 10**7 - 1
FILES_A_DAY_MAX: Final = 36
_HASH_DIGITS: Final = 10**10
MODIFIERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_MIXED, _CREDITS, _DEBITS = "200", "220", "225"

# (account type, whether money comes in) -> transaction code, of an entry and of what comes back of it.
_CODES: Mapping[tuple[str, bool], str] = MappingProxyType(
    {("CHECKING", False): "22", ("CHECKING", True): "27", ("SAVINGS", False): "32", ("SAVINGS", True): "37"}
)
# Of a prenote: an entry of no amount, which asks the bank whether the account is there.
_PRENOTE_CODES: Mapping[tuple[str, bool], str] = MappingProxyType(
    {("CHECKING", False): "23", ("CHECKING", True): "28", ("SAVINGS", False): "33", ("SAVINGS", True): "38"}
)
_COMING_BACK: Mapping[str, bool] = MappingProxyType({"21": False, "31": False, "26": True, "36": True})


class NotNacha(ValueError):
    """The bytes are no file of the network, or do not add up: nothing in it is believed."""


@dataclass(frozen=True, slots=True)
class Company:
    """Who sends entries, as its agreement with the originating bank says.

    Args:
        destination: The routing number of the bank that takes the files.
        origin: Ten characters that the bank knows the sender by.
        bank: The first eight digits of the originating bank's routing number: what traces begin with.
        debit_class: How persons authorize debits: WEB on the internet, PPD on paper. Entries of companies are CCD.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012  # pydantic reads it from the class

    destination: str
    destination_name: str
    origin: str
    origin_name: str
    bank: str
    company_name: str
    company_id: str
    debit_class: Literal["WEB", "PPD"] = "WEB"

    def build_heading(
        self,
        description: str,
        effective_on: date,
        *,
        is_debit: bool,
        is_company: bool,
        descriptive_date: str = "",
    ) -> Heading:
        """What an entry of this description and day shares with others of its kind.

        Args:
            is_debit: Whether it is one, or takes one back.
        """
        entry_class = "CCD" if is_company else self.debit_class if is_debit else "PPD"
        return Heading(self.company_name, self.company_id, entry_class, description, effective_on, descriptive_date)


@dataclass(frozen=True, slots=True, order=True)
class Heading:
    """What all entries of a batch share.

    Args:
        entry_class: WEB, PPD or CCD.
        description: What the payer reads on the statement, ten characters.
        descriptive_date: Of entries that settle on the same day, when: `SD1300`.
    """

    company_name: str
    company_id: str
    entry_class: str
    description: str
    effective_on: date
    descriptive_date: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One debit or credit.

    Args:
        trace_no: Our number of it, which makes its trace with the bank's.
        reference: What the receiver's bank shows beside it, fifteen characters.
    """

    heading: Heading
    is_inbound: bool
    account_type: str
    routing_number: str
    account_number: str
    amount_minor: int
    reference: str
    name: str
    trace_no: int

    def __repr__(self) -> str:
        return f"Entry(trace_no={self.trace_no!r})"  # the rest is personal data

    @property
    def code(self) -> str:
        """The transaction code: one without an amount is a prenote."""
        codes = _CODES if self.amount_minor else _PRENOTE_CODES
        return codes[self.account_type, self.is_inbound]


@dataclass(frozen=True, slots=True)
class Returned:
    """An entry of ours that comes back, or that a bank asks us to correct.

    Args:
        code: R01 and so on; of what is to be corrected C01 and so on.
        trace: That of our entry: bank and number.
        corrected: Of what is to be corrected, how: 29 characters.
    """

    code: str
    trace: str
    amount_minor: int
    is_inbound: bool
    corrected: str = field(default="", repr=False)  # it may have an account number

    @property
    def is_change(self) -> bool:
        return self.code.startswith("C")


@dataclass(frozen=True, slots=True)
class ReturnFile:
    """What a bank sends back on a day."""

    created_on: date
    returned: Sequence[Returned]


def spell_trace(bank: str, number: int) -> str:
    return f"{bank}{number:07d}"


def read_trace_no(trace: str) -> int:
    """Our number of the entry, of a trace that `spell_trace` made."""
    return int(trace[8:])


def write_file(company: Company, created_at: datetime, number: int, entries: Sequence[Entry]) -> bytes:
    """
    Args:
        created_at: In UTC: its day is the one of the header.
        number: Of the files of the day, from 0.
        entries: At least one; those of one heading become one batch, in the order of their traces.
    """
    lines = [_write_header(company, created_at, MODIFIERS[number])]
    batches = [list(batch) for _, batch in groupby(sorted(entries, key=_order), key=lambda each: each.heading)]
    for batch_number, batch in enumerate(batches, start=1):
        lines += _write_batch(company.bank, batch_number, batch)
    blocks = -(-(len(lines) + 1) // BLOCK)
    debits, credited = _sum(entries)
    lines.append(
        f"9{len(batches):06d}{blocks:06d}{len(entries):08d}{_hash(entries):010d}{debits:012d}{credited:012d}{'':39}"
    )
    lines += ["9" * LINE] * (blocks * BLOCK - len(lines))
    return ("\n".join(lines) + "\n").encode("ascii")


def _order(entry: Entry) -> tuple[Heading, int]:
    return entry.heading, entry.trace_no


def _write_header(company: Company, created_at: datetime, modifier: str) -> str:
    return (
        f"101 {company.destination:9}{_text(company.origin, 10):>10}{created_at:%y%m%d%H%M}{modifier}094101"
        f"{_text(company.destination_name, 23)}{_text(company.origin_name, 23)}{'':8}"
    )


def _write_batch(bank: str, number: int, entries: Sequence[Entry]) -> Iterator[str]:
    heading = entries[0].heading
    ways = {each.is_inbound for each in entries}
    service = _MIXED if len(ways) == 2 else _DEBITS if True in ways else _CREDITS
    yield (
        f"5{service}{_text(heading.company_name, 16)}{'':20}{_text(heading.company_id, 10)}{heading.entry_class:3}"
        f"{_text(heading.description, 10)}{heading.descriptive_date:6}{heading.effective_on:%y%m%d}{'':3}1{bank}"
        f"{number:07d}"
    )
    for each in entries:
        # Of a debit that was authorized on the internet: once, and not until it is revoked.
        kind = "S " if heading.entry_class == "WEB" else "  "
        yield (
            f"6{each.code}{each.routing_number}{each.account_number:17}"
            f"{each.amount_minor:010d}{_text(each.reference, 15)}{_text(each.name, 22)}{kind}0"
            f"{spell_trace(bank, each.trace_no)}"
        )
    debits, credited = _sum(entries)
    yield (
        f"8{service}{len(entries):06d}{_hash(entries):010d}{debits:012d}{credited:012d}{_text(heading.company_id, 10)}"
        f"{'':25}{bank}{number:07d}"
    )


def _sum(entries: Sequence[Entry]) -> tuple[int, int]:
    """Debits and credits."""
    debits = sum(each.amount_minor for each in entries if each.is_inbound)
    return debits, sum(each.amount_minor for each in entries) - debits


def _hash(entries: Sequence[Entry]) -> int:
    return sum(int(each.routing_number[:8]) for each in entries) % _HASH_DIGITS


def _text(value: str, width: int) -> str:
    """In the letters of the network, left in its field; what has none there is left out."""
    plain = unicodedata.normalize("NFKD", value).encode("ascii", "ignore").decode().upper()
    return re.sub(r"[^ -~]", "", plain)[:width].ljust(width)


# --- what a bank sends ---


def read_returns(data: bytes) -> ReturnFile:
    """Raises: NotNacha."""
    lines = _split(data)
    header = lines[0]
    if header[0] != "1" or header[34:40] != "094101":
        raise NotNacha("line 1 is no file header")
    created_on = _read_date(header[23:29], 1)
    returned: list[Returned] = []
    totals = _Totals()
    at = 1
    while at < len(lines) and lines[at][0] == "5":
        at = _read_batch(lines, at, returned, totals)
    _check_file_control(lines, at, totals)
    return ReturnFile(created_on, returned)


@dataclass(slots=True)
class _Totals:
    """What the controls of a file or a batch say, counted."""

    batches: int = 0
    lines: int = 0
    hash: int = 0
    debits: int = 0
    credits: int = 0

    def add(self, other: _Totals) -> None:
        self.batches += 1
        self.lines += other.lines
        self.hash += other.hash
        self.debits += other.debits
        self.credits += other.credits


def _split(data: bytes) -> list[str]:
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        raise NotNacha("it is no ASCII") from None
    lines = text.replace("\r\n", "\n").rstrip("\n").split("\n")
    if len(lines) == 1 and len(text) > LINE and len(text) % LINE == 0:  # some banks send no line ends
        lines = [text[start : start + LINE] for start in range(0, len(text), LINE)]
    for number, line in enumerate(lines, start=1):
        if len(line) != LINE:
            raise NotNacha(f"line {number} has {len(line)} characters, not {LINE}")
    if len(lines) % BLOCK:
        raise NotNacha(f"it has {len(lines)} lines, which is no multiple of {BLOCK}")
    return lines


def _read_batch(lines: Sequence[str], at: int, returned: list[Returned], totals: _Totals) -> int:
    """The number of the line behind it."""
    header, counted = lines[at], _Totals()
    at += 1
    while at < len(lines) and lines[at][0] == "6":
        entry = lines[at]
        addenda = lines[at + 1] if at + 1 < len(lines) else ""
        found = _read_entry(entry, addenda, at + 1)
        returned.append(found)
        counted.lines += 2
        counted.hash += int(_digits(entry[3:11], at + 1))
        if found.is_inbound:
            counted.debits += found.amount_minor
        else:
            counted.credits += found.amount_minor
        at += 2
    if at >= len(lines) or lines[at][0] != "8":
        raise NotNacha(f"line {at + 1} is no entry and no batch control")
    control = lines[at]
    said = (control[4:10], control[10:20], control[20:32], control[32:44])
    _compare("batch control", at + 1, said, (counted.lines, counted.hash, counted.debits, counted.credits))
    if control[79:94] != header[79:94]:
        raise NotNacha(f"line {at + 1}: the control is of another batch")
    totals.add(counted)
    return at + 1


def _read_entry(entry: str, addenda: str, line: int) -> Returned:
    code = entry[1:3]
    if code not in _COMING_BACK or entry[78] != "1" or addenda[:3] not in ("798", "799"):
        raise NotNacha(f"line {line}: it is no return and no notification of change")
    reason = addenda[3:6]
    if not re.fullmatch("R[0-9]{2}" if addenda[1:3] == "99" else "C[0-9]{2}", reason):
        raise NotNacha(f"line {line + 1}: {reason!r} is no code")
    return Returned(
        code=reason,
        trace=_digits(addenda[6:21], line + 1),
        amount_minor=int(_digits(entry[29:39], line)),
        is_inbound=_COMING_BACK[code],
        corrected=addenda[35:64] if reason[0] == "C" else "",
    )


def _check_file_control(lines: Sequence[str], at: int, totals: _Totals) -> None:
    if at >= len(lines) or lines[at][0] != "9" or lines[at] == "9" * LINE:
        raise NotNacha(f"line {at + 1} is no batch and no file control")
    control = lines[at]
    blocks = len(lines) // BLOCK
    said = (control[1:7], control[7:13], control[13:21], control[21:31], control[31:43], control[43:55])
    counted = (totals.batches, blocks, totals.lines, totals.hash, totals.debits, totals.credits)
    _compare("file control", at + 1, said, counted)
    if any(line != "9" * LINE for line in lines[at + 1 :]):
        raise NotNacha(f"something follows line {at + 1}, the file control")


def _compare(what: str, line: int, said: Sequence[str], counted: Sequence[int]) -> None:
    for text, number in zip(said, counted, strict=True):
        if int(_digits(text, line)) != number % 10 ** len(text):
            raise NotNacha(f"line {line}: the {what} says {text}, and it is {number}")


def _digits(text: str, line: int) -> str:
    if not (text.isascii() and text.isdigit()):
        raise NotNacha(f"line {line}: {text!r} is no number")
    return text


def _read_date(text: str, line: int) -> date:
    try:
        return datetime.strptime(_digits(text, line), "%y%m%d").date()  # noqa: DTZ007  # a day has no zone
    except ValueError:
        raise NotNacha(f"line {line}: {text!r} is no day") from None
