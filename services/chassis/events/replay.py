"""Handles dead letters again, once what stopped them is mended.

`python -m services.chassis.events.replay <durable> <person>` runs with the settings of the service that owns the
consumer, and says which person did it. What succeeds waits no more; what fails again goes on waiting, and is told with
its id (dismiss.py). An event applied meanwhile is not applied twice: the inbox decides.
"""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
import sys
from dataclasses import dataclass, field

import services
from services.chassis.data.database import Database
from services.chassis.data.letters import Outcome, list_waiting, read_letter, record_seen
from services.chassis.events.consumer import Subscription, apply
from services.chassis.events.signatures import EventKeys
from services.chassis.process import telemetry
from services.chassis.process.settings import ConfigurationError, Settings
from services.chassis.process.telemetry import log
from services.chassis.values.clock import Clock, clock_from
from services.chassis.values.errors import BootError


@dataclass
class Replayed:
    """What became of the dead letters of one consumer."""

    applied: int = 0
    repeated: int = 0
    failed: list[str] = field(default_factory=list)


async def replay(
    database: Database, subscription: Subscription, keys: EventKeys, clock: Clock, person: str
) -> Replayed:
    """Handles every waiting dead letter of the consumer once, oldest first."""
    result = Replayed()
    async with database.begin_for_all() as tx:
        waiting = await list_waiting(tx, subscription.durable)
    for letter_id in waiting:
        subject = ""
        try:
            async with database.begin_for_all() as tx:
                letter = await read_letter(tx, letter_id)
            subject = letter.subject
            applied = await apply(database, subscription, keys, letter, clock)
        except Exception as error:  # one that fails again must not keep the others waiting
            result.failed.append(f"{letter_id} {subject}: {type(error).__name__}")
            continue
        result.applied += applied
        result.repeated += not applied
        async with database.begin_for_all() as tx:
            await record_seen(tx, letter_id, Outcome.REPLAYED, person=person, reason="", now=clock.now())
    return result


def find(durable: str) -> tuple[str, Subscription]:
    """The service and its subscription of that name.

    Raises:
        ConfigurationError: no service has one.
    """
    known = []
    for module in pkgutil.iter_modules(services.__path__):
        name = f"services.{module.name}.subscribers"
        if importlib.util.find_spec(name) is None:
            continue
        for subscription in importlib.import_module(name).SUBSCRIPTIONS:
            known.append(subscription.durable)
            if subscription.durable == durable:
                return module.name, subscription
    raise ConfigurationError(f"no consumer is called {durable}; there are: {', '.join(sorted(known))}")


async def main(durable: str, person: str) -> int:
    settings = Settings.load()
    settings.require("database_url", "worker_database_url", "event_jwks")
    service, subscription = find(durable)
    telemetry.configure_logging(service)
    database = Database.open(settings, service)
    try:
        result = await replay(database, subscription, EventKeys(settings.event_jwks), clock_from(settings), person)
    finally:
        await database.dispose()
    log.warning(
        "dead_letters_replayed",
        consumer=durable,
        person=person,
        applied=result.applied,
        repeated=result.repeated,
        failed=len(result.failed),
    )
    print(f"{durable}: {result.applied} applied, {result.repeated} were applied already, {len(result.failed)} failed")
    for line in result.failed:
        print(f"  {line}")
    return 1 if result.failed else 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m services.chassis.events.replay <durable> <person>")
    try:
        sys.exit(asyncio.run(main(sys.argv[1], sys.argv[2])))
    except (ConfigurationError, BootError) as refusal:
        sys.exit(f"cannot replay: {refusal}")
