"""Random secrets, made when first asked for and kept in files that only their owner can read.

- A secret never changes once made, until it is forgotten: every later call, in this process or another, returns the
  same one.
- Files are mode 0600 in folders of mode 0700; a half-written secret is never seen.
"""

from __future__ import annotations

import os
import secrets as randomness
from collections.abc import Callable
from pathlib import Path


def private_folder(folder: Path) -> Path:
    """Makes the folder, and missing parents, for the owner alone."""
    if not folder.is_dir():
        if not folder.parent.is_dir():
            private_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def write_private(path: Path, text: str) -> None:
    """Replaces the file at once: a reader sees the old text or the new one, and nobody but the owner sees either."""
    private_folder(path.parent)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{randomness.token_hex(4)}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


class Secrets:
    """The secrets of one instance, one file each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        return self.folder / name

    def forget(self, name: str) -> None:
        self.path(name).unlink(missing_ok=True)

    def get(self, name: str, make: Callable[[], str] = lambda: randomness.token_urlsafe(24)) -> str:
        """The secret of that name, made by `make` if there is none yet (the default needs no quoting in a URL)."""
        path = self.path(name)
        if not path.exists():
            draft = path.with_name(f".{name}.{os.getpid()}.{randomness.token_hex(4)}")
            write_private(draft, make())
            try:
                os.link(draft, path)  # refuses to replace: of two processes making it at once, the first one's stays
            except FileExistsError:
                pass
            finally:
                draft.unlink()
        return path.read_text(encoding="utf-8")
