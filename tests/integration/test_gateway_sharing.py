"""Several gateways count together over NATS, and each alone while it is away; no request waits for it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from deploy.local.nats import Nats
from deploy.topology import GATEWAY
from gateway.counters import Kind
from services.chassis.events.subjects import COUNTED_SUBJECT
from tests.support.chassis import until
from tests.support.gateway import TRANSACTION, GatewayHarness, is_problem, run_gateway, token
from tests.support.nats_users import user

RATES = {"rate_per_principal": "20/hour", "rate_of_guarded_calls": "20/hour"}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    with Nats(tmp_path_factory.mktemp("nats")) as server:
        yield server


@asynccontextmanager
async def two_gateways(broker: Nats, folder: Path) -> AsyncIterator[list[GatewayHarness]]:
    async with AsyncExitStack() as stack:
        run = (run_gateway(folder, nats_url=broker.url(GATEWAY), **RATES) for _ in range(2))
        yield [await stack.enter_async_context(one) for one in run]


async def left(at: GatewayHarness, name: str, kind: Kind = "principal") -> int:
    return (await at.counters.read_allowance(kind, name)).left


async def meet(one: GatewayHarness, other: GatewayHarness) -> None:
    """Returns when each hears what the other counts."""
    for teller, hearer in ((one, other), (other, one)):
        name = uuid.uuid4().hex

        async def is_heard(teller=teller, hearer=hearer, name=name) -> bool:
            await teller.counters.count("address", name, 1)
            return await left(hearer, name, "address") < 60_000

        await until(is_heard, seconds=20)


async def ask(at: GatewayHarness, person: str, times: int) -> list[int]:
    bearer = {"Authorization": f"Bearer {token(sub=person)}"}
    answers = [await at.request("GET", TRANSACTION, role=None, headers=bearer) for _ in range(times)]
    return [answer.status_code for answer in answers]


def sample(metric: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(metric, labels) or 0.0


async def are_alone() -> bool:
    """Both have looked and found NATS away: they have one gauge here, and each sets it anew four times a second."""
    for _ in range(4):
        if sample("realco_rates_shared") != 0:
            return False
        await asyncio.sleep(0.25)
    return True


async def test_a_rate_that_is_used_up_at_one_gateway_is_used_up_at_the_other(broker: Nats, tmp_path: Path) -> None:
    async with two_gateways(broker, tmp_path) as (one, other), user(broker, GATEWAY) as (forger, _):
        await meet(one, other)
        malformed = sample("realco_rate_messages_total", outcome="malformed")
        await forger.publish(COUNTED_SUBJECT, b'{"principal": {"ann": -1000}}')
        await until(lambda: sample("realco_rate_messages_total", outcome="malformed") == malformed + 2)  # both heard it

        # Counted before they are read, and so whatever is in them.
        approvals = [await one.request("POST", f"{TRANSACTION}/approve") for _ in range(20)]
        assert 429 not in [answer.status_code for answer in approvals]

        async def is_used_up() -> bool:
            return await left(other, "org-1/admin-1", "guarded") == 0

        await until(is_used_up)
        is_problem(await other.request("GET", TRANSACTION), 429, "RATE_LIMITED")
        assert await left(other, "org-1/admin-1", "principal") == 0
        # Nobody counts what it said itself a second time, and what was told does not come back.
        assert await left(one, "org-1", "organization") == await left(other, "org-1", "organization") == 120_000 - 20
        assert await ask(other, "bob", 1) == [200]


async def test_while_nats_is_away_each_gateway_counts_alone_and_what_it_counted_is_not_told_late(
    broker: Nats, tmp_path: Path
) -> None:
    broker.stop()
    with capture_logs() as logged:
        async with two_gateways(broker, tmp_path) as (one, other):
            assert await ask(one, "ann", 21) == [200] * 20 + [429]
            assert await ask(other, "ann", 1) == [200]
            assert sample("realco_rates_shared") == 0
            # Each tries four times a second, and says once that it is away.
            assert [line["event"] for line in logged].count("nats_error") == 2
            broker.start()
            await meet(one, other)
            assert sample("realco_rates_shared") == 1
            broker.stop()
            await until(are_alone)
            assert await ask(one, "bob", 15) == [200] * 15
            assert await ask(other, "bob", 15) == [200] * 15
            # What was counted since the last look is still to be told: a look while it is away drops it.
            await until(are_alone)
            broker.start()
            await meet(one, other)
            assert (await left(one, "org-1/bob"), await left(other, "org-1/bob")) == (5, 5)
            assert (await left(one, "org-1/ann"), await left(other, "org-1/ann")) == (0, 19)
            assert (await one.request("GET", "/readyz", role=None)).status_code == 200
