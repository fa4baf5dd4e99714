"""The embedded NATS: every acknowledged message on the disk, and each user within its subjects."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import nats
import nats.errors
import psutil
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import BadRequestError

from deploy.local.nats import Nats
from deploy.provision import copy_configuration, copying_consumer, provision
from deploy.teams import DOCUMENTED, Copy, Team, list_copies
from deploy.topology import SERVICE_NAMES, STREAMS
from services.chassis.events import streams
from services.chassis.events.stored import EVENTS_KEPT_DAYS
from tests.support.chassis import until

POSTED = "realco.escrow.v1.JournalEntriesPosted.org_1.esc_1"
POSTED_ELSEWHERE = "realco.escrow.v1.JournalEntriesPosted.org_2.esc_2"
SETTLED = "realco.transactions.v1.TransactionSettled.org_1.esc_1"


LENDER = Team(name="lender", organizations=("org_1",), events=("escrow.*",))
TEAMS = (DOCUMENTED, LENDER)
COPIES = list_copies(TEAMS)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    with Nats(tmp_path_factory.mktemp("nats"), TEAMS) as running:
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


async def test_what_has_no_place_is_found_whatever_its_kind_and_what_a_team_makes_of_its_own_is_not(
    provisioned: Nats,
) -> None:
    """Whoever has the provisioner's password sends events to where they do not belong, or keeps them there."""
    async with user(provisioned, "provisioner") as (client, _), user(provisioned, "lender") as (team, refused):
        js = streams.jetstream(client)
        hidden = client.jetstream(prefix="$JS.lender.API")
        await team.jetstream().pull_subscribe(">", stream="ESCROW")
        await team.jetstream().pull_subscribe(">", durable="mine", stream="ESCROW")
        assert ((await provision(client, COPIES, change=False)).drift, refused) == ([], [])

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
            assert (message.subject, refused) == (POSTED, [])


async def test_a_team_has_its_organization_s_events_and_no_others(tmp_path: Path) -> None:
    with Nats(tmp_path, TEAMS) as server:
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

    with Nats(tmp_path, TEAMS) as first:
        await provision_once(first)
        await publish(first, POSTED, POSTED_ELSEWHERE)
        assert await take(first, 1) == [POSTED]
        assert first.program.pid is not None
        psutil.Process(first.program.pid).kill()
        first.program.wait(5)
    more = LENDER.model_copy(update={"organizations": ("org_1", "org_2")})
    with Nats(tmp_path, (DOCUMENTED, more)) as again:
        await publish(again, POSTED, POSTED_ELSEWHERE)
        assert await take(again, 1) == [POSTED]
        async with user(again, "provisioner") as (client, _):
            report = await provision(client, list_copies([more]))
        assert report.lines == ["copy of ESCROW for lender made"]
        assert await take(again, 1) == [POSTED_ELSEWHERE]  # the one after what it had acknowledged
        async with user(again, "lender") as (client, _):
            await copied(client, 4)
            assert len(await read_all(client, ">")) == 4


async def test_what_a_team_is_no_longer_granted_leaves_its_copy(tmp_path: Path) -> None:
    both = LENDER.model_copy(update={"organizations": ("org_1", "org_2")})
    with Nats(tmp_path, (both,)) as server:
        await provision_once(server, (both,))
        await publish(server, POSTED, POSTED_ELSEWHERE)
        async with user(server, "lender") as (client, _):
            await copied(client, 2)
            await provision_once(server, (LENDER,))
            await copied(client, 1)
            assert await read_all(client, ">") == [POSTED]


@pytest.mark.parametrize(
    ("account", "fault"),
    [("lender", "lacks 1 events"), (streams.EVENTS_ACCOUNT, "has 1 events more than our stream")],
)
async def test_a_copy_beside_which_a_power_cut_has_shortened_the_one_or_the_other_is_found_and_made_anew(
    tmp_path: Path, account: str, fault: str
) -> None:
    here, kept = tmp_path / "nats" / "store" / "jetstream" / account, tmp_path / "kept"
    with Nats(tmp_path, TEAMS) as server:
        await provision_once(server)
        await publish(server, POSTED)
        async with user(server, "lender") as (client, _):
            await copied(client, 1)
    shutil.copytree(here, kept)
    with Nats(tmp_path, TEAMS) as server:
        await publish(server, POSTED)
        async with user(server, "lender") as (client, _):
            await copied(client, 2)
        async with user(server, "provisioner") as (client, _):
            await until(lambda: all_acknowledged(client))
    shutil.rmtree(here)
    kept.rename(here)
    with Nats(tmp_path, TEAMS) as server:
        async with user(server, "provisioner") as (client, _):
            compared = await provision(client, COPIES, change=False)
            told = f"copy of ESCROW for lender {fault}: run the provisioner, which makes it anew"
            assert [said for said in compared.drift if "lender" in said] == [told]
            assert f"copy of ESCROW for lender made; it {fault}" in (await provision(client, COPIES)).lines
            assert (await provision(client, COPIES, change=False)).drift == []


