"""Servers for the tests: embedded PostgreSQL and NATS, started once a worker; each test gets a database of its own."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from services.chassis.data import migrate
from services.chassis.data.database import Database
from services.chassis.process import telemetry
from tests.support import databases, servers
from tests.support.escrow import Escrow

# Thousands of tests stay from the collection to the end: to look through them for garbage again and again finds none.
gc.set_threshold(200_000, 20, 20)
# The loop of a service's process. pytest-asyncio's own hook for it costs a second more for every thousand tests.
asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
# A busy machine is slow; a law is not broken by that.
settings.register_profile("realco", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("realco")
telemetry.configure_logging("tests")


# Each is one piece of work, and longer than any file of the others: all stories share one instance, and all tests of
# the contracts what they read of protos and code.
LONGEST = ("e2e", "reliability", "contract")


class Scheduling(LoadScopeScheduling):
    """A file of tests runs in one worker, so that what it starts is started once."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        folder = file.split("/")[1]
        return folder if folder in LONGEST else file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that in the end no worker waits long for another."""
    items.sort(key=lambda item: [folder not in item.path.parts for folder in LONGEST])


def pytest_collection_finish() -> None:
    """What was imported and collected is not looked through again; what tests leave behind is, in the end."""
    gc.freeze()


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
def migrated(postgres: servers.TestPostgres) -> Callable[[str], Awaitable[SimpleNamespace]]:
    """Makes and migrates the database of a service once; tests take copies of it."""
    made: dict[str, SimpleNamespace] = {}

    async def migrate_once(service: str) -> SimpleNamespace:
        if service not in made:
            made[service] = postgres.create_database(service)
            # Tests travel in time, as a local instance does.
            await migrate.upgrade(made[service].owner_url, service, test_clock=True)
            await databases.adopt_proof_of_tests(made[service])
        return made[service]

    return migrate_once


@pytest.fixture(scope="session")
async def copies(postgres: servers.TestPostgres) -> AsyncIterator[databases.Copies]:
    made = databases.Copies(postgres.admin_dsn)
    yield made
    await made.close()
    await databases.close_kept()


@pytest.fixture
async def service_urls(
    copies: databases.Copies, migrated: Callable[[str], Awaitable[SimpleNamespace]]
) -> AsyncIterator[Callable[[str], Awaitable[SimpleNamespace]]]:
    """`await service_urls("escrow")`: the URLs of each role on a migrated, empty copy of its database."""
    taken: list[databases.Copy] = []

    async def take(service: str) -> SimpleNamespace:
        taken.append(await copies.take(await migrated(service), service))
        return taken[-1].urls

    yield take
    for copy in taken:
        await copies.give_back(copy)


@pytest.fixture
def service_database(
    service_urls: Callable[[str], Awaitable[SimpleNamespace]],
) -> Callable[[str], Awaitable[Database]]:
    """`await service_database("escrow")`: its app role's Database on a migrated, empty copy."""

    async def open_copy(service: str) -> Database:
        return databases.open_database(await service_urls(service), service)

    return open_copy


@pytest.fixture(scope="module")
async def escrow_urls(
    copies: databases.Copies, migrated: Callable[[str], Awaitable[SimpleNamespace]]
) -> AsyncIterator[SimpleNamespace]:
    """The URLs of one migrated book for a whole file: each test is an organization in it."""
    copy = await copies.take(await migrated("escrow"), "escrow")
    yield copy.urls
    await copies.give_back(copy)


@pytest.fixture
async def escrow(escrow_urls: SimpleNamespace) -> AsyncIterator[Escrow]:
    """The escrow service, for an organization of this test's own."""
    async with Escrow(escrow_urls) as running:
        yield running
