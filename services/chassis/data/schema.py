"""Which migrations a service has: the schema that this code was written for."""

from __future__ import annotations

import re
from pathlib import Path

from services.chassis.values.invariant import invariant

ROOT = Path(__file__).resolve().parents[3]


def migrations_folder(service: str) -> Path:
    return ROOT / "services" / service / "migrations"


def head_revision(service: str) -> str | None:
    """The newest migration of a service; None where it has no migrations.

    Read from the files, whose names are in their order: to ask Alembic would cost each start half its time.
    """
    files = sorted((migrations_folder(service) / "versions").glob("*.py"))
    if not files:
        return None
    named = re.search(r'^revision = "(.+)"$', files[-1].read_text(), re.MULTILINE)
    invariant(named is not None, f"{files[-1].name} names no revision")
    assert named is not None
    return named[1]
