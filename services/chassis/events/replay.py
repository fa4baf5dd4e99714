"""Handles dead letters again, once what stopped them is mended.

`python -m services.chassis.events.replay <durable> <person>` runs with the settings of the service that owns the
consumer; the log says which person did it. What succeeds is acknowledged and waits no more; what fails again stays,
and is told with its number (dismiss.py). An event applied meanwhile is not applied twice: the inbox decides.
"""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from nats.aio.msg import Msg
from nats.js import JetStreamContext

import services
from services.chassis.data.database import Database
from services.chassis.events import streams
from services.chassis.events.consumer import Subscription, apply
from services.chassis.events.signatures import EventKeys
from services.chassis.events.stored import DEAD_LETTERS
from services.chassis.process import telemetry
from services.chassis.process.settings import ConfigurationError, Settings
from services.chassis.process.telemetry import log
from services.chassis.values.clock import Clock, clock_from
from services.chassis.values.errors import BootError

COMES_AGAIN_SECONDS = 5
QUIET_SECONDS = 2.0


@dataclass
class Replayed:
    """What became of the dead letters of one consumer."""

    applied: int = 0
    repeated: int = 0
    failed: list[str] = field(default_factory=list)


async def replay(
    database: Database,
    js: JetStreamContext,
    subscription: Subscription,
    keys: EventKeys,
    clock: Clock,
    quiet_seconds: float = QUIET_SECONDS,
) -> Replayed:
    """Handles every waiting dead letter of the consumer once, oldest first, until none comes for `quiet_seconds`."""
    result = Replayed()
    async for message in list_letters(js, subscription.durable, quiet_seconds):
        subject = (message.headers or {}).get("realco-subject", "")
        try:
            applied = await apply(database, subscription, keys, message, clock, subject=subject)
        except Exception as error:  # one that fails again must not keep the others waiting
            number, event_id = message.metadata.sequence.stream, (message.headers or {}).get("ce-id")
            result.failed.append(f"{number} {subject} {event_id}: {type(error).__name__}")
            await leave(message)
            continue
        result.applied += applied
        result.repeated += not applied
        await message.ack_sync(timeout=5)
    return result


async def list_letters(js: JetStreamContext, durable: str, quiet_seconds: float) -> AsyncGenerator[Msg]:
    """Every waiting dead letter of the consumer, oldest first, until none comes for `quiet_seconds`.

    Whoever is given one acknowledges it, or leaves it.
    """
    seen: set[int] = set()
    async with streams.Pull(js, DEAD_LETTERS.name, durable, quiet_seconds) as pull:
        while (message := await pull.next()) is not None:
            if message.metadata.sequence.stream in seen:  # it was left, and came again: the rest has been seen too
                await leave(message)
                return
            seen.add(message.metadata.sequence.stream)
            yield message


async def leave(letter: Msg) -> None:
    """It goes on waiting."""
    await letter.nak(delay=COMES_AGAIN_SECONDS)


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


@asynccontextmanager
async def open_jetstream(settings: Settings, durable: str) -> AsyncIterator[JetStreamContext]:
    """With the rights of the service that owns the consumer."""
    connection = await streams.connect(settings.nats_url.get_secret_value(), f"letters-{durable}")
    try:
        yield streams.jetstream(connection)
    finally:
        await connection.close()


async def main(durable: str, person: str) -> int:
    settings = Settings.load()
    settings.require("database_url", "worker_database_url", "nats_url", "event_jwks")
    service, subscription = find(durable)
    telemetry.configure_logging(service)
    database = Database.open(settings, service)
    try:
        async with open_jetstream(settings, durable) as js:
            keys = EventKeys(settings.event_jwks)
            result = await replay(database, js, subscription, keys, clock_from(settings))
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
