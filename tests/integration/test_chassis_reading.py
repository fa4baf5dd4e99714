"""A stream is read in its order from where the database says, by several processes, and many messages at once."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace
from functools import partial
from unittest.mock import ANY

import pytest
import sqlalchemy as sa
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StreamConfig, StreamSource, SubjectTransform
from realco.escrow.v1 import events_pb2 as events

from deploy.provision import provision
from services.chassis.calls.auth import Principal, acting_as, current_principal
from services.chassis.data.positions import find_position
from services.chassis.data.tables import handled_events
from services.chassis.events import consumer, streams
from services.chassis.events.consumer import list_hearings
from services.chassis.events.handling import Subscription
from services.chassis.events.reader import Gap, Reader
from services.chassis.events.step_over import step_over
from services.chassis.process.telemetry import EVENTS_HANDLED
from tests.support import chassis
from tests.support.chassis_events import emit, emit_at_once, relaying, running
from tests.support.event_keys import signed
from tests.support.subscriber import Subscriber, consuming, dead_letters, hear, watch

SUBJECT = "realco.escrow.v1.HoldPlaced.org_1.esc_1"


async def last_of(js) -> int:
    return (await js.stream_info("ESCROW")).state.last_seq


async def test_two_processes_share_a_stream_and_keep_the_order(database, js, subscriber):
    names = [f"n{number:02}" for number in range(40)]
    async with consuming(database, js, subscriber), consuming(database, js, subscriber):
        await emit(database, *names)
        await chassis.until(lambda: len(subscriber.order) == len(names))
    assert (subscriber.order, subscriber.faults) == (names, {})


async def test_what_a_process_works_on_no_other_takes_until_it_is_killed_and_then_once(database, js, subscriber):
    entered, never = asyncio.Event(), asyncio.Event()

    async def on_hold(tx, event: events.HoldPlaced, delivery) -> None:
        await subscriber.on_hold(tx, event, delivery)
        if event.hold.hold_id == "second" and not entered.is_set():
            subscriber.order.remove("second")
            entered.set()
            await never.wait()

    subscriber.subscription = Subscription(subscriber.consumer, {events.HoldPlaced: on_hold}, is_about_money=True)
    hearings, stop = list_hearings(subscriber.subscription), asyncio.Event()
    busy = asyncio.create_task(hear(database, js, subscriber, hearings, stop))
    async with running(partial(watch, database, js, subscriber, hearings)):
        async with relaying(database, js):
            await emit(database, "first", "second", "third")
            await asyncio.wait_for(entered.wait(), 10)
        async with consuming(database, js, subscriber):
            await asyncio.sleep(0.5)  # it looks meanwhile, and is told: there is nothing else to wait for
            assert (subscriber.tried["second"], subscriber.faults) == (1, {})
            busy.cancel()
            await chassis.until(lambda: subscriber.order[-2:] == ["second", "third"])
    await asyncio.gather(busy, return_exceptions=True)
    assert set(await chassis.note_ids(database)) == {"first", "second", "third"}
    assert (subscriber.order.count("third"), subscriber.tried["second"]) == (1, 2)


async def test_events_of_several_organizations_are_handled_together_each_in_its_own(
    database, js, subscriber, monkeypatch
):
    monkeypatch.setattr(consumer, "_BATCH_SECONDS", 60)
    transactions, others = Counter(), (subscriber.org, chassis.fresh_name())

    async def on_hold(tx, event: events.HoldPlaced, delivery) -> None:
        if current_principal().org_id not in others:
            return
        named = await tx.scalar(sa.text("SELECT current_setting('app.org_id')"))
        assert named == current_principal().org_id
        transactions[await tx.scalar(sa.text("SELECT txid_current()"))] += 1
        await chassis.add_note(tx, event.hold.hold_id, named)
        subscriber.order.append(event.hold.hold_id)

    subscriber.subscription = Subscription(subscriber.consumer, {events.HoldPlaced: on_hold}, is_about_money=True)
    names = []
    for number in range(30):
        org = others[number // 5 % 2]
        with acting_as(Principal("admin-1", "admin", org)):
            await emit_at_once(database, f"{number}-{org}")
        names.append(f"{number}-{org}")
    async with relaying(database, js):
        await chassis.until(lambda: is_published(database))
    async with consuming(database, js, subscriber):
        await chassis.until(lambda: len(subscriber.order) == len(names))
    assert (subscriber.order, list(transactions.values())) == (names, [30])
    for org in others:
        assert {name.split("-")[1] for name in await chassis.note_ids(database, org)} == {org}


async def is_published(database) -> bool:
    async with database.begin_for_all() as tx:
        return await tx.scalar(sa.text("SELECT count(*) FROM outbox WHERE published_at IS NULL")) == 0


async def test_what_fails_among_many_undoes_nothing_but_itself(database, js, subscriber):
    names = [f"n{number:02}" for number in range(40)]
    subscriber.failures["n17"] = [KeyError("bug")] * 99
    async with relaying(database, js):
        await emit_at_once(database, *names)
        await chassis.until(lambda: is_published(database))
    async with consuming(database, js, subscriber):
        await chassis.until(lambda: subscriber.order[-1:] == ["n39"], seconds=90)
    good = [name for name in names if name != "n17"]
    assert (await chassis.note_ids(database), len(await dead_letters(database, subscriber))) == (good, 1)


@pytest.mark.parametrize(("seconds", "count"), [(0, 20), (60, 1)])
async def test_a_transaction_claims_no_more_than_it_has_time_for(database, js, subscriber, monkeypatch, seconds, count):
    monkeypatch.setattr(consumer, "_BATCH_SECONDS", seconds)
    transactions: Counter[int] = Counter()
    mine = sa.select(sa.func.count()).where(handled_events.c.consumer == subscriber.consumer)

    async def on_hold(tx, event: events.HoldPlaced, delivery) -> None:
        if current_principal().org_id == subscriber.org:
            claimed = await tx.scalar(mine.where(handled_events.c.org_id == subscriber.org))
            assert claimed <= max(1, 2 * len(subscriber.order))
            transactions[await tx.scalar(sa.text("SELECT txid_current()"))] += 1
        await subscriber.on_hold(tx, event, delivery)

    subscriber.subscription = Subscription(subscriber.consumer, {events.HoldPlaced: on_hold}, is_about_money=True)
    names = [f"n{number:02}" for number in range(20)]
    async with relaying(database, js):
        await emit_at_once(database, *names)
        await chassis.until(lambda: is_published(database))
    async with consuming(database, js, subscriber):
        await chassis.until(lambda: len(subscriber.order) == len(names))
    assert (subscriber.order, await chassis.note_ids(database), len(transactions)) == (names, names, count)


async def test_a_service_that_nobody_tells_anything_looks_by_itself(database, js, subscriber, monkeypatch):
    monkeypatch.setattr(consumer, "told_subject", lambda area: f"realco.told.{area}.nobody.{subscriber.consumer}")
    async with consuming(database, js, subscriber):
        await emit(database, "quiet")
        await chassis.until(lambda: subscriber.order == ["quiet"], seconds=5)


# A header that nobody of ours writes: what the server says of a message counts, and what it says itself does not.
HEADERS = (
    b"NATS/1.0\r\nNats-Sequence: 99999999\r\nNats-Subject: realco.escrow.v1.HoldReleased.org_1.esc_1\r\n\r\n",
    b"NATS/1.0\r\nStatus: 204\r\nno header\r\n\r\n",
    b"NATS/1.0 204 EOB\r\n\r\n",
    b"NATS/1.0 404 Message Not Found\r\n\r\n",
    b"\r\n\r\n",
    b"12345678 \xff\xff\xff\r\n\r\n",  # nats-py's own reading fails on it
    b"NATS/1.0\r\nA: \xff\xfe\r\n\r\n",
)


async def test_no_header_of_a_message_leads_a_reader_astray(database, js, subscriber):
    client = streams.client_of(js)
    async with consuming(database, js, subscriber) as [hearing]:
        for headers in HEADERS:
            sizes = b"%d %d" % (len(headers), len(headers) + 1)
            await client._send_command(b"HPUB %s %s\r\n%sx\r\n" % (SUBJECT.encode(), sizes, headers))
        await client.flush()
        await emit(database, "after")
        await chassis.until(lambda: subscriber.order == ["after"])
        last = await last_of(js)
        await chassis.until(lambda: hearing.place.stream_sequence >= last)
    causes = [letter.cause for letter in await dead_letters(database, subscriber)]
    assert causes == ["NotProven: not signed"] * len(HEADERS)


async def consume_in_our_name(js, subscriber: Subscriber) -> None:
    """And acknowledge whatever comes, for ever."""
    made = ConsumerConfig(durable_name=subscriber.consumer, ack_policy=AckPolicy.ALL, deliver_policy=DeliverPolicy.ALL)
    await js.add_consumer("ESCROW", made)
    thief = await js.pull_subscribe_bind(subscriber.consumer, stream="ESCROW")
    messages = await thief.fetch(100, timeout=1)
    await messages[-1].ack_sync(timeout=5)


async def hear_something_else_in_our_name(js, subscriber: Subscriber) -> None:
    made = ConsumerConfig(durable_name=subscriber.consumer, filter_subject="realco.escrow.v1.HoldReleased.>")
    await js.add_consumer("ESCROW", made)


async def keep_in_our_name(js, subscriber: Subscriber) -> None:
    await js.add_consumer("ESCROW", ConsumerConfig(durable_name=subscriber.consumer, max_ack_pending=1))
    thief = await js.pull_subscribe_bind(subscriber.consumer, stream="ESCROW")
    [message] = await thief.fetch(1, timeout=1)
    await message.in_progress()


@pytest.mark.parametrize(
    "attack",
    [consume_in_our_name, hear_something_else_in_our_name, keep_in_our_name],
    ids=lambda attack: attack.__name__,
)
async def test_what_anybody_makes_of_consumers_changes_nothing_of_what_is_handled(database, js, subscriber, attack):
    async with consuming(database, js, subscriber):
        await emit(database, "before")
        await chassis.until(lambda: subscriber.order == ["before"])
        await attack(js, subscriber)
        await emit(database, "during")
        await chassis.until(lambda: subscriber.order == ["before", "during"])
        named = f"consumer ESCROW.{subscriber.consumer} is there, and fills no copy"
        assert named in (await provision(streams.client_of(js), change=False)).drift
        await js.delete_consumer("ESCROW", subscriber.consumer)
        await emit(database, "after")
        await chassis.until(lambda: subscriber.order == ["before", "during", "after"])
    assert (subscriber.faults, await dead_letters(database, subscriber)) == ({}, [])


async def test_answers_that_somebody_has_sent_to_a_reader_are_told_from_its_own(js):
    """Who has the same password hears where a reader's answers arrive, and has others sent there first."""
    for number in range(5):
        await js.publish(SUBJECT, b"%d" % number, headers=signed(SUBJECT, "", b""))
    last, client = await last_of(js), streams.client_of(js)
    # Another stream has other messages under the same numbers.
    other = StreamConfig(name="OTHER", subjects=["realco.other.v1.>"], first_seq=last - 4, allow_direct=True)
    await js.add_stream(other)
    for number in range(5):
        await js.publish("realco.other.v1.Event.org_1._", b"%d" % number)

    async def disturb(message) -> None:
        if b"mine" not in message.data:
            for number in range(5):
                wanted = json.dumps({"seq": last - 4 + number}).encode()
                await client.publish("$JS.API.DIRECT.GET.OTHER", wanted, reply=message.reply)
            for after in (0, last - 2, last + 5):
                wanted = json.dumps({"seq": after + 1, "batch": 2, "who": "mine"}).encode()
                await client.publish(message.subject, wanted, reply=message.reply)

    await client.subscribe("$JS.API.DIRECT.GET.ESCROW", cb=disturb)
    found: list[int] = []
    subjects: set[str] = set()
    reader = Reader(js, "ESCROW")

    async def read() -> bool:
        try:
            heard = await reader.read(last - 5 + len(found), 1)
            found.extend(one.sequence for one in heard)
            subjects.update(one.subject for one in heard)
        except Gap:  # it asks again
            return False
        return len(found) == 5

    await chassis.until(read)
    await js.delete_stream("OTHER")
    assert (found, subjects) == (list(range(last - 4, last + 1)), {SUBJECT})


