"""What is in a database, and who may do what with it, compared with what the migrations make, whatever it is.

No list of tricks: PostgreSQL numbers what is made after its own set-up from 16384 on, and notes with each row of its
catalogues the transaction that wrote it last. So what is there and in no migration has such a number, and what somebody
changed of PostgreSQL's own was written after the set-up, whose last transaction made `template0`. Of ours, owners,
rights, triggers, indexes and columns are compared with those of the migrations, run anew.

It cannot find what a superuser hides who writes into the catalogues by hand, or replaces the program.
Source: postgresql.org/docs/18/system-catalog-initial-data.html (numbers), .../ddl-system-columns.html (`xmin`).
"""

from __future__ import annotations

from collections import Counter

import sqlalchemy as sa

from services.chassis.data.migrations import role_of
from services.chassis.data.roles import NOBODY_CALLS, WORKER_CALLS

# Of these PostgreSQL identifies nothing, or nobody but a superuser reads them.
_PASSED_OVER = ("pg_enum", "pg_user_mapping")
_CATALOGUES = sa.text(
    "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'oid'"
    " WHERE c.relnamespace = 'pg_catalog'::regnamespace AND c.relkind = 'r' AND NOT c.relisshared AND c.oid < 16384"
    " AND c.relname <> ALL (CAST(:passed_over AS text[])) ORDER BY 1"
)
# Large objects go by the number of the catalogue that has their contents.
_NUMBERED = (
    "SELECT CAST(CAST(replace('pg_catalog.{0}', '_metadata', '') AS regclass) AS oid) AS kind, oid, '{0}' AS catalogue"
    " FROM pg_catalog.{0} WHERE oid >= 16384"
)
# A part of another object goes with that. A member of an extension does not: anything can be made one. Temporary tables
# are their session's. Of the schema of ours, what `migrate` compares.
_STRANGE = r"""
SELECT DISTINCT concat(found.type, ' ', regexp_replace(found.identity, '\mpublic\.', '', 'g'))
FROM ({numbered}) AS made CROSS JOIN LATERAL pg_identify_object(made.kind, made.oid, 0) AS found
WHERE NOT EXISTS (
    SELECT FROM pg_depend d
    WHERE d.classid = made.kind AND d.objid = made.oid AND d.objsubid = 0 AND d.deptype = 'i'
)
AND NOT (made.catalogue IN ('pg_class', 'pg_type', 'pg_constraint', 'pg_attrdef')
         AND found.identity ~ '^(for |[^" ]+ on )?pg_(toast_)?temp(_[0-9]+)?\.')
AND NOT (made.catalogue = 'pg_class' AND found.type = 'index' AND found.identity ~ '^pg_toast\.pg_toast_[0-9]+_index$')
AND NOT (made.catalogue = 'pg_namespace' AND found.identity ~ '^pg_(toast_)?temp(_[0-9]+)?$')
AND NOT (made.catalogue = 'pg_proc' AND found.schema = 'public')
AND NOT (made.catalogue = 'pg_operator' AND found.schema = 'public')
AND NOT (made.catalogue = 'pg_class' AND found.schema = 'public' AND found.type <> 'composite type')
AND NOT (made.catalogue IN ('pg_trigger', 'pg_policy', 'pg_rewrite', 'pg_constraint')
         AND found.identity ~ '^("([^"]|"")+"|[^" ]+) on public\.')
AND NOT (made.catalogue = 'pg_attrdef' AND found.identity ~ '^for public\.')
ORDER BY 1
"""
_WRITTEN = """
SELECT CAST(CAST('pg_catalog.{0}' AS regclass) AS oid) AS kind, oid, '{0}' AS catalogue FROM pg_catalog.{0}
WHERE oid < 16384 AND CAST(CAST(xmin AS text) AS bigint) > (SELECT number FROM last)
"""
# The set-up takes fewer than 2,000 transactions, whatever somebody does with `template0` later. Rows of pg_class and
# pg_namespace are written by maintenance, too; of the former the rights are compared (`_OPENED`). What no service may
# call, and the language of our functions, had rights taken away, what a worker may call had one given, and nothing else
# is changed of them.
_CHANGED = """
WITH last AS (
    SELECT coalesce(min(least(CAST(CAST(xmin AS text) AS bigint), 2000)), 2000) AS number
    FROM pg_database WHERE datname = 'template0'
)
SELECT concat(found.type, ' ', found.identity)
FROM ({written}) AS made CROSS JOIN LATERAL pg_identify_object(made.kind, made.oid, 0) AS found
WHERE NOT (made.catalogue = 'pg_proc' AND EXISTS (
    SELECT FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
    WHERE p.oid = made.oid AND l.lanname = 'internal' AND p.proowner = 10
      AND p.oid = ANY (CAST(:calls AS regprocedure[]))
)) AND NOT (made.catalogue = 'pg_language' AND EXISTS (
    SELECT FROM pg_language l WHERE l.oid = made.oid AND l.lanplcallfoid < 16384 AND l.laninline < 16384
      AND l.lanvalidator < 16384 AND l.lanowner = 10
)) ORDER BY 1
"""
_KEPT_BY_MAINTENANCE = ("pg_class", "pg_namespace", "pg_largeobject_metadata")
_OPENED = sa.text("""
WITH opened AS (
    SELECT c.oid, '' AS attname, 0 AS attnum, relnamespace, each.*
    FROM pg_class c, aclexplode(relacl) AS each WHERE c.oid < 16384 AND grantee <> relowner
    UNION ALL
    SELECT c.oid, '.' || attname, attnum, relnamespace, each.*
    FROM pg_class c JOIN pg_attribute ON attrelid = c.oid, aclexplode(attacl) AS each
    WHERE c.oid < 16384 AND grantee <> relowner
)
SELECT concat(CASE grantee WHEN 0 THEN 'PUBLIC' ELSE CAST(CAST(grantee AS regrole) AS text) END, ' may ',
              privilege_type, ' ', CAST(oid AS regclass), attname)
FROM opened WHERE NOT EXISTS (
    SELECT FROM pg_init_privs i, aclexplode(i.initprivs) AS made
    WHERE i.classoid = CAST('pg_class' AS regclass) AND i.objoid = oid AND i.objsubid = attnum
      AND made.grantee = opened.grantee AND made.privilege_type = opened.privilege_type
) AND NOT (grantee = 0 AND privilege_type = 'SELECT' AND CAST(relnamespace AS regnamespace)
           = CAST('information_schema' AS regnamespace))
UNION ALL
SELECT format('%s belongs to %s', CAST(oid AS regclass), CAST(relowner AS regrole))
FROM pg_class WHERE oid < 16384 AND relowner <> 10
""")
# Of ours: whose it is, who may do what with it, and what of it could do otherwise than it reads. The numbers in the
# names of triggers by which foreign keys hold are of no account.
_FACTS = sa.text("""
WITH ours AS (
    SELECT oid, relname, relkind, relowner,
           coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner)) AS rights
    FROM pg_class WHERE relnamespace = CAST(:schema AS regnamespace) AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
), called AS (
    SELECT proname || '(' || pg_get_function_identity_arguments(oid) || ')' AS name, proowner,
           coalesce(proacl, acldefault('f', proowner)) AS rights
    FROM pg_proc WHERE pronamespace = CAST(:schema AS regnamespace)
), granted AS (
    SELECT relname AS name, each.* FROM ours, aclexplode(rights) AS each
    UNION ALL SELECT name, each.* FROM called, aclexplode(rights) AS each
    UNION ALL SELECT relname || '.' || attname, each.*
    FROM ours JOIN pg_attribute ON attrelid = ours.oid, aclexplode(attacl) AS each WHERE NOT attisdropped
)
SELECT format('%s belongs to %s', relname, CAST(relowner AS regrole)) FROM ours
UNION ALL SELECT format('%s belongs to %s', name, CAST(proowner AS regrole)) FROM called
UNION ALL
SELECT concat(CASE grantee WHEN 0 THEN 'PUBLIC' ELSE CAST(CAST(grantee AS regrole) AS text) END, ' may ',
              privilege_type, ' ', name, CASE WHEN is_grantable THEN ' and hand that on' END)
FROM granted
UNION ALL
SELECT concat('trigger ', CASE WHEN tgisinternal THEN regexp_replace(tgname, '[0-9]+$', '') ELSE tgname END, ' of ',
              relname, ' calls ',
              CASE WHEN pronamespace <> CAST(:schema AS regnamespace) THEN nspname || '.' END, proname, ', ',
              CASE tgenabled WHEN 'O' THEN 'always' WHEN 'D' THEN 'never' ELSE 'at times' END)
FROM ours JOIN pg_trigger ON tgrelid = ours.oid JOIN pg_proc p ON p.oid = tgfoid
JOIN pg_namespace n ON n.oid = pronamespace
UNION ALL
SELECT concat('index ', i.relname, ' of ', ours.relname, ' is not ready')
FROM ours JOIN pg_index x ON x.indrelid = ours.oid JOIN pg_class i ON i.oid = x.indexrelid
WHERE NOT (indisvalid AND indisready AND indislive)
UNION ALL
SELECT concat(relname, '.', attname, ' is sorted by ', nspname, '.', collname)
FROM ours JOIN pg_attribute ON attrelid = ours.oid AND attnum > 0 AND NOT attisdropped
JOIN pg_collation l ON l.oid = attcollation JOIN pg_namespace n ON n.oid = collnamespace
WHERE relkind IN ('r', 'p')
UNION ALL
SELECT format('%s inherits from %s', CAST(inhrelid AS regclass), relname)
FROM pg_inherits JOIN ours ON inhparent = ours.oid
""")
_GIVEN = sa.text("""
WITH given AS (
    SELECT 'the database' AS name, datdba AS owner, coalesce(datacl, acldefault('d', datdba)) AS rights
    FROM pg_database WHERE datname = current_database()
    UNION ALL SELECT 'schema public', nspowner, coalesce(nspacl, acldefault('n', nspowner))
    FROM pg_namespace WHERE nspname = 'public'
)
SELECT format('%s belongs to %s', name, CAST(owner AS regrole)) FROM given
WHERE CAST(owner AS regrole) NOT IN (CAST(:owner AS regrole), CAST('pg_database_owner' AS regrole))
UNION ALL
SELECT concat(CASE grantee WHEN 0 THEN 'PUBLIC' ELSE CAST(CAST(grantee AS regrole) AS text) END, ' may ',
              privilege_type, ' ', name, CASE WHEN is_grantable THEN ' and hand that on' END)
FROM given, aclexplode(rights) AS each
WHERE grantee <> owner AND NOT (grantee <> 0 AND CAST(grantee AS regrole) = CAST(:owner AS regrole))
  AND (is_grantable OR grantee = 0 OR privilege_type NOT IN ('CONNECT', 'USAGE')
       OR CAST(CAST(grantee AS regrole) AS text) <> ALL (CAST(:served AS text[])))
UNION ALL
SELECT concat('subscription ', subname) FROM pg_subscription
WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
UNION ALL
SELECT concat('setting ', split_part(each, '=', 1), ' of ',
              CASE setrole WHEN 0 THEN 'all roles' ELSE CAST(CAST(setrole AS regrole) AS text) END)
FROM pg_db_role_setting, unnest(setconfig) AS each
WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
   OR setdatabase = 0 AND setrole IN (0, CAST(CAST(:owner AS regrole) AS oid))
UNION ALL
SELECT concat(CASE grantee WHEN 0 THEN 'PUBLIC' ELSE CAST(CAST(grantee AS regrole) AS text) END, ' may ',
              privilege_type, ' the parameter ', parname)
FROM pg_parameter_acl, aclexplode(paracl) AS each WHERE grantee <> 10
UNION ALL
SELECT concat('setting ', name, ' ', reset_val, ' of the server') FROM pg_settings
WHERE name = 'session_replication_role' AND reset_val <> 'origin'
UNION ALL
SELECT concat('role ', rolname, ', which ', CASE WHEN rolsuper THEN 'is a superuser' WHEN rolbypassrls
              THEN 'passes row level security' WHEN rolcreaterole THEN 'makes roles' ELSE 'copies the cluster' END)
FROM pg_roles WHERE oid >= 16384
  AND (rolsuper OR rolbypassrls OR rolreplication OR rolcreaterole AND rolname = ANY (CAST(:ours AS text[])))
UNION ALL
SELECT format('role %s, which is a member of %s', CAST(member AS regrole), CAST(roleid AS regrole))
FROM pg_auth_members WHERE oid >= 16384
  AND (roleid < 16384 OR ARRAY[CAST(CAST(roleid AS regrole) AS text), CAST(CAST(member AS regrole) AS text)]
       && CAST(:ours AS text[]))
""")


