"""What would have a service miss events is noticed by it within seconds, and mended without losing one."""

from __future__ import annotations

import json
import shutil
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import sqlalchemy as sa
from realco.escrow.v1 import events_pb2 as events
from structlog.testing import capture_logs

from deploy.local.nats import EVERYTHING, Nats
from deploy.provision import provision
from services.chassis.data import outbox
from services.chassis.data.migrate import begin_incarnation
from services.chassis.data.positions import OutOfTurn, find_position, move_position, set_position, take_position
from services.chassis.data.tables import handled_positions
from services.chassis.events import streams
from services.chassis.events.handling import Subscription
from services.chassis.events.losses import Losses
from services.chassis.events.step_over import step_over
from services.chassis.events.stored import stream_of_area
from services.chassis.events.watch import find_stream_faults
from tests.support import chassis
from tests.support.chassis_events import event_named, relaying, unpublished
from tests.support.event_keys import event_keys
from tests.support.subscriber import Subscriber, consuming, dead_letters

NOTICED_SECONDS = 5


@asynccontextmanager
async def broker_of(folder):
    """A server of the test's own, with the streams, for whoever harms them."""
    with Nats(folder / "broker", everything=True) as broker:
        client = await streams.connect(broker.url(EVERYTHING), "test")
        await provision(client)
        yield broker, streams.jetstream(client)
        await client.close()


async def publish(database, *names: str, account: str = "esc_1") -> None:
    for name in names:
        async with database.begin() as tx:
            await outbox.enqueue(tx, event_named(name, account), now=chassis.NOW)

    async def gone() -> bool:
        return await unpublished(database) == 0

    await chassis.until(gone)


async def handle(database, subscriber: Subscriber, *names: str, account: str = "esc_1") -> None:
    await publish(database, *names, account=account)
    await chassis.until(lambda: set(names) <= set(subscriber.order))


async def last_of(js) -> int:
    return (await js.stream_info("ESCROW")).state.last_seq


async def created(js) -> str:
    return (await streams.fetch_stream(js, "ESCROW"))["created"]


def handlers_of(subscriber: Subscriber) -> frozenset[str]:
    return subscriber.subscription.types_by_stream()["ESCROW"]


CHANGES = (
    {"allow_direct": False},
    {"max_msgs_per_subject": 1_000},
    {"max_age": 3600 * 10**9, "duplicate_window": 3600 * 10**9},
    {"subject_transform": {"src": "realco.escrow.v1.HoldPlaced.>", "dest": "realco.escrow.v1.nothing.>"}},
    {"republish": {"src": "realco.escrow.v1.>", "dest": "stolen.>"}},
)


async def test_while_a_stream_is_changed_nothing_is_taken_and_all_of_it_once_it_is_mended(database, org, tmp_path):
    subscriber = Subscriber(chassis.fresh_name(), org, event_keys(tmp_path))
    async with broker_of(tmp_path) as (_, js), consuming(database, js, subscriber) as [hearing]:
        await handle(database, subscriber, "before")
        right = (await js.stream_info("ESCROW")).config.as_dict()
        for number, change in enumerate(CHANGES):
            told = subscriber.order[:]
            await change_stream(js, right | change)
            await chassis.until(lambda: "ESCROW" in subscriber.faults, seconds=NOTICED_SECONDS)
            wrong = subscriber.faults["ESCROW"]
            assert all(any(name in fault for fault in wrong) for name in change), wrong
            if "subject_transform" not in change:  # what is stored elsewhere is not signed for there: a dead letter
                await publish(database, f"during-{number}")
            assert subscriber.order == told
            assert (await provision(streams.client_of(js))).drift == []
            await chassis.until(lambda: not subscriber.faults, seconds=NOTICED_SECONDS)
            await handle(database, subscriber, f"after-{number}")
        assert len(subscriber.order) == len(set(subscriber.order)) == 2 * len(CHANGES)
        last = await last_of(js)
        await chassis.until(lambda: hearing.place is not None and hearing.place.stream_sequence == last)
    assert await dead_letters(database, subscriber) == []


async def change_stream(js, configuration) -> None:
    answer = await streams.client_of(js).request("$JS.API.STREAM.UPDATE.ESCROW", json.dumps(configuration).encode())
    assert "error" not in json.loads(answer.data), answer.data


async def test_a_service_whose_database_was_restored_hears_again_what_came_after_its_backup(
    database, js, subscriber, urls
):
    async with consuming(database, js, subscriber):
        await handle(database, subscriber, "kept")
    async with chassis.as_superuser(urls) as admin:
        await admin.execute("CREATE TABLE backup AS SELECT * FROM handled_positions")
    async with consuming(database, js, subscriber):
        await handle(database, subscriber, "lost")
    async with chassis.as_superuser(urls) as admin:
        await admin.execute("SET session_replication_role = replica")  # a restore asks no trigger
        await admin.execute("DELETE FROM notes WHERE note_id = 'lost'")
        await admin.execute(
            "DELETE FROM handled_events WHERE created_at = (SELECT max(created_at) FROM handled_events)"
        )
        await admin.execute("TRUNCATE handled_positions")
        await admin.execute("INSERT INTO handled_positions SELECT * FROM backup")
    async with consuming(database, js, subscriber):
        await chassis.until(lambda: subscriber.order == ["kept", "lost", "lost"])
    assert (subscriber.faults, set(await chassis.note_ids(database))) == ({}, {"kept", "lost"})


