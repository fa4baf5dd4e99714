"""A consumer that lets events pass is noticed by its service within seconds, and mended without losing one."""

from __future__ import annotations

import asyncio
import shutil

import pytest
import sqlalchemy as sa
from nats.js.api import DeliverPolicy

from deploy.consumers import Consumer, consumers_of
from deploy.local.nats import EVERYTHING, Nats
from deploy.provision import provision
from services.chassis.data.migrate import begin_incarnation
from services.chassis.data.positions import OutOfTurn, find_position, record_position, set_position
from services.chassis.data.tables import handled_positions
from services.chassis.events import streams, watch
from services.chassis.events.losses import Losses
from services.chassis.events.step_over import step_over
from services.chassis.events.stored import stream_of_area
from services.chassis.events.stream_watch import find_stream_faults
from services.chassis.events.watch import Watch
from services.chassis.values.position import Position
from tests.support import chassis
from tests.support.chassis_events import emit, relaying, running, unpublished
from tests.support.event_keys import event_keys, signed
from tests.support.inbox import Inbox, consuming, dead_letters

EVENT = "realco.escrow.v1.HoldPlaced"
ELSEWHERE = "realco.escrow.v1.HoldReleased.>"
NOTICED_SECONDS = 5


def consumer_of(inbox: Inbox) -> Consumer:
    return next(one for one in consumers_of("escrow", inbox.subscription) if one.stream == "ESCROW")


async def provision_again(js, inbox: Inbox) -> list[str]:
    """What the provisioner did to the inbox's consumers."""
    report = await provision(streams.client_of(js), consumers_of("escrow", inbox.subscription))
    return report.lines


async def publish(database, *names: str) -> None:
    await emit(database, *names)

    async def gone() -> bool:
        return await unpublished(database) == 0

    await chassis.until(gone)


async def handle_and_tell(database, js, inbox: Inbox, name: str) -> None:
    """An event is handled, and the service has said so."""
    await publish(database, name)
    await chassis.until(lambda: name in inbox.order)
    last = (await js.stream_info("ESCROW")).state.last_seq

    async def told() -> bool:
        said = (await js.get_last_msg("POSITIONS", consumer_of(inbox).position_subject)).data
        return said.decode() == f"{last} {await created(js)}"

    await chassis.until(told)


async def created(js) -> str:
    return (await streams.fetch_stream(js, "ESCROW"))["created"]


async def hear_something_else(js, inbox, database) -> None:
    """The same name with another filter: it keeps its place, and what comes passes it."""
    actual = (await js.consumer_info("ESCROW", inbox.durable)).config
    await js.add_consumer("ESCROW", actual.evolve(filter_subjects=[ELSEWHERE]))
    await publish(database, "passed")


async def begin_with_what_is_new(js, inbox, database) -> None:
    await js.delete_consumer("ESCROW", inbox.durable)
    await publish(database, "passed")
    wanted = consumer_of(inbox).configuration()
    await js.add_consumer("ESCROW", wanted.evolve(deliver_policy=DeliverPolicy.NEW, opt_start_seq=None))


@pytest.mark.parametrize("attack", [hear_something_else, begin_with_what_is_new])
async def test_what_passed_a_wrong_consumer_is_handled_once_it_is_mended(database, js, inbox, attack):
    async with consuming(database, js, inbox):
        await handle_and_tell(database, js, inbox, "before")
        await attack(js, inbox, database)
        await chassis.until(lambda: inbox.faults, seconds=NOTICED_SECONDS)
        await publish(database, "during")
        assert inbox.order == ["before"]  # it takes no message

        [done] = await provision_again(js, inbox)
        assert done.startswith(f"consumer ESCROW.{inbox.durable} made to begin after ")
        await publish(database, "after")
        await chassis.until(lambda: inbox.order == ["before", "passed", "during", "after"])
        await chassis.until(lambda: not inbox.faults)
    assert await dead_letters(database, inbox) == []
    assert await provision_again(js, inbox) == []


async def test_what_a_filter_hid_for_a_moment_is_missed_with_the_next_event(database, js, inbox):
    async with consuming(database, js, inbox, check_seconds=60):  # no look at the consumer sees it
        await publish(database, "before")
        await chassis.until(lambda: inbox.order == ["before"])
        right = (await js.consumer_info("ESCROW", inbox.durable)).config
        await hear_something_else(js, inbox, database)
        elsewhere = ELSEWHERE.replace(">", f"{inbox.org}._")
        await js.publish(elsewhere, b"", headers=signed(elsewhere, "", b""))
        await chassis.until(lambda: "went on to" in str(inbox.faults), seconds=NOTICED_SECONDS)
        await js.add_consumer("ESCROW", right)
        assert inbox.order == ["before"]
    async with consuming(database, js, inbox):
        await chassis.until(lambda: is_mended(js, inbox))
        await publish(database, "after")
        await chassis.until(lambda: inbox.order == ["before", "passed", "after"])


