"""The page about takeovers names everybody who can be taken over, and for each a test that there is."""

from __future__ import annotations

import re
from pathlib import Path

from realco.type.v1.access_pb2 import Access

from deploy.topology import NATS_USER_NAMES, SERVICE_NAMES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "takeovers.md").read_text("utf-8")
# Each line: who | tries | what stops it | who is told | shown by.
SECTIONS = {
    title: re.findall(r"^\| (?!who \|)(.+?) \| .+ \| .+ \| (.+?) \| (.+?) \|$", text, re.MULTILINE)
    for title, text in re.findall(r"^## (.+?)\n(.+?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
}
PEOPLE = {Access.Role.Name(number).lower() for number in Access.Role.values() if number}
_ROLES = {f"app and worker role of {name}" for name in SERVICE_NAMES}
TAKEN_OVER = {
    "A person": {*PEOPLE, "two accounts of one person", "owner of a payout account"},
    "A key": {*(f"key of {name}" for name in SERVICE_NAMES), "API key", "secret of webhooks"},
    "A folder of files for a bank": {"outbound folder", "inbound folder"},
    "A user of NATS": {*NATS_USER_NAMES},
    "A login of PostgreSQL": {*_ROLES, "owner of the tables"},
    "A session of a service in PostgreSQL: the login and what it proves": _ROLES,
}


def test_everybody_who_can_be_taken_over_is_on_the_page():
    missing = {
        f"{title}: {who}"
        for title, wanted in TAKEN_OVER.items()
        for who in wanted
        if not any(who in line for line, _, _ in SECTIONS[title])
    }
    assert missing == set()


def test_the_lines_of_a_section_are_one_table():
    for title in TAKEN_OVER:
        [text] = re.findall(rf"^## {title}\n(.+?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
        tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
        assert len(tables) == 1, title


def test_each_line_names_tests_that_there_are_and_who_is_told():
    code = "\n".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    there = set(re.findall(r"^(?:async )?def (test_\w+)", code, re.MULTILINE))
    lines = [line for title in TAKEN_OVER for line in SECTIONS[title]]
    named = [set(re.findall(r"`(test_\w+)`", shown)) for _, _, shown in lines]
    assert set().union(*named) - there == set()
    assert [who for (who, told, _), tests in zip(lines, named, strict=True) if not (told and tests)] == []
