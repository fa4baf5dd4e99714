"""What several files of integration tests begin with: a running gateway, and a service's events on their way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
import pytest_asyncio
from nats.js import JetStreamContext

from services.chassis.data.database import Database
from tests.support import chassis, servers
from tests.support.chassis_events import Listener, emitting_database, listening, provisioned_streams
from tests.support.gateway import GatewayHarness, run_gateway


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


@pytest.fixture
async def urls(postgres: servers.TestPostgres) -> SimpleNamespace:
    """Of a database with the chassis' own tables and two more."""
    return await chassis.create(postgres)


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
