"""What every service's migrations share: who may touch which table, and that history stays history.

A service's `migrations/env.py` is three lines: `from services.chassis.data.migrations import run_env`, its tables'
`metadata`, and `run_env(metadata)`. Migrations run as the owner role; services run as `<name>_app`, which owns nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from alembic import context

from services.chassis.data import heard_persons, tables

# `alembic.op`: a module with the methods of alembic.operations.Operations, which no type says.
Op = Any

_REFUSE = "realco_refuse"
_READ_ONLY = ("alembic_version", "incarnation")


def run_env(metadata: sa.MetaData) -> None:
    """Runs the migrations on the connection that `services.chassis.data.migrate` opened, all in one transaction."""
    connection = context.config.attributes["connection"]
    context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
    with context.begin_transaction():
        context.run_migrations()


def create_chassis_tables(op: Op) -> None:
    """Makes the chassis' tables, closed by row level security where they have an org_id."""
    tables.metadata.create_all(op.get_bind())
    op.execute("INSERT INTO incarnation DEFAULT VALUES")
    enable_rls(op, *(table.name for table in tables.metadata.sorted_tables if "org_id" in table.c))


def create_heard_persons(op: Op) -> None:
    """Makes the tables of a service that keeps who acts for whom."""
    heard_persons.metadata.create_all(op.get_bind())
    enable_rls(op, *heard_persons.TABLES)


def enable_rls(op: Op, *names: str) -> None:
    """Hides the rows of other organizations, from the tables' owner too. A transaction that set none sees nothing.

    The setting is read once a statement, in a sub-select, not once a row.
    """
    for name in names:
        table = _quoted(op, name)
        mine = "org_id = (SELECT current_setting('app.org_id')) OR (SELECT current_setting('app.org_id')) = '*'"
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY organization ON {table} USING ({mine}) WITH CHECK ({mine})")


def append_only(op: Op, *names: str) -> None:
    """Refuses UPDATE, DELETE and TRUNCATE on the tables, whoever asks (reliability rule c3)."""
    op.execute(
        f"CREATE OR REPLACE FUNCTION {_REFUSE}() RETURNS trigger LANGUAGE plpgsql AS $$"
        " BEGIN RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = '42501'; END $$"
    )
    for name in names:
        table = _quoted(op, name)
        op.execute(
            f"CREATE TRIGGER refuse_edits BEFORE UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION {_REFUSE}()"
        )
        op.execute(
            f"CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION {_REFUSE}()"
        )


def guard_moves(op: Op, machines: Mapping[str, str]) -> None:
    """Refuses every change of a status but the moves that are listed, whoever writes it (reliability rule c7).

    Fills `allowed_moves`, a table of the service with `machine`, `from_status` and `to_status`. The app role may read
    it: see `grant_app`.

    Args:
        machines: For each table with a `status`, its moves: `OPEN>CLOSING CLOSING>CLOSED`.
    """
    op.bulk_insert(
        sa.table("allowed_moves", sa.column("machine"), sa.column("from_status"), sa.column("to_status")),
        [
            {"machine": machine, "from_status": move.split(">")[0], "to_status": move.split(">")[1]}
            for machine, moves in machines.items()
            for move in moves.split()
        ],
    )
    op.execute(_REFUSE_ILLEGAL_MOVE)
    for machine in machines:
        op.execute(
            f"CREATE TRIGGER refuse_illegal_move BEFORE UPDATE OF status ON {_quoted(op, machine)} FOR EACH ROW"
            " WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION refuse_illegal_move()"
        )


_REFUSE_ILLEGAL_MOVE = """
    CREATE FUNCTION refuse_illegal_move() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
    BEGIN
        IF NOT EXISTS (
            SELECT FROM allowed_moves
            WHERE machine = TG_TABLE_NAME AND from_status = OLD.status AND to_status = NEW.status
        ) THEN
            RAISE EXCEPTION '% does not move from % to %', TG_TABLE_NAME, OLD.status, NEW.status
                USING ERRCODE = '23514';
        END IF;
        RETURN NEW;
    END $$
"""


def grant_app(
    op: Op,
    service: str,
    *,
    select: Sequence[str] = (),
    select_insert: Sequence[str] = (),
    all: Sequence[str] | None = None,  # noqa: A002  # it reads well where it is called
) -> None:
    """Gives the app role its rights, and everybody else none.

    Args:
        service: Its app role is `<service>_app`, unless the owner who migrates has another name before `_owner`.
        select: Tables that a migration fills: SELECT.
        select_insert: Append-only tables: SELECT and INSERT.
        all: The service's tables with SELECT, INSERT, UPDATE and DELETE; None is every other table there is. The
            chassis' own tables have their rights anyway.
    """
    bind = op.get_bind()
    app = _quoted(op, app_role(bind, service))
    names = sa.inspect(bind).get_table_names() if all is None else [*all, *tables.metadata.tables]
    read_only = (*_READ_ONLY, *select)
    editable = [name for name in names if name not in select_insert and name not in read_only]
    op.execute("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC")
    op.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    op.execute(f"GRANT USAGE ON SCHEMA public TO {app}")
    for name in read_only:
        op.execute(f"GRANT SELECT ON {_quoted(op, name)} TO {app}")
    op.execute(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {app}")
    for name in editable:
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {_quoted(op, name)} TO {app}")
    for name in select_insert:
        op.execute(f"REVOKE ALL ON {_quoted(op, name)} FROM {app}")
        op.execute(f"GRANT SELECT, INSERT ON {_quoted(op, name)} TO {app}")
    _grant_functions(op, app)


def app_role(connection: sa.Connection, service: str) -> str:
    """The app role beside the owner role that is connected: `escrow_owner` -> `escrow_app`."""
    owner = str(connection.scalar(sa.text("SELECT current_user")))
    return f"{owner.removesuffix('_owner')}_app" if owner.endswith("_owner") else f"{service}_app"


def _grant_functions(op: Op, app: str) -> None:
    """Our own functions are for the app role alone; those of extensions stay as they are."""
    functions = op.get_bind().scalars(
        sa.text(
            "SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
            " WHERE n.nspname = 'public' AND p.prokind = 'f' AND pg_get_userbyid(p.proowner) = current_user"
            " AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')"
        )
    )
    for function in functions.all():
        op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {function} TO {app}")


def _quoted(op: Op, name: str) -> str:
    return str(op.get_bind().dialect.identifier_preparer.quote(name))
