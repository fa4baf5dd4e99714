"""What every service's migrations share: how they run, and who may touch which table.

A service's `migrations/env.py` is three lines: `from services.chassis.data.migrations import run_env`, its tables'
`metadata`, and `run_env(metadata)`. Migrations run as the owner role; services run as `<name>_app` and `<name>_worker`,
which own nothing. What these may do stands in the service's `rights.py`; `close` brings the database to it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context

from services.chassis.data import rights, session_proof
from services.chassis.data.guards import Op, guard_rows, quote


def run_env(metadata: sa.MetaData) -> None:
    """Runs the migrations on the connection that `services.chassis.data.migrate` opened, all in one transaction."""
    connection = context.config.attributes["connection"]
    context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
    with context.begin_transaction():
        context.run_migrations()


def close(op: Op, service: str, stated: rights.Table) -> None:
    """Gives the service's roles what is stated and everybody else nothing, and hides what belongs to others.

    A migration that changes tables or rights ends with it. What the statement names and is not there yet is left to the
    migration that makes it.
    """
    bind = op.get_bind()
    roles = {kind: role_of(bind, service, kind) for kind in ("app", "worker")}
    everybody = ", ".join(["PUBLIC", *(quote(op, role) for role in roles.values())])
    schema = quote(op, str(bind.scalar(sa.text("SELECT current_schema()"))))
    for kind in ("TABLES", "SEQUENCES", "FUNCTIONS"):
        op.execute(f"REVOKE ALL ON ALL {kind} IN SCHEMA {schema} FROM {everybody}")
    op.execute(f"REVOKE ALL ON SCHEMA {schema} FROM {everybody}")
    op.execute(f"GRANT USAGE ON SCHEMA {schema} TO {', '.join(quote(op, role) for role in roles.values())}")
    there = set(sa.inspect(bind).get_table_names())
    for name, granted in stated.items():
        if name in there:
            _grant(op, name, roles["app"], granted.app)
            _grant(op, name, roles["worker"], granted.worker)
    for function in bind.scalars(_CALLED).all():
        op.execute(f"GRANT EXECUTE ON FUNCTION {function} TO {quote(op, roles['app'])}")
    for name in sorted(there):
        columns = [column["name"] for column in sa.inspect(bind).get_columns(name)]
        if "org_id" in columns:
            _hide(op, name, roles["worker"])
        guard_rows(op, name, columns, stated.get(name))
        # A function that a login calls writes more than the login may, so this goes by no right.
        if name != session_proof.TABLE:
            session_proof.require_session_proof(op, name)


# The functions that a service calls; those of extensions stay as they are.
_CALLED = sa.text(
    "SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
    " WHERE n.nspname = current_schema() AND p.prokind = 'f' AND p.prorettype <> 'trigger'::regtype"
    " AND pg_get_userbyid(p.proowner) = current_user"
    " AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e') ORDER BY 1"
)


def _grant(op: Op, name: str, role: str, granted: rights.Grant) -> None:
    columns = [column["name"] for column in sa.inspect(op.get_bind()).get_columns(name)]
    for privilege in ("select", "insert", "update"):
        named = getattr(granted, privilege)
        listed = [quote(op, column) for column in named if column in columns]
        if named == rights.EVERY:
            op.execute(f"GRANT {privilege.upper()} ON {quote(op, name)} TO {quote(op, role)}")
        elif listed:
            op.execute(f"GRANT {privilege.upper()} ({', '.join(listed)}) ON {quote(op, name)} TO {quote(op, role)}")
    if granted.delete:
        op.execute(f"GRANT DELETE ON {quote(op, name)} TO {quote(op, role)}")


def _hide(op: Op, name: str, worker: str) -> None:
    """Who signed in for requests sees the organization that its transaction names, the worker all of them.

    So does the owner, as which functions and their triggers run, for who signed in: a function that the worker calls
    must not take what it cannot see for what is not there. The policy is everybody's and asks who it is: one that names
    a role is gone once that role lets go of it (DROP OWNED), and then it finds nothing to do, without any error.
    Both are asked once a statement, in a sub-select, not once a row; and the worker names no organization.
    """
    table = quote(op, name)
    rows = f"(SELECT session_user = '{worker}') OR org_id = (SELECT current_setting('app.org_id'))"
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(f"DROP POLICY IF EXISTS organization ON {table}")
    op.execute(f"CREATE POLICY organization ON {table} USING ({rows}) WITH CHECK ({rows})")


def role_of(connection: sa.Connection, service: str, kind: str) -> str:
    """The app or worker role beside the owner role that is connected: `escrow_owner` -> `escrow_app`."""
    owner = str(connection.scalar(sa.text("SELECT current_user")))
    return f"{owner.removesuffix('_owner')}_{kind}" if owner.endswith("_owner") else f"{service}_{kind}"
