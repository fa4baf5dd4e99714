"""What several files of integration tests begin with: a running gateway, and a service's events on their way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytest_asyncio
from nats.js import JetStreamContext

from services.chassis.data.database import Database
from tests.support import chassis, databases, servers
from tests.support.chassis_events import Listener, emitting_database, listening, provisioned_streams
from tests.support.compliance import ComplianceHarness
from tests.support.escrow import Escrow
from tests.support.event_keys import event_keys
from tests.support.gateway import GatewayHarness, run_gateway
from tests.support.peers.books import Callers, MemoryBook, RealBook
from tests.support.statements import collect_unnamed
from tests.support.subscriber import Subscriber, begin_hearing

_unnamed = collect_unnamed()


@pytest.fixture(autouse=True)
def statements_name_their_organization() -> Iterator[None]:
    """Every statement of a request, whatever the test is about."""
    _unnamed.clear()
    yield
    assert _unnamed == [], "a statement over rows says whose they are: is_mine(table)"


@pytest.fixture(autouse=True)
async def tasks_end_with_their_test() -> AsyncIterator[None]:
    """All tests share a loop: what one leaves running would go on in the next."""
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one_gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayHarness]:
    """One for all tests of a file."""
    async with run_gateway(tmp_path_factory.mktemp("gateway"), receive_seconds_max=1) as running:
        yield running


@pytest.fixture
def gateway(one_gateway: GatewayHarness) -> GatewayHarness:
    """As if no test had used it."""
    one_gateway.forget()
    return one_gateway


@pytest.fixture(scope="session")
def chassis_template(postgres: servers.TestPostgres) -> SimpleNamespace:
    return asyncio.run(chassis.create(postgres))


@pytest.fixture
async def urls(copies: databases.Copies, chassis_template: SimpleNamespace) -> AsyncIterator[SimpleNamespace]:
    """Of a copy of a database with the chassis' own tables and three more. All copies have the same roles."""
    copy = await copies.take(chassis_template, chassis_template.name.removeprefix("realco_"))
    yield copy.urls
    await copies.give_back(copy)


@pytest.fixture
def org() -> str:
    """The organization of this test alone: streams are shared."""
    return chassis.fresh_name()


@pytest.fixture
async def database(urls: SimpleNamespace, org: str) -> AsyncIterator[Database]:
    """The database of `urls`, with an admin of `org` as the caller."""
    async with emitting_database(urls, org) as database:
        yield database


@pytest.fixture
async def js(nats_url: str) -> AsyncIterator[JetStreamContext]:
    """JetStream, with every stream that services publish to."""
    async with provisioned_streams(nats_url) as js:
        yield js


@pytest.fixture
async def listener(js: JetStreamContext, org: str) -> Listener:
    """Hears what is published of `org` from now on."""
    return await listening(js, org)


@pytest.fixture
async def subscriber(js: JetStreamContext, org: str, tmp_path: Path, database: Database) -> Subscriber:
    """It hears what is published from now on."""
    subscriber = Subscriber(chassis.fresh_name(), org, event_keys(tmp_path))
    await begin_hearing(database, js, subscriber)
    return subscriber


@pytest.fixture
async def compliance(service_database: Callable[[str], Awaitable[Database]]) -> ComplianceHarness:
    return ComplianceHarness(await service_database("compliance"))


@pytest.fixture(params=["memory", "real"])
async def book(request: pytest.FixtureRequest, escrow_urls: SimpleNamespace) -> AsyncIterator[MemoryBook | RealBook]:
    if request.param == "memory":
        yield MemoryBook()
        return
    async with Escrow(escrow_urls) as escrow:
        yield RealBook(escrow)


@pytest.fixture
def callers(book: MemoryBook | RealBook) -> Callers:
    return Callers(book)
