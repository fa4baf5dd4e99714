"""One running instance, shared by the stories of a worker: all processes, real PostgreSQL and NATS, loopback.

It ends with the last story, so that it takes no time from the tests that follow.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.instance import Instance
from tests.e2e.bad_requests import Targets, make_one_of_each
from tests.e2e.organization import Organization
from tests.e2e.providers import STRIPE_SECRET, Plaid

TEAMS_FILE = str(Path(__file__).with_name("teams.toml"))


@pytest.fixture(scope="package")
def plaid() -> Iterator[Plaid]:
    with Plaid().serving() as serving:
        yield serving


@pytest.fixture(scope="package")
def instance(tmp_path_factory: pytest.TempPathFactory, plaid: Plaid) -> Iterator[Instance]:
    environment = {
        "STRIPE_WEBHOOK_SECRET": STRIPE_SECRET,
        "PLAID_BASE_URL": plaid.url,
        "TEAMS_FILE": TEAMS_FILE,
    }
    with Instance(tmp_path_factory.mktemp("instance"), environment=environment) as running:
        yield running


@pytest.fixture(scope="module")
def org(instance: Instance) -> Iterator[Organization]:
    """An organization of this file's own: its sponsor is set up once, and each test brings its own investors."""
    fresh = Organization(instance)
    yield fresh
    fresh.close()


@pytest.fixture(scope="package")
def targets(instance: Instance) -> Iterator[Targets]:
    """One of everything, for the tests that try to do wrong to it."""
    org, foreign = Organization(instance), Organization(instance)
    ids, contribution = make_one_of_each(org)
    foreign_ids, _ = make_one_of_each(foreign)
    yield Targets(org, foreign, ids, foreign_ids, contribution)
    org.close()
    foreign.close()
