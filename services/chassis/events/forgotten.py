"""Lists what a restored database has forgotten, and keeps that a person has looked through it.

`python -m services.chassis.events.forgotten <service> [--seen-by <person>] [--after <n>]` runs with the settings of the
service, whether it is started or not. It looks through the service's own stream (restore_watch.py) and prints each
event that the service told before and its database does not have. With `--seen-by` it keeps who has looked through
them: from then on a yes counts again, and whoever decides is told that name. Where the stream lost messages, `--after`
goes on after message `n`: what was in those before it, nobody knows.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from nats.js import JetStreamContext

from services.chassis.data.database import Database
from services.chassis.data.restores import find_restore, list_forgotten, record_restore_seen
from services.chassis.events import streams
from services.chassis.events.by_hand import open_service, run_command
from services.chassis.events.restore_watch import NotLookedThrough, look_through
from services.chassis.events.signatures import EventKeys
from services.chassis.events.stored import stream_of_area
from services.chassis.process.telemetry import log
from services.chassis.values.clock import Clock
from services.chassis.values.restore import name_event, spell_count
from services.chassis.values.text import normalize_person
from services.chassis.values.times import write_time


async def list_and_record(
    database: Database,
    js: JetStreamContext,
    area: str,
    keys: EventKeys,
    clock: Clock,
    *,
    seen_by: str = "",
    after: int | None = None,
) -> list[str]:
    """What to print, a line each.

    Args:
        seen_by: Who has looked through it; empty: nobody says so yet.
        after: As `look_through` takes it.

    Raises:
        NotLookedThrough: nothing was recorded.
    """
    async with database.begin_for_all() as tx:
        restore = await find_restore(tx)
    if restore is None:
        return [f"{area}: this database was not restored"]
    await look_through(database, js, area, keys, restore, after)
    async with database.begin_for_all() as tx:
        forgotten = await list_forgotten(tx, restore.incarnation)
        if seen_by:
            await record_restore_seen(tx, restore, len(forgotten), person=seen_by, now=clock.now())
    lines = [_tell(row) for row in forgotten]
    restored_at = write_time(restore.begun_at)
    lines.append(f"{area}: restored {restored_at}, {spell_count(len(forgotten))} missing")
    if (info := await streams.fetch_stream(js, stream_of_area(area).name)) is not None:
        first, first_at = info["state"]["first_seq"], info["state"]["first_ts"]
        lines.append(f"{area}: its stream begins with message {first} of {first_at}, and was made {info['created']}")
    if seen_by:
        log.warning("restore_seen", person=seen_by, forgotten=len(forgotten))
    return lines


def _tell(row: Any) -> str:
    occurred_at, event = write_time(row.occurred_at), name_event(row.event_type)
    return f"{occurred_at} {event} {row.aggregate_id} of {row.org_id}, by {row.actor}"


async def main(service: str, seen_by: str, after: int | None) -> int:
    async with open_service(service, "nats_url", "event_jwks") as (database, clock, settings):
        client = await streams.connect(settings.nats_url.get_secret_value(), service)
        try:
            keys, js = EventKeys(settings.event_jwks), streams.jetstream(client)
            lines = await list_and_record(database, js, service, keys, clock, seen_by=seen_by, after=after)
        except NotLookedThrough as why:
            print(f"{service}: nothing is recorded, since {why}", file=sys.stderr)
            return 1
        finally:
            await client.close()
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m services.chassis.events.forgotten")
    parser.add_argument("service")
    parser.add_argument("--seen-by", default="", metavar="PERSON", help="who looked through it: a yes counts again")
    parser.add_argument("--after", type=int, metavar="N", help="the stream lost messages up to N")
    given = parser.parse_args()
    sys.exit(run_command(main(given.service, normalize_person(given.seen_by), given.after)))
