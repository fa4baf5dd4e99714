"""Lets money leave an escrow account again after somebody looked at an entry that escrow did not book.

`python -m services.escrow.acceptance <organization> <escrow account> <number of the entry>`, with the settings
that escrow has. The entry stays: the book is only added to. What it moved is put right by entries of our own, by two
persons, before or after.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from services.chassis.data.database import Database
from services.chassis.data.seals import NotSealed
from services.chassis.process import telemetry
from services.chassis.process.settings import ConfigurationError, Settings
from services.escrow.dependencies import NAME
from services.escrow.posting.checks import Place, accept_entry


async def accept(database: Database, place: Place, number: int) -> str:
    """Returns what was done, or raises NotSealed: an entry before it is not ours either."""
    async with database.begin_for_all() as tx:
        return await accept_entry(tx.driver, database.seals, place, number)


async def main(place: Place, number: int) -> int:
    settings = Settings.load()
    settings.require("database_url", "worker_database_url", "data_key_file")
    database = Database.open(settings, NAME)
    try:
        print(await accept(database, place, number))
    except NotSealed as earlier:
        print(f"Nothing is accepted: {earlier}. Look at that entry first.", file=sys.stderr)
        return 1
    except LookupError as absent:
        print(f"Nothing is accepted: {absent}.", file=sys.stderr)
        return 1
    finally:
        await database.dispose()
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("organization")
    parser.add_argument("escrow_account")
    parser.add_argument("number", type=int)
    given = parser.parse_args()
    telemetry.configure_logging(NAME)
    try:
        sys.exit(asyncio.run(main((given.organization, given.escrow_account), given.number)))
    except ConfigurationError as fault:
        sys.exit(str(fault))
