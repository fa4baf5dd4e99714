"""What a bank sends back by files of the ACH network, made from what we sent it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

LINE = 94
_BACK = {"22": "21", "27": "26", "32": "31", "37": "36", "23": "21", "28": "26", "33": "31", "38": "36"}


class Sent(NamedTuple):
    """An entry as it stands in a file of ours."""

    line: str

    @property
    def code(self) -> str:
        return self.line[1:3]

    @property
    def routing_number(self) -> str:
        return self.line[3:12]

    @property
    def account_number(self) -> str:
        return self.line[12:29].strip()

    @property
    def amount_minor(self) -> int:
        return int(self.line[29:39])

    @property
    def trace(self) -> str:
        return self.line[79:94]


def list_sent(content: bytes) -> list[Sent]:
    return [Sent(line) for line in content.decode().splitlines() if line[0] == "6"]


def build_returns(back: Sequence[tuple[Sent, str]], created_on: date, corrected: str = "") -> bytes:
    """A file of returns, or of notifications of change: each an entry of ours and the code."""
    bank = "02100002"
    lines = [f"101 091000019 021000021{created_on:%y%m%d}0600A094101{'OUR BANK':23}{'THEIR BANK':23}{'':8}"]
    lines.append(
        f"5200{'REALCO ESCROW':16}{'':20}{'1234567890'}PPD{'RETURN':10}{'':6}{created_on:%y%m%d}{'':3}1{bank}0000001"
    )
    hashed = debits = credited = 0
    for number, (sent, code) in enumerate(back, start=1):
        amount = 0 if code[0] == "C" else sent.amount_minor
        entry = f"6{_BACK[sent.code]}{sent.line[3:29]}{amount:010d}{sent.line[39:78]}1{bank}{number:07d}"
        words = f"{corrected:29}{'':15}" if code[0] == "C" else f"{'':44}"
        kind = "98" if code[0] == "C" else "99"
        lines += [entry, f"7{kind}{code}{sent.trace}{'':6}{sent.routing_number[:8]}{words}{bank}{number:07d}"]
        hashed += int(sent.routing_number[:8])
        if sent.code in ("27", "37"):
            debits += amount
        else:
            credited += amount
    totals = f"{hashed % 10**10:010d}{debits:012d}{credited:012d}"
    lines.append(f"8200{2 * len(back):06d}{totals}{'1234567890'}{'':25}{bank}0000001")
    blocks = -(-(len(lines) + 1) // 10)
    lines.append(f"9{1:06d}{blocks:06d}{2 * len(back):08d}{totals}{'':39}")
    lines += ["9" * LINE] * (blocks * 10 - len(lines))
    assert all(len(line) == LINE for line in lines), [len(line) for line in lines]
    return ("\n".join(lines) + "\n").encode()


def change_line(content: bytes, number: int, start: int, text: str) -> bytes:
    """The file with other characters in a line, by its number from 1 and the column from 1."""
    lines = re.split("\n", content.decode())
    line = lines[number - 1]
    lines[number - 1] = line[: start - 1] + text + line[start - 1 + len(text) :]
    return "\n".join(lines).encode()
