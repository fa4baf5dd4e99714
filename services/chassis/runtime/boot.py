"""What a service checks before it serves: better refused at start than wrong about money later (c10).

It checks the database again and again while it serves: a role can change its own settings at any time, and an
administrator the rest. What it finds then is an alarm, since each transaction sets itself what must not be otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import sqlalchemy as sa

from services.chassis.data.database import Database
from services.chassis.data.database_errors import is_away, sqlstate
from services.chassis.data.roles import NOBODY_CALLS, PROCEDURES, ROLE_SETTINGS
from services.chassis.data.schema import find_schema, known_schema
from services.chassis.data.session_proof import Standing, adopt_session_proof, find_standing, list_strange_proofs
from services.chassis.data.tables import test_clock
from services.chassis.data.transaction import Tx
from services.chassis.process.health import Alarms, note_alarm
from services.chassis.process.loops import Failures, wait_for_any
from services.chassis.process.settings import ConfigurationError
from services.chassis.process.telemetry import log
from services.chassis.values.clock import CLOCK_ERROR_SECONDS_MAX, ClockSettings, clock_from
from services.chassis.values.errors import BootError

# How often the database is checked, and how soon again where it did not answer.
CHECK_SECONDS, _AGAIN_SECONDS = 300.0, 20.0

NATS_VERSION_MIN = (2, 15, 1)
_DURABLE = ["fsync", "full_page_writes", "synchronous_commit", "data_checksums"]
# Whose rows are looked at meanwhile: nobody's.
_NOBODY = "_"
_OF_SESSION = {
    Standing.NOT_PROVEN: "begins without app.session_proof: a pooler has to give it to its sessions",
    Standing.ANOTHERS: (
        "proves with a key that this database does not know: let DATA_KEY_FILE have one with which the service was"
        " started before, or see docs/operations.md, Keys for data"
    ),
    Standing.NOBODYS_YET: "proves with a key that somebody had this database forget: start the service again",
}
# Of the role everywhere, and of the role in this database, which counts for more: that one has none.
_SETTINGS_OF_THE_ROLE = sa.text(
    "SELECT CASE WHEN d.oid IS NULL THEN '' ELSE 'IN DATABASE ' || d.datname || ' ' END, given.name"
    " FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole LEFT JOIN pg_database d ON d.oid = s.setdatabase"
    " CROSS JOIN LATERAL (SELECT split_part(each, '=', 1) FROM unnest(s.setconfig) AS each) AS given (name)"
    " WHERE r.rolname = :role AND (d.datname = current_database()"
    " OR s.setdatabase = 0 AND lower(given.name) <> ALL (CAST(:names AS text[]))) ORDER BY 1, 2"
)
# As PostgreSQL words what migrations.py makes.
_ROWS_SEEN = (
    "(( SELECT (SESSION_USER = '{worker}'::name))"
    " OR (org_id = ( SELECT current_setting('app.org_id'::text) AS current_setting)))"
)


async def boot_check(database: Database, settings: ClockSettings, *, is_start: bool = False) -> None:
    """Collects every fault, so that one start tells all there is to mend.

    Args:
        is_start: Whether the service has the database know it where nothing is wrong; a check alone changes nothing.

    Raises: BootError
    """
    faults: list[str] = []
    async with database.begin_for_all() as tx:
        worker_role = str(await tx.scalar(sa.text("SELECT session_user")))
        of_worker = await _role_faults(tx)
    async with database.begin(_NOBODY) as tx:
        app_role = str(await tx.scalar(sa.text("SELECT session_user")))
        # As a session begins: our transactions set some of it themselves.
        off = sa.text("SELECT name FROM pg_settings WHERE name = ANY(CAST(:names AS text[])) AND reset_val <> 'on'")
        switched_off = await tx.scalars(off, {"names": _DURABLE})
        faults += [f"PostgreSQL: {name} must be on, or a power cut loses acknowledged money" for name in switched_off]
        faults += await _guard_faults(tx)
        faults += await _role_faults(tx)
        faults += await _row_security_faults(tx, worker_role)
        faults += await _trigger_faults(tx)
        if fault := known_schema(database.name).fault_of(await find_schema(tx)):
            faults.append(fault)
        else:
            faults += await _clock_faults(tx, settings)
    faults += of_worker
    if worker_role == app_role:
        faults.append(f"WORKER_DATABASE_URL: signs in as {app_role}, as requests do; use the worker role")
    if not faults:
        if is_start:
            await adopt_session_proof(database)
        faults = await _session_faults(database)
        # Another process may start with a newer file of keys just now.
        faults += [] if is_start else await _proof_faults(database)
    if faults:
        raise BootError("; ".join(faults))


async def _session_faults(database: Database) -> list[str]:
    """Of both roles, what keeps them from writing."""
    async with database.begin_for_all() as tx:
        found = {"WORKER_DATABASE_URL": await find_standing(tx)}
    async with database.begin(_NOBODY) as tx:
        found["DATABASE_URL"] = await find_standing(tx)
    return [f"{url}: a session {_OF_SESSION[standing]}" for url, standing in found.items() if standing in _OF_SESSION]


async def _proof_faults(database: Database) -> list[str]:
    async with database.begin(_NOBODY) as tx:
        strange = await list_strange_proofs(tx)
    return [
        f"session_proofs has one of {adopted_at:%Y-%m-%d %H:%M} that no key in DATA_KEY_FILE makes: whoever made it"
        " writes here; see docs/operations.md, Keys for data"
        for adopted_at in strange[:1]
    ]


async def run_boot_watch(
    open_anew: Callable[[], Database],
    settings: ClockSettings,
    stop: asyncio.Event,
    alarms: Alarms,
    check_seconds: float = CHECK_SECONDS,
) -> None:
    """Checks until `stop` is set. `alarms` says why the service would not start now, as long as it would not.

    A database that is away is back in a moment. Where no new session can be used for longer, somebody has all
    connections of a role, or the role has a setting that ends its sessions. Those that began before may go on, and
    tell nothing of it.

    Args:
        open_anew: The database without a session that has begun: each keeps the settings it began with.
    """
    failures: Failures | None = None
    while not stop.is_set():
        await wait_for_any(stop, seconds=min(check_seconds, _AGAIN_SECONDS) if failures else check_seconds)
        try:
            await _check_anew(open_anew(), settings)
            found = ""
        except (BootError, ConfigurationError) as refusal:
            found = str(refusal)
        except Exception as error:
            if is_away(error):
                log.info("database_not_checked", error=type(error).__name__)
                failures = failures or Failures(alarms, "new sessions of the database")
                failures.add(error)
                continue
            found = f"a new session cannot be used: {type(error).__name__} {sqlstate(error)}"
        if failures:
            failures.end()
            failures = None
        _note(found, alarms)


async def _check_anew(database: Database, settings: ClockSettings) -> None:
    try:
        await boot_check(database, settings)
    finally:
        await database.dispose()


def _note(found: str, alarms: Alarms) -> None:
    before = note_alarm(alarms, "database", found)
    if found and found != before:
        log.error("database_at_fault", faults=found)
    if before and not found:
        log.warning("database_mended")


async def _role_faults(tx: Tx) -> list[str]:
    """What the role can do that no service has a use for, and what it lacks."""
    query = sa.text(
        "SELECT r.rolname, r.rolsuper OR r.rolbypassrls AS passes, r.rolcreatedb OR r.rolcreaterole OR r.rolreplication"
        " AS administers, r.rolconnlimit < 0 AS takes_all, EXISTS (SELECT FROM pg_class c WHERE"
        " c.relkind IN ('r', 'p') AND pg_has_role(current_user, c.relowner, 'USAGE')) AS owns,"
        " EXISTS (SELECT FROM pg_auth_members m"
        " WHERE m.member = r.oid) AS belongs,"
        " EXISTS (SELECT FROM pg_parameter_acl p, aclexplode(paracl) AS each WHERE grantee IN (0, r.oid)) AS sets,"
        " has_database_privilege(current_database(), 'TEMP') AS temporary,"
        " has_database_privilege(current_database(), 'CREATE') OR EXISTS (SELECT FROM pg_namespace n WHERE"
        " has_schema_privilege(n.oid, 'CREATE')) AS creates, EXISTS (SELECT FROM unnest(CAST(:calls AS text[])) AS f"
        " WHERE has_function_privilege(f, 'EXECUTE')) AS calls,"
        " has_language_privilege(:procedures, 'USAGE') AS programs FROM pg_roles r WHERE r.rolname = current_user"
    )
    role = (await tx.execute(query, {"calls": list(NOBODY_CALLS), "procedures": PROCEDURES})).one()
    if role.passes:
        return [f"role {role.rolname} is superuser or bypasses row level security; use the app role"]
    if role.owns:
        return [f"role {role.rolname} owns tables; use the app role, which can change no schema"]
    said = {
        "administers": "may make roles or databases, or replicate",
        "takes_all": "may open all connections that there are: ALTER ROLE ... CONNECTION LIMIT ...",
        "belongs": "is a member of another role",
        "sets": "may set a parameter of the server: REVOKE ALL ON PARAMETER ..., see pg_parameter_acl",
        "temporary": "may make temporary tables: REVOKE TEMPORARY ON DATABASE ... FROM PUBLIC",
        "creates": "may make tables: REVOKE CREATE ON SCHEMA ...",
        "calls": f"may call what nobody calls: REVOKE EXECUTE ON FUNCTION {', '.join(NOBODY_CALLS)} FROM PUBLIC",
        "programs": f"may write programs: REVOKE USAGE ON LANGUAGE {PROCEDURES} FROM PUBLIC",
    }
    faults = [f"role {role.rolname} {text}" for name, text in said.items() if getattr(role, name)]
    return faults + await _setting_faults(tx, role.rolname)


async def _setting_faults(tx: Tx, role: str) -> list[str]:
    """The limits that every transaction has from its role, and no other default of it: our code was tried with none."""
    statement = sa.text(
        "SELECT asked.name, asked.wanted FROM pg_settings"
        " JOIN unnest(CAST(:names AS text[]), CAST(:wanted AS text[])) AS asked (name, wanted)"
        " ON asked.name = lower(pg_settings.name)"
        " WHERE reset_val <> asked.wanted"
    )
    wrong = await tx.execute(statement, {"names": list(ROLE_SETTINGS), "wanted": list(ROLE_SETTINGS.values())})
    lacking = [f"role {role} lacks a setting: ALTER ROLE ... SET {name} = '{wanted}'" for name, wanted in wrong]
    others = await tx.execute(_SETTINGS_OF_THE_ROLE, {"role": role, "names": list(ROLE_SETTINGS)})
    return lacking + [
        f"role {role} has a setting of its own: ALTER ROLE ... {where}RESET {name}" for where, name in others
    ]


async def _row_security_faults(tx: Tx, worker: str) -> list[str]:
    """Of every table with an org_id: that its rows are hidden, from its owner too, and that one policy says from whom.

    That is the same for all roles. It shows requests the organization of their transaction, and the worker each.
    """
    query = sa.text(
        "SELECT c.relname, c.relrowsecurity AND c.relforcerowsecurity AS hides, count(p.oid) = 1 AND count(*) FILTER ("
        " WHERE p.polroles = ARRAY[0::oid] AND p.polcmd = '*' AND p.polpermissive"
        " AND pg_get_expr(p.polqual, c.oid) = :rows AND pg_get_expr(p.polwithcheck, c.oid) = :rows) = 1 AS is_ours"
        " FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'org_id' AND NOT a.attisdropped"
        " LEFT JOIN pg_policy p ON p.polrelid = c.oid"
        " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
        " GROUP BY c.oid, c.relname ORDER BY 1"
    )
    tables = (await tx.execute(query, {"rows": _ROWS_SEEN.format(worker=worker)})).all()
    more = "shows requests more than their own organization, or the worker less than all"
    return [
        *(f"table {name} has org_id and no forced row level security" for name, hides, _ in tables if not hides),
        *(f"table {name} {more}" for name, _, is_ours in tables if not is_ours),
    ]


async def _guard_faults(tx: Tx) -> list[str]:
    """Whether sessions begin with triggers and foreign keys on: a line of the server's configuration ends them all."""
    begins_with = "SELECT reset_val FROM pg_settings WHERE name = 'session_replication_role'"
    if await tx.scalar(sa.text(begins_with)) == "origin":
        return []
    return ["PostgreSQL: session_replication_role must be origin, or no trigger and no foreign key refuses anything"]