@pytest.mark.parametrize(
    "attack",
    [
        "stream_sequence = stream_sequence + 1",
        "stream_sequence = stream_sequence - 1",
        "handlers = '{}'",
        "seal = NULL",
    ],
)
async def test_a_position_that_a_login_moved_is_told_and_nothing_is_passed_over(database, js, subscriber, attack):
    async with consuming(database, js, subscriber):
        await handle(database, subscriber, "before")
        last = await last_of(js)
        async with database.begin_for_all() as tx:
            mine = "WHERE consumer = :consumer"
            await tx.execute(
                sa.text(f"UPDATE handled_positions SET {attack} {mine}"), {"consumer": subscriber.consumer}
            )
        await chassis.until(lambda: "was moved in the database" in str(subscriber.faults), seconds=NOTICED_SECONDS)
        await publish(database, "after")
        assert subscriber.order == ["before"]
        assert await step_over(database, js, subscriber.subscription, "ESCROW", last)
        await chassis.until(lambda: subscriber.order == ["before", "after"])
        await chassis.until(lambda: not subscriber.faults)


async def test_a_stream_that_has_other_messages_under_the_numbers_that_were_handled_is_told_and_heard_anew(
    database, js, subscriber
):
    """It was put back to an earlier state, and went on from there before anybody looked."""
    async with consuming(database, js, subscriber):
        await handle(database, subscriber, "before")
    about = subscriber.consumer, "ESCROW"
    async with database.begin_for_all() as tx:
        stood = await find_position(tx, *about)
        await take_position(tx, *about, stood)
        other = "2026-01-01T00:00:00.123456789Z"
        await move_position(tx, *about, replace(stood, stored_at=other))
    async with consuming(database, js, subscriber):
        await publish(database, "after")
        await chassis.until(lambda: "another message" in str(subscriber.faults), seconds=NOTICED_SECONDS)
        assert subscriber.order == ["before"]
        assert await step_over(database, js, subscriber.subscription, "ESCROW", 0)
        await chassis.until(lambda: subscriber.order == ["before", "after"])
        await chassis.until(lambda: not subscriber.faults)


async def test_a_position_that_a_login_moved_before_the_watch_looks_takes_no_message(database, js, subscriber):
    async with consuming(database, js, subscriber):
        await handle(database, subscriber, "before")
    async with database.begin_for_all() as tx:
        found = await find_position(tx, subscriber.consumer, "ESCROW")
        await tx.execute(sa.text("UPDATE handled_positions SET stream_sequence = stream_sequence + 1"))
    for position in (found, replace(found, stream_sequence=found.stream_sequence + 1)):
        with pytest.raises(OutOfTurn):
            async with database.begin_for_all() as tx:
                await take_position(tx, subscriber.consumer, "ESCROW", position)


async def test_a_process_of_an_older_release_leaves_a_stream_to_the_one_that_handles_more(database, js, subscriber):
    newer = Subscriber(subscriber.consumer, subscriber.org, subscriber.keys)
    more = {events.HoldPlaced: newer.on_hold, events.HoldReleased: newer.on_hold}
    newer.subscription = Subscription(subscriber.consumer, more, is_about_money=True)
    with capture_logs() as logged:
        async with consuming(database, js, subscriber):
            await handle(database, subscriber, "old")
            async with consuming(database, js, newer) as [hearing]:
                await chassis.until(lambda: hearing.place is not None)  # before anything is told that only it handles
                await chassis.until(lambda: "consumer_left_to_newer_release" in str(logged))
                await handle(database, newer, "new")
            await publish(database, "waits")
            assert (subscriber.order, newer.order, subscriber.faults) == (["old"], ["new"], {})
            last = await last_of(js)
            assert await step_over(
                database, js, subscriber.subscription, "ESCROW", last - 1
            )  # the release was taken back
            await chassis.until(lambda: subscriber.order == ["old", "waits"])


