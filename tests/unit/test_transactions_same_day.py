"""Same-day entries: through which window they leave, in summer and in winter, and what a bank takes."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import achkit
import pytest

from services.chassis.process.settings import ConfigurationError
from services.transactions.domain.same_day import (
    ENTRY_MINOR_MAX,
    OpenWindow,
    SameDay,
    Window,
    find_open_window,
    spell_descriptive_date,
)
from services.transactions.providers.ach_file.config import read_config
from services.transactions.providers.ach_file.nacha import Entry, write_file
from tests.integration.ach_desk import COMPANY

WINDOWS = [Window(time(9, 45), time(10, 15), time(13)), Window(time(14), time(14, 30), time(17))]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


@pytest.mark.parametrize(("now", "before", "leaves_by", "settles_at"), [
    ("2024-12-02T14:44Z", None, None, None),
    ("2024-12-02T14:45Z", "2024-12-02T14:45Z", "2024-12-02T15:15Z", "2024-12-02T18:00Z"),
    ("2024-12-02T15:14Z", "2024-12-02T14:45Z", "2024-12-02T15:15Z", "2024-12-02T18:00Z"),
    ("2024-12-02T15:15Z", None, None, None),  # too late for the bank
    ("2024-12-02T19:00Z", "2024-12-02T19:00Z", "2024-12-02T19:30Z", "2024-12-02T22:00Z"),
    ("2024-07-01T13:45Z", "2024-07-01T13:45Z", "2024-07-01T14:15Z", "2024-07-01T17:00Z"),  # in summer, an hour earlier
    ("2024-07-01T14:45Z", None, None, None),
    ("2024-12-25T14:50Z", None, None, None),  # a holiday
    ("2024-12-01T14:50Z", None, None, None),  # a Sunday
])  # fmt: skip
def test_a_window_is_open_from_its_cut_off_to_the_banks_deadline_by_the_time_of_new_york(
    now: str, before: str | None, leaves_by: str | None, settles_at: str | None
) -> None:
    found = find_open_window(WINDOWS, at(now))
    if before is None or leaves_by is None or settles_at is None:
        assert found is None
    else:
        assert found == OpenWindow(at(before), at(leaves_by), at(settles_at))


@pytest.mark.parametrize(("is_inbound", "amount_minor", "taken"), [
    (False, ENTRY_MINOR_MAX, True),
    (False, ENTRY_MINOR_MAX + 1, False),
    (True, 1, False),
])  # fmt: skip
def test_a_million_dollars_at_most_goes_and_only_which_way_is_wanted(
    is_inbound: bool,
    amount_minor: int,
    taken: bool,  # a row
) -> None:
    only_credits = SameDay(WINDOWS, debits=False)
    assert only_credits.takes(is_inbound=is_inbound, amount_minor=amount_minor) is taken


@pytest.mark.parametrize(("settles_at", "said"), [
    ("2024-12-02T18:00Z", "SD1300"),
    ("2024-07-01T21:00Z", "SD1700"),
    (None, ""),
])  # fmt: skip
def test_a_batch_says_when_it_is_to_settle_and_another_parser_takes_it(settles_at: str | None, said: str) -> None:
    descriptive_date = spell_descriptive_date(None if settles_at is None else at(settles_at))
    assert descriptive_date == said
    today = date(2024, 12, 2)
    heading = COMPANY.build_heading(
        "DISTRIBUTION", today, is_debit=False, is_company=False, descriptive_date=descriptive_date
    )
    entry = Entry(heading, False, "CHECKING", "021000021", "000111111108", 50_00, "REF", "Bob", 1)
    content = write_file(COMPANY, at("2024-12-02T14:45Z"), 0, [entry]).decode()
    assert achkit.validate(content) == {"ok": True, "errors": []}
    header = content.splitlines()[1]
    assert (header[63:69], header[69:75]) == (f"{said:6}", "241202")


@pytest.mark.parametrize(("changes", "wrong"), [
    ({}, None),
    ({"windows": []}, "must have a window"),
    ({"debits": False, "credits": False}, "must have a window, and take debits or credits"),
    ({"windows": [{"cut_off": "10:15", "deadline": "09:45", "settles": "13:00"}]}, "has its cut_off before"),
    ({"windows": [{"cut_off": "09:45", "deadline": "13:30", "settles": "13:00"}]}, "settles after it"),
    ({"windows": [{"cut_off": "09:45Z", "deadline": "10:15Z", "settles": "13:00Z"}]}, "without a zone"),
    ({"limit": 5}, "limit"),
])  # fmt: skip
def test_a_configuration_that_can_never_be_keeps_the_service_from_starting(
    tmp_path: Path, changes: dict[str, Any], wrong: str | None
) -> None:
    window = {"cut_off": "09:45", "deadline": "10:15", "settles": "13:00"}
    whole = {"outbound": str(tmp_path), "inbound": str(tmp_path), "cut_offs": ["20:30"]}
    file = tmp_path / "ach.json"
    said = {"windows": [window]} | changes
    file.write_text(json.dumps(whole | {"all_organizations": asdict(COMPANY), "same_day": said}))
    if wrong is None:
        assert read_config(file).same_day == SameDay(WINDOWS[:1])
        return
    with pytest.raises(ConfigurationError, match=wrong):
        read_config(file)
