"""Puts dead letters away for good, once a person saw to what they were about.

`python -m services.chassis.events.dismiss <consumer> <letter> <person> <reason>` runs with the settings of the service
that owns the consumer. In place of a letter, `NotProven` means all that nobody of ours told. The letter waits no more,
and its event passes for handled, however often it is told again; the letter is kept, with who dismissed it and why.
Which letters there are is told by the replay (replay.py).
"""

from __future__ import annotations

import sys

from google.protobuf.message import DecodeError

from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.data.database import Database
from services.chassis.data.handled_events import claim_events
from services.chassis.data.incarnation import read_incarnation
from services.chassis.data.letters import Outcome, list_waiting, read_letter, record_seen
from services.chassis.data.seals import NotSealed
from services.chassis.events.by_hand import open_consumer, run_command
from services.chassis.events.handling import Malformed, Subscription, read_event
from services.chassis.events.signatures import EventKeys, NotProven
from services.chassis.process.telemetry import log
from services.chassis.values.clock import Clock


async def dismiss(
    database: Database,
    subscription: Subscription,
    keys: EventKeys,
    letter_id: str,
    clock: Clock,
    *,
    person: str,
    reason: str,
) -> bool:
    """False if no such letter of the consumer waits."""
    consumer = subscription.consumer
    async with database.begin_for_all() as tx:
        if letter_id not in await list_waiting(tx, consumer):
            return False
        try:
            event = await read_event(subscription, keys, await read_letter(tx, letter_id))
        except (NotSealed, NotProven, Malformed, DecodeError):
            event = None  # it is no event of ours, and is never handled anyway
        if event is not None:
            with acting_as(service_principal(database.name, event.org_id)):
                await claim_events(tx, consumer, [event.event_id], await read_incarnation(tx))
        await record_seen(tx, letter_id, Outcome.DISMISSED, person=person, reason=reason, now=clock.now())
    log.warning("dead_letter_dismissed", consumer=consumer, letter=letter_id, person=person, reason=reason)
    return True


async def dismiss_not_proven(
    database: Database, subscription: Subscription, keys: EventKeys, clock: Clock, *, person: str, reason: str
) -> int:
    """Dismisses all letters of the consumer that are not proven by the keys as they are now; how many.

    One whose key was not known when it was set aside may be proven by now: it waits on, to be replayed.
    """
    consumer, dismissed = subscription.consumer, 0
    async with database.begin_for_all() as tx:
        waiting = await list_waiting(tx, consumer)
    for letter_id in waiting:
        async with database.begin_for_all() as tx:
            try:
                await read_event(subscription, keys, await read_letter(tx, letter_id))
            except NotProven:
                await record_seen(tx, letter_id, Outcome.DISMISSED, person=person, reason=reason, now=clock.now())
                dismissed += 1
            except (NotSealed, Malformed, DecodeError):
                continue  # somebody looks at it alone
    log.warning("dead_letters_dismissed", consumer=consumer, count=dismissed, person=person, reason=reason)
    return dismissed


async def main(consumer: str, letter_id: str, person: str, reason: str) -> int:
    async with open_consumer(consumer, "event_jwks") as opened:
        keys = EventKeys(opened.settings.event_jwks)
        who = {"person": person, "reason": reason}
        if letter_id == NotProven.__name__:
            count = await dismiss_not_proven(opened.database, opened.subscription, keys, opened.clock, **who)
            print(f"{consumer}: {count} dismissed")
            return 0
        if await dismiss(opened.database, opened.subscription, keys, letter_id, opened.clock, **who):
            return 0
    print(f"no dead letter {letter_id} of {consumer} waits", file=sys.stderr)
    return 1


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit("usage: python -m services.chassis.events.dismiss <consumer> <letter>|NotProven <person> <reason>")
    sys.exit(run_command(main(*sys.argv[1:])))