@pytest.mark.parametrize(
    ("account", "what"),
    [("esc_1", "begins with 3, and 1 was the last"), ("esc_2", "lacks what comes after 1, up to 2")],
)
async def test_what_was_removed_before_it_was_handled_is_missed_and_told_again(
    database, urls, org, tmp_path, account, what
):
    """From the beginning of what there is, or from within it."""
    subscriber = Subscriber(chassis.fresh_name(), org, event_keys(tmp_path))
    async with broker_of(tmp_path) as (_, js):
        async with consuming(database, js, subscriber):
            await handle(database, subscriber, "one", account=account)
        async with relaying(database, js):
            await publish(database, "two", "three")
            await forget_for_a_moment(js)  # and nobody looks
        async with consuming(database, js, subscriber):
            await chassis.until(lambda: what in str(subscriber.faults), seconds=NOTICED_SECONDS)
            assert subscriber.order == ["one"]
            async with chassis.as_superuser(urls) as admin:
                await admin.execute("UPDATE outbox SET published_at = NULL")
            assert await step_over(database, js, subscriber.subscription, "ESCROW", 2)
            await chassis.until(lambda: subscriber.order == ["one", "three", "two"])
            await chassis.until(lambda: not subscriber.faults)


async def forget_for_a_moment(js) -> None:
    right = (await js.stream_info("ESCROW")).config
    await js.update_stream(right.evolve(max_msgs_per_subject=1))
    await js.update_stream(right)


async def make_anew(js) -> None:
    right = (await js.stream_info("ESCROW")).config
    await js.delete_stream("ESCROW")
    await js.add_stream(right)


async def test_what_was_removed_after_everybody_had_handled_it_is_missed_as_well(database, org, tmp_path):
    subscriber = Subscriber(chassis.fresh_name(), org, event_keys(tmp_path))
    async with broker_of(tmp_path) as (_, js):

        async def find_faults(losses: Losses) -> list[str]:
            return find_stream_faults(stream_of_area("escrow"), await streams.fetch_stream(js, "ESCROW"), losses)

        async with consuming(database, js, subscriber):
            await handle(database, subscriber, "one", "two", "three")
        for attack, said in ((forget_for_a_moment, "begins with 3"), (make_anew, "was made anew")):
            losses = Losses()
            assert await find_faults(losses) == []
            await attack(js)
            [lost] = await find_faults(losses)
            assert lost.startswith(said)
            assert await find_faults(losses) == [lost]


async def test_nothing_of_another_stream_or_from_before_a_restore_passes_for_handled(database, urls, org, tmp_path):
    """A broker loses everything, a database is restored, and whoever kept a position with its seal writes it back."""
    subscriber = Subscriber(chassis.fresh_name(), org, event_keys(tmp_path))
    async with broker_of(tmp_path) as (broker, js):
        async with consuming(database, js, subscriber):
            await handle(database, subscriber, "one", "two", "three")
            broker.stop()
            shutil.rmtree(tmp_path / "broker" / "nats" / "store")
            broker.start()
            await chassis.until(lambda: subscriber.faults)
            assert subscriber.faults == {"ESCROW": ["is missing"]}
        subscriber.faults.clear()  # the process has ended
        await provision(streams.client_of(js))
        async with relaying(database, js), chassis.as_superuser(urls) as admin:
            await publish(database, "four")
            await admin.execute("UPDATE outbox SET published_at = NULL")
            await chassis.until(lambda: is_at(js, 4))  # as many as there were in the other stream, and one more
        async with consuming(database, js, subscriber):
            await chassis.until(lambda: len(subscriber.order) == 4)
            await handle(database, subscriber, "five")
            assert subscriber.order == ["one", "two", "three", "four", "five"]

        later = await read_row(database)
        async with chassis.as_superuser(urls) as admin:
            await admin.execute("SET session_replication_role = replica")  # a restore asks no trigger
            await admin.execute("DELETE FROM notes WHERE note_id = 'five'")
            await admin.execute(
                "DELETE FROM handled_events WHERE created_at = (SELECT max(created_at) FROM handled_events)"
            )
        await begin_incarnation(urls.owner_url)
        await write_row(database, later)
        async with consuming(database, js, subscriber):
            await chassis.until(lambda: subscriber.order[5:] == ["five"])
            assert subscriber.faults == {}

            assert not await step_over(database, js, subscriber.subscription, "ESCROW", 99)
            async with database.begin_for_all() as tx:
                await set_position(tx, subscriber.consumer, "ESCROW", await created(js), 99, handlers_of(subscriber))
            await chassis.until(lambda: "beyond the end" in str(subscriber.faults), seconds=NOTICED_SECONDS)
            await handle(database, subscriber, "six")
            await chassis.until(lambda: not subscriber.faults)
        assert subscriber.order[5:] == ["five", "six"]
        assert await dead_letters(database, subscriber) == []


async def is_at(js, sequence: int) -> bool:
    return await last_of(js) >= sequence


async def read_row(database) -> dict[str, object]:
    async with database.begin_for_all() as tx:
        return dict((await tx.execute(sa.select(handled_positions))).one()._mapping)


async def write_row(database, row: dict[str, object]) -> None:
    """As whoever has the service's login."""
    async with database.begin_for_all() as tx:
        said = {name: value for name, value in row.items() if name not in ("consumer", "stream")}
        await tx.execute(sa.update(handled_positions).values(said))
