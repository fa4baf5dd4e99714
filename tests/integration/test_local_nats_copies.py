"""The copies of our streams that teams outside have: what they were granted, all of it, and nothing else."""

from __future__ import annotations

import shutil
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import nats
import nats.errors
import psutil
import pytest
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import BadRequestError

from deploy.local.nats import Nats
from deploy.provision import copy_configuration, copying_consumer, provision
from deploy.teams import DOCUMENTED, Copy, Team, list_copies
from deploy.topology import SERVICE_NAMES
from services.chassis.events import streams
from services.chassis.events.subjects import EVENTS_ACCOUNT
from tests.support.chassis import until
from tests.support.nats_users import LENDER, user
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
            assert refused == set()


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
            assert refused == set()
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
            report = await provision(client, list_copies([DOCUMENTED, more]))
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


async def test_a_team_that_is_taken_out_of_the_file_stops_nobody_and_finds_its_events_when_it_is_back(
    tmp_path: Path,
) -> None:
    with Nats(tmp_path, TEAMS) as server:
        await provision_once(server)
        await publish(server, POSTED)
        async with user(server, "lender") as (client, _):
            await copied(client, 1)
            await client.jetstream().pull_subscribe(">", durable="mine", stream="ESCROW")
    with Nats(tmp_path) as server:
        async with user(server, "provisioner") as (client, _):
            compared = await provision(client, list_copies([DOCUMENTED]), change=False)
            [left] = compared.drift
            assert left == "consumer ESCROW.copy-lender is there, and fills no copy"
            report = await provision(client, list_copies([DOCUMENTED]))
            assert (report.lines, report.drift) == (["consumer ESCROW.copy-lender removed, for it fills no copy"], [])
        await publish(server, POSTED)
        with pytest.raises(nats.errors.Error):
            await nats.connect(server.url("subscriber").replace("subscriber", "lender", 1), allow_reconnect=False)
    with Nats(tmp_path, TEAMS) as server:
        await provision_once(server)
        async with user(server, "lender") as (client, _):
            await copied(client, 2)
            pull = await client.jetstream().pull_subscribe(">", durable="mine", stream="ESCROW")
            assert [message.subject for message in await pull.fetch(2, timeout=5)] == [POSTED, POSTED]


@pytest.mark.parametrize(
    ("account", "fault"),
    [("lender", "lacks 1 events"), (EVENTS_ACCOUNT, "has 1 events more than our stream")],
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


async def test_a_copy_whose_team_leaves_no_room_to_count_what_it_has_is_told(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        server = stack.enter_context(Nats(tmp_path, TEAMS))
        await provision_once(server)
        client, _ = await stack.enter_async_context(user(server, "provisioner"))
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
