"""The embedded NATS: every acknowledged message on the disk, and each user within its subjects."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import nats
import nats.errors
import psutil
import pytest
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from deploy.local.nats import Nats
from deploy.provision import provision
from deploy.teams import DOCUMENTED
from deploy.topology import STREAMS
from services.chassis.events import streams
from services.chassis.events.reader import Reader
from services.chassis.events.stored import EVENTS_KEPT_DAYS
from services.chassis.events.subjects import told_subject
from tests.support.nats_users import user
from tests.support.team_copies import (
    COPIES,
    POSTED,
    POSTED_ELSEWHERE,
    TEAMS,
    copied,
    provision_once,
    publish,
    read_all,
)

SETTLED = "realco.transactions.v1.TransactionSettled.org_1.esc_1"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    with Nats(tmp_path_factory.mktemp("nats"), TEAMS) as running:
        yield running


@pytest.fixture
async def provisioned(server: Nats) -> Nats:
    async with user(server, "provisioner") as (client, _):
        assert (await provision(client, COPIES)).drift == []
    return server


async def test_a_second_run_of_the_provisioner_changes_nothing_and_drift_is_put_right(provisioned: Nats) -> None:
    async with user(provisioned, "provisioner") as (client, _):
        assert (await provision(client, COPIES)).lines == []
        js = streams.jetstream(client)
        right = (await js.stream_info("ESCROW")).config
        await js.update_stream(right.evolve(allow_direct=False))
        compared = await provision(client, COPIES, change=False)
        assert (compared.lines, compared.drift) == ([], ["stream ESCROW: allow_direct is not set, wanted true"])
        mended = await provision(client, COPIES)
        assert (mended.lines, mended.drift) == (["stream ESCROW updated"], [])


async def test_the_server_forgets_events_after_the_promised_days_and_nothing_else(provisioned: Nats) -> None:
    async with user(provisioned, "provisioner") as (client, _):
        js = streams.jetstream(client)
        kept = {stream.name: (await js.stream_info(stream.name)).config.max_age for stream in STREAMS}
        promised = EVENTS_KEPT_DAYS * 24 * 3600
        assert kept == dict.fromkeys((stream.name for stream in STREAMS), promised)
        for copy in COPIES:
            config = (await client.jetstream(prefix=f"$JS.{copy.team}.API").stream_info(copy.stream)).config
            assert config.max_age == promised + 3600
        escrow_stream = (await js.stream_info("ESCROW")).config
        await js.update_stream(escrow_stream.evolve(max_age=24 * 3600))
        assert (await provision(client, COPIES)).lines == ["stream ESCROW updated"]


async def test_whoever_has_one_password_fills_no_more_of_the_disk_with_the_log_than_its_bound(server: Nats) -> None:
    """Each subject that is refused is a line of it, as long as the subject."""
    logs = server.data_dir / "logs"
    async with user(server, "compliance") as (client, _):
        for _ in range(12):
            for _ in range(1000):
                await client.publish("x" * 3000)
            await client.flush()
    files = list(logs.glob("nats.log*"))
    assert 1 < len(files) <= 3
    assert sum(file.stat().st_size for file in files) < 31_000_000
    assert "Publish Violation" in (logs / "nats.log").read_text()


async def test_what_has_no_place_is_found_whatever_its_kind_and_what_a_team_makes_of_its_own_is_not(
    provisioned: Nats,
) -> None:
    """Whoever has the provisioner's password sends events to where they do not belong, or keeps them there."""
    async with user(provisioned, "provisioner") as (client, _), user(provisioned, "lender") as (team, refused):
        js = streams.jetstream(client)
        hidden = client.jetstream(prefix="$JS.lender.API")
        await team.jetstream().pull_subscribe(">", stream="ESCROW")
        await team.jetstream().pull_subscribe(">", durable="mine", stream="ESCROW")
        assert ((await provision(client, COPIES, change=False)).drift, refused) == ([], set())

        pushing = ConsumerConfig(
            name="pushing", deliver_subject="_copies.lender.ESCROW", ack_policy=AckPolicy.NONE, inactive_threshold=3600
        )
        await js.add_consumer("COMPLIANCE", pushing)
        in_our_name = "escrow-on-transactions"
        await js.add_consumer("TRANSACTIONS", ConsumerConfig(name=in_our_name, durable_name=in_our_name))
        await hidden.add_stream(name="SPARE", subjects=["_copies.lender.TRANSACTIONS"])
        for change in (False, True):
            assert (await provision(client, COPIES, change=change)).drift == [
                "consumer TRANSACTIONS.escrow-on-transactions is there, and fills no copy",
                "consumer COMPLIANCE.pushing is there, and fills no copy",
                "stream lender.SPARE is there, and is neither ours nor a copy",
            ]
        for stream, consumer in (("COMPLIANCE", "pushing"), ("TRANSACTIONS", in_our_name)):
            await js.delete_consumer(stream, consumer)
        await hidden.delete_stream("SPARE")