async def test_a_mirror_that_answers_for_a_stream_takes_no_event_out_of_its_turn(database, js, subscriber):
    """Whoever makes streams can make one that the server has answer for ours, with other subjects for what it holds."""
    renamed = [SubjectTransform("realco.escrow.v1.HoldPlaced.>", "realco.escrow.v1.HoldReleased.>")]
    source = StreamSource(name="ESCROW", subject_transforms=renamed)
    await js.add_stream(StreamConfig(name="MIRROR", mirror=source, mirror_direct=True, allow_direct=True))
    names = [f"n{number:02}" for number in range(12)]
    async with consuming(database, js, subscriber):
        for name in names:
            await emit(database, name)
        await chassis.until(lambda: len(subscriber.order) == len(names))
    await js.delete_stream("MIRROR")
    assert (subscriber.order, await dead_letters(database, subscriber)) == (names, [])


async def test_what_is_passed_over_is_counted_and_written_down_with_the_next_event_or_at_the_end(
    database, js, subscriber
):
    other = "realco.escrow.v1.HoldReleased.org_1.esc_1"
    passed = EVENTS_HANDLED.labels(subscriber.consumer, "passed over")
    found = partial(find_place, database, subscriber)
    concerns = {events.HoldPlaced: lambda event: event.hold.hold_id != "of no concern"}
    subscriber.subscription = replace(subscriber.subscription, concerns=concerns)

    async def publish_others() -> int:
        for number in range(20):
            event_id = f"0192f0c1-2b3c-7def-8000-0000000000{number:02}"
            await js.publish(other, b"", headers={"ce-id": event_id, **signed(other, event_id, b"")})
        return await last_of(js)

    last = await publish_others()
    async with consuming(database, js, subscriber) as [hearing]:
        await chassis.until(lambda: hearing.place is not None and hearing.place.stream_sequence == last)
        assert passed._value.get() == 20
        assert await found() == hearing.written == replace(hearing.place, stream_sequence=last - 20, stored_at=ANY)
        await emit(database, "of no concern", "handled")
        await chassis.until(lambda: subscriber.order == ["handled"] and not hearing.is_behind)
        assert (await found()).stream_sequence == last + 2
        assert passed._value.get() == 21
        last = await publish_others()
        await chassis.until(lambda: hearing.place.stream_sequence == last)
        assert (await found()).stream_sequence == last - 20
        assert not hearing.is_far_behind(21, 60)
        assert hearing.is_far_behind(20, 60)
        assert hearing.is_far_behind(21, 0)
    assert (await found()).stream_sequence == last
    assert await dead_letters(database, subscriber) == []