async def test_what_somebody_else_acknowledged_is_handled_when_it_was_noticed_and_mended(database, js, inbox):
    async with consuming(database, js, inbox):
        await handle_and_tell(database, js, inbox, "before")
    async with relaying(database, js):
        await publish(database, "stolen")
    thief = await js.pull_subscribe_bind(inbox.durable, stream="ESCROW")
    [message] = await thief.fetch(1, timeout=5)
    await message.ack_sync(timeout=5)
    async with consuming(database, js, inbox):
        await chassis.until(lambda: inbox.faults, seconds=NOTICED_SECONDS)
        await chassis.until(lambda: is_mended(js, inbox))
        await chassis.until(lambda: inbox.order == ["before", "stolen"])
        await chassis.until(lambda: not inbox.faults)


async def test_what_somebody_else_keeps_is_noticed_and_handled_once_the_consumer_is_made_anew(
    database, js, inbox, monkeypatch
):
    monkeypatch.setattr(watch, "KEPT_SECONDS", 1)  # nobody of ours died and has it still
    thief = await js.pull_subscribe_bind(inbox.durable, stream="ESCROW")
    async with relaying(database, js):
        await publish(database, "kept")
    [message] = await thief.fetch(1, timeout=5)

    async def keep(stop):
        while not stop.is_set():
            await message.in_progress()
            await asyncio.sleep(0.5)

    async with consuming(database, js, inbox), running(keep):
        await chassis.until(lambda: inbox.faults, seconds=NOTICED_SECONDS)
        assert "to nobody of ours" in str(inbox.faults)
        await chassis.until(lambda: is_mended(js, inbox))
        await chassis.until(lambda: inbox.order == ["kept"])
        await chassis.until(lambda: not inbox.faults)


async def test_a_message_that_nobody_keeps_any_more_is_handled_though_it_was_missed_for_long(
    database, js, inbox, monkeypatch
):
    """As after a load under which a delivery was lost: the consumer mends by itself, since it is still asked."""
    monkeypatch.setattr(watch, "KEPT_SECONDS", 1)
    somebody = await js.pull_subscribe_bind(inbox.durable, stream="ESCROW")
    async with relaying(database, js):
        await publish(database, "missed")
    await somebody.fetch(1, timeout=5)
    async with consuming(database, js, inbox):
        await chassis.until(lambda: inbox.faults, seconds=NOTICED_SECONDS)
        await chassis.until(lambda: inbox.order == ["missed"], seconds=30)
        await chassis.until(lambda: not inbox.faults)


async def test_a_message_that_a_process_of_ours_works_on_for_long_is_no_fault(database, js, inbox, monkeypatch):
    monkeypatch.setattr(watch, "KEPT_SECONDS", 0)
    eye = Watch(database, js, inbox.durable, "ESCROW", [f"{EVENT}.>"], {})
    inbox.failures["slow"] = [TimeoutError()] * 99
    async with consuming(database, js, inbox):
        await publish(database, "slow")
        await chassis.until(lambda: is_held(database, inbox), seconds=10)
        assert await eye.is_sound()
        eye.doubt_consumer()
        assert await eye.is_sound()
        inbox.failures["slow"].clear()
        await chassis.until(lambda: inbox.order == ["slow"], seconds=30)


async def is_held(database, inbox: Inbox) -> bool:
    async with database.begin_for_all() as tx:
        return (await find_position(tx, inbox.durable, "ESCROW")).held_sequence > 0


@pytest.mark.parametrize("words", ["", "no number", "9" * 30 + " then", "42"])
async def test_words_that_no_service_says_stop_no_repair(js, inbox, words):
    consumer = consumer_of(inbox)
    await js.publish(consumer.fault_subject, words.encode())
    await js.delete_consumer("ESCROW", inbox.durable)
    done = await provision_again(js, inbox)
    assert done == [
        f"{consumer.fault_subject} says what no service says; it was left out",
        f"consumer ESCROW.{inbox.durable} created",
    ]
    assert (await js.consumer_info("ESCROW", inbox.durable)).config.durable_name == inbox.durable


async def is_mended(js, inbox) -> bool:
    """Once the provisioner has been told what its service finds, and it cannot see itself."""
    return await provision_again(js, inbox) != []


