"""Puts a dead letter away for good, once a person saw to what it was about.

`python -m services.chassis.events.dismiss <durable> <letter> <person> <reason>` runs with the settings of the service
that owns the consumer. The letter waits no more and is never handled; it is kept, with who dismissed it and why. Which
letters there are is told by the replay (replay.py).
"""

from __future__ import annotations

import sys

from services.chassis.data.database import Database
from services.chassis.data.letters import Outcome, list_waiting, record_seen
from services.chassis.events.by_hand import open_consumer, run_command
from services.chassis.process.telemetry import log
from services.chassis.values.clock import Clock


async def dismiss(database: Database, durable: str, letter_id: str, clock: Clock, *, person: str, reason: str) -> bool:
    """False if no such letter of the consumer waits."""
    async with database.begin_for_all() as tx:
        if letter_id not in await list_waiting(tx, durable):
            return False
        await record_seen(tx, letter_id, Outcome.DISMISSED, person=person, reason=reason, now=clock.now())
    log.warning("dead_letter_dismissed", consumer=durable, letter=letter_id, person=person, reason=reason)
    return True


async def main(durable: str, letter_id: str, person: str, reason: str) -> int:
    async with open_consumer(durable) as opened:
        if await dismiss(opened.database, durable, letter_id, opened.clock, person=person, reason=reason):
            return 0
    print(f"no dead letter {letter_id} of {durable} waits", file=sys.stderr)
    return 1


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit("usage: python -m services.chassis.events.dismiss <durable> <letter> <person> <reason>")
    sys.exit(run_command(main(*sys.argv[1:])))
