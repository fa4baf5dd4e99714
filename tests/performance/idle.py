"""What an instance costs while nobody asks anything of it: all its processes, PostgreSQL and NATS among them."""

from __future__ import annotations

import asyncio

import asyncpg

from deploy.local.instance import Instance
from tests.performance.measure import Results
from tests.performance.usage import read_cpu, read_memory

SETTLES_SECONDS = 65.0
SECONDS = 15.0
_CALLS = "SELECT sum(calls)::bigint FROM pg_stat_statements"


async def measure(instance: Instance, results: Results) -> None:
    """Once what a start leaves to do is over, and the connections that it opened are closed: after SETTLES_SECONDS."""
    url = instance.database_url("escrow").rsplit("/", 1)[0] + "/postgres"
    connection = await asyncpg.connect(url)
    # BEGIN and COMMIT are statements, too.
    await connection.execute("ALTER SYSTEM SET pg_stat_statements.track_utility = on")
    await connection.execute("ALTER SYSTEM SET pg_stat_statements.track = top")
    await connection.execute("SELECT pg_reload_conf()")
    await asyncio.sleep(SETTLES_SECONDS)
    calls, used = await connection.fetchval(_CALLS), read_cpu(instance)
    await asyncio.sleep(SECONDS)
    cpu = read_cpu(instance)
    cpu.subtract(used)
    statements = await connection.fetchval(_CALLS) - calls - 1  # the question itself
    await connection.execute("ALTER SYSTEM RESET pg_stat_statements.track")
    await connection.execute("ALTER SYSTEM RESET pg_stat_statements.track_utility")
    await connection.execute("SELECT pg_reload_conf()")
    await connection.close()
    results.note(
        "idle",
        core_percent=100 * sum(cpu.values()) / SECONDS,
        statements=statements / SECONDS,
        memory_mb=read_memory(instance),
    )
    for name, seconds in cpu.items():
        results.note(f"idle, {name}", core_percent=100 * seconds / SECONDS)