async def find_place(database, subscriber):
    async with database.begin_for_all() as tx:
        return await find_position(tx, subscriber.consumer, "ESCROW")


async def test_a_position_that_is_behind_is_written_after_a_while_unless_somebody_else_did(
    database, js, subscriber, monkeypatch
):
    monkeypatch.setattr(consumer, "_BEHIND_SECONDS_MAX", 0.1)
    other, event_id = "realco.escrow.v1.HoldReleased.org_1.esc_1", "0192f0c1-2b3c-7def-8000-000000000001"
    headers = {"ce-id": event_id, **signed(other, event_id, b"")}
    async with consuming(database, js, subscriber) as [hearing]:
        await emit(database, "handled")
        await chassis.until(lambda: subscriber.order == ["handled"])
        await js.publish(other, b"", headers=headers)
        last = await last_of(js)
        await chassis.until(lambda: _is_written(hearing, last))
        assert (await find_place(database, subscriber)).stream_sequence == last
        await chassis.until(lambda: step_over(database, js, subscriber.subscription, "ESCROW", last - 2))
        await js.publish(other, b"", headers=headers)
        await chassis.until(lambda: _is_written(hearing, last + 1))
    assert (subscriber.order, subscriber.faults) == (["handled"], {})


def _is_written(hearing, sequence: int) -> bool:
    return hearing.written is not None and hearing.written.stream_sequence == sequence
