"""Handles dead letters again, once what stopped them is mended.

`python -m services.chassis.events.replay <consumer> <person>` runs with the settings of the service that owns the
consumer, and says which person did it. What succeeds waits no more; what fails again goes on waiting, and is told with
its id (dismiss.py). An event applied meanwhile is not applied twice: `handled_events` decides.

One that is older than `handled_events` remembers is handled only where the person names its letter after their own
name: they have looked, and it was not handled before.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

from services.chassis.data.database import Database
from services.chassis.data.letters import Outcome, list_waiting, read_letter, record_seen
from services.chassis.events.by_hand import open_consumer, run_command
from services.chassis.events.handling import Subscription, apply_told
from services.chassis.events.signatures import EventKeys
from services.chassis.process.telemetry import log
from services.chassis.values.clock import Clock


@dataclass
class Replayed:
    """What became of the dead letters of one consumer."""

    applied: int = 0
    repeated: int = 0
    failed: list[str] = field(default_factory=list)


async def replay(
    database: Database, subscription: Subscription, keys: EventKeys, clock: Clock, person: str, only: str = ""
) -> Replayed:
    """Handles every waiting dead letter of the consumer once, oldest first.

    Args:
        only: The one letter that is handled, however old its event is.
    """
    result = Replayed()
    async with database.begin_for_all() as tx:
        waiting = await list_waiting(tx, subscription.consumer)
    if only:
        result.failed = [] if only in waiting else [f"{only}: no such letter waits"]
        waiting = [letter_id for letter_id in waiting if letter_id == only]
    for letter_id in waiting:
        subject = ""
        try:
            async with database.begin_for_all() as tx:
                letter = await read_letter(tx, letter_id)
            subject = letter.subject
            applied = await apply_told(database, subscription, keys, letter, clock, of_any_age=bool(only))
        except Exception as error:  # one that fails again must not keep the others waiting
            result.failed.append(f"{letter_id} {subject}: {type(error).__name__}")
            continue
        result.applied += applied
        result.repeated += not applied
        async with database.begin_for_all() as tx:
            await record_seen(tx, letter_id, Outcome.REPLAYED, person=person, reason="", now=clock.now())
    return result


async def main(consumer: str, person: str, only: str = "") -> int:
    async with open_consumer(consumer, "event_jwks") as opened:
        keys = EventKeys(opened.settings.event_jwks)
        result = await replay(opened.database, opened.subscription, keys, opened.clock, person, only)
    log.warning(
        "dead_letters_replayed",
        consumer=consumer,
        person=person,
        applied=result.applied,
        repeated=result.repeated,
        failed=len(result.failed),
    )
    print(f"{consumer}: {result.applied} applied, {result.repeated} were applied already, {len(result.failed)} failed")
    for line in result.failed:
        print(f"  {line}")
    return 1 if result.failed else 0


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit("usage: python -m services.chassis.events.replay <consumer> <person> [<letter>]")
    sys.exit(run_command(main(*sys.argv[1:])))
