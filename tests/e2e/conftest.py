"""One running instance, shared by the stories of a worker: all processes, real PostgreSQL and NATS, loopback.

It ends with the last story, so that it takes no time from the tests that follow.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.instance import Instance
from tests.e2e.bad_requests import Targets, make_one_of_each
from tests.e2e.organization import Organization
from tests.e2e.providers import STRIPE_SECRET, Plaid
from tests.integration.stripe_desk import API_KEY
from tests.support.stand_ins import find_free_port, run_stand_in

TEAMS_FILE = str(Path(__file__).with_name("teams.toml"))


@pytest.fixture(scope="package")
def plaid() -> Iterator[Plaid]:
    with Plaid().serving() as serving:
        yield serving


@pytest.fixture(scope="package")
def stripe_books(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stripe") / "stripe.sqlite"


@pytest.fixture(scope="package")
def gateway_port() -> int:
    return find_free_port()


@pytest.fixture(scope="package")
def stripe_url(stripe_books: Path, gateway_port: int) -> Iterator[str]:
    """The stand-in for Stripe, by which contributions are paid by card."""
    port = find_free_port()
    environment = {
        "SANDBOX_STRIPE_PORT": str(port),
        "SANDBOX_STRIPE_DATABASE": str(stripe_books),
        "SANDBOX_STRIPE_API_KEY": API_KEY,
        "SANDBOX_STRIPE_WEBHOOK_URL": f"http://127.0.0.1:{gateway_port}/api/v1/webhooks/stripe",
        "SANDBOX_STRIPE_WEBHOOK_SECRET": STRIPE_SECRET,
    }
    with run_stand_in("sandbox.stripe", port, environment) as url:
        yield url


@pytest.fixture(scope="package")
def instance(
    tmp_path_factory: pytest.TempPathFactory, plaid: Plaid, stripe_url: str, gateway_port: int
) -> Iterator[Instance]:
    choice = tmp_path_factory.mktemp("choice") / "providers.json"
    choice.write_text(json.dumps({"all_organizations": {"CARD": {"inbound": "stripe"}}}))
    environment = {
        "STRIPE_API_KEY": API_KEY,
        "STRIPE_API_URL": stripe_url,
        "STRIPE_RETURN_URL": "https://investors.example/paid",
        "PAYMENT_PROVIDERS_FILE": str(choice),
        "STRIPE_WEBHOOK_SECRET": STRIPE_SECRET,
        "PLAID_BASE_URL": plaid.url,
        "TEAMS_FILE": TEAMS_FILE,
    }
    with Instance(tmp_path_factory.mktemp("instance"), gateway_port, environment=environment) as running:
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
