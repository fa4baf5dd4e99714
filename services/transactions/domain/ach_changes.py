"""What a bank asks us to correct of an account, as a notification of change spells it.

Source: Nacha Operating Rules, Subsection 3.9 and Appendix Five: corrected data stand at fixed places of 29 characters,
and the next entry has them, or the one after six banking days at the latest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import Final

from services.chassis.values.calendar import add_banking_days
from services.chassis.values.payment_numbers import has_aba_digit

_DAYS: Final = 6
_ROUTING, _ACCOUNT, _CODE = "routing_number", "account_number", "transaction_code"
_PLACES: Final[Mapping[str, Mapping[str, slice]]] = MappingProxyType(
    {
        "C01": {_ACCOUNT: slice(0, 17)},
        "C02": {_ROUTING: slice(0, 9)},
        "C03": {_ROUTING: slice(0, 9), _ACCOUNT: slice(12, 29)},
        "C05": {_CODE: slice(0, 2)},
        "C06": {_ACCOUNT: slice(0, 17), _CODE: slice(20, 22)},
        "C07": {_ROUTING: slice(0, 9), _ACCOUNT: slice(9, 26), _CODE: slice(26, 28)},
    }
)
_TYPES: Final = MappingProxyType({"2": "CHECKING", "3": "SAVINGS"})
_NUMBER: Final = re.compile("[0-9A-Za-z]{4,17}")


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be another one; None is to stay as it is."""

    routing_number: str | None = None
    account_number: str | None = None
    account_type: str | None = None

    def __repr__(self) -> str:
        return "Change()"  # it has an account number


def read_change(code: str, corrected: str) -> Change | None:
    """None where the code asks for nothing that we know to correct, or does not say as what: a person looks."""
    said = {name: corrected[place].strip() for name, place in _PLACES.get(code, {}).items()}
    if not said:
        return None
    number, routing, kind = said.get(_ACCOUNT), said.get(_ROUTING), None
    if number is not None and not _NUMBER.fullmatch(number):
        return None
    if routing is not None and not has_aba_digit(routing):
        return None
    if _CODE in said:
        kind = _TYPES.get(said[_CODE][:1]) if re.fullmatch("[0-9]{2}", said[_CODE]) else None
        if kind is None:
            return None
    return Change(routing, number, kind)


def find_last_day(told_on: date) -> date:
    """By when a change that a bank told then is made."""
    return add_banking_days(told_on, _DAYS)
