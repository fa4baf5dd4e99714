"""One running instance, shared by the stories of a worker: all processes, real PostgreSQL and NATS, loopback."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.local.instance import Instance
from tests.e2e.bad_requests import Stage, set_of
from tests.e2e.providers import STRIPE_SECRET, Plaid
from tests.e2e.support import World


@pytest.fixture(scope="session")
def plaid() -> Iterator[Plaid]:
    with Plaid().serving() as serving:
        yield serving


@pytest.fixture(scope="session")
def instance(tmp_path_factory: pytest.TempPathFactory, plaid: Plaid) -> Iterator[Instance]:
    providers = {"STRIPE_WEBHOOK_SECRET": STRIPE_SECRET, "PLAID_BASE_URL": plaid.url}
    with Instance(tmp_path_factory.mktemp("instance"), environment=providers) as running:
        yield running


@pytest.fixture
def world(instance: Instance) -> Iterator[World]:
    """An organization of this test's own."""
    fresh = World(instance)
    yield fresh
    fresh.close()


@pytest.fixture(scope="session")
def stage(instance: Instance) -> Iterator[Stage]:
    """One of everything, for the tests that try to do wrong to it."""
    world, foreign = World(instance), World(instance)
    ids, contribution = set_of(world)
    foreign_ids, _ = set_of(foreign)
    yield Stage(world, foreign, ids, foreign_ids, contribution)
    world.close()
    foreign.close()
