"""What the roles of a service can really do in its database, compared with what its `rights.py` states."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import sqlalchemy as sa

from services.chassis.data import rights
from services.chassis.data.migrations import role_of

# Effective rights: granted to the role itself, to everybody, or to a role it is a member of.
_ON_COLUMNS = sa.text(
    "SELECT c.relname, privilege, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0"
    " AND NOT a.attisdropped, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) AS privilege"
    " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')"
    " AND has_column_privilege(:role, c.oid, a.attnum, privilege)"
)
_ON_TABLES = sa.text(
    "SELECT c.relname, privilege, '' FROM pg_class c, unnest(ARRAY['DELETE', 'TRUNCATE', 'TRIGGER', 'MAINTAIN'])"
    " AS privilege WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')"
    " AND has_table_privilege(:role, c.oid, privilege)"
)
_ON_FUNCTIONS = sa.text(
    "SELECT p.oid::regprocedure::text, 'EXECUTE', '' FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace"
    " AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')"
    " AND has_function_privilege(:role, p.oid, 'EXECUTE')"
)
_CALLED = sa.text(
    "SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace"
    " AND p.prorettype <> 'trigger'::regtype"
    " AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')"
)
_ON_DATABASE = sa.text(
    "SELECT 'the database', privilege, '' FROM unnest(ARRAY['CREATE', 'TEMPORARY']) AS privilege"
    " WHERE has_database_privilege(:role, current_database(), privilege)"
    " UNION ALL SELECT 'schema ' || n.nspname, 'CREATE', '' FROM pg_namespace n"
    " WHERE has_schema_privilege(:role, n.oid, 'CREATE')"
)
# (what, privilege, column or "")
Found = tuple[str, str, str]


def find_rights_differences(connection: sa.Connection, service: str, stated: rights.Table) -> list[str]:
    """What a role can do and should not, or the other way round, a line each; the owner is connected."""
    columns: dict[str, list[str]] = {}
    for name in sa.inspect(connection).get_table_names():
        columns[name] = [column["name"] for column in sa.inspect(connection).get_columns(name)]
    differences = [f"table {name} is not in rights.py" for name in sorted(columns.keys() - stated.keys())]
    for kind in ("app", "worker"):
        role = role_of(connection, service, kind)
        granted = {name: getattr(both, kind) for name, both in stated.items()}
        called = list(connection.scalars(_CALLED)) if kind == "app" else []
        differences += _compare(role, _list_rights(connection, role), set(_expect(granted, columns, called)))
    return differences


def _compare(role: str, there: set[Found], wanted: set[Found]) -> list[str]:
    more = [f"{role} can {privilege} {_spell(what, column)}" for what, privilege, column in sorted(there - wanted)]
    return more + [
        f"{role} cannot {privilege} {_spell(what, column)}" for what, privilege, column in sorted(wanted - there)
    ]


def _spell(what: str, column: str) -> str:
    return f"{what}.{column}" if column else what


def _list_rights(connection: sa.Connection, role: str) -> set[Found]:
    queries = (_ON_COLUMNS, _ON_TABLES, _ON_FUNCTIONS, _ON_DATABASE)
    return {(row[0], row[1], row[2]) for query in queries for row in connection.execute(query, {"role": role})}


def _expect(
    granted: Mapping[str, rights.Grant], columns: Mapping[str, list[str]], called: Iterable[str]
) -> Iterable[Found]:
    for table, grant in granted.items():
        for privilege in ("select", "insert", "update"):
            named = getattr(grant, privilege)
            for column in columns.get(table, ["is missing"]) if named == rights.EVERY else named:
                yield table, privilege.upper(), column
        if grant.delete:
            yield table, "DELETE", ""
    for function in called:
        yield function, "EXECUTE", ""
