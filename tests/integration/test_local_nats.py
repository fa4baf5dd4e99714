"""The embedded NATS: every acknowledged message on the disk, and each user within its subjects."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import nats.errors
import psutil
import pytest
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from realco.escrow.v1 import events_pb2 as escrow
from realco.transactions.v1 import events_pb2 as transactions

from deploy.consumers import consumers_of, list_copies
from deploy.local.nats import Nats
from deploy.provision import provision
from deploy.teams import DOCUMENTED, Team
from deploy.topology import AREA_STREAMS, STREAMS
from services.chassis.events import streams
from services.chassis.events.consumer import Subscription
from services.chassis.events.stored import EVENTS_KEPT_DAYS
from tests.support.chassis import until

POSTED = "realco.escrow.v1.JournalEntriesPosted.org_1.esc_1"
POSTED_ELSEWHERE = "realco.escrow.v1.JournalEntriesPosted.org_2.esc_2"
SETTLED = "realco.transactions.v1.TransactionSettled.org_1.esc_1"


async def handle(tx: object, event: object, meta: object) -> None:
    pass


WANTED = [
    *consumers_of("compliance", Subscription("compliance_audit", {escrow.JournalEntriesPosted: handle}, False)),
    *consumers_of("escrow", Subscription("escrow_money", {transactions.TransactionSettled: handle}, True)),
]
LENDER = Team(name="lender", organizations=("org_1",), events=("escrow.*",))
TEAMS = (DOCUMENTED, LENDER)
COPIES = list_copies(TEAMS)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    with Nats(tmp_path_factory.mktemp("nats"), WANTED, TEAMS) as running:
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
        assert (await provision(client, WANTED, COPIES)).drift == []
    return server


async def test_a_second_run_of_the_provisioner_changes_nothing_and_drift_is_put_right(provisioned: Nats) -> None:
    async with user(provisioned, "provisioner") as (client, _):
        assert (await provision(client, WANTED, COPIES)).lines == []
        js = streams.jetstream(client)
        info = await js.consumer_info("ESCROW", "compliance_audit")
        await js.add_consumer("ESCROW", info.config.evolve(max_ack_pending=7, name="compliance_audit"))
        compared = await provision(client, WANTED, COPIES, change=False)
        assert (compared.lines, compared.drift) == (
            [],
            ["consumer ESCROW.compliance_audit: max_ack_pending is 7, wanted 1"],
        )
        mended = await provision(client, WANTED, COPIES)
        assert (mended.lines, mended.drift) == (["consumer ESCROW.compliance_audit created"], [])


async def test_the_server_forgets_events_after_the_promised_days_and_nothing_else(provisioned: Nats) -> None:
    async with user(provisioned, "provisioner") as (client, _):
        js = streams.jetstream(client)
        kept = {stream.name: (await js.stream_info(stream.name)).config.max_age for stream in STREAMS}
        promised = EVENTS_KEPT_DAYS * 24 * 3600
        assert kept == dict.fromkeys((stream.name for stream in AREA_STREAMS), promised) | {
            "POSITIONS": 0,
        }
        for copy in COPIES:
            config = (await client.jetstream(prefix=f"$JS.{copy.team}.API").stream_info(copy.stream)).config
            assert config.max_age == promised + 3600
        escrow_stream = (await js.stream_info("ESCROW")).config
        await js.update_stream(escrow_stream.evolve(max_age=24 * 3600))
        assert (await provision(client, WANTED, COPIES)).lines == ["stream ESCROW updated"]


async def test_a_durable_that_nobody_subscribes_with_is_reported_and_left_alone(provisioned: Nats) -> None:
    async with user(provisioned, "provisioner") as (client, _):
        report = await provision(client, [one for one in WANTED if one.owner != "escrow"], COPIES)
        assert [line.split(" is there")[0] for line in report.drift] == [
            "consumer TRANSACTIONS.escrow_money",
        ]
        assert (await provision(client, WANTED, COPIES)).lines == []


async def test_what_has_no_place_is_found_whatever_its_kind_and_what_a_team_makes_of_its_own_is_not(
    provisioned: Nats,
) -> None:
    """Whoever has the provisioner's password sends events to where they do not belong, or keeps them there."""
    async with user(provisioned, "provisioner") as (client, _), user(provisioned, "lender") as (team, refused):
        js = streams.jetstream(client)
        hidden = client.jetstream(prefix="$JS.lender.API")
        await team.jetstream().pull_subscribe(">", stream="ESCROW")
        await team.jetstream().pull_subscribe(">", durable="mine", stream="ESCROW")
        assert ((await provision(client, WANTED, COPIES, change=False)).drift, refused) == ([], [])

        pushing = ConsumerConfig(
            name="pushing", deliver_subject="_copies.lender.ESCROW", ack_policy=AckPolicy.NONE, inactive_threshold=3600
        )
        await js.add_consumer("COMPLIANCE", pushing)
        await js.add_consumer("POSITIONS", ConsumerConfig(name="pulling", inactive_threshold=3600))
        await hidden.add_stream(name="SPARE", subjects=["_copies.lender.TRANSACTIONS"])
        for change in (False, True):
            assert (await provision(client, WANTED, COPIES, change=change)).drift == [
                "consumer COMPLIANCE.pushing is there, and neither a service nor a team has it",
                "consumer POSITIONS.pulling is there, and neither a service nor a team has it",
                "stream lender.SPARE is there, and is neither ours nor a copy",
            ]
        for stream, consumer in (("COMPLIANCE", "pushing"), ("POSITIONS", "pulling")):
            await js.delete_consumer(stream, consumer)
        await hidden.delete_stream("SPARE")