async def _trigger_faults(tx: Tx) -> list[str]:
    """Of every table that somebody repaired: that its triggers were switched on again."""
    query = sa.text(
        "SELECT DISTINCT c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
        " WHERE c.relnamespace = 'public'::regnamespace AND t.tgenabled <> 'O' ORDER BY 1"
    )
    return [
        f"table {name} has triggers that are switched off: ALTER TABLE {name} ENABLE TRIGGER ALL"
        for name in await tx.scalars(query)
    ]


async def _clock_faults(tx: Tx, settings: ClockSettings) -> list[str]:
    """Only a local instance moves business time; else the database refuses a time that is not its own."""
    known = (await tx.execute(sa.select(test_clock.c.allowed, sa.func.clock_timestamp().label("now")))).one()
    if known.allowed:
        fault = "the database takes any business time: run the migrations without CLOCK_FILE"
        return [fault] if settings.clock_file is None else []
    seconds = (clock_from(settings).now() - known.now).total_seconds()
    if abs(seconds) <= CLOCK_ERROR_SECONDS_MAX:
        return []
    cure = "mend the clocks of both machines" if settings.clock_file is None else "run the migrations with CLOCK_FILE"
    return [f"business time is {abs(seconds):.0f} seconds from the time of the database, which refuses it: {cure}"]


def check_nats_version(version: str) -> None:
    """Raises BootError for a NATS server with known ways to lose acknowledged messages."""
    numbers = tuple(int(part) for part in version.split("-")[0].split(".")[:3])
    if numbers < NATS_VERSION_MIN:
        raise BootError(f"NATS {version} is older than {'.'.join(map(str, NATS_VERSION_MIN))}")
