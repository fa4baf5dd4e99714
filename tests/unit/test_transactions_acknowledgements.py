"""What a bank says of our files, in its own words: found by expressions, and believed by name and sums alone."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from services.chassis.process.settings import ConfigurationError
from services.transactions.domain.ach import AchFile, FileStatus
from services.transactions.providers.ach_file.acknowledgements import (
    Acknowledgement,
    AcknowledgementConfig,
    NoAcknowledgement,
    list_names,
    read_acknowledgements,
)
from services.transactions.providers.ach_file.config import read_config
from tests.integration.ach_desk import ACKNOWLEDGED, COMPANY

MONDAY = datetime(2024, 12, 2, 20, 30, tzinfo=UTC)
FILE = AchFile(
    ach_file_id="achf_" + "0" * 26,
    created_on=date(2024, 12, 2),
    number=1,
    status=FileStatus.LEFT,
    entry_count=2,
    debit_minor=123_456,
    credit_minor=50_00,
    is_acknowledged=True,
    left_at=MONDAY,
    created_at=MONDAY,
    updated_at=MONDAY,
)
NAME = f"org-1-20241202-01-{FILE.ach_file_id}.ach"
BY_HEADER = replace(
    ACKNOWLEDGED,
    accepted=re.compile(r"(?P<date>\d+)(?P<modifier>[A-Z]) OK (?P<entries>\S+) (?P<debits>\S+) (?P<credits>\S+)"),
)


@pytest.mark.parametrize(("text", "reason"), [
    (f"FILE {NAME} ACCEPTED 2 1,234.56 50.00", None),
    (f"FILE {NAME} REJECTED 2 123456 5000 DUPLICATE  FILE\nBYE", "DUPLICATE FILE"),
    (f"FILE {NAME} REJECTED 2 $1,234.56 $50.00", "no reason"),
    (f"FILE {NAME} REJECTED 2 1234.56 50.00 ACCOUNT 000111222 INVALID", "ACCOUNT … INVALID"),
])  # fmt: skip
def test_what_a_bank_says_is_of_the_file_that_it_names_and_whose_sums_it_has(text: str, reason: str | None) -> None:
    [said] = read_acknowledgements(ACKNOWLEDGED, text.encode())
    assert (said.name in list_names(FILE), said.rejected_because) == (True, reason)
    assert said.name not in list_names(replace(FILE, ach_file_id="achf_" + "1" * 26))
    for other in ({"entry_count": 3}, {"debit_minor": 123_457}, {"credit_minor": 0}):
        assert said.name not in list_names(replace(FILE, **other))


def test_a_bank_that_knows_no_names_says_the_day_and_the_modifier_of_the_header() -> None:
    [said] = read_acknowledgements(BY_HEADER, b"20241202B OK 2 123456 5000")
    assert said == Acknowledgement("", "241202", 1, (2, 123_456, 50_00), None)
    assert said.name in list_names(FILE)
    assert said.name not in list_names(replace(FILE, number=0))
    assert said.name not in list_names(replace(FILE, created_on=date(2024, 12, 3)))


def test_one_file_of_the_bank_tells_of_many_of_ours_and_of_each_once() -> None:
    text = f"FILE {NAME} ACCEPTED 2 1 1\nFILE {NAME} ACCEPTED 2 1 1\nFILE {NAME} REJECTED 2 1 1 WHY"
    assert [each.rejected_because for each in read_acknowledgements(ACKNOWLEDGED, text.encode())] == [None, "WHY"]


@pytest.mark.parametrize("text", [
    b"",
    b"ALL IS WELL",
    f"FILE {NAME} ACCEPTED two 1 1".encode(),
    f"FILE {NAME} ACCEPTED 2 {'1' * 5000} 1".encode(),
    f"FILE {NAME} REJECTED {'9' * 16} 1 1".encode(),
    b"FILE somebody-elses.ach ACCEPTED 2 1 1",
    b"\xff\xfe\x00",
])  # fmt: skip
def test_what_says_nothing_of_a_file_of_ours_is_no_acknowledgement(text: bytes) -> None:
    with pytest.raises(NoAcknowledgement):
        read_acknowledgements(ACKNOWLEDGED, text)


@pytest.mark.parametrize(("changes", "wrong"), [
    ({}, None),
    ({"accepted": "FILE (?P<file>.*) OK"}, "acknowledgements.accepted must have the groups"),
    ({"rejected": "("}, "acknowledgements.rejected"),
    ({"wait_minutes": 0}, "wait for a minute"),
    ({"names": ""}, "must name its files"),
    ({"password": "x"}, "password"),
])  # fmt: skip
def test_a_configuration_that_finds_nothing_keeps_the_service_from_starting(
    tmp_path: Path, changes: dict[str, Any], wrong: str | None
) -> None:
    words = {"names": "*.ack", "accepted": ACKNOWLEDGED.accepted.pattern, "rejected": ACKNOWLEDGED.rejected.pattern}
    whole = {"outbound": str(tmp_path), "inbound": str(tmp_path), "cut_offs": ["20:30"]}
    file = tmp_path / "ach.json"
    file.write_text(json.dumps(whole | {"all_organizations": asdict(COMPANY), "acknowledgements": words | changes}))
    if wrong is None:
        assert read_config(file).acknowledgements == AcknowledgementConfig(
            **words
            | {  # type: ignore[arg-type]
                "accepted": ACKNOWLEDGED.accepted,
                "rejected": ACKNOWLEDGED.rejected,
            }
        )
        return
    with pytest.raises(ConfigurationError, match=wrong):
        read_config(file)
