"""docs/rules.md explains each rule that a comment or a page cites by its number, and nothing that is not there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "rules.md"
# A number in brackets, or after "rule" and other numbers: "(c25)", "(reliability rules c12, c16)".
CITED = re.compile(r"(?:\(|\brules? |, |, and )(c\d{1,2})\b(?=[),.;:]| and )")


def cited() -> dict[str, str]:
    """Each rule's number, with a file that cites it."""
    listed = subprocess.run(
        ["git", "ls-files", "*.py", "*.proto", "*.md", "*.sql"], cwd=ROOT, capture_output=True, check=True
    )
    found: dict[str, str] = {}
    for name in listed.stdout.decode().split():
        if (ROOT / name) not in (PAGE, Path(__file__)) and (ROOT / name).exists():
            text = (ROOT / name).read_text(encoding="utf-8")
            found |= dict.fromkeys(CITED.findall(text), name)
    return found


def explained() -> dict[str, list[str]]:
    """Each rule's number, and the files that the page says keep it."""
    rows = re.findall(r"^\| (c\d+) \| .+ \| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.M)
    return {number: re.findall(r"`([^`]+)`", files) for number, files in rows}


def test_every_rule_that_is_cited_is_explained() -> None:
    assert {number: file for number, file in cited().items() if number not in explained()} == {}


def test_the_page_is_in_order_and_names_each_rule_once() -> None:
    numbers = re.findall(r"^\| c(\d+) \|", PAGE.read_text(encoding="utf-8"), re.M)
    assert [int(number) for number in numbers] == sorted({int(number) for number in numbers})


@pytest.mark.parametrize("number", explained())
def test_what_keeps_a_rule_is_there(number: str) -> None:
    first, *others = explained()[number]
    folder = (ROOT / first).parent
    # A file named after another one may be named from where that one lies.
    around = [(ROOT / other, folder / other, folder.parent / other) for other in others]
    assert (ROOT / first).exists()
    assert all(any(place.exists() for place in places) for places in around)
