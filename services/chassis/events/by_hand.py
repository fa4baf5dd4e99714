"""What the commands have in common with which a person sees to a service.

They are replay.py, dismiss.py, step_over.py and forgotten.py.
"""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import services
from services.chassis.data.database import Database
from services.chassis.data.schema import migrations_folder
from services.chassis.events.handling import Subscription
from services.chassis.process import telemetry
from services.chassis.process.settings import ConfigurationError, Settings
from services.chassis.values.clock import Clock, clock_from
from services.chassis.values.errors import BootError


class Opened(NamedTuple):
    """What a command works with: those of the service that owns the consumer."""

    database: Database
    subscription: Subscription
    clock: Clock
    settings: Settings


@asynccontextmanager
async def open_consumer(consumer: str, *required: str) -> AsyncIterator[Opened]:
    """With the settings of the service that owns the consumer.

    Args:
        required: The settings that the command needs beside those of the database.

    Raises:
        ConfigurationError: no service has such a consumer, or a setting is missing.
    """
    service, subscription = _find(consumer)
    async with open_service(service, *required) as (database, clock, settings):
        yield Opened(database, subscription, clock, settings)


@asynccontextmanager
async def open_service(service: str, *required: str) -> AsyncIterator[tuple[Database, Clock, Settings]]:
    """With the settings of the service. `required` as `open_consumer` takes it.

    Raises:
        ConfigurationError: there is no such service, or a setting is missing.
    """
    settings = Settings.load()
    settings.require("database_url", "worker_database_url", *required)
    if not migrations_folder(service).is_dir():
        raise ConfigurationError(f"no service is called {service}")
    telemetry.configure_logging(service)
    database = Database.open(settings, service)
    try:
        yield database, clock_from(settings), settings
    finally:
        await database.dispose()


def _find(consumer: str) -> tuple[str, Subscription]:
    """The service and its subscription of that name."""
    known = []
    for module in pkgutil.iter_modules(services.__path__):
        name = f"services.{module.name}.subscribers"
        if importlib.util.find_spec(name) is None:
            continue
        for subscription in importlib.import_module(name).SUBSCRIPTIONS:
            known.append(subscription.consumer)
            if subscription.consumer == consumer:
                return module.name, subscription
    raise ConfigurationError(f"no consumer is called {consumer}; there are: {', '.join(sorted(known))}")


def run_command(command: Coroutine[Any, Any, int]) -> int:
    """Its exit code. What keeps it from beginning is told in one line."""
    try:
        return asyncio.run(command)
    except (ConfigurationError, BootError) as refusal:
        print(f"cannot begin: {refusal}", file=sys.stderr)
        return 1
