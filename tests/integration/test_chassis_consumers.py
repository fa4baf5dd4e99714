"""Events arrive at least once and are applied once, in order; what cannot be applied is set aside and replayed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial

import asyncpg
import pytest
import sqlalchemy as sa
from asyncpg.exceptions import UndefinedTableError
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from realco.escrow.v1 import events_pb2 as events
from realco.type.v1.event_pb2 import EventMeta
from structlog.testing import capture_logs

from services.chassis.calls.auth import current_principal
from services.chassis.data import outbox
from services.chassis.data.letters import list_waiting, set_aside
from services.chassis.events import watch
from services.chassis.events.consumer import ATTEMPTS_MAX
from services.chassis.events.dismiss import dismiss, dismiss_not_proven
from services.chassis.events.handling import Delivery, Subscription, apply_told
from services.chassis.events.letter_watch import run_letter_watch
from services.chassis.events.replay import replay
from services.chassis.events.signatures import SIGNATURE, EventKey
from services.chassis.process.telemetry import CONSUMER_OLDEST_SECONDS, DEAD_LETTERS_WAITING, EVENTS_NOT_PROVEN
from services.chassis.values.clock import FakeClock
from services.chassis.values.errors import DomainError, Kind
from tests.support import chassis
from tests.support.chassis_events import emit, event_named, running
from tests.support.event_keys import event_key, signed
from tests.support.subscriber import consuming, dead_letters

EVENT_ID = "0192f0c1-2b3c-7def-8000-000000000001"


def of_origin(event_id: str, org_id: str) -> bytes:
    return events.HoldPlaced(meta=EventMeta(event_id=event_id, org_id=org_id)).SerializeToString()


class Refuses(DomainError):
    kind = Kind.FAILED_PRECONDITION
    reason = "NEVER"


class Busy(DomainError):
    kind = Kind.ABORTED
    reason = "BUSY"


async def applied(database, *names: str):
    await chassis.until(lambda: _has(database, names))


async def _has(database, names) -> bool:
    return set(names) <= set(await chassis.note_ids(database))


async def test_an_event_is_handled_in_business_time_and_wakes_the_jobs(database, js, subscriber):
    work_due = asyncio.Event()
    async with consuming(database, js, subscriber, work_due):
        await emit(database, "hello")
        await applied(database, "hello")
        await asyncio.wait_for(work_due.wait(), 5)
    assert subscriber.seen == [Delivery(chassis.NOW)]


async def test_a_handler_acts_as_its_service_on_behalf_of_the_actor(database, js, subscriber):
    principals = []

    async def on_hold(tx, event, delivery) -> None:
        if current_principal().org_id == subscriber.org:
            principals.append(current_principal())

    subscriber.subscription = Subscription(subscriber.consumer, {events.HoldPlaced: on_hold}, is_about_money=False)
    async with consuming(database, js, subscriber):
        await emit(database, "hello")
        await chassis.until(lambda: principals)
    assert (principals[0].subject, principals[0].person) == ("service:chassis", "admin-1")


async def test_an_event_delivered_twice_is_applied_once(database, js, subscriber, listener):
    async with consuming(database, js, subscriber):
        await emit(database, "once")
        await listener.names(1)
        [message] = listener.messages
        # The same event again, past the stream's own memory of ids.
        headers = {key: value for key, value in message.headers.items() if not key.startswith("Nats-")}
        await js.publish(message.subject, message.data, headers=headers)
        await emit(database, "after")
        await applied(database, "once", "after")
    assert subscriber.order == ["once", "after"]


async def test_an_event_older_than_those_remembered_is_handled_only_where_a_person_names_its_letter(
    database, js, subscriber, listener
):
    async with consuming(database, js, subscriber):
        for name, days in (("old", 401), ("late", 399)):
            async with database.begin() as tx:
                await outbox.enqueue(tx, event_named(name), now=chassis.NOW - timedelta(days=days))
        await applied(database, "late")
    [letter] = await dead_letters(database, subscriber)
    assert letter.cause == "TooOld"
    replay_as_ann = partial(replay, database, subscriber.subscription, subscriber.keys, FakeClock(chassis.NOW), "ann")
    assert (await replay_as_ann()).failed == [f"{letter.letter_id} {letter.subject}: TooOld"]
    assert (await replay_as_ann(f"{letter.letter_id}x")).failed == [f"{letter.letter_id}x: no such letter waits"]
    assert subscriber.order == ["late"]
    assert (await replay_as_ann(letter.letter_id)).applied == 1
    assert (subscriber.order, await dead_letters(database, subscriber)) == (["late", "old"], [])
    years_later = FakeClock(chassis.NOW + timedelta(days=999))
    for told in listener.messages:  # which was handled: it is heard once more, and no letter
        about = database, subscriber.subscription, subscriber.keys, told, years_later
        assert await apply_told(*about, of_any_age=False) is False


@pytest.mark.parametrize("passing", [Busy("later"), ConnectionError("away"), TimeoutError(), UndefinedTableError("x")])
async def test_what_fails_for_a_while_is_tried_in_place_and_nothing_overtakes_it(database, js, subscriber, passing):
    subscriber.failures["first"] = [passing] * 3
    async with consuming(database, js, subscriber):
        await emit(database, "first", "second")
        await applied(database, "first", "second")
    assert subscriber.order == ["first", "second"]
    assert subscriber.tried == {"first": 4, "second": 1}
    assert await dead_letters(database, subscriber) == []


async def test_what_waits_unhandled_for_minutes_is_an_alarm_until_it_is_handled(database, js, subscriber, monkeypatch):
    monkeypatch.setattr(watch, "ALARM_SECONDS", 0.5)
    alarms, about = {}, f"events of ESCROW for {subscriber.consumer}"
    subscriber.failures["stuck"] = [ConnectionError("away")] * 1_000
    async with consuming(database, js, subscriber, alarms=alarms):
        await emit(database, "stuck")
        await chassis.until(lambda: about in alarms)
        assert CONSUMER_OLDEST_SECONDS.labels(subscriber.consumer, "ESCROW")._value.get() >= 0.5
        subscriber.failures.clear()
        await applied(database, "stuck")
        await chassis.until(lambda: alarms == {})


async def test_a_service_that_cannot_find_its_positions_for_minutes_says_so(database, js, subscriber, monkeypatch):
    """Somebody has each look at them ended: nothing is handled then, and no backlog is measured."""

    async def find_none(*_) -> None:
        raise TimeoutError

    monkeypatch.setattr(watch, "ALARM_SECONDS", 0.5)
    monkeypatch.setattr(watch, "list_positions", find_none)
    alarms = {}
    async with consuming(database, js, subscriber, alarms=alarms):
        await chassis.until(lambda: alarms.get("positions", "").startswith("have not been found for"))
        monkeypatch.undo()
        await chassis.until(lambda: alarms == {})


async def test_a_refusal_is_set_aside_at_once_and_replayed_when_mended(database, js, subscriber):
    subscriber.failures["bad"] = [Refuses("no")] * 9
    async with consuming(database, js, subscriber):
        await emit(database, "bad", "good")
        await applied(database, "good")
    letters = await dead_letters(database, subscriber)
    assert [letter.cause for letter in letters] == ["FAILED_PRECONDITION NEVER"]
    assert letters[0].subject == f"realco.escrow.v1.HoldPlaced.{subscriber.org}.esc_1"
    assert await chassis.note_ids(database) == ["good"]

    clock = FakeClock(chassis.NOW)
    first = await replay(database, subscriber.subscription, subscriber.keys, clock, "ann")
    assert (first.applied, len(first.failed)) == (0, 1)
    subscriber.failures.clear()
    assert (await replay(database, subscriber.subscription, subscriber.keys, clock, "ann")).applied == 1
    assert await chassis.note_ids(database) == ["bad", "good"]
    assert (await replay(database, subscriber.subscription, subscriber.keys, clock, "ann")).failed == []


async def test_a_dead_letter_waits_until_a_person_replayed_or_dismissed_it(database, js, subscriber):
    alarms = {}
    subscriber.failures |= {"mended": [Refuses("no")] * 9, "odd": [Refuses("no")] * 9}
    async with consuming(database, js, subscriber):
        await emit(database, "mended", "odd")
        await chassis.until(lambda: _letters(database, subscriber, 2))
    del subscriber.failures["mended"]

    def waiting() -> int:
        return DEAD_LETTERS_WAITING.labels(subscriber.consumer, "true")._value.get()

    with capture_logs() as logged:
        async with running(partial(watch_letters, database, [subscriber.subscription]), alarms):
            await chassis.until(lambda: waiting() == 2)
            assert alarms == {f"dead letters of {subscriber.consumer}": "2 wait"}
            await chassis.until(lambda: sum(line["event"] == "dead_letters_wait" for line in logged) > 2)  # again
            clock = FakeClock(chassis.NOW)
            [failed] = (await replay(database, subscriber.subscription, subscriber.keys, clock, "ann")).failed
            await chassis.until(lambda: waiting() == 1)
            letter_id = failed.split()[0]
            for_ann = partial(dismiss, database, keys=subscriber.keys, clock=clock, person="ann", reason="by hand")
            another = replace(subscriber.subscription, consumer="another")
            assert not await for_ann(another, letter_id=letter_id)
            assert not await for_ann(subscriber.subscription, letter_id=f"{letter_id}x")
            assert await for_ann(subscriber.subscription, letter_id=letter_id)
            assert not await for_ann(subscriber.subscription, letter_id=letter_id)
            await chassis.until(lambda: waiting() == 0)
            assert alarms == {}
    reminders = [line for line in logged if line["event"] == "dead_letters_wait"]
    assert {line["command"] for line in reminders} == {
        f"python -m services.chassis.events.replay {subscriber.consumer} <your name>"
    }
    [dismissed] = [line for line in logged if line["event"] == "dead_letter_dismissed"]
    assert (dismissed["person"], dismissed["reason"], dismissed["letter"]) == ("ann", "by hand", letter_id)
    assert logged[-1]["event"] == "dead_letters_seen_to"


async def test_a_letter_is_noticed_as_soon_as_it_is_set_aside(database, js, subscriber):
    subscriber.failures["bad"] = [Refuses("no")] * 9
    alarms: dict[str, str] = {}
    async with (
        consuming(database, js, subscriber),
        running(lambda stop: run_letter_watch(database, [subscriber.subscription], stop, alarms)),
    ):
        await emit(database, "bad")
        await chassis.until(lambda: alarms, seconds=5)


async def watch_letters(database, subscriptions, alarms, stop) -> None:
    await run_letter_watch(database, subscriptions, stop, alarms, look_seconds=0.05, remind_seconds=0.1)


MADE_UP = (
    "SELECT 'x', consumer, stream, stream_sequence + 1, subject, headers, data, cause, attempts, set_aside_at, seal"
)
ATTACKS = (
    "DELETE FROM dead_letters",
    "UPDATE dead_letters SET consumer = 'x'",
    "TRUNCATE dead_letters",
    "INSERT INTO seen_letters SELECT 'x', letter_id, 'DISMISSED', 'ann', 'x', now(), seal FROM dead_letters",
    f"INSERT INTO dead_letters {MADE_UP} FROM dead_letters LIMIT 1",
)


async def test_no_login_sees_to_a_dead_letter_or_stands_in_for_the_next_one(database, js, subscriber, urls):
    subscriber.failures |= {"first": [Refuses("no")] * 9, "second": [Refuses("no")] * 9}
    async with consuming(database, js, subscriber):
        await emit(database, "first")
        await chassis.until(lambda: _letters(database, subscriber, 1))
        [first] = await dead_letters(database, subscriber)
        for attack in ATTACKS:
            with suppress(asyncpg.PostgresError):
                async with database.begin_for_all() as tx:
                    await tx.execute(sa.text(attack))
        async with chassis.as_superuser(urls) as admin:  # nor does the owner, by what no program can read
            await admin.execute("SET session_replication_role = replica")
            await admin.execute(
                "INSERT INTO seen_letters SELECT 'y', letter_id, 'DISMISSED', 'ann', 'x', '200000-01-01', seal"
                " FROM dead_letters LIMIT 1"
            )
        await emit(database, "second", "good")
        await applied(database, "good")
    async with database.begin_for_all() as tx:
        waiting = await list_waiting(tx, subscriber.consumer)
    assert (waiting[0], len(waiting)) == (first.letter_id, 3)  # with the one that was made up
    subscriber.failures.clear()
    clock = FakeClock(chassis.NOW)
    replayed = await replay(database, subscriber.subscription, subscriber.keys, clock, "ann")
    assert (replayed.applied, replayed.failed) == (2, ["x : NotSealed"])
    assert await dismiss(database, subscriber.subscription, subscriber.keys, "x", clock, person="ann", reason="made up")
    assert await dead_letters(database, subscriber) == []


async def test_an_event_that_was_dismissed_is_not_handled_when_it_is_told_once_more(database, js, subscriber):
    subscriber.failures["bad"] = [Refuses("no")] * 9
    async with consuming(database, js, subscriber):
        await emit(database, "bad")
        await chassis.until(lambda: _letters(database, subscriber, 1))
        [letter] = await dead_letters(database, subscriber)
        about = subscriber.subscription, subscriber.keys, letter.letter_id, FakeClock(chassis.NOW)
        assert await dismiss(database, *about, person="ann", reason="booked by hand")
        assert not await dismiss(database, *about, person="ann", reason="booked by hand")
        await js.publish(letter.subject, letter.data, headers=dict(letter.headers))  # as after a restore
        await emit(database, "good")
        await applied(database, "good")
    assert (subscriber.order, await dead_letters(database, subscriber)) == (["good"], [])


async def test_a_message_that_is_delivered_again_leaves_no_second_dead_letter(database, js, subscriber):
    subscriber.failures["bad"] = [Refuses("no")] * 9
    async with consuming(database, js, subscriber):
        await emit(database, "bad")
        await chassis.until(lambda: _letters(database, subscriber, 1))
    [letter] = await dead_letters(database, subscriber)
    async with database.begin_for_all() as tx:
        assert not await set_aside(tx, letter)
        assert await set_aside(tx, replace(letter, data=b"another"))  # in a stream that was made anew
    assert len(await dead_letters(database, subscriber)) == 2


def test_a_replay_for_nobody_says_whom_there_is():
    there = {"DATABASE_URL": "postgresql://u@h/d", "WORKER_DATABASE_URL": "postgresql://w@h/d"}
    there |= {"EVENT_JWKS": "keys.json"}
    command = [sys.executable, "-m", "services.chassis.events.replay", "nobody", "ann"]
    ended = subprocess.run(command, env=os.environ | there, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("cannot begin: no consumer is called nobody; there are: compliance-on-transactions,")


async def test_a_bug_is_tried_some_times_and_then_set_aside(database, js, subscriber):
    subscriber.failures["bug"] = [KeyError("secret value")] * (ATTEMPTS_MAX + 1)
    async with consuming(database, js, subscriber):
        await emit(database, "bug", "good")
        await chassis.until(lambda: _has(database, ["good"]), seconds=60)
    [letter] = await dead_letters(database, subscriber)
    assert letter.attempts == ATTEMPTS_MAX
    assert "secret value" not in str(letter)


@pytest.mark.parametrize(
    ("subject", "data"),
    [
        ("org_1._", b"\xff"),  # no protobuf
        ("org_1._", b""),
        ("org_1._", of_origin("", "org_1")),
        ("org_1._", of_origin("not a uuid", "org_1")),
        ("_._", of_origin(EVENT_ID, "")),
        ("org_1._", of_origin(EVENT_ID, "*")),  # would be every organization
        ("org_1._", of_origin(EVENT_ID, "org 1")),
        ("org_1._", of_origin(EVENT_ID, "org_2")),  # published where another organization listens
    ],
)
async def test_a_message_that_is_no_event_of_ours_is_set_aside(database, js, subscriber, subject, data):
    async with consuming(database, js, subscriber):
        subject = f"realco.escrow.v1.HoldPlaced.{subject}"
        await js.publish(subject, data, headers=signed(subject, EVENT_ID, data))
        await chassis.until(lambda: _letters(database, subscriber, 1))
        await emit(database, "good")
        await applied(database, "good")
    assert subscriber.order == ["good"]


GOOD = "realco.escrow.v1.HoldPlaced.org_1.esc_1"
BODY = of_origin(EVENT_ID, "org_1")
SIGNED = signed(GOOD, EVENT_ID, BODY)
BY_ANOTHER = {SIGNATURE: event_key("compliance").sign(GOOD, EVENT_ID, BODY)}
BY_A_STRANGER = {SIGNATURE: EventKey("escrow", Ed25519PrivateKey.generate()).sign(GOOD, EVENT_ID, BODY)}


@pytest.mark.parametrize(
    ("subject", "headers", "body", "cause"),
    [
        (GOOD, {"ce-id": EVENT_ID}, BODY, "not signed"),
        (GOOD + "\0", {"ce-id": "\0", "other": "\0"}, b"\0", "not signed"),  # what no text of the database holds
        (GOOD, {"ce-id": EVENT_ID, "other": "é" * 30_000}, BODY, "not signed"),  # as JSON three times as long
        (GOOD, SIGNED | {SIGNATURE: event_key().kid}, BODY, "not signed"),
        (GOOD, SIGNED, of_origin(EVENT_ID, "org_1") + b"\x12\x00", "wrong signature"),
        (GOOD, SIGNED | {"ce-id": EVENT_ID.replace("1", "2")}, BODY, "wrong signature"),
        (GOOD.replace("esc_1", "esc_2"), SIGNED, BODY, "wrong signature"),
        (GOOD.replace("HoldPlaced", "HoldReleased"), SIGNED, BODY, "wrong signature"),  # it has no handler
        (GOOD, SIGNED | {SIGNATURE: SIGNED[SIGNATURE][:-8] + "!"}, BODY, "wrong signature"),
        (GOOD, SIGNED | BY_ANOTHER, BODY, "signed by another service"),
        (GOOD, SIGNED | BY_A_STRANGER, BODY, "signed with an unknown key"),
    ],
)
async def test_what_no_service_of_ours_told_is_set_aside_unread(
    database, js, subscriber, subject, headers, body, cause
):
    told = EVENTS_NOT_PROVEN.labels(subscriber.consumer)._value.get()
    async with consuming(database, js, subscriber):
        await js.publish(subject, body, headers=headers)
        await chassis.until(lambda: _letters(database, subscriber, 1))
        await emit(database, "good")
        await applied(database, "good")
    [letter] = await dead_letters(database, subscriber)
    assert letter.cause == f"NotProven: {cause}"
    assert EVENTS_NOT_PROVEN.labels(subscriber.consumer)._value.get() == told + 1
    assert subscriber.order == ["good"]


async def test_a_replay_reads_nothing_that_is_not_proven_either_and_a_person_dismisses_all_of_that_at_once(
    database, js, subscriber
):
    subscriber.failures["ours"] = [Refuses("no")] * 9
    async with consuming(database, js, subscriber):
        for _ in range(2):
            await js.publish(GOOD, BODY, headers={"ce-id": EVENT_ID})
        await emit(database, "ours")
        await chassis.until(lambda: _letters(database, subscriber, 3))
    about = database, subscriber.subscription, subscriber.keys, FakeClock(chassis.NOW)
    failed = (await replay(*about, "ann")).failed
    assert [line.rpartition(" ")[2] for line in failed] == ["NotProven", "NotProven", "Refuses"]
    assert [await dismiss_not_proven(*about, person="ann", reason="junk") for _ in range(2)] == [2, 0]
    subscriber.failures.clear()
    assert (await replay(*about, "ann")).applied == 1


async def _letters(database, subscriber, count: int) -> bool:
    return len(await dead_letters(database, subscriber)) == count
