"""Lists what a restored database has forgotten, and keeps that a person has looked through it.

`python -m services.chassis.events.forgotten <service> [--seen-by <person>] [--after <n>] [--without-key <id>]` runs
with the settings of the service, whether it is started or not. It looks through the service's own stream
(restore_look.py) and prints each event that the service told before and its database does not have. With `--seen-by` it
keeps who has looked through them: from then on a yes counts again, and whoever decides is told that name.

What nobody can look at it passes over where a person says so: the messages up to `n` that the stream has lost
(`--after`), or all that say to be signed with a key that is not known (`--without-key`; `any`: whichever it is). How
many these were is kept with the name of `--passed-by`, or of `--seen-by`, and told to whoever decides.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from nats.js import JetStreamContext

from services.chassis.data.database import Database
from services.chassis.data.passed_messages import list_unread
from services.chassis.data.restores import find_restore, list_forgotten, record_restore_seen
from services.chassis.events import streams
from services.chassis.events.by_hand import open_service, run_command
from services.chassis.events.restore_look import NotLookedThrough, Passing, look_through
from services.chassis.events.signatures import EventKeys, is_key_id
from services.chassis.events.stored import stream_of_area
from services.chassis.process.telemetry import log
from services.chassis.values.clock import Clock
from services.chassis.values.restore import ANY_KEY, name_event, spell_count, spell_unread
from services.chassis.values.text import normalize_person
from services.chassis.values.times import write_time

# A person waits for it, and may have ended meanwhile what keeps it.
_PATIENCE_SECONDS = 60.0


async def list_and_record(
    database: Database,
    js: JetStreamContext,
    area: str,
    keys: EventKeys,
    clock: Clock,
    *,
    seen_by: str = "",
    passing: Passing | None = None,
    patience_seconds: float = _PATIENCE_SECONDS,
) -> list[str]:
    """What to print, a line each.

    Args:
        seen_by: Who has looked through it; empty: nobody says so yet.
        passing, patience_seconds: As `look_through` takes them.

    Raises:
        NotLookedThrough: nobody is recorded to have looked.
    """
    async with database.begin_for_all() as tx:
        restore = await find_restore(tx)
    if restore is None:
        return [f"{area}: this database was not restored"]
    await look_through(database, js, area, keys, restore, passing, patience_seconds)
    forgotten = await list_forgotten(database, restore.incarnation)
    unread = await list_unread(database, restore.incarnation)
    lines = [_tell(row) for row in forgotten]
    restored_at = write_time(restore.begun_at)
    lines.append(f"{area}: restored {restored_at}, {spell_count(len(forgotten))} missing")
    lines += [f"{area}: messages that were not looked at: {told}" for told in spell_unread(unread)]
    if (info := await streams.fetch_stream(js, stream_of_area(area).name)) is not None:
        first, first_at = info["state"]["first_seq"], info["state"]["first_ts"]
        lines.append(f"{area}: its stream begins with message {first} of {first_at}, and was made {info['created']}")
    if seen_by:
        async with database.begin_for_all() as tx:
            is_first = await record_restore_seen(tx, restore, forgotten, unread, person=seen_by, now=clock.now())
        if is_first:
            unread_count = sum(one.message_count for one in unread)
            log.warning("restore_seen", person=seen_by, forgotten=len(forgotten), unread=unread_count)
        else:
            lines.append(f"{area}: somebody has said so before: nothing is recorded")
    return lines


def _tell(row: Any) -> str:
    occurred_at, event = write_time(row.occurred_at), name_event(row.event_type)
    return f"{occurred_at} {event} {row.aggregate_id} of {row.org_id}, by {row.actor}"


async def main(service: str, seen_by: str, passing: Passing) -> int:
    async with open_service(service, "nats_url", "event_jwks") as (database, clock, settings):
        client = await streams.connect(settings.nats_url.get_secret_value(), service)
        try:
            keys, js = EventKeys(settings.event_jwks), streams.jetstream(client)
            lines = await list_and_record(database, js, service, keys, clock, seen_by=seen_by, passing=passing)
        except NotLookedThrough as why:
            print(f"{service}: nobody is recorded to have looked, since {why}", file=sys.stderr)
            return 1
        finally:
            await client.close()
    print("\n".join(lines))
    return 0


def _read_arguments() -> tuple[str, str, Passing]:
    parser = argparse.ArgumentParser(prog="python -m services.chassis.events.forgotten")
    parser.add_argument("service")
    parser.add_argument("--seen-by", default="", metavar="PERSON", help="who looked through it: a yes counts again")
    parser.add_argument("--after", type=int, metavar="N", help="go on after the messages up to N, which are lost")
    parser.add_argument(
        "--without-key", default="", metavar="ID", help="pass over what says to be signed with that key, or with any"
    )
    parser.add_argument("--passed-by", default="", metavar="PERSON", help="who says so; without it: who looked")
    given = parser.parse_args()
    seen_by = normalize_person(given.seen_by)
    passing = Passing(normalize_person(given.passed_by) or seen_by, given.after, given.without_key)
    if (given.after is not None or given.without_key) and not passing.person:
        parser.error("what is passed over is told with a name: give --passed-by or --seen-by")
    if given.without_key not in ("", ANY_KEY) and not is_key_id(given.without_key):
        parser.error("--without-key takes the id of a key, as this command has named it, or any")
    return given.service, seen_by, passing


if __name__ == "__main__":
    sys.exit(run_command(main(*_read_arguments())))
