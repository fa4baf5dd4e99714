"""Notifications of change: what each code asks for, and that nothing is guessed."""

from __future__ import annotations

from datetime import date

import pytest

from services.transactions.domain.ach_changes import Change, find_last_day, read_change

NUMBER, ROUTING = "000999888777", "021000021"


@pytest.mark.parametrize(("code", "corrected", "change"), [
    ("C01", f"{NUMBER:17}", Change(account_number=NUMBER)),
    ("C02", ROUTING, Change(routing_number=ROUTING)),
    ("C03", f"{ROUTING}   {NUMBER:17}", Change(routing_number=ROUTING, account_number=NUMBER)),
    ("C05", "37", Change(account_type="SAVINGS")),
    ("C05", "22", Change(account_type="CHECKING")),
    ("C06", f"{NUMBER:17}   37", Change(account_number=NUMBER, account_type="SAVINGS")),
    ("C07", f"{ROUTING}{NUMBER:17}32", Change(ROUTING, NUMBER, "SAVINGS")),
    ("C04", "ADA INVESTOR", None),  # names are nothing that we correct
    ("C09", "123", None),
    ("C01", "", None),
    ("C01", "12 34567", None),  # a blank within a number
    ("C02", "021000022", None),  # a wrong check digit
    ("C02", "02100002", None),
    ("C05", "42", None),  # a general ledger's
    ("C05", "2", None),
    ("C07", f"{ROUTING}{NUMBER:17}", None),
    ("C99", "", None),
])  # fmt: skip
def test_what_a_code_asks_for_stands_at_its_place_or_is_not_believed(
    code: str, corrected: str, change: Change | None
) -> None:
    assert read_change(code, f"{corrected:29}") == change


def test_what_is_asked_for_is_done_within_six_banking_days() -> None:
    assert find_last_day(date(2024, 12, 20)) == date(2024, 12, 31), "without the weekends and Christmas"


def test_no_number_is_in_what_a_log_would_say_of_it() -> None:
    assert NUMBER not in repr(read_change("C01", f"{NUMBER:29}"))
