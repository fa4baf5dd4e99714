"""What a page names as code is there: each function, file and other word of ours."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = (".py", ".proto", ".sql", ".toml", ".yaml", ".mjs", ".ts")
# `once()`, `find_hold(tx, account_id, hold_id)`, `Aggregate.save_all`, `allowed_actions`.
WORD = re.compile(r"(?:\w+\.)*([A-Za-z_]\w*)(\(.*\))?")
FILE = re.compile(r"[\w./-]*\w\.(?:py|sql|proto)")
# Words that are made of others where they are used, or are not ours.
NOT_IN_A_SOURCE = {
    "rate_bps": "only an example of a unit",
    "escrow_worker": "made from the service's name",
    "realco_compliance": "made from the service's name",
    "realco_distributions": "made from the service's name",
    "grpc_health_probe": "a program of gRPC's",
    "setCustomClaim": "a function of Auth0's",
}


def list_files() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    return [name for name in listed.decode().split("\0") if name and (ROOT / name).exists()]


FILES = list_files()


def list_spans() -> Iterator[tuple[str, str]]:
    """Each code span of each page, outside of blocks: (page, span)."""
    for page in (name for name in FILES if name.endswith(".md")):
        text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
        yield from ((page, span) for span in re.findall(r"`([^`\n]+)`", text))


def is_ours(span: str) -> bool:
    """Whether the span is a word that only code has: called, or of several words in small letters."""
    found = WORD.fullmatch(span)
    word = found[1] if found else ""
    return found is not None and (bool(found[2]) or ("_" in word and word.islower() and not word.endswith("_")))


def test_a_page_names_functions_and_words_that_there_are() -> None:
    known: set[str] = set(NOT_IN_A_SOURCE)
    for name in FILES:
        if name.endswith(SOURCES) and name != str(Path(__file__).relative_to(ROOT)):
            known.update(re.findall(r"\w+", (ROOT / name).read_text(encoding="utf-8")))
    named = [(page, span, WORD.fullmatch(span)) for page, span in list_spans() if is_ours(span)]
    assert [(page, span) for page, span, found in named if found and found[1] not in known] == []


def test_a_page_names_files_that_there_are() -> None:
    missing = [
        (page, span)
        for page, span in list_spans()
        if FILE.fullmatch(span) and not any(f"/{name}".endswith(f"/{span}") for name in FILES)
    ]
    assert missing == []