async def test_a_service_whose_database_was_restored_hears_again_what_came_after_its_backup(database, js, inbox, urls):
    async with consuming(database, js, inbox):
        await handle_and_tell(database, js, inbox, "kept")
    async with chassis.as_superuser(urls) as admin:
        await admin.execute("CREATE TABLE backup AS SELECT * FROM handled_positions")
    async with consuming(database, js, inbox):
        await handle_and_tell(database, js, inbox, "lost")
    async with chassis.as_superuser(urls) as admin:
        await admin.execute("SET session_replication_role = replica")  # a restore asks no trigger
        await admin.execute("DELETE FROM notes WHERE note_id = 'lost'")
        await admin.execute(
            "DELETE FROM handled_events WHERE created_at = (SELECT max(created_at) FROM handled_events)"
        )
        await admin.execute("TRUNCATE handled_positions")
        await admin.execute("INSERT INTO handled_positions SELECT * FROM backup")
    async with consuming(database, js, inbox):
        await chassis.until(lambda: inbox.faults, seconds=NOTICED_SECONDS)
        await chassis.until(lambda: is_mended(js, inbox))
        await chassis.until(lambda: inbox.order == ["kept", "lost", "lost"])
    assert set(await chassis.note_ids(database)) == {"kept", "lost"}


@pytest.mark.parametrize(
    "attack", ["stream_sequence = stream_sequence + 1", "consumer_sequence = consumer_sequence + 1", "seal = NULL"]
)
async def test_a_position_that_a_login_moved_is_told_and_nothing_is_passed_over(database, js, inbox, attack):
    async with consuming(database, js, inbox):
        await handle_and_tell(database, js, inbox, "before")
        last = (await js.stream_info("ESCROW")).state.last_seq
        async with database.begin_for_all() as tx:
            mine = "WHERE consumer = :durable"
            await tx.execute(sa.text(f"UPDATE handled_positions SET {attack} {mine}"), {"durable": inbox.durable})
        await chassis.until(lambda: "was moved in the database" in str(inbox.faults), seconds=NOTICED_SECONDS)
        await js.delete_consumer("ESCROW", inbox.durable)
        await publish(database, "after")
        await provision_again(js, inbox)
        assert inbox.order == ["before"]
        assert await step_over(database, js, inbox.durable, "ESCROW", last)
        await chassis.until(lambda: inbox.order == ["before", "after"])
        await chassis.until(lambda: not inbox.faults)


async def test_a_position_that_a_login_moved_before_the_watch_looks_takes_no_message(database, js, inbox):
    async with consuming(database, js, inbox):
        await handle_and_tell(database, js, inbox, "before")
    async with database.begin_for_all() as tx:
        found = await find_position(tx, inbox.durable, "ESCROW")
        await tx.execute(sa.text("UPDATE handled_positions SET stream_sequence = stream_sequence + 1"))
    following = Position(found.stream_sequence + 2, found.consumer_sequence + 1, lives=found.lives)
    with pytest.raises(OutOfTurn):
        async with database.begin_for_all() as tx:
            await record_position(tx, inbox.durable, "ESCROW", following)


async def test_a_consumer_that_is_made_anew_where_its_service_is_goes_on_without_a_word(database, js, inbox):
    async with consuming(database, js, inbox):
        for name in ("one", "two", "three"):
            await handle_and_tell(database, js, inbox, name)
        last = (await js.stream_info("ESCROW")).state.last_seq
        await js.delete_consumer("ESCROW", inbox.durable)
        await js.add_consumer("ESCROW", consumer_of(inbox).configuration(handled=last - 1))
        await publish(database, "four")
        await chassis.until(lambda: inbox.order == ["one", "two", "three", "four"])
    assert inbox.faults == {}


async def test_what_was_removed_before_it_was_handled_is_missed_and_told_again(database, urls, org, tmp_path):
    inbox = Inbox(chassis.fresh_name(), org, event_keys(tmp_path))
    with Nats(tmp_path / "broker", everything=True) as broker:
        client = await streams.connect(broker.url(EVERYTHING), "test")
        js = streams.jetstream(client)
        await provision_again(js, inbox)
        async with consuming(database, js, inbox):
            await handle_and_tell(database, js, inbox, "one")
        async with relaying(database, js):
            await publish(database, "two", "three")
            right = (await js.stream_info("ESCROW")).config
            await js.update_stream(right.evolve(max_msgs_per_subject=1))  # for a moment, and nobody looks
            await js.update_stream(right)
        async with consuming(database, js, inbox):
            await chassis.until(lambda: inbox.faults)
            assert inbox.order == ["one"]
            async with chassis.as_superuser(urls) as admin:
                await admin.execute("UPDATE outbox SET published_at = NULL")
            assert await step_over(database, js, inbox.durable, "ESCROW", 2)
            await chassis.until(lambda: is_mended(js, inbox))
            await chassis.until(lambda: inbox.order == ["one", "three", "two"])
        await client.close()


async def forget_for_a_moment(js) -> None:
    right = (await js.stream_info("ESCROW")).config
    await js.update_stream(right.evolve(max_msgs_per_subject=1))
    await js.update_stream(right)


