"""The two folders that we share with whoever carries files to the bank and back."""

from __future__ import annotations

import os
import re
import secrets
import stat
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Final

from services.transactions.domain.ach import AchFile

# More than a file of the ACH network has: what is larger is read by nobody.
FILE_BYTES_MAX: Final = 16 * 1024 * 1024
# In the folder from which the bank fetches: what is being written, and what was taken out of the bank's way.
STAGING: Final = ".staging"
HELD: Final = ".held"
# In the other folder: what is being read.
READING: Final = ".reading"
# Of a name, with room for the number of another one.
_NAME_BYTES_MAX: Final = 240
_FILE_ID: Final = re.compile(r"-(achf_[0-9a-z]{26})\.ach")
_NUMBER: Final = re.compile(r"\.[0-9]+\Z")


def name_file(org_id: str, file: AchFile) -> str:
    """Under which it lies where the bank fetches it; no other file ever has it."""
    return f"{org_id}-{file.created_on:%Y%m%d}-{file.number:02d}-{file.ach_file_id}.ach"


def find_file_id(name: str) -> str:
    """Of the file of ours that has this name; empty of what has no name of ours."""
    match = _FILE_ID.search(name)
    return match[1] if match is not None else ""


def spell_name(path: Path) -> str:
    """Its name as text that can be logged, whatever bytes it has."""
    return os.fsencode(path.name).decode("utf-8", "backslashreplace")


def is_folder(path: Path) -> bool:
    """Whether it is one, and no link to one, as far as that can be known."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def read_whole(path: Path, bytes_max: int = FILE_BYTES_MAX) -> bytes | None:
    """What is in a file; None of what is none, or no link is followed to, or is too large, or that cannot be read.

    Raises: FileNotFoundError: it is not there any more.
    """
    try:
        # A pipe is opened without waiting for who writes into it.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return None
            content = file.read(bytes_max + 1)
    except FileNotFoundError:
        raise
    except OSError:
        return None
    return content if len(content) <= bytes_max else None


def open_folder(parent: Path, name: str) -> Path:
    """A folder of ours, where nobody else's things are in its place: they are set aside."""
    folder = parent / name
    if not is_folder(folder):
        with suppress(FileNotFoundError):
            folder.rename(parent / f"{name}.{secrets.token_hex(4)}")
        folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def list_given_names(name: str) -> tuple[str, str]:
    """Under which somebody may have put a file there that `put_away` keeps under this name."""
    return name, _NUMBER.sub("", name)


def put_away(path: Path, kept: Path) -> Path:
    """Keeps it in a folder, and says where; one name may be given to many files."""
    kept.mkdir(mode=0o700, exist_ok=True)
    short = os.fsdecode(os.fsencode(path.name)[:_NAME_BYTES_MAX])
    names = (path.name if number == 1 else f"{short}.{number}" for number in count(1))
    return path.rename(next(kept / name for name in names if not os.path.lexists(kept / name)))


def stage(outbound: Path, name: str, content: bytes) -> None:
    """Writes it whole, beside the folder from which the bank fetches."""
    staging = open_folder(outbound, STAGING)
    part = staging / f".{name}.part"
    part.unlink(missing_ok=True)  # of a process that died
    # What somebody lays there meanwhile is not written to, and not followed.
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.rename(staging / name)
    _keep(staging)


def move_out(outbound: Path, name: str) -> None:
    """Lets the bank have what is staged."""
    with suppress(FileNotFoundError):  # another process, or this one before a crash, has moved it
        (outbound / STAGING / name).rename(outbound / name)
    _keep(outbound)


def _keep(folder: Path) -> None:
    """Its names are on the disk once this returns, whatever becomes of the machine: only then the database says so."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
