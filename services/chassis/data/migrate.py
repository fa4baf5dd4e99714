"""Brings one service's database to the schema of this code.

`python -m services.chassis.data.migrate <service> [--check | --new-incarnation]`. Two migrators wait for each other.
`--check` changes nothing: it compares the database with the service's tables.py and rights.py, and all that could
refuse or do something in it (functions, triggers, policies and the like) with what the migrations make; whatever else
is there, or was changed of PostgreSQL's own, and who may do what unstated (inventory.py), it names as well. It prints
what differs and exits 1 if anything does. `--new-incarnation` is for a database that was restored from a backup: run it
before the service starts (docs/operations.md, After a restore).

Where CLOCK_FILE is set, as in a local instance, the database takes any business time from then on; else its own alone.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import sys
from collections.abc import Mapping
from functools import partial

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from services.chassis.data import tables
from services.chassis.data.catalogue import find_rights_differences
from services.chassis.data.inventory import compare_facts, list_strangers, read_facts
from services.chassis.data.rights import Table
from services.chassis.data.schema import known_schema, migrations_folder, note_compatibility, read_schema
from services.chassis.data.urls import SEARCH_PATH, connect, dsn_of
from services.chassis.process.settings import ConfigurationError, Settings
from services.chassis.process.tracebacks import describe
from services.chassis.values.errors import BootError

# A migration that cannot have its lock soon must not queue before everybody else.
_LIMITS = ("SET LOCAL lock_timeout = '5s'", "SET LOCAL statement_timeout = '10min'")
_SESSION = {"application_name": "realco-migrate"}

_STATED = "realco_stated"
# A partition is part of its table, and an index that a constraint made is part of that.
_DESCRIBED = sa.text("""
WITH ours AS (
    SELECT oid, relname, relpersistence, reloptions FROM pg_class
    WHERE relnamespace = CAST(:schema AS regnamespace) AND relkind IN ('r', 'p') AND NOT relispartition
      AND relname <> 'alembic_version'
)
SELECT concat_ws(
    ' ', 'table', relname, CASE relpersistence WHEN 'u' THEN 'UNLOGGED' END, array_to_string(reloptions, ' ')
) FROM ours
UNION ALL
SELECT concat_ws(
    ' ', 'column', relname || '.' || attname, format_type(atttypid, atttypmod),
    CASE WHEN attnotnull THEN 'NOT NULL' END, 'DEFAULT ' || pg_get_expr(adbin, adrelid),
    'IDENTITY ' || nullif(CAST(attidentity AS text), ''), 'GENERATED ' || nullif(CAST(attgenerated AS text), '')
) FROM ours JOIN pg_attribute ON attrelid = ours.oid LEFT JOIN pg_attrdef ON adrelid = ours.oid AND adnum = attnum
WHERE attnum > 0 AND NOT attisdropped
UNION ALL
SELECT concat_ws(' ', 'constraint', conname, 'of', relname, pg_get_constraintdef(pg_constraint.oid))
FROM ours JOIN pg_constraint ON conrelid = ours.oid WHERE contype IN ('c', 'f', 'p', 'u', 'x')
UNION ALL
SELECT pg_get_indexdef(indexrelid) FROM ours JOIN pg_index ON indrelid = ours.oid
WHERE NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND conrelid = indrelid)
""")
# What refuses, and what could do otherwise than is written: functions and procedures, triggers, rules, views and types,
# and who sees which rows. A function of a schema is named without it.
_GUARDS = sa.text("""
WITH ours AS (
    SELECT oid, relname, relrowsecurity, relforcerowsecurity FROM pg_class
    WHERE relnamespace = CAST(:schema AS regnamespace) AND relkind IN ('r', 'p') AND NOT relispartition
)
SELECT concat(CASE prokind WHEN 'p' THEN 'procedure ' ELSE 'function ' END,
              proname, '(', pg_get_function_identity_arguments(oid), ')'),
       CASE prokind WHEN 'a' THEN 'aggregate'
       ELSE replace(pg_get_functiondef(oid), concat('FUNCTION ', :schema, '.'), 'FUNCTION ') END