async def make_anew(js) -> None:
    right = (await js.stream_info("ESCROW")).config
    await js.delete_stream("ESCROW")
    await js.add_stream(right)


async def test_what_was_removed_after_everybody_had_handled_it_is_missed_as_well(database, org, tmp_path):
    inbox = Inbox(chassis.fresh_name(), org, event_keys(tmp_path))
    with Nats(tmp_path / "broker", everything=True) as broker:
        client = await streams.connect(broker.url(EVERYTHING), "test")
        js = streams.jetstream(client)
        await provision_again(js, inbox)
        async with consuming(database, js, inbox):
            for name in ("one", "two", "three"):
                await handle_and_tell(database, js, inbox, name)
        for attack, said in ((forget_for_a_moment, "begins with 3"), (make_anew, "was made anew")):
            losses = Losses()
            assert await find_stream_faults(js, stream_of_area("escrow"), losses) == []
            await attack(js)
            [lost] = await find_stream_faults(js, stream_of_area("escrow"), losses)
            assert lost.startswith(said)
            assert await find_stream_faults(js, stream_of_area("escrow"), losses) == [lost]
        await client.close()


async def test_nothing_of_another_stream_or_from_before_a_restore_passes_for_handled(database, urls, org, tmp_path):
    """A broker loses everything, a database is restored, and whoever kept a position with its seal writes it back."""
    inbox = Inbox(chassis.fresh_name(), org, event_keys(tmp_path))
    broker = Nats(tmp_path / "broker", everything=True)
    broker.start()
    client = await streams.connect(broker.url(EVERYTHING), "test")
    js = streams.jetstream(client)
    await provision_again(js, inbox)
    async with consuming(database, js, inbox):
        for name in ("one", "two", "three"):
            await handle_and_tell(database, js, inbox, name)
        broker.stop()
        shutil.rmtree(tmp_path / "broker" / "nats" / "store")
        broker.start()
        await chassis.until(lambda: inbox.faults)
        assert inbox.faults == {f"ESCROW.{inbox.durable}": ["is missing"]}
    await provision_again(js, inbox)
    async with relaying(database, js), chassis.as_superuser(urls) as admin:
        await publish(database, "four")
        await admin.execute("UPDATE outbox SET published_at = NULL")
        await chassis.until(lambda: is_at(js, 4))
    await js.delete_consumer("ESCROW", inbox.durable)
    await js.add_consumer("ESCROW", consumer_of(inbox).configuration(handled=3))  # what it was in the other stream
    async with consuming(database, js, inbox):
        await chassis.until(lambda: is_mended(js, inbox))
        await chassis.until(lambda: len(inbox.order) == 4)
        await handle_and_tell(database, js, inbox, "five")
        assert inbox.order == ["one", "two", "three", "four", "five"]

    later = await read_row(database)
    async with chassis.as_superuser(urls) as admin:
        await admin.execute("SET session_replication_role = replica")  # a restore asks no trigger
        await admin.execute("DELETE FROM notes WHERE note_id = 'five'")
        await admin.execute(
            "DELETE FROM handled_events WHERE created_at = (SELECT max(created_at) FROM handled_events)"
        )
    await begin_incarnation(urls.owner_url)
    await write_row(database, later)
    async with consuming(database, js, inbox):
        await chassis.until(lambda: inbox.faults, seconds=NOTICED_SECONDS)
        await chassis.until(lambda: is_mended(js, inbox))
        await chassis.until(lambda: inbox.order[5:] == ["five"])
        await chassis.until(lambda: not inbox.faults)

        assert not await step_over(database, js, inbox.durable, "ESCROW", 99)
        async with database.begin_for_all() as tx:
            await set_position(tx, inbox.durable, "ESCROW", await created(js), 99)
        await chassis.until(lambda: inbox.faults, seconds=NOTICED_SECONDS)
        await chassis.until(lambda: is_mended(js, inbox))
        await handle_and_tell(database, js, inbox, "six")
    assert inbox.order[5:] == ["five", "six"]
    assert await dead_letters(database, inbox) == []
    await client.close()
    broker.stop()


async def is_at(js, sequence: int) -> bool:
    return (await js.stream_info("ESCROW")).state.last_seq >= sequence


async def read_row(database) -> dict[str, object]:
    async with database.begin_for_all() as tx:
        return dict((await tx.execute(sa.select(handled_positions))).one()._mapping)


async def write_row(database, row: dict[str, object]) -> None:
    """As whoever has the service's login."""
    async with database.begin_for_all() as tx:
        said = {name: value for name, value in row.items() if name not in ("consumer", "stream")}
        await tx.execute(sa.update(handled_positions).values(said))
