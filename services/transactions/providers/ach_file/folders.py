"""The two folders that we share with whoever carries files to the bank and back."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Final

# More than a file of the ACH network has: what is larger is read by nobody.
FILE_BYTES_MAX: Final = 16 * 1024 * 1024
# In the folder from which the bank fetches: what is being written, and what was taken out of the bank's way.
STAGING: Final = ".staging"
HELD: Final = ".held"
# In the other folder: what is being read.
READING: Final = ".reading"
_OPEN_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY
# What opening a folder says of a link, or of what is none.
_NO_FOLDER: Final = (errno.ENOTDIR, errno.ELOOP)
# Of a name, with room for the number of another one.
_NAME_BYTES_MAX: Final = 240
_NUMBER: Final = re.compile(r"\.[0-9]+\Z")
_PART: Final = re.compile(r"\.(.+)\.part")


def spell_name(name: str) -> str:
    """As text that can be logged, whatever bytes it has."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _name_part(name: str) -> str:
    """Under which a file of this name is written, before it is there whole."""
    return f".{name}.part"


def find_whole_name(name: str) -> str | None:
    """Of the file of which something with this name would be written; None where that is not being written."""
    match = _PART.fullmatch(name)
    return None if match is None else match[1]


def list_given_names(name: str) -> tuple[str, str]:
    """Under which somebody may have put a file there that `Folder.put_away` keeps under this name."""
    return name, _NUMBER.sub("", name)


def open_folder(path: Path) -> Folder:
    """That the configuration names: it may be a link. Raises: OSError."""
    return Folder(os.open(path, _OPEN_FOLDER))


class Folder:
    """One that was opened, and is used by what was opened: whoever writes beside us could put a link in its place, and
    a path would lead to wherever that points.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._descriptor)

    def open_own(self, name: str) -> Folder:
        """A folder of ours in it, where nobody else's things are in its place: they are set aside."""
        try:
            return self._make_and_open(name)
        except OSError as fault:
            if fault.errno not in _NO_FOLDER:
                raise
        self._set_aside(name)
        return self._make_and_open(name)

    def _set_aside(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._move(name, self, f"{name}.{secrets.token_hex(4)}")

    def _make_and_open(self, name: str) -> Folder:
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=self._descriptor)
        return Folder(os.open(name, _OPEN_FOLDER | os.O_NOFOLLOW, dir_fd=self._descriptor))

    def list_names(self) -> list[str]:
        """Of all that is in it, in order."""
        return sorted(os.listdir(self._descriptor))

    def list_files(self) -> list[str]:
        """Whatever they are, but for folders."""
        return [name for name in self.list_names() if not self.is_folder(name)]

    def is_folder(self, name: str) -> bool:
        """Whether it is one, and no link to one, as far as that can be known."""
        try:
            return stat.S_ISDIR(self._look_at(name).st_mode)
        except OSError:
            return False

    def is_gone(self, name: str) -> bool:
        """Whether it is known to be."""
        try:
            return not self._has(name)
        except OSError:
            return False

    def _has(self, name: str) -> bool:
        try:
            self._look_at(name)
        except FileNotFoundError:
            return False
        return True

    def find_time(self, name: str) -> float:
        """Of its last change, in seconds since 1970. Raises: FileNotFoundError: it is not there any more."""
        return self._look_at(name).st_mtime

    def _look_at(self, name: str) -> os.stat_result:
        return os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)

    def read_whole(self, name: str) -> bytes | None:
        """What is in a file; None of what is none, or no link is followed to, or is too large, or that cannot be read.

        Raises: FileNotFoundError: it is not there any more.
        """
        try:
            # A pipe is opened without waiting for who writes into it.
            opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=self._descriptor)
        except FileNotFoundError:
            raise
        except OSError:
            return None
        try:
            if not stat.S_ISREG(os.fstat(opened).st_mode):
                return None
            with os.fdopen(opened, "rb", closefd=False) as file:
                content = file.read(FILE_BYTES_MAX + 1)
        except OSError:
            return None
        finally:
            os.close(opened)
        return content if len(content) <= FILE_BYTES_MAX else None

    def put_away(self, name: str, kept: Folder) -> None:
        """Moves it to another folder; one name may be given to many files."""
        short = os.fsdecode(os.fsencode(name)[:_NAME_BYTES_MAX])
        names = (name if number == 1 else f"{short}.{number}" for number in count(1))
        self._move(name, kept, next(free for free in names if not kept._has(free)))

    def write(self, name: str, content: bytes) -> None:
        """Has it there whole, or not at all."""
        part = _name_part(name)
        for taken in (part, name):  # no file of ours is a folder
            if self.is_folder(taken):
                self._set_aside(taken)
        with suppress(FileNotFoundError):
            os.unlink(part, dir_fd=self._descriptor)  # of a process that died
        # What somebody lays there meanwhile is not written to, and not followed.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(part, flags, 0o600, dir_fd=self._descriptor), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        self._move(part, self, name)
        self.keep()

    def move(self, name: str, to: Folder) -> None:
        with suppress(FileNotFoundError):  # another process, or this one before a crash, has moved it
            self._move(name, to, name)
        to.keep()

    def _move(self, name: str, to: Folder, new_name: str) -> None:
        os.rename(name, new_name, src_dir_fd=self._descriptor, dst_dir_fd=to._descriptor)

    def keep(self) -> None:
        """Its names are on the disk once this returns, whatever becomes of the machine: only then the database says
        so.
        """
        os.fsync(self._descriptor)


def stage(outbound: Path, name: str, content: bytes) -> None:
    """Writes it whole, beside the folder from which the bank fetches."""
    with open_folder(outbound) as shared, shared.open_own(STAGING) as staging:
        staging.write(name, content)


def move_out(outbound: Path, name: str) -> None:
    """Lets the bank have what is staged."""
    with open_folder(outbound) as shared, shared.open_own(STAGING) as staging:
        staging.move(name, shared)
