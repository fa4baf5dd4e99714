"""Which schemas a service can work on: the one its migrations make, and newer ones that say they are compatible.

Each migration states `compatible_with`, the oldest revision whose code still works once the migration has run. The
migrator notes that of the newest migration in the database. So a release can be taken back without taking back its
migrations: the older code finds a schema it does not know, reads the note, and serves or refuses.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from services.chassis.data.transaction import Tx
from services.chassis.values.invariant import invariant

ROOT = Path(__file__).resolve().parents[3]
_NOTE = "compatible_with: "


def migrations_folder(service: str) -> Path:
    return ROOT / "services" / service / "migrations"


@dataclass(frozen=True)
class FoundSchema:
    """What a database says of its own schema. Both are empty where it has none."""

    revision: str = ""
    compatible_with: str = ""


@dataclass(frozen=True)
class KnownSchema:
    """What the code of a service knows: its revisions, oldest first, and what the newest is compatible with.

    A service without migrations has no revisions, and works on any schema.
    """

    service: str
    revisions: tuple[str, ...]
    compatible_with: str = ""

    @property
    def head(self) -> str:
        return self.revisions[-1] if self.revisions else ""

    def is_behind(self, found: FoundSchema) -> bool:
        """Whether a newer release made the schema."""
        return found.revision not in ("", *self.revisions)

    def fault_of(self, found: FoundSchema) -> str:
        """Why this code cannot serve on that schema; empty if it can."""
        command = f"run: python -m services.chassis.data.migrate {self.service}"
        if not self.revisions or found.revision == self.head:
            return ""
        if not found.revision:
            return f"the database has no schema yet; {command}"
        if not self.is_behind(found):
            return f"the schema is at {found.revision}, behind this code, which wants {self.head}; {command}"
        if found.compatible_with in self.revisions:
            return ""
        needed = f"code of {found.compatible_with} or later" if found.compatible_with else "newer code"
        return f"the schema is at {found.revision}, ahead of this code, which is of {self.head}: it needs {needed}"


def known_schema(service: str) -> KnownSchema:
    """Read from the files, whose names are in their order: to ask Alembic would cost each start half its time."""
    files = sorted((migrations_folder(service) / "versions").glob("*.py"))
    texts = [file.read_text() for file in files]
    revisions = tuple(_stated("revision", text) for text in texts)
    return KnownSchema(service, revisions, _stated("compatible_with", texts[-1]) if texts else "")


_IS_READABLE = sa.text("SELECT has_table_privilege(to_regclass('alembic_version'), 'SELECT')")
_FIND = sa.text("SELECT version_num, obj_description(to_regclass('alembic_version')) FROM alembic_version")


def read_schema(connection: sa.Connection) -> FoundSchema:
    """What the database says, to any role that may read `alembic_version`; nothing to any other."""
    return _read(connection.execute(_FIND).one_or_none()) if connection.scalar(_IS_READABLE) else FoundSchema()


async def find_schema(tx: Tx) -> FoundSchema:
    """`read_schema`, for a service."""
    return _read((await tx.execute(_FIND)).one_or_none()) if await tx.scalar(_IS_READABLE) else FoundSchema()


def _read(row: Sequence[Any] | None) -> FoundSchema:
    return FoundSchema() if row is None else FoundSchema(row[0], (row[1] or "").removeprefix(_NOTE))


def note_compatibility(connection: sa.Connection, schema: KnownSchema) -> None:
    """Notes in the database, as its owner, which code can work on the schema that was just made."""
    if schema.revisions:
        invariant(re.fullmatch(r"\w+", schema.compatible_with) is not None, "a revision is a word")
        connection.execute(sa.text(f"COMMENT ON TABLE alembic_version IS '{_NOTE}{schema.compatible_with}'"))


def _stated(name: str, text: str) -> str:
    found = re.search(rf'^{name} = "(\w+)"$', text, re.MULTILINE)
    invariant(found is not None, f"a migration states no {name}")
    assert found is not None
    return found[1]