FROM pg_proc WHERE pronamespace = CAST(:schema AS regnamespace)
UNION ALL
SELECT concat('trigger ', tgname, ' of ', relname),
       concat(tgenabled, ' ', replace(pg_get_triggerdef(pg_trigger.oid), concat(:schema, '.'), ''))
FROM ours JOIN pg_trigger ON tgrelid = ours.oid WHERE NOT tgisinternal
UNION ALL
SELECT concat('policy ', polname, ' of ', relname),
       concat_ws(' ', polcmd, polpermissive, CAST(polroles AS regrole[]), pg_get_expr(polqual, polrelid),
                 pg_get_expr(polwithcheck, polrelid))
FROM ours JOIN pg_policy ON polrelid = ours.oid
UNION ALL
SELECT concat('row security of ', relname), concat(relrowsecurity, ' ', relforcerowsecurity) FROM ours
UNION ALL
SELECT concat('rule ', rulename, ' of ', relname), concat(ev_enabled, ' ', pg_get_ruledef(pg_rewrite.oid))
FROM ours JOIN pg_rewrite ON ev_class = ours.oid
UNION ALL
SELECT concat(CASE relkind WHEN 'S' THEN 'sequence ' WHEN 'f' THEN 'foreign table ' ELSE 'view ' END, relname),
       concat_ws(' ', relpersistence, seqincrement, seqmin, seqmax, seqcache, seqcycle)
