"""Events arrive at least once and are applied once, in order; what cannot be applied is set aside and replayed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial

import pytest
from asyncpg.exceptions import UndefinedTableError
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from realco.compliance.v1 import events_pb2 as foreign
from realco.escrow.v1 import events_pb2 as events
from realco.type.v1.event_pb2 import EventMeta
from structlog.testing import capture_logs

from services.chassis.calls.auth import current_principal
from services.chassis.events.consumer import ATTEMPTS_MAX, Delivery, Subscription
from services.chassis.events.dismiss import dismiss
from services.chassis.events.letter_watch import run_letter_watch
from services.chassis.events.replay import replay
from services.chassis.events.signatures import SIGNATURE, EventKey
from services.chassis.events.stored import DEAD_LETTER_PREFIX
from services.chassis.process.telemetry import DEAD_LETTERS_WAITING, EVENTS_NOT_PROVEN
from services.chassis.values.clock import FakeClock
from services.chassis.values.errors import DomainError, Kind
from tests.support import chassis
from tests.support.chassis_events import emit, running
from tests.support.event_keys import event_key, signed
from tests.support.inbox import CHECK_SECONDS, consuming, dead_letters

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


async def test_an_event_is_handled_in_business_time_and_wakes_the_jobs(database, js, inbox):
    work_due = asyncio.Event()
    async with consuming(database, js, inbox, work_due):
        await emit(database, "hello")
        await applied(database, "hello")
        await asyncio.wait_for(work_due.wait(), 5)
    assert inbox.seen == [Delivery(chassis.NOW, 1)]


async def test_a_handler_acts_as_its_service_on_behalf_of_the_actor(database, js, inbox):
    principals = []

    async def on_hold(tx, event, delivery) -> None:
        if current_principal().org_id == inbox.org:
            principals.append(current_principal())

    inbox.subscription = Subscription(inbox.durable, {events.HoldPlaced: on_hold}, is_about_money=False)
    async with consuming(database, js, inbox):
        await emit(database, "hello")
        await chassis.until(lambda: principals)
    assert (principals[0].subject, principals[0].person) == ("service:chassis", "admin-1")


async def test_an_event_delivered_twice_is_applied_once(database, js, inbox, listener):
    async with consuming(database, js, inbox):
        await emit(database, "once")
        await listener.names(1)
        [message] = listener.messages
        # The same event again, past the stream's own memory of ids.
        headers = {key: value for key, value in message.headers.items() if not key.startswith("Nats-")}
        await js.publish(message.subject, message.data, headers=headers)
        await emit(database, "after")
        await applied(database, "once", "after")
    assert inbox.order == ["once", "after"]


@pytest.mark.parametrize("passing", [Busy("later"), ConnectionError("away"), TimeoutError(), UndefinedTableError("x")])
async def test_what_fails_for_a_while_is_tried_in_place_and_nothing_overtakes_it(database, js, inbox, passing):
    inbox.failures["first"] = [passing] * 3
    async with consuming(database, js, inbox):
        await emit(database, "first", "second")
        await applied(database, "first", "second")
    assert inbox.order == ["first", "second"]
    assert [delivery.attempt for delivery in inbox.seen] == [1, 2, 3, 4, 1]
    assert await dead_letters(js, inbox) == []


async def test_a_refusal_is_set_aside_at_once_and_replayed_when_mended(database, js, inbox):
    inbox.failures["bad"] = [Refuses("no"), Refuses("still no")]
    async with consuming(database, js, inbox):
        await emit(database, "bad", "good")
        await applied(database, "good")
    letters = await dead_letters(js, inbox)
    assert [letter.headers["realco-cause"] for letter in letters] == ["FAILED_PRECONDITION NEVER"]
    assert letters[0].headers["realco-subject"] == f"realco.escrow.v1.HoldPlaced.{inbox.org}.esc_1"
    assert await chassis.note_ids(database) == ["good"]

    clock = FakeClock(chassis.NOW)
    first = await replay(database, js, inbox.subscription, inbox.keys, clock, CHECK_SECONDS)
    assert (first.applied, len(first.failed)) == (0, 1)

    async def again() -> bool:  # what failed is offered again after some seconds
        result = await replay(database, js, inbox.subscription, inbox.keys, clock, CHECK_SECONDS)
        return result.applied == 1

    await chassis.until(again, seconds=30)
    assert await chassis.note_ids(database) == ["bad", "good"]
    assert (await replay(database, js, inbox.subscription, inbox.keys, clock, CHECK_SECONDS)).failed == []


async def test_a_dead_letter_waits_until_a_person_replayed_or_dismissed_it(database, js, inbox):
    alarms = {}
    inbox.failures |= {"mended": [Refuses("no")], "odd": [Refuses("no")] * 2}
    async with consuming(database, js, inbox):
        await emit(database, "mended", "odd")
        await chassis.until(lambda: _letters(js, inbox, 2))

    def waiting() -> int:
        return DEAD_LETTERS_WAITING.labels(inbox.durable, "true")._value.get()

    with capture_logs() as logged:
        async with running(partial(watch_letters, js, [inbox.subscription]), alarms):
            await chassis.until(lambda: waiting() == 2)
            assert alarms == {f"dead letters of {inbox.durable}": "2 wait"}
            await chassis.until(lambda: sum(line["event"] == "dead_letters_wait" for line in logged) > 2)  # again
            clock = FakeClock(chassis.NOW)
            [failed] = (await replay(database, js, inbox.subscription, inbox.keys, clock, CHECK_SECONDS)).failed
            await chassis.until(lambda: waiting() == 1)
            number = int(failed.split()[0])
            assert not await dismiss(js, inbox.durable, number + 1, "ann", "is another's", CHECK_SECONDS)
            assert await dismiss(js, inbox.durable, number, "ann", "booked by hand")
            await chassis.until(lambda: waiting() == 0)
            assert alarms == {}
    reminders = [line for line in logged if line["event"] == "dead_letters_wait"]
    assert {line["command"] for line in reminders} == {
        f"python -m services.chassis.events.replay {inbox.durable} <your name>"
    }
    [dismissed] = [line for line in logged if line["event"] == "dead_letter_dismissed"]
    assert (dismissed["person"], dismissed["reason"], dismissed["number"]) == ("ann", "booked by hand", number)
    assert logged[-1]["event"] == "dead_letters_seen_to"


async def watch_letters(js, subscriptions, alarms, stop) -> None:
    await run_letter_watch(js, subscriptions, stop, alarms, look_seconds=0.05, remind_seconds=0.1)


async def test_where_nobody_hands_out_dead_letters_about_money_that_is_the_alarm(js, inbox):
    other, unpaid = (
        replace(inbox.subscription, durable=chassis.fresh_name(), is_about_money=it) for it in (True, False)
    )
    alarms = {}
    with capture_logs() as logged:
        async with running(partial(watch_letters, js, [other, unpaid]), alarms):
            await chassis.until(lambda: len({line["consumer"] for line in logged}) == 2)
    assert alarms == {f"dead letters of {other.durable}": "nobody can tell whether any waits"}


def test_a_replay_for_nobody_says_whom_there_is():
    there = {"DATABASE_URL": "postgresql://u@h/d", "WORKER_DATABASE_URL": "postgresql://w@h/d"}
    there |= {"NATS_URL": "nats://h", "EVENT_JWKS": "keys.json"}
    command = [sys.executable, "-m", "services.chassis.events.replay", "nobody", "ann"]
    ended = subprocess.run(command, env=os.environ | there, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith(
        "cannot replay: no consumer is called nobody; there are: compliance-on-transactions,"
    )


async def test_a_bug_is_tried_some_times_and_then_set_aside(database, js, inbox):
    inbox.failures["bug"] = [KeyError("secret value")] * (ATTEMPTS_MAX + 1)
    async with consuming(database, js, inbox):
        await emit(database, "bug", "good")
        await chassis.until(lambda: _has(database, ["good"]), seconds=60)
    [letter] = await dead_letters(js, inbox)
    assert letter.headers["realco-attempts"] == str(ATTEMPTS_MAX)
    assert "secret value" not in str(letter.headers)


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
async def test_a_message_that_is_no_event_of_ours_is_set_aside(database, js, inbox, subject, data):
    async with consuming(database, js, inbox):
        subject = f"realco.escrow.v1.HoldPlaced.{subject}"
        await js.publish(subject, data, headers=signed(subject, EVENT_ID, data))
        await chassis.until(lambda: _letters(js, inbox, 1))
        await emit(database, "good")
        await applied(database, "good")
    assert inbox.order == ["good"]


GOOD = "realco.escrow.v1.HoldPlaced.org_1.esc_1"
BODY = of_origin(EVENT_ID, "org_1")
SIGNED = signed(GOOD, EVENT_ID, BODY)
BY_ANOTHER = {SIGNATURE: event_key("compliance").sign(GOOD, EVENT_ID, BODY)}
BY_A_STRANGER = {SIGNATURE: EventKey("escrow", Ed25519PrivateKey.generate()).sign(GOOD, EVENT_ID, BODY)}


@pytest.mark.parametrize(
    ("subject", "headers", "body", "cause"),
    [
        (GOOD, {"ce-id": EVENT_ID}, BODY, "not signed"),
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
async def test_what_no_service_of_ours_told_is_set_aside_unread(database, js, inbox, subject, headers, body, cause):
    told = EVENTS_NOT_PROVEN.labels(inbox.durable)._value.get()
    async with consuming(database, js, inbox):
        await js.publish(subject, body, headers=headers)
        await chassis.until(lambda: _letters(js, inbox, 1))
        await emit(database, "good")
        await applied(database, "good")
    [letter] = await dead_letters(js, inbox)
    assert letter.headers["realco-cause"] == f"NotProven: {cause}"
    assert EVENTS_NOT_PROVEN.labels(inbox.durable)._value.get() == told + 1
    assert inbox.order == ["good"]


async def test_a_replay_reads_nothing_that_is_not_proven_either(database, js, inbox):
    letter = {"realco-subject": GOOD, "ce-id": EVENT_ID}
    await js.publish(f"{DEAD_LETTER_PREFIX}{inbox.durable}", BODY, headers=letter)
    again = await replay(database, js, inbox.subscription, inbox.keys, FakeClock(chassis.NOW), CHECK_SECONDS)
    assert (again.applied, len(again.failed)) == (0, 1)
    assert inbox.seen == []


async def _letters(js, inbox, count: int) -> bool:
    return len(await dead_letters(js, inbox)) == count


async def test_two_processes_share_a_durable_and_keep_the_order(database, js, inbox):
    names = [f"n{number:02}" for number in range(40)]
    async with consuming(database, js, inbox), consuming(database, js, inbox):
        await emit(database, *names)
        await applied(database, *names)
    assert inbox.order == names


def test_streams_follow_from_the_events():
    async def handler(tx, event, delivery) -> None: ...

    subscription = Subscription(
        "d",
        {foreign.ComplianceCheckCompleted: handler, events.HoldPlaced: handler, events.HoldReleased: handler},
        is_about_money=False,
    )
    assert subscription.subjects_by_stream() == {
        "COMPLIANCE": ["realco.compliance.v1.ComplianceCheckCompleted.>"],
        "ESCROW": ["realco.escrow.v1.HoldPlaced.>", "realco.escrow.v1.HoldReleased.>"],
    }
