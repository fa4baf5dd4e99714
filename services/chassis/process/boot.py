"""What a service checks before it serves: better refused at start than wrong about money later (c10)."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.data.database import ROLE_SETTINGS, Database
from services.chassis.data.schema import known_schema, read_schema
from services.chassis.values.errors import BootError

NATS_VERSION_MIN = (2, 15, 1)
_DURABLE = ["fsync", "full_page_writes", "synchronous_commit", "data_checksums"]


async def boot_check(database: Database) -> None:
    """Collects every fault, so that one start tells all there is to mend."""
    faults: list[str] = []
    async with database.begin("*") as tx:
        off = sa.text("SELECT name FROM unnest(CAST(:names AS text[])) AS name WHERE current_setting(name) <> 'on'")
        switched_off = await tx.scalars(off, {"names": _DURABLE})
        faults += [f"PostgreSQL: {name} must be on, or a power cut loses acknowledged money" for name in switched_off]
        faults += await _role_faults(tx)
        faults += await _setting_faults(tx)
        faults += await _security_faults(tx)
        if fault := known_schema(database.name).fault_of(await tx.run_sync(read_schema)):
            faults.append(fault)
    if faults:
        raise BootError("; ".join(faults))


async def _role_faults(tx: AsyncConnection) -> list[str]:
    role = (
        await tx.execute(sa.text("SELECT rolname, rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user"))
    ).one()
    owned = await tx.scalar(
        sa.text(
            "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p') AND pg_has_role(current_user, relowner, 'USAGE')"
        )
    )
    faults = []
    if role.rolsuper or role.rolbypassrls:
        faults.append(f"role {role.rolname} is superuser or bypasses row level security; use the app role")
    elif owned:
        faults.append(f"role {role.rolname} owns tables; use the app role, which can change no schema")
    return faults


async def _setting_faults(tx: AsyncConnection) -> list[str]:
    """The limits that every transaction has from its role."""
    statement = sa.text(
        "SELECT asked.name, asked.wanted FROM pg_settings"
        " JOIN unnest(CAST(:names AS text[]), CAST(:wanted AS text[])) AS asked (name, wanted) USING (name)"
        " WHERE reset_val <> asked.wanted"
    )
    wrong = await tx.execute(statement, {"names": list(ROLE_SETTINGS), "wanted": list(ROLE_SETTINGS.values())})
    return [f"the role lacks a setting: ALTER ROLE ... SET {name} = '{wanted}'" for name, wanted in wrong]


async def _security_faults(tx: AsyncConnection) -> list[str]:
    """Every table with an org_id hides other organizations' rows, from its owner too."""
    open_tables = await tx.scalars(
        sa.text(
            "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'org_id' AND NOT a.attisdropped"
            " WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
            " AND NOT (c.relrowsecurity AND c.relforcerowsecurity) ORDER BY 1"
        )
    )
    return [f"table {name} has org_id and no forced row level security" for name in open_tables]


def check_nats_version(version: str) -> None:
    """Raises BootError for a NATS server with known ways to lose acknowledged messages."""
    numbers = tuple(int(part) for part in version.split("-")[0].split(".")[:3])
    if numbers < NATS_VERSION_MIN:
        raise BootError(f"NATS {version} is older than {'.'.join(map(str, NATS_VERSION_MIN))}")
