"""When files of the ACH network leave and settle, and in whose name."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import date, datetime
from datetime import time as time_of_day

import pytest

from services.chassis.process.settings import ConfigurationError
from services.transactions.domain.ach import find_effective_day, find_last_cut_off
from services.transactions.providers.ach_file.config import read_config
from services.transactions.providers.ach_file.nacha import Company

COMPANY = Company("091000019", "First Custodian", "1234567890", "RealCo", "09100001", "RealCo Escrow", "1234567890")


@pytest.mark.parametrize(
    ("now", "before"),
    [
        ("2024-12-02T14:59Z", "2024-11-29T20:30Z"),  # a Monday: the last one was on Friday
        ("2024-12-02T20:30Z", "2024-12-02T20:30Z"),
        ("2024-12-03T14:59Z", "2024-12-02T20:30Z"),
        ("2024-12-03T15:00Z", "2024-12-03T15:00Z"),
        ("2024-12-25T23:00Z", "2024-12-24T20:30Z"),  # a holiday
        ("2024-12-29T23:00Z", "2024-12-27T20:30Z"),  # a Sunday
    ],
)
def test_files_leave_on_banking_days_at_each_cut_off(now: str, before: str) -> None:
    cut_offs = [time_of_day(15), time_of_day(20, 30)]
    found = find_last_cut_off(cut_offs, datetime.fromisoformat(now))
    assert found == datetime.fromisoformat(before)
    assert find_effective_day(date(2024, 12, 24)) == date(2024, 12, 26)


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"destination": "9100"}, "destination must be the nine digits"),
        ({"bank": "091000019"}, "bank must be the first eight digits"),
        ({"origin": "12"}, "origin and company_id must have ten characters"),
        ({"company_name": " "}, "company_name must not be empty"),
        ({"debit_class": "TEL"}, "debit_class"),
        ({"debit_class": "CCD"}, "debit_class"),  # of a company: its account says so
        ({"password": "x"}, "password"),
        ({"cut_offs": []}, "cut_offs must be times"),
        ({"outbound": "nowhere"}, "nowhere is no folder"),
        ({"all_organizations": None}, "must say who sends"),
    ],
)
def test_a_configuration_that_no_bank_would_take_keeps_the_service_from_starting(tmp_path, changes, wrong) -> None:
    company = asdict(COMPANY)
    whole = {"outbound": str(tmp_path), "inbound": str(tmp_path), "cut_offs": ["20:30"]}
    file = tmp_path / "ach.json"
    file.write_text(json.dumps(whole | {"all_organizations": company}))
    assert read_config(file).find_company("org-1") == COMPANY
    of_whole = {name: value for name, value in changes.items() if name in (*whole, "all_organizations")}
    of_company = {name: value for name, value in changes.items() if name not in of_whole}
    file.write_text(json.dumps(whole | {"all_organizations": company | of_company} | of_whole))
    with pytest.raises(ConfigurationError, match=wrong):
        read_config(file)