FROM pg_class LEFT JOIN pg_sequence ON seqrelid = oid
WHERE relnamespace = CAST(:schema AS regnamespace) AND relkind IN ('v', 'm', 'f', 'S')
UNION ALL
SELECT concat('type ', typname), CAST(typtype AS text)
FROM pg_type WHERE typnamespace = CAST(:schema AS regnamespace) AND typtype IN ('d', 'e', 'r')
UNION ALL
SELECT concat('operator ', oprname), '' FROM pg_operator WHERE oprnamespace = CAST(:schema AS regnamespace)
""")
# Rules of which PostgreSQL prints a condition, and the statement that has it read again what it printed.
_SPELLED = sa.text("""
WITH ours AS (
    SELECT oid, relname FROM pg_class
    WHERE relnamespace = CAST(:schema AS regnamespace) AND relkind IN ('r', 'p') AND NOT relispartition
), rules AS (
    SELECT concat('constraint ', conname, ' of ', relname) AS name, pg_get_constraintdef(pg_constraint.oid) AS text,
           format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %2$I ', CAST(ours.oid AS regclass), conname) AS how
    FROM ours JOIN pg_constraint ON conrelid = ours.oid WHERE contype = 'c'
    UNION ALL
    SELECT concat('trigger ', tgname, ' of ', relname), pg_get_triggerdef(pg_trigger.oid), ''
    FROM ours JOIN pg_trigger ON tgrelid = ours.oid WHERE NOT tgisinternal AND tgconstraint = 0
)
SELECT name, text, how || regexp_replace(text, '^CREATE TRIGGER', 'CREATE OR REPLACE TRIGGER') FROM rules
""")


def config_of(service: str) -> Config:
    """Alembic's configuration, made here so that no service needs an alembic.ini."""
    config = Config()
    config.set_main_option("script_location", str(migrations_folder(service)).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def engine_of(url: str, session: Mapping[str, str]) -> AsyncEngine:
    """An engine for migrations. asyncpg opens its connections from the URL: SQLAlchemy knows no `sslmode`.

    Names mean what they should, whatever path the role has of its own: what a session begins with counts for more.

    Args:
        url: As `dsn_of` takes it.
        session: The settings each connection begins with.
    """
    create = partial(connect, dsn_of(url), server_settings={"search_path": SEARCH_PATH, **session})
    return create_async_engine(
        "postgresql+asyncpg://",
        # Statement parameters are people's data: they stay out of exceptions, and so out of logs.
        hide_parameters=True,
        connect_args={"async_creator_fn": create},
    )


async def upgrade(url: str, service: str, *, test_clock: bool = False) -> None:
    """Runs every migration the database has not seen, in one transaction, and notes which code may use the result.

    A schema that a newer release has made is left as it is where this code can work on it.

    Args:
        test_clock: Whether the database takes a business time that is not its own.

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
        _run_migrations(connection, service)
        note_compatibility(connection, known)
        connection.execute(sa.update(tables.test_clock).values(allowed=test_clock))

    engine = engine_of(url, _SESSION)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(run)
    finally:
        await engine.dispose()


def _run_migrations(connection: sa.Connection, service: str) -> None:
    config = config_of(service)
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


# A microsecond a number: no aggregate tells events as fast as that, so whatever a former life told before this moment
# has a lower number. Where this clock is behind that of the restore before, it is eleven days more than then.
_NUMBERS_AFTER = "greatest(numbers_after + 1000000000000, (extract(epoch FROM now()) * 1000000)::bigint)"
# Of what told nothing since the restore before, the number that it was restored with then says what it had told.
_RAISE_NUMBERS = (
    "ALTER TABLE aggregate_versions NO FORCE ROW LEVEL SECURITY, DISABLE TRIGGER refuse_going_back",
    f"""
    UPDATE aggregate_versions v SET version = {_NUMBERS_AFTER},
        restored_version = CASE WHEN v.version = numbers_after THEN v.restored_version ELSE v.version END
    FROM incarnation
    """,  # noqa: S608  # of these constants
    "ALTER TABLE aggregate_versions FORCE ROW LEVEL SECURITY, ENABLE TRIGGER refuse_going_back",
)


async def begin_incarnation(url: str) -> str:
    """Gives the database a new life, which every event from now on names; returns its id.

    Every aggregate's next number is above all that a former life may have told since the backup, so whoever orders by
    numbers takes what is told from now on for newer. Marks that somebody kept from before the restore count for nothing
    (ADR 25). No yes counts in it before a person has looked through what the restore has forgotten (ADR 44).
    """
    engine = engine_of(url, _SESSION)
    try:
        async with engine.begin() as connection:
            begun = (
                sa.update(tables.incarnation)
                .values(
                    incarnation=sa.func.gen_random_uuid(),
                    begun_at=sa.func.now(),
                    is_restored=True,
                    numbers_after=sa.text(_NUMBERS_AFTER),
                )
                .returning(tables.incarnation.c.incarnation)
            )
            for statement in _RAISE_NUMBERS:
                await connection.execute(sa.text(statement))
            return str((await connection.execute(begun)).scalar_one())
    finally:
        await engine.dispose()


async def drift(url: str, service: str) -> list[str]:
    """What differs between the database and what the service's code says of it, a line each."""
    metadata: sa.MetaData = importlib.import_module(f"services.{service}.tables").metadata
    stated: Table = importlib.import_module(f"services.{service}.rights").RIGHTS
    engine = engine_of(url, _SESSION)
    try:
        async with engine.connect() as connection:
            found = await connection.run_sync(differences, metadata)
            found += await connection.run_sync(find_guard_differences, service)
            return found + await connection.run_sync(find_rights_differences, service, stated)
    finally:
        await engine.dispose()


def differences(connection: sa.Connection, metadata: sa.MetaData) -> list[str]:
    """Tables, columns, defaults, constraints and indexes that are not in both, a line each.

    PostgreSQL rewrites what it is given, so both sides are asked of it: what is stated is made in a schema of its own,
    which is gone when this returns.
    """
    savepoint = connection.begin_nested()
    try:
        connection.execute(sa.text(f"CREATE SCHEMA {_STATED}"))
        metadata.create_all(connection.execution_options(schema_translate_map={None: _STATED}))
        there, wanted = _describe(connection, "public"), _describe(connection, _STATED)
        if there != wanted:
            spelled = {f"{name} {old}": f"{name} {new}" for name, (old, new) in _read_spellings(connection).items()}
            there, wanted = ({spelled.get(line, line) for line in side} for side in (there, wanted))
    finally:
        savepoint.rollback()
        connection.execution_options(schema_translate_map=None)
    missing = [f"{line} is not in the database" for line in sorted(wanted - there)]
    return missing + [f"{line} is not in tables.py" for line in sorted(there - wanted)]


def find_guard_differences(connection: sa.Connection, service: str) -> list[str]:
    """Functions, triggers, policies and the like that are not as the service's migrations make them, a line each.

    The migrations alone say what these are, so they run once more, in a schema of their own, which is gone when this
    returns.
    """
    elsewhere, facts = list_strangers(connection, service), read_facts(connection, "public")
    savepoint = connection.begin_nested()
    try:
        connection.execute(sa.text(f"CREATE SCHEMA {_STATED}"))
        # What somebody put into pg_catalog under a name of ours is not what the migrations mean.
        connection.execute(sa.text(f"SET LOCAL search_path = {_STATED}, pg_catalog"))
        _run_migrations(connection, service)
        elsewhere += compare_facts(facts, read_facts(connection, _STATED))
        there, wanted = _read_guards(connection, "public"), _read_guards(connection, _STATED)
        if there != wanted:
            spelled = _read_spellings(connection)
            there, wanted = (
                {name: text.replace(*spelled.get(name, (text, text))) for name, text in side.items()}
                for side in (there, wanted)
            )
    finally:
        savepoint.rollback()
    missing = [f"{name} is not in the database" for name in sorted(wanted.keys() - there.keys())]
    more = [f"{name} is in no migration" for name in sorted(there.keys() - wanted.keys())]
    common = sorted(there.keys() & wanted.keys())
    other = [f"{name} is not as the migrations make it" for name in common if there[name] != wanted[name]]
    return list(dict.fromkeys([*missing, *more, *other, *elsewhere]))


def _read_spellings(connection: sa.Connection) -> dict[str, tuple[str, str]]:
    """Of each rule that is stated: as it is printed, and as it is printed once PostgreSQL has read that.

    A database that was dumped and restored has the second: `a BETWEEN 1 AND 2 AND b` lost its inner parentheses there.
    """
    rules = connection.execute(_SPELLED, {"schema": _STATED}).all()
    for _, _, again in rules:
        connection.exec_driver_sql(again)
    after = {name: text for name, text, _ in connection.execute(_SPELLED, {"schema": _STATED})}
    return {name: (_without_schema(text), _without_schema(after[name])) for name, text, _ in rules}


def _without_schema(text: str) -> str:
    return text.replace(f"{_STATED}.", "")


def _read_guards(connection: sa.Connection, schema: str) -> dict[str, str]:
    return {row[0]: row[1] for row in connection.execute(_GUARDS, {"schema": schema})}


def _describe(connection: sa.Connection, schema: str) -> set[str]:
    return {line.replace(f"{schema}.", "") for line in connection.scalars(_DESCRIBED, {"schema": schema})}


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
        await upgrade(url, service, test_clock=settings.clock_file is not None)
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
        "--new-incarnation", action="store_true", help="after a restore: what was marked before counts no more"
    )
    arguments = parser.parse_args()
    try:
        sys.exit(asyncio.run(main(arguments.service, check=arguments.check, new_incarnation=arguments.new_incarnation)))
    except (ConfigurationError, BootError, OSError, SQLAlchemyError) as error:
        sys.exit(f"{arguments.service}: {describe(error) if isinstance(error, SQLAlchemyError) else error}")