async def read_all(client: Client, subject: str) -> list[str]:
    """Through a pull consumer of the client's own."""
    config = ConsumerConfig(ack_policy=AckPolicy.NONE)
    pull = await client.jetstream(timeout=1).pull_subscribe(subject, stream="ESCROW", config=config)
    count = (await pull.consumer_info()).num_pending or 0
    return [one.subject for one in await pull.fetch(count, timeout=5)] if count else []


async def publish(server: Nats, *subjects: str) -> None:
    async with user(server, "escrow") as (client, _):
        for subject in subjects:
            await client.jetstream().publish(subject, subject.encode(), stream="ESCROW")


async def copied(client: Client, count: int) -> None:
    """Waits until the team's copy has as many messages."""

    async def there() -> bool:
        return (await client.jetstream().stream_info("ESCROW")).state.messages >= count

    await until(there)


async def test_a_reader_sees_every_posting_from_the_first_and_hears_the_next(tmp_path: Path) -> None:
    with Nats(tmp_path, WANTED, TEAMS) as server:
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
            assert (message.subject, refused) == (POSTED, [])


async def test_a_team_has_its_organization_s_events_and_no_others(tmp_path: Path) -> None:
    with Nats(tmp_path, WANTED, TEAMS) as server:
        await provision_once(server)
        await publish(server, POSTED_ELSEWHERE, POSTED, POSTED_ELSEWHERE, POSTED)
        async with user(server, "lender") as (client, refused):
            await copied(client, 2)
            for everything in ("realco.escrow.v1.*.*.>", ">"):
                assert await read_all(client, everything) == [POSTED, POSTED]
            assert await read_all(client, "realco.escrow.v1.*.org_2.>") == []
            state = (await client.jetstream().stream_info("ESCROW", subjects_filter=">")).state
            assert state.subjects == {POSTED: 2}
            assert (await client.jetstream().account_info()).streams == 1
            assert refused == []


async def test_a_team_s_own_durable_goes_on_over_restarts_and_when_the_team_is_granted_more(tmp_path: Path) -> None:
    async def take(running: Nats, count: int) -> list[str]:
        async with user(running, "lender") as (client, refused):
            pull = await client.jetstream().pull_subscribe(">", durable="postings", stream="ESCROW")
            taken = []
            for _ in range(count):
                [message] = await pull.fetch(1, timeout=5)
                await message.ack_sync(timeout=5)
                taken.append(message.subject)
            with pytest.raises(nats.errors.TimeoutError):
                await pull.fetch(1, timeout=0.2)
            assert refused == []
            return taken

    with Nats(tmp_path, WANTED, TEAMS) as first:
        await provision_once(first)
        await publish(first, POSTED, POSTED_ELSEWHERE)
        assert await take(first, 1) == [POSTED]
        assert first.program.pid is not None
        psutil.Process(first.program.pid).kill()
        first.program.wait(5)
    more = LENDER.model_copy(update={"organizations": ("org_1", "org_2")})
    with Nats(tmp_path, WANTED, (DOCUMENTED, more)) as again:
        await publish(again, POSTED, POSTED_ELSEWHERE)
        assert await take(again, 1) == [POSTED]
        async with user(again, "provisioner") as (client, _):
            report = await provision(client, WANTED, list_copies([more]))
        assert report.lines == ["copy of ESCROW for lender made"]
        assert await take(again, 1) == [POSTED_ELSEWHERE]  # the one after what it had acknowledged
        async with user(again, "lender") as (client, _):
            await copied(client, 4)
            assert len(await read_all(client, ">")) == 4


