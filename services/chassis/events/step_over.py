"""Has a consumer pass over messages that a person saw to.

`python -m services.chassis.events.step_over <durable> <stream> <n>` runs with the settings of the service that owns the
consumer. Everything up to message `n` passes for handled, and the next consumer that is made begins after it.
"""

from __future__ import annotations

import asyncio
import sys

from services.chassis.data.database import Database
from services.chassis.data.positions import set_position
from services.chassis.events.replay import find
from services.chassis.process import telemetry
from services.chassis.process.settings import ConfigurationError, Settings
from services.chassis.values.errors import BootError


async def step_over(database: Database, durable: str, stream: str, sequence: int) -> None:
    """Raises: ConfigurationError: there is no such consumer."""
    _, subscription = find(durable)
    if stream not in subscription.subjects_by_stream():
        raise ConfigurationError(f"{durable} does not hear {stream}")
    async with database.begin_for_all() as tx:
        await set_position(tx, durable, stream, sequence)


async def main(durable: str, stream: str, sequence: int) -> None:
    settings = Settings.load()
    settings.require("database_url", "worker_database_url")
    service, _ = find(durable)
    telemetry.configure_logging(service)
    database = Database.open(settings, service)
    try:
        await step_over(database, durable, stream, sequence)
    finally:
        await database.dispose()


if __name__ == "__main__":
    if len(sys.argv) != 4 or not sys.argv[3].isdecimal():
        sys.exit("usage: python -m services.chassis.events.step_over <durable> <stream> <sequence>")
    try:
        asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
    except (ConfigurationError, BootError) as refusal:
        sys.exit(f"cannot step over: {refusal}")
