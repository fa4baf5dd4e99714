"""The embedded NATS: every acknowledged message on the disk, and each user within its subjects."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import nats.errors
import psutil
import pytest
from nats.aio.client import Client
from realco.escrow.v1 import events_pb2 as escrow
from realco.transactions.v1 import events_pb2 as transactions

from deploy.local.nats import Nats
from deploy.provision import consumers_of, provision
from services.chassis.events.consumer import Subscription

POSTED = "realco.escrow.v1.JournalEntriesPosted.org_1.esc_1"
SETTLED = "realco.transactions.v1.TransactionSettled.org_1.esc_1"


async def handle(tx: object, event: object, meta: object) -> None:
    pass


WANTED = [
    *consumers_of("compliance", Subscription("compliance_audit", {escrow.JournalEntriesPosted: handle})),
    *consumers_of("escrow", Subscription("escrow_money", {transactions.TransactionSettled: handle})),
]
DURABLES = {"compliance": ["compliance_audit"], "escrow": ["escrow_money"]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    with Nats(tmp_path_factory.mktemp("nats"), DURABLES) as running:
        yield running


@asynccontextmanager
async def user(server: Nats, name: str) -> AsyncIterator[tuple[Client, list[str]]]:
    """A connection, and what the server refused to it."""
    refused: list[str] = []

    async def on_error(error: Exception) -> None:
        refused.append(str(error))

    client = await nats.connect(server.url(name), error_cb=on_error, allow_reconnect=False)
    try:
        yield client, refused
    finally:
        await client.close()


@pytest.fixture
async def provisioned(server: Nats) -> Nats:
    async with user(server, "provisioner") as (client, _):
        assert (await provision(client, WANTED)).drift == []
    return server


async def test_a_second_run_of_the_provisioner_changes_nothing_and_drift_is_put_right(provisioned: Nats) -> None:
    async with user(provisioned, "provisioner") as (client, _):
        assert (await provision(client, WANTED)).lines == []
        info = await client.jetstream().consumer_info("ESCROW", "compliance_audit")
        await client.jetstream().add_consumer("ESCROW", info.config.evolve(max_ack_pending=7, name="compliance_audit"))
        compared = await provision(client, WANTED, change=False)
        assert (compared.lines, compared.drift) == (
            [],
            ["consumer ESCROW.compliance_audit: max_ack_pending is 7, wanted 1"],
        )
        mended = await provision(client, WANTED)
        assert (mended.lines, mended.drift) == (["consumer ESCROW.compliance_audit updated"], [])


async def test_a_durable_that_nobody_subscribes_with_is_reported_and_left_alone(provisioned: Nats) -> None:
    async with user(provisioned, "provisioner") as (client, _):
        report = await provision(client, WANTED[:2])
        assert [line.split(" is there")[0] for line in report.drift] == [
            "consumer TRANSACTIONS.escrow_money",
            "consumer DEAD_LETTERS.escrow_money",
        ]
        assert (await provision(client, WANTED)).lines == []


@pytest.mark.parametrize(
    ("name", "subject", "stored"),
    [
        ("escrow", POSTED, True),
        ("transactions", SETTLED, True),
        ("escrow", SETTLED, False),
        ("subscriber", POSTED, False),
        ("provisioner", POSTED, False),
    ],
)
async def test_only_the_owner_of_an_area_publishes_its_facts(
    provisioned: Nats, name: str, subject: str, stored: bool
) -> None:
    async with user(provisioned, name) as (client, refused):
        if stored:
            ack = await client.jetstream().publish(subject, b"fact")
            assert ack.stream == subject.split(".")[1].upper()
        else:
            with pytest.raises(nats.errors.TimeoutError):
                await client.jetstream().publish(subject, b"fact", timeout=0.3)
            assert "permissions violation" in refused[0]


@pytest.mark.parametrize(("name", "refuses"), [("compliance", False), ("transactions", True), ("subscriber", True)])
async def test_only_its_own_service_pulls_from_a_durable(provisioned: Nats, name: str, refuses: bool) -> None:
    async with user(provisioned, "escrow") as (client, _):
        await client.jetstream().publish(POSTED, b"fact")
    async with user(provisioned, name) as (client, refused):
        subscription = await client.jetstream().pull_subscribe_bind("compliance_audit", stream="ESCROW")
        if refuses:
            with pytest.raises(nats.errors.TimeoutError):
                await subscription.fetch(1, timeout=0.3)
            assert "permissions violation" in refused[0]
        else:
            message = (await subscription.fetch(1, timeout=5))[0]
            await message.ack_sync(timeout=5)
            assert refused == []


async def test_a_reader_sees_every_posting_from_the_first(provisioned: Nats) -> None:
    async with user(provisioned, "escrow") as (client, _):
        await client.jetstream().publish(POSTED, b"seen")
    async with user(provisioned, "subscriber") as (client, refused):
        live = await client.subscribe("realco.escrow.v1.>")
        replayed = await client.jetstream().subscribe("realco.escrow.v1.>", ordered_consumer=True)
        assert (await replayed.next_msg(timeout=5)).subject == POSTED
        async with user(provisioned, "escrow") as (publisher, _):
            await publisher.jetstream().publish(POSTED, b"now")
        assert (await live.next_msg(timeout=5)).data == b"now"
        assert refused == []


async def test_a_wrong_password_is_refused_and_none_is_in_the_configuration(server: Nats) -> None:
    with pytest.raises(nats.errors.Error):
        await nats.connect(f"nats://escrow:guess@127.0.0.1:{server.port}", allow_reconnect=False)
    configuration = (server.data_dir / "nats" / "nats.conf").read_text()
    assert "$2b$" in configuration
    assert server.url("escrow").split(":")[2].split("@")[0] not in configuration
    assert "Plaintext" not in server.program.log.read_text()


async def test_acknowledged_messages_ports_and_passwords_outlive_a_kill(tmp_path: Path) -> None:
    with Nats(tmp_path) as first:
        async with user(first, "provisioner") as (client, _):
            await provision(client, WANTED)
        async with user(first, "escrow") as (client, _):
            for number in range(100):
                await client.jetstream().publish(POSTED, b"fact", headers={"Nats-Msg-Id": str(number)})
        assert first.program.pid is not None
        psutil.Process(first.program.pid).kill()
        first.program.wait(5)
    with Nats(tmp_path) as again:
        assert again.url("escrow") == first.url("escrow")
        async with user(again, "subscriber") as (client, _):
            assert (await client.jetstream().stream_info("ESCROW")).state.messages == 100
        async with user(again, "escrow") as (client, _):  # a publisher that never heard of its success tries again
            ack = await client.jetstream().publish(POSTED, b"fact", headers={"Nats-Msg-Id": "99"})
            assert ack.duplicate


async def test_a_service_is_let_in_to_a_new_durable_while_the_server_runs(tmp_path: Path) -> None:
    with Nats(tmp_path, {}) as server:
        async with user(server, "provisioner") as (client, _):
            await provision(client, WANTED)
        server.permit(DURABLES)
        async with user(server, "escrow") as (client, _):
            await client.jetstream().publish(POSTED, b"fact")
        async with user(server, "compliance") as (client, _):
            subscription = await client.jetstream().pull_subscribe_bind("compliance_audit", stream="ESCROW")
            assert len(await subscription.fetch(1, timeout=5)) == 1
