"""Handles dead letters again, once what stopped them is mended: `python -m services.chassis.events.replay <durable>`.

Runs with the settings of the service that owns the consumer. What succeeds is acknowledged and gone from the list;
what fails again stays. An event applied meanwhile is not applied twice: the inbox decides.
"""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
import sys
from dataclasses import dataclass, field

from nats.js import JetStreamContext

import services
from services.chassis.data.database import Database
from services.chassis.events import streams
from services.chassis.events.consumer import Subscription, apply
from services.chassis.events.signatures import EventKeys
from services.chassis.events.stored import DEAD_LETTERS
from services.chassis.process import telemetry
from services.chassis.process.settings import ConfigurationError, Settings
from services.chassis.values.clock import Clock, clock_from
from services.chassis.values.errors import BootError

_COMES_AGAIN_SECONDS = 5
_QUIET_SECONDS = 2.0


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
    quiet_seconds: float = _QUIET_SECONDS,
) -> Replayed:
    """Handles every waiting dead letter of the consumer once, oldest first, until none comes for `quiet_seconds`."""
    result = Replayed()
    seen: set[int] = set()
    async with streams.Pull(js, DEAD_LETTERS.name, subscription.durable, quiet_seconds) as pull:
        while (message := await pull.next()) is not None:
            sequence = message.metadata.sequence.stream
            if sequence in seen:  # it failed in this run and came again: the rest has been seen too
                await message.nak(delay=_COMES_AGAIN_SECONDS)
                break
            seen.add(sequence)
            subject = (message.headers or {}).get("realco-subject", "")
            try:
                applied = await apply(database, subscription, keys, message, clock, subject=subject)
            except Exception as error:  # one that fails again must not keep the others waiting
                result.failed.append(f"{subject} {(message.headers or {}).get('ce-id')}: {type(error).__name__}")
                await message.nak(delay=_COMES_AGAIN_SECONDS)
                continue
            result.applied += applied
            result.repeated += not applied
            await message.ack_sync(timeout=5)
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


async def main(durable: str) -> int:
    settings = Settings.load()
    settings.require("database_url", "worker_database_url", "nats_url", "event_jwks")
    service, subscription = find(durable)
    telemetry.configure_logging(service)
    database = Database.open(settings, service)
    connection = await streams.connect(settings.nats_url.get_secret_value(), f"replay-{durable}")
    try:
        js, keys = streams.jetstream(connection), EventKeys(settings.event_jwks)
        result = await replay(database, js, subscription, keys, clock_from(settings))
    finally:
        await connection.close()
        await database.dispose()
    print(f"{durable}: {result.applied} applied, {result.repeated} were applied already, {len(result.failed)} failed")
    for line in result.failed:
        print(f"  {line}")
    return 1 if result.failed else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m services.chassis.events.replay <durable>")
    try:
        sys.exit(asyncio.run(main(sys.argv[1])))
    except (ConfigurationError, BootError) as refusal:
        sys.exit(f"cannot replay: {refusal}")
