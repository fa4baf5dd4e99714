"""Lets money leave an escrow account again after somebody looked at an entry that escrow did not book.

`python -m services.escrow.acceptance <organization> <escrow account> <number of the entry>`, with the settings
that escrow has. The entry stays: the book is only added to. What it moved is put right by entries of our own, by two
persons, before or after.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

import sqlalchemy as sa

from services.chassis.data.database import Database
from services.chassis.data.seals import NotSealed, check_row
from services.chassis.process import telemetry
from services.chassis.process.settings import ConfigurationError, Settings
from services.escrow.dependencies import NAME
from services.escrow.posting.checks import Place, accept_entry
from services.escrow.tables import escrow_accounts


async def accept(database: Database, place: Place, number: int) -> str:
    """Returns what was done.

    Raises:
        NotSealed: an entry before it is not ours either, or the escrow account itself is not: an entry in an account
            that somebody made up would decide who is paid in another.
        LookupError: there is no such escrow account or entry, or the entry was looked at.
    """
    async with database.begin_for_all() as tx:
        key = escrow_accounts.c.org_id, escrow_accounts.c.escrow_account_id
        named = sa.select(escrow_accounts).where(sa.tuple_(*key) == place)
        row = (await tx.execute(named)).one_or_none()
        if row is None:
            raise LookupError(f"there is no escrow account {place[1]}")
        check_row(tx, escrow_accounts, row)
        return await accept_entry(tx.driver, database.seals, place, number)


async def main(place: Place, number: int) -> int:
    settings = Settings.load()
    settings.require("database_url", "worker_database_url", "data_key_file")
    database = Database.open(settings, NAME)
    try:
        print(await accept(database, place, number))
    except NotSealed as refusal:
        print(f"Nothing is accepted: {refusal}. Look at that first, as docs/operations.md says.", file=sys.stderr)
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