async def pour_everything(client: Client, copy: Copy) -> None:
    """As whoever has the provisioner's password: the team gets all organizations' events, and all is put back."""
    ours, theirs = streams.jetstream(client), client.jetstream(prefix=f"$JS.{copy.team}.API")
    await theirs.delete_stream(copy.stream)
    await ours.delete_consumer(copy.stream, copy.consumer)
    wide = copying_consumer(copy).evolve(filter_subjects=[f"realco.{copy.stream.lower()}.v1.>"])
    await ours.add_consumer(copy.stream, wide)
    await theirs.add_stream(copy_configuration(copy))

    async def is_poured() -> bool:
        return (await theirs.stream_info(copy.stream)).state.messages == 2

    await until(is_poured)
    await ours.add_consumer(copy.stream, copying_consumer(copy))


async def test_what_was_poured_into_a_team_s_copies_is_found_after_all_was_put_back_and_leaves_them(
    tmp_path: Path,
) -> None:
    """Of every stream; the team's own durable goes on after what it had acknowledged."""
    team = Team(name="lender", organizations=("org_1",))
    async with AsyncExitStack() as stack:
        server = stack.enter_context(Nats(tmp_path, (team,)))
        await provision_once(server, (team,))
        for service in SERVICE_NAMES:
            async with user(server, service) as (teller, _):
                for organization in ("org_2", "org_1"):
                    await teller.jetstream().publish(f"realco.{service}.v1.AnyEvent.{organization}.x", b"fact")
        client, _ = await stack.enter_async_context(user(server, "provisioner"))
        lender, _ = await stack.enter_async_context(user(server, "lender"))
        await copied(lender, 1)
        for copy in team.copies():
            await pour_everything(client, copy)
        pull = await lender.jetstream().pull_subscribe(">", durable="mine", stream="ESCROW")
        for message in await pull.fetch(2, timeout=5):
            await message.ack_sync(timeout=5)
        compared = await provision(client, team.copies(), change=False)
        assert compared.drift == [
            f"copy of {copy.stream} for lender has 1 events that the team is not granted, such as"
            f" realco.{copy.stream.lower()}.v1.AnyEvent.org_2.x: run the provisioner, which makes it anew"
            for copy in team.copies()
        ]
        assert len((await provision(client, team.copies())).lines) == len(SERVICE_NAMES)
        assert (await provision(client, team.copies(), change=False)).drift == []
        await copied(lender, 1)
        assert await read_all(lender, ">") == ["realco.escrow.v1.AnyEvent.org_1.x"]
        await publish(server, POSTED)
        assert [message.subject for message in await pull.fetch(1, timeout=5)] == [POSTED]


async def test_a_copy_whose_team_leaves_no_room_to_count_what_it_has_is_told(provisioned: Nats) -> None:
    async with user(provisioned, "provisioner") as (client, _):
        hidden = client.jetstream(prefix="$JS.lender.API")
        made: list[str] = []
        with suppress(BadRequestError):
            while len(made) < 65:
                config = ConsumerConfig(name=f"reader-{len(made)}", ack_policy=AckPolicy.NONE, inactive_threshold=3600)
                made.append((await hidden.add_consumer("ESCROW", config)).name)
        [fault] = (await provision(client, COPIES, change=False)).drift
        assert fault.startswith("copy of ESCROW for lender has events that cannot be counted (maximum consumers")
        for name in made:
            await hidden.delete_consumer("ESCROW", name)
        assert (await provision(client, COPIES, change=False)).drift == []


async def all_acknowledged(provisioner: Client) -> bool:
    info = await streams.jetstream(provisioner).consumer_info("ESCROW", "copy-lender")
    return bool(info.ack_floor and info.ack_floor.stream_seq == 2)


async def provision_once(server: Nats, teams: Sequence[Team] = TEAMS) -> None:
    async with user(server, "provisioner") as (client, _):
        assert (await provision(client, list_copies(teams))).drift == []


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
        await client.subscribe(streams.told_subject("transactions"), cb=hear)
        async with streams.Reader(streams.jetstream(client), "TRANSACTIONS") as reader:
            assert await reader.read(0, 10) == []
            for number in range(300):
                await teller.jetstream().publish(SETTLED, b"%d" % number)
            await teller.publish(streams.told_subject("transactions"))
            await asyncio.wait_for(told.wait(), 5)
            heard = await reader.read(0, 256)
            heard += await reader.read(len(heard), 256)
        assert [(one.sequence, one.subject, one.data) for one in heard] == [
            (number + 1, SETTLED, b"%d" % number) for number in range(300)
        ]
        assert refused == []
