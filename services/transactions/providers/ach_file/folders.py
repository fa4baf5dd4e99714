"""The two folders that we share with whoever carries files to the bank and back."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path
from typing import Final

from services.transactions.domain.ach import AchFile

# More than a file of the ACH network has: what is larger is read by nobody.
FILE_BYTES_MAX: Final = 16 * 1024 * 1024


def name_file(org_id: str, file: AchFile) -> str:
    """Under which it lies where the bank fetches it; no other file ever has it."""
    return f"{org_id}-{file.created_on:%Y%m%d}-{file.number:02d}-{file.ach_file_id}.ach"


def spell_name(path: Path) -> str:
    """Its name as text that can be logged, whatever bytes it has."""
    return os.fsencode(path.name).decode("utf-8", "backslashreplace")


def put_away(path: Path, folder: str) -> None:
    """Keeps it in a folder beside it; one name may be given to many files."""
    kept = path.parent / folder
    kept.mkdir(mode=0o700, exist_ok=True)
    names = (path.name if number == 1 else f"{path.name}.{number}" for number in count(1))
    path.rename(next(kept / name for name in names if not (kept / name).exists()))