async def test_what_a_team_is_no_longer_granted_leaves_its_copy(tmp_path: Path) -> None:
    both = LENDER.model_copy(update={"organizations": ("org_1", "org_2")})
    with Nats(tmp_path, WANTED, (both,)) as server:
        await provision_once(server, (both,))
        await publish(server, POSTED, POSTED_ELSEWHERE)
        async with user(server, "lender") as (client, _):
            await copied(client, 2)
            await provision_once(server, (LENDER,))
            await copied(client, 1)
            assert await read_all(client, ">") == [POSTED]


async def test_a_copy_that_a_power_cut_has_shortened_is_found_and_made_anew(tmp_path: Path) -> None:
    here, kept = tmp_path / "nats" / "store" / "jetstream" / "lender", tmp_path / "kept"
    with Nats(tmp_path, WANTED, TEAMS) as server:
        await provision_once(server)
        await publish(server, POSTED)
        async with user(server, "lender") as (client, _):
            await copied(client, 1)
    shutil.copytree(here, kept)
    with Nats(tmp_path, WANTED, TEAMS) as server:
        await publish(server, POSTED)
        async with user(server, "lender") as (client, _):
            await copied(client, 2)
        async with user(server, "provisioner") as (client, _):
            await until(lambda: all_acknowledged(client))
    shutil.rmtree(here)
    kept.rename(here)
    with Nats(tmp_path, WANTED, TEAMS) as server:
        async with user(server, "provisioner") as (client, _):
            compared = await provision(client, WANTED, COPIES, change=False)
            assert compared.drift == ["copy of ESCROW for lender lacks 1 events"]
            assert (await provision(client, WANTED, COPIES)).lines == ["copy of ESCROW for lender made"]
        async with user(server, "lender") as (client, _):
            await copied(client, 2)


async def all_acknowledged(provisioner: Client) -> bool:
    info = await streams.jetstream(provisioner).consumer_info("ESCROW", "copy-lender")
    return bool(info.ack_floor and info.ack_floor.stream_seq == 2)


async def provision_once(server: Nats, teams: Sequence[Team] = TEAMS) -> None:
    async with user(server, "provisioner") as (client, _):
        assert (await provision(client, WANTED, list_copies(teams))).drift == []


async def test_a_wrong_password_is_refused_and_none_is_in_the_configuration(server: Nats) -> None:
    with pytest.raises(nats.errors.Error):
        await nats.connect(f"nats://escrow:guess@127.0.0.1:{server.port}", allow_reconnect=False)
    configuration = (server.data_dir / "nats" / "nats.conf").read_text()
    assert "$2b$" in configuration
    assert server.url("escrow").split(":")[2].split("@")[0] not in configuration
    assert "Plaintext" not in server.program.log.read_text()


async def test_acknowledged_messages_ports_and_passwords_outlive_a_kill(tmp_path: Path) -> None:
    with Nats(tmp_path, WANTED) as first:
        await provision_once(first, (DOCUMENTED,))
        async with user(first, "escrow") as (client, _):
            for number in range(100):
                await client.jetstream().publish(POSTED, b"fact", headers={"Nats-Msg-Id": str(number)})
        assert first.program.pid is not None
        psutil.Process(first.program.pid).kill()
        first.program.wait(5)
    with Nats(tmp_path, WANTED) as again:
        assert again.url("escrow") == first.url("escrow")
        async with user(again, "subscriber") as (client, _):
            await copied(client, 100)
            assert (await client.jetstream().stream_info("ESCROW")).state.messages == 100
        async with user(again, "escrow") as (client, _):  # a publisher that never heard of its success tries again
            ack = await client.jetstream().publish(POSTED, b"fact", headers={"Nats-Msg-Id": "99"})
            assert ack.duplicate


async def test_a_service_is_let_in_to_a_new_durable_while_the_server_runs(tmp_path: Path) -> None:
    with Nats(tmp_path) as server:
        await provision_once(server, (DOCUMENTED,))
        async with user(server, "escrow") as (escrow_client, _):
            server.permit(WANTED)
            await escrow_client.jetstream().publish(POSTED, b"fact")  # who was connected stays so
        async with user(server, "compliance") as (client, _):
            subscription = await streams.jetstream(client).pull_subscribe_bind("compliance_audit", stream="ESCROW")
            [message] = await subscription.fetch(1, timeout=5)
            await message.ack_sync(timeout=5)
