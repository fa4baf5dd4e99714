"""Brings one service's database to the schema of this code.

`python -m services.chassis.data.migrate <service> [--check | --new-incarnation]`. Two migrators wait for each other.
`--check` changes nothing: it compares the database with the service's tables.py and rights.py, prints what differs and
exits 1 if anything does. `--new-incarnation` is for a database that was restored from a backup: run it before the
service starts.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import re
import sys
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import SQLAlchemyError

from services.chassis.data.catalogue import find_rights_differences
from services.chassis.data.rights import Table
from services.chassis.data.schema import known_schema, migrations_folder, note_compatibility, read_schema
from services.chassis.data.tables import incarnation
from services.chassis.data.urls import engine_of
from services.chassis.process.settings import ConfigurationError, Settings
from services.chassis.process.tracebacks import describe
from services.chassis.values.errors import BootError

# A migration that cannot have its lock soon must not queue before everybody else.
_LIMITS = ("SET LOCAL lock_timeout = '5s'", "SET LOCAL statement_timeout = '10min'")
_SESSION = {"application_name": "realco-migrate"}


def config_of(service: str) -> Config:
    """Alembic's configuration, made here so that no service needs an alembic.ini."""
    config = Config()
    config.set_main_option("script_location", str(migrations_folder(service)).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


async def upgrade(url: str, service: str) -> None:
    """Runs every migration the database has not seen, in one transaction, and notes which code may use the result.

    A schema that a newer release has made is left as it is where this code can work on it.

    Raises:
        BootError: a newer release has made the schema, and this code cannot work on it.
    """
    known = known_schema(service)

    def run(connection: sa.Connection) -> None:
        for limit in _LIMITS:
            connection.execute(sa.text(limit))
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtextextended('realco.migrate', 0))"))
        found = read_schema(connection)
        if known.is_behind(found):
            if fault := known.fault_of(found):
                raise BootError(fault)
            print(f"{service}: the schema is at {found.revision}, newer than this code, and stays as it is")
            return
        config = config_of(service)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        note_compatibility(connection, known)

    engine = engine_of(url, _SESSION)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(run)
    finally:
        await engine.dispose()


async def begin_incarnation(url: str) -> str:
    """Gives the database a new life, which every event from now on names; returns its id.

    Numbers of events are counted from the restored state, so subscribers meet numbers that they have seen already. By
    the new incarnation they notice.
    """
    engine = engine_of(url, _SESSION)
    try:
        async with engine.begin() as connection:
            begun = (
                sa.update(incarnation)
                .values(incarnation=sa.func.gen_random_uuid())
                .returning(incarnation.c.incarnation)
            )
            return str((await connection.execute(begun)).scalar_one())
    finally:
        await engine.dispose()


async def drift(url: str, service: str) -> list[str]:
    """What differs between the database and the service's `tables.metadata` and `rights.RIGHTS`, a line each."""
    metadata: sa.MetaData = importlib.import_module(f"services.{service}.tables").metadata
    stated: Table = importlib.import_module(f"services.{service}.rights").RIGHTS
    engine = engine_of(url, _SESSION)
    try:
        async with engine.connect() as connection:
            found = await connection.run_sync(differences, metadata)
            return found + await connection.run_sync(find_rights_differences, service, stated)
    finally:
        await engine.dispose()


def differences(connection: sa.Connection, metadata: sa.MetaData) -> list[str]:
    """Tables, columns, types, defaults, indexes, unique and foreign keys, and the names of CHECKs."""
    partitions = set(connection.scalars(sa.text("SELECT relname FROM pg_class WHERE relispartition")))

    def ours(_: Any, name: str | None, kind: str, __: bool, ___: Any) -> bool:
        return not (kind == "table" and name in partitions)  # a partition is part of its table

    options = {"compare_type": True, "include_object": ours}
    context = MigrationContext.configure(connection, opts=options)
    found = [_describe(difference) for difference in compare_metadata(context, metadata)]
    inspector = sa.inspect(connection)
    there = set(inspector.get_table_names())
    for table in metadata.sorted_tables:
        if table.name in there:
            found += _default_differences(inspector, table) + _check_differences(inspector, table)
    return found


def _check_differences(inspector: sa.Inspector, table: sa.Table) -> list[str]:
    """CHECKs are compared by name: PostgreSQL rewrites their text."""
    wanted = {str(c.name) for c in table.constraints if isinstance(c, sa.CheckConstraint) and c.name}
    there = {str(check["name"]) for check in inspector.get_check_constraints(table.name)}
    missing = [f"CHECK {name} of {table.name} is not in the database" for name in sorted(wanted - there)]
    return missing + [f"CHECK {name} of {table.name} is not in tables.py" for name in sorted(there - wanted)]


def _default_differences(inspector: sa.Inspector, table: sa.Table) -> list[str]:
    """Alembic's own comparison cannot take a function that gives another value each time, or an identity."""
    found = []
    for column in inspector.get_columns(table.name):
        ours = table.columns.get(column["name"])
        if ours is None or ours.computed is not None or ours.identity is not None:
            continue
        there, wanted = _normal(column.get("default")), _normal(_rendered(ours))
        if there != wanted:
            found.append(f"default of {table.name}.{ours.name} is {there} in the database, {wanted} in tables.py")
    return found


def _rendered(column: sa.Column[Any]) -> str | None:
    default = column.server_default
    if not isinstance(default, sa.DefaultClause):
        return None
    if isinstance(default.arg, str):
        return default.arg
    dialect: Any = postgresql.dialect  # without types
    return str(default.arg.compile(dialect=dialect(), compile_kwargs={"literal_binds": True}))


def _normal(default: str | None) -> str | None:
    """A default without the casts, quotes and brackets that PostgreSQL adds to it."""
    return None if default is None else re.sub(r"::[a-z0-9_ ]+(\[\])?|['()\s]", "", default).lower()


def _describe(difference: Any) -> str:
    if isinstance(difference, list):  # the changes of one column come together
        return "; ".join(_describe(part) for part in difference)
    return " ".join(str(part) for part in difference if part is not None)


async def main(service: str, *, check: bool, new_incarnation: bool) -> int:
    settings = Settings.load()
    settings.require("migration_database_url")
    url = settings.migration_database_url.get_secret_value()
    if not migrations_folder(service).is_dir():
        raise ConfigurationError(f"services/{service} has no migrations")
    if new_incarnation:
        print(f"{service}: incarnation {await begin_incarnation(url)} begins")
        return 0
    if not check:
        await upgrade(url, service)
        return 0
    found = await drift(url, service)
    for line in found:
        print(f"{service}: {line}")
    return 1 if found else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m services.chassis.data.migrate")
    parser.add_argument("service")
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--check", action="store_true", help="report drift, change nothing")
    modes.add_argument(
        "--new-incarnation", action="store_true", help="after a restore: tell subscribers to begin again"
    )
    arguments = parser.parse_args()
    try:
        sys.exit(asyncio.run(main(arguments.service, check=arguments.check, new_incarnation=arguments.new_incarnation)))
    except (ConfigurationError, BootError, OSError, SQLAlchemyError) as error:
        sys.exit(f"{arguments.service}: {describe(error) if isinstance(error, SQLAlchemyError) else error}")