async def test_a_reader_sees_every_posting_from_the_first_and_hears_the_next(tmp_path: Path) -> None:
    with Nats(tmp_path, TEAMS) as server:
        await provision_once(server)
        await publish(server, POSTED, POSTED_ELSEWHERE)
        async with user(server, "subscriber") as (client, refused):
            await copied(client, 2)
            assert await read_all(client, "realco.escrow.v1.*.*.>") == [POSTED, POSTED_ELSEWHERE]
            pull = await client.jetstream().pull_subscribe(
                POSTED, stream="ESCROW", config=ConsumerConfig(deliver_policy=DeliverPolicy.NEW)
            )
            await publish(server, POSTED)
            [message] = await pull.fetch(1, timeout=5)
            await message.ack_sync(timeout=5)
            assert (message.subject, refused) == (POSTED, set())


async def test_a_wrong_password_is_refused_and_none_is_in_the_configuration(server: Nats) -> None:
    with pytest.raises(nats.errors.Error):
        await nats.connect(f"nats://escrow:guess@127.0.0.1:{server.port}", allow_reconnect=False)
    configuration = (server.data_dir / "nats" / "nats.conf").read_text()
    assert "$2b$" in configuration
    assert server.url("escrow").split(":")[2].split("@")[0] not in configuration
    assert "Plaintext" not in server.program.log.read_text()


async def test_acknowledged_messages_ports_and_passwords_outlive_a_kill(tmp_path: Path) -> None:
    with Nats(tmp_path) as first:
        await provision_once(first, (DOCUMENTED,))
        async with user(first, "escrow") as (client, _):
            for number in range(100):
                await client.jetstream().publish(POSTED, b"fact", headers={"Nats-Msg-Id": str(number)})
        assert first.program.pid is not None
        psutil.Process(first.program.pid).kill()
        first.program.wait(5)
    with Nats(tmp_path) as again:
        assert again.url("escrow") == first.url("escrow")
        async with user(again, "subscriber") as (client, _):
            await copied(client, 100)
            assert (await client.jetstream().stream_info("ESCROW")).state.messages == 100
        async with user(again, "escrow") as (client, _):  # a publisher that never heard of its success tries again
            ack = await client.jetstream().publish(POSTED, b"fact", headers={"Nats-Msg-Id": "99"})
            assert ack.duplicate


async def test_a_service_reads_what_it_hears_in_order_and_is_told_that_there_is_more(provisioned: Nats) -> None:
    """From account to account: compliance hears transactions, and neither of them hears the other's inbox."""
    told = asyncio.Event()

    async def hear(_: Msg) -> None:
        told.set()

    async with user(provisioned, "compliance") as (client, refused), user(provisioned, "transactions") as (teller, _):
        await client.subscribe(told_subject("transactions"), cb=hear)
        reader = Reader(streams.jetstream(client), "TRANSACTIONS")
        assert await reader.read(0, 10) == []
        for number in range(300):
            await teller.jetstream().publish(SETTLED, b"%d" % number)
        await teller.publish(told_subject("transactions"))
        await asyncio.wait_for(told.wait(), 5)
        heard = await reader.read(0, 256)
        heard += await reader.read(len(heard), 256)
        assert [(one.sequence, one.subject, one.data) for one in heard] == [
            (number + 1, SETTLED, b"%d" % number) for number in range(300)
        ]
        assert refused == set()