def list_strangers(connection: sa.Connection, service: str) -> list[str]:
    """What is neither ours nor PostgreSQL's as it was made, a line each; the owner is connected."""
    catalogues = list(connection.scalars(_CATALOGUES, {"passed_over": list(_PASSED_OVER)}))
    numbered = " UNION ALL ".join(_NUMBERED.format(each) for each in catalogues)
    written = " UNION ALL ".join(_WRITTEN.format(each) for each in catalogues if each not in _KEPT_BY_MAINTENANCE)
    strange = connection.scalars(sa.text(_STRANGE.format(numbered=numbered))).all()
    calls = [*NOBODY_CALLS, *WORKER_CALLS]
    changed = connection.scalars(sa.text(_CHANGED.format(written=written)), {"calls": calls}).all()
    opened = connection.scalars(_OPENED).all()
    owner = str(connection.scalar(sa.text("SELECT current_user")))
    served = [role_of(connection, service, kind) for kind in ("app", "worker")]
    who = {"owner": owner, "served": served, "ours": [owner, *served]}
    given = connection.scalars(_GIVEN, who).all()
    return [
        *(f"{name} is in no migration" for name in strange),
        *(f"{name} is not as PostgreSQL made it" for name in changed),
        *(f"{line}: that is stated nowhere" for line in sorted([*opened, *given])),
    ]


def read_facts(connection: sa.Connection, schema: str) -> Counter[str]:
    """Whose each thing in the schema is, who may do what with it, and how its triggers, indexes and columns are."""
    return Counter(line.replace(f"{schema}.", "") for line in connection.scalars(_FACTS, {"schema": schema}))


def compare_facts(there: Counter[str], wanted: Counter[str]) -> list[str]:
    more = [f"{line}: that is in no migration" for line in sorted((there - wanted).elements())]
    return more + [f"{line}: that is not so in the database" for line in sorted((wanted - there).elements())]
