"""Says of each wrapping key whether it is needed still: `python -m services.transactions.rotation`.

With the settings that transactions has (docs/operations.md, The wrapping key). It changes nothing, and ends with 1
where a key that is needed is not in the file.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Sequence

from services.chassis.data.database import Database
from services.chassis.process import telemetry
from services.chassis.process.settings import ConfigurationError
from services.transactions.dependencies import NAME
from services.transactions.settings import Settings
from services.transactions.store.vault_keys import list_vault_keys
from services.transactions.wrapping import Keyring

_NEEDED, _DONE = " still: leave it in the file", ": it may be taken out of the file"
_MISSING = ", and is not in the file: bring it back"


async def describe_keys(database: Database, ids: Sequence[str]) -> list[str]:
    """A line of each wrapping key that there is, or that is needed.

    Args:
        ids: Of those in the file, the newest first.
    """
    counts = Counter(each.wrapped_by for each in await list_vault_keys(database))
    lines = [f"{ids[0]} wraps new keys, and {counts[ids[0]]} of those that there are"]
    lines += [f"{each} wraps {counts[each]} keys{_NEEDED if counts[each] else _DONE}" for each in ids[1:]]
    return lines + [f"{each} wraps {counts[each]} keys{_MISSING}" for each in sorted({*counts} - {*ids})]


async def main() -> int:
    settings = Settings.load()
    settings.require("database_url", "worker_database_url", "data_key_file", "wrapping_key_file")
    assert settings.wrapping_key_file is not None  # required above
    database = Database.open(settings, NAME)
    try:
        lines = await describe_keys(database, Keyring(settings.wrapping_key_file).list_ids())
    finally:
        await database.dispose()
    print("\n".join(lines))
    return int(any(line.endswith(_MISSING) for line in lines))


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    telemetry.configure_logging(NAME)
    try:
        sys.exit(asyncio.run(main()))
    except ConfigurationError as fault:
        sys.exit(str(fault))
