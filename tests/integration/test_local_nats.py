"""The embedded NATS: every acknowledged message on the disk, and each user within its subjects."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import nats.errors
import psutil
import pytest
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig
from realco.escrow.v1 import events_pb2 as escrow
from realco.transactions.v1 import events_pb2 as transactions

from deploy.local.nats import Nats
from deploy.provision import consumers_of, durables_of, provision, team_consumers
from deploy.teams import DOCUMENTED, Durable, Team
from services.chassis.events.consumer import Subscription

POSTED = "realco.escrow.v1.JournalEntriesPosted.org_1.esc_1"
POSTED_ELSEWHERE = "realco.escrow.v1.JournalEntriesPosted.org_2.esc_2"
SETTLED = "realco.transactions.v1.TransactionSettled.org_1.esc_1"


async def handle(tx: object, event: object, meta: object) -> None:
    pass


WANTED = [
    *consumers_of("compliance", Subscription("compliance_audit", {escrow.JournalEntriesPosted: handle})),
    *consumers_of("escrow", Subscription("escrow_money", {transactions.TransactionSettled: handle})),
]
LENDER = Team(
    name="lender",
    organizations=("org_1",),
    events=("escrow.*",),
    durables=(Durable(name="lender_postings", events=("escrow.JournalEntriesPosted",)),),
)
WANTED += team_consumers(LENDER)
DURABLES = durables_of(WANTED)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    with Nats(tmp_path_factory.mktemp("nats"), DURABLES, (DOCUMENTED, LENDER)) as running:
        yield running


@asynccontextmanager
async def user(server: Nats, name: str) -> AsyncIterator[tuple[Client, list[str]]]:
    """A connection, and what the server refused to it."""
    refused: list[str] = []

    async def on_error(error: Exception) -> None:
        refused.append(str(error))

    client = await nats.connect(
        server.url(name), inbox_prefix=f"_INBOX_{name}", error_cb=on_error, allow_reconnect=False
    )
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
        report = await provision(client, [one for one in WANTED if one.owner != "escrow"])
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


@pytest.mark.parametrize(
    ("name", "refuses"), [("compliance", False), ("transactions", True), ("subscriber", True), ("lender", True)]
)
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


async def read_all(client: Client, subject: str) -> list[tuple[str, bytes]]:
    """Through a pull consumer of the client's own."""
    config = ConsumerConfig(ack_policy=AckPolicy.NONE)
    pull = await client.jetstream(timeout=1).pull_subscribe(subject, stream="ESCROW", config=config)
    count = (await pull.consumer_info()).num_pending or 0
    return [(one.subject, one.data) for one in await pull.fetch(count, timeout=5)]


async def publish(server: Nats, *subjects: str) -> None:
    async with user(server, "escrow") as (client, _):
        for subject in subjects:
            await client.jetstream().publish(subject, subject.encode())


async def test_a_reader_sees_every_posting_from_the_first_and_hears_the_next(provisioned: Nats) -> None:
    await publish(provisioned, POSTED, POSTED_ELSEWHERE)
    async with user(provisioned, "subscriber") as (client, refused):
        assert {subject for subject, _ in await read_all(client, "realco.escrow.v1.*.*.>")} >= {
            POSTED,
            POSTED_ELSEWHERE,
        }
        live = await client.subscribe("realco.escrow.v1.*.*.>")
        await client.flush()
        await publish(provisioned, POSTED)
        assert (await live.next_msg(timeout=5)).subject == POSTED
        assert refused == []


async def test_a_team_reads_its_organization_and_no_other(provisioned: Nats) -> None:
    await publish(provisioned, POSTED, POSTED_ELSEWHERE)
    async with user(provisioned, "lender") as (client, refused):
        assert {subject for subject, _ in await read_all(client, "realco.escrow.v1.*.org_1.>")} == {POSTED}
        assert refused == []
        for foreign in ("realco.escrow.v1.*.org_2.>", "realco.escrow.v1.*.*.>", "realco.escrow.v1.>", ">"):
            with pytest.raises(nats.errors.TimeoutError):
                await read_all(client, foreign)
            assert "permissions violation" in refused.pop()


@pytest.mark.parametrize(
    "filters",
    [
        {"filter_subject": "realco.escrow.v1.*.org_2.>"},
        {"filter_subjects": ["realco.escrow.v1.*.org_2.>"]},
        {"filter_subject": "realco.escrow.v1.*.org_1.>", "filter_subjects": ["realco.escrow.v1.*.org_2.>"]},
        {"filter_subject": ">"},
        {},
    ],
)
async def test_a_request_s_subject_cannot_say_one_filter_and_its_body_another(
    provisioned: Nats, filters: dict[str, object]
) -> None:
    async with user(provisioned, "lender") as (client, _):
        subject = "$JS.API.CONSUMER.CREATE.ESCROW.sly.realco.escrow.v1.*.org_1.>"
        body = {"stream_name": "ESCROW", "config": {"name": "sly", "ack_policy": "none", **filters}}
        answer = json.loads((await client.request(subject, json.dumps(body).encode(), timeout=5)).data)
        assert "filter" in answer["error"]["description"]


@pytest.mark.parametrize("durable", ["compliance_audit", "lender_postings"])
async def test_a_team_makes_alters_and_removes_no_durable(provisioned: Nats, durable: str) -> None:
    async with user(provisioned, "lender") as (client, refused):
        js = client.jetstream(timeout=0.3)
        mine = ConsumerConfig(name=durable, filter_subject="realco.escrow.v1.*.org_1.>")
        for attempt in (js.add_consumer("ESCROW", mine), js.delete_consumer("ESCROW", durable)):
            with pytest.raises(nats.errors.TimeoutError):
                await attempt
        assert len(refused) == 2
    async with user(provisioned, "provisioner") as (client, _):
        assert (await provision(client, WANTED, change=False)).drift == []


async def test_a_team_s_durable_hears_its_organization_and_remembers_what_was_acknowledged(tmp_path: Path) -> None:
    def server() -> Nats:
        return Nats(tmp_path, DURABLES, (DOCUMENTED, LENDER))

    async def take(running: Nats, count: int) -> list[bytes]:
        async with user(running, "lender") as (client, refused):
            pull = await client.jetstream().pull_subscribe_bind("lender_postings", stream="ESCROW")
            taken = []
            for _ in range(count):
                [message] = await pull.fetch(1, timeout=5)
                await message.ack_sync(timeout=5)
                taken.append(message.data)
            with pytest.raises(nats.errors.TimeoutError):
                await pull.fetch(1, timeout=0.2)
            assert refused == []
            return taken

    with server() as first:
        async with user(first, "provisioner") as (client, _):
            await provision(client, WANTED)
        await publish(first, POSTED, POSTED_ELSEWHERE)
        assert await take(first, 1) == [POSTED.encode()]
    with server() as again:
        await publish(again, POSTED_ELSEWHERE, POSTED)
        assert await take(again, 1) == [POSTED.encode()]


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
