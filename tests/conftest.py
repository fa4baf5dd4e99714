"""Servers for the tests: embedded PostgreSQL and NATS, started once a worker; each test gets a database of its own."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from deploy.local.processes import migration_command
from services.chassis.data.database import Database
from services.chassis.process import telemetry
from tests.support import databases, servers
from tests.support.escrow import Escrow

ROOT = Path(__file__).parent.parent

# A busy machine is slow; a law is not broken by that.
settings.register_profile("realco", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("realco")
telemetry.configure_logging("tests")


class Scheduling(LoadScopeScheduling):
    """A file of tests runs in one worker, so that what it starts is started once; all stories share one instance."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "tests/e2e" if file.startswith("tests/e2e/") else file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that in the end no worker waits long for another."""
    items.sort(key=lambda item: "reliability" not in item.path.parts)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    return Scheduling(config, log)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.TestPostgres]:
    """A PostgreSQL cluster with `.create_database(name)` and `.admin_dsn`."""
    with servers.postgres(tmp_path_factory.mktemp("postgres")) as cluster:
        yield cluster


@pytest.fixture
async def durable(postgres: servers.TestPostgres) -> AsyncIterator[None]:
    """The shared cluster waits for the disk, as a service wants it before it serves."""
    await servers.set_durable(postgres.admin_dsn, durable=True)
    yield
    await servers.set_durable(postgres.admin_dsn, durable=False)


@pytest.fixture(scope="session")
def nats_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A NATS server with JetStream, as a user who may do everything."""
    with servers.nats(tmp_path_factory.mktemp("nats")) as url:
        yield url


@pytest.fixture(scope="session")
def migrated(postgres: servers.TestPostgres) -> Callable[[str], SimpleNamespace]:
    """Makes and migrates the database of a service once; tests take copies of it."""
    made: dict[str, SimpleNamespace] = {}

    def migrate(service: str) -> SimpleNamespace:
        if service not in made:
            database = postgres.create_database(service)
            subprocess.run(
                migration_command(service),
                # Tests travel in time, as a local instance does.
                env=os.environ
                | {"MIGRATION_DATABASE_URL": database.owner_url, "ENVIRONMENT": "local", "CLOCK_FILE": "clock.json"},
                cwd=ROOT,
                check=True,
            )
            made[service] = database
        return made[service]

    return migrate


@pytest.fixture(scope="session")
def copies(postgres: servers.TestPostgres) -> databases.Copies:
    return databases.Copies(postgres.admin_dsn)


@pytest.fixture
async def service_urls(
    copies: databases.Copies, migrated: Callable[[str], SimpleNamespace]
) -> AsyncIterator[Callable[[str], Awaitable[SimpleNamespace]]]:
    """`await service_urls("escrow")`: the URLs of each role on a migrated, empty copy of its database."""
    taken: list[databases.Copy] = []

    async def take(service: str) -> SimpleNamespace:
        taken.append(await copies.take(migrated(service), service))
        return taken[-1].urls

    yield take
    for copy in taken:
        await copies.give_back(copy)


@pytest.fixture
async def service_database(
    service_urls: Callable[[str], Awaitable[SimpleNamespace]],
) -> AsyncIterator[Callable[[str], Awaitable[Database]]]:
    """`await service_database("escrow")`: its app role's Database on a migrated, empty copy."""
    opened: list[Database] = []

    async def open_copy(service: str) -> Database:
        opened.append(databases.open_database(await service_urls(service), service))
        return opened[-1]

    yield open_copy
    for database in opened:
        await database.dispose()


@pytest.fixture(scope="module")
def escrow_urls(copies: databases.Copies, migrated: Callable[[str], SimpleNamespace]) -> Iterator[SimpleNamespace]:
    """The URLs of one migrated book for a whole file: each test is an organization in it."""
    copy = asyncio.run(copies.take(migrated("escrow"), "escrow"))
    yield copy.urls
    asyncio.run(copies.give_back(copy))


@pytest.fixture
async def escrow(escrow_urls: SimpleNamespace) -> AsyncIterator[Escrow]:
    """The escrow service, for an organization of this test's own."""
    async with Escrow(escrow_urls) as running:
        yield running
