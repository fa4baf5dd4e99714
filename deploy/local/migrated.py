"""Remembers which migrations a database of the embedded PostgreSQL has had, so that a later start need not look.

- The note lies in the cluster's own folder: a new cluster has none, so nothing is left out there.
- It holds a hash of every file that may decide about the schema; a changed file means that the migrations run.
- Should a note be wrong, no harm is done: a service refuses to start on a schema that is not its own.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from deploy.local.programs import ROOT


def fingerprint(service: str) -> str:
    digest = hashlib.sha256()
    folders = [ROOT / "services" / service, ROOT / "services" / "chassis" / "data"]
    files = (file for folder in folders for file in folder.rglob("*") if file.suffix in (".py", ".sql"))
    for file in sorted(files):
        digest.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


class Migrated:
    """The notes in one cluster."""

    def __init__(self, cluster: Path) -> None:
        self._cluster = cluster

    def is_current(self, service: str) -> bool:
        note = self._note(service)
        return note.exists() and note.read_text() == fingerprint(service)

    def remember(self, service: str) -> None:
        self._note(service).write_text(fingerprint(service))

    def _note(self, service: str) -> Path:
        return self._cluster / f"realco-migrated-{service}"
