"""Remembers which migrations have run in a database of the embedded PostgreSQL, so that a later start can skip them.

- The note is in the cluster's own folder: a new cluster has none, so there nothing is skipped.
- It holds a hash of every file that the schema may depend on; if any of them changed, the migrations run.
- A wrong note does no harm: a service refuses to start on a schema that it cannot work with.
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


class MigrationNotes:
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
