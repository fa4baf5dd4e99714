"""What a release may take from callers after all: that a role, a service or a program calls an RPC, with its reason.

A right that was given too widely has to be taken back within a version, and nobody is surprised: the sentence of the
check stands in `protos/access_taken.toml` with why it is so, and the changelog names the RPC under "Taken".
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

LIST = "access_taken.toml"
_SECTION = "Taken"


def read_reasons(protos: Path) -> dict[str, str]:
    """Sentence of the check -> why. There need be no file."""
    file = protos / LIST
    return tomllib.loads(file.read_text()) if file.exists() else {}


def find_unexplained(taken: Iterable[str], reasons: dict[str, str], changelog: str) -> Iterator[str]:
    """A sentence for each right that is taken without a word, and for each word about what is not taken."""
    told = _read_section(changelog)
    taken = list(taken)
    for sentence in taken:
        rpc = sentence.partition(":")[0].split(" ")[0]
        if not reasons.get(sentence, "").strip():
            yield f"{sentence} ({LIST} does not say why)"
        elif rpc.rpartition(".")[2] not in told:
            yield f'{sentence} (the changelog does not name it under "{_SECTION}")'
    yield from (f"{LIST} explains what is not taken: {sentence}" for sentence in reasons if sentence not in taken)


def _read_section(changelog: str) -> str:
    """The words under "Taken" of the newest release."""
    newest = changelog.partition("\n## ")[2].partition("\n## ")[0]
    return newest.partition(f"\n### {_SECTION}\n")[2].partition("\n### ")[0]
