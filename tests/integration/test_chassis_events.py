"""Events leave with their transaction, arrive at least once, and are applied once."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import nats
import pytest
import sqlalchemy as sa
from realco.compliance.v1 import events_pb2 as foreign
from realco.escrow.v1 import events_pb2 as events

from deploy import provision
from services.chassis import jetstream, outbox
from services.chassis.auth import Principal, acting_as, current_principal
from services.chassis.clock import FakeClock
from services.chassis.consumer import ATTEMPTS_MAX, EventMeta, Subscription, run_subscription
from services.chassis.errors import DomainError, Kind
from services.chassis.housekeeping import forget_old_rows
from services.chassis.invariant import InvariantViolation
from services.chassis.jobs import Job, run_jobs
from services.chassis.relay import relay_batch, run_relay
from services.chassis.replay import replay
from services.chassis.tables import handled_events
from services.chassis.tables import outbox as outbox_table
from tests.support import chassis


@pytest.fixture
async def urls(postgres):
    return await chassis.create(postgres)


@pytest.fixture
def org():
    """The streams are shared with other tests; the organization is not."""
    return chassis.fresh_name()


@pytest.fixture
async def database(urls, org):
    async with chassis.opened(urls) as database:
        with acting_as(Principal("admin-1", "admin", org)):
            yield database


@pytest.fixture
async def js(nats_url):
    """The streams as the provisioner makes them."""
    client = await nats.connect(nats_url)
    await provision.provision(client, [])
    yield client.jetstream()
    await client.close()


@asynccontextmanager
async def running(coroutine_of, *arguments):
    stop = asyncio.Event()
    task = asyncio.create_task(coroutine_of(*arguments, stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 10)


async def emit(database, *names: str) -> None:
    for name in names:
        async with database.begin() as tx:
            event = events.HoldPlaced(actor=name)
            await outbox.enqueue(tx, event, aggregate_id="esc_1", now=chassis.NOW)


async def unpublished(database) -> int:
    async with database.begin("*") as tx:
        count = sa.select(sa.func.count()).where(outbox_table.c.published_at.is_(None))
        return await tx.scalar(count)


class Listener:
    """Reads the stream from here on, as anybody may, and keeps what is of its organization."""

    def __init__(self, subscription, org: str) -> None:
        self._subscription = subscription
        self._org = org
        self.messages: list = []

    async def names(self, count: int) -> list[str]:
        while len(self.messages) < count:
            message = await self._subscription.next_msg(timeout=10)
            if (message.headers or {}).get("ce-orgid") == self._org:
                self.messages.append(message)
        return [events.HoldPlaced.FromString(message.data).actor for message in self.messages]


@pytest.fixture
async def listener(js, org):
    new = nats.js.api.DeliverPolicy.NEW
    return Listener(await js.subscribe("realco.escrow.v1.>", ordered_consumer=True, deliver_policy=new), org)


# --- the outbox and its relay ----------------------------------------------------------------------------------------


async def test_an_event_is_published_with_everything_a_subscriber_needs(database, js, listener, org):
    async with running(run_relay, database, js, "escrow"):
        await emit(database, "first")
        assert await listener.names(1) == ["first"]
        await chassis.until(lambda: _all_published(database))
    headers = listener.messages[0].headers
    assert headers["ce-specversion"] == "1.0"
    assert headers["ce-type"] == listener.messages[0].subject == "realco.escrow.v1.HoldPlaced"
    assert headers["ce-source"] == "/realco/escrow"
    assert headers["ce-time"] == "2026-11-22T12:00:00+00:00"
    assert (headers["ce-subject"], headers["ce-orgid"], headers["ce-actor"]) == ("esc_1", org, "admin-1")
    assert headers["ce-id"] == headers["Nats-Msg-Id"]


async def _all_published(database) -> bool:
    return await unpublished(database) == 0


async def test_what_is_rolled_back_is_never_published(database, js, listener):
    async with running(run_relay, database, js, "escrow"):
        async with database.begin() as tx:
            await outbox.enqueue(tx, events.HoldPlaced(actor="no"), aggregate_id="e", now=chassis.NOW)
            await tx.rollback()
        await emit(database, "yes")
        assert await listener.names(1) == ["yes"]


async def test_an_event_that_commits_late_is_not_skipped(database, js, listener):
    """Its sequence number is the smaller one: a relay that remembers the last number would lose it."""
    async with running(run_relay, database, js, "escrow"):
        async with database.begin() as slow:
            await outbox.enqueue(slow, events.HoldPlaced(actor="late"), aggregate_id="e", now=chassis.NOW)
            await emit(database, "early")
        assert sorted(await listener.names(2)) == ["early", "late"]


async def test_the_events_of_one_transaction_after_another_keep_their_order(database, js, listener):
    names = [f"n{number:03}" for number in range(300)]
    await emit(database, *names)
    async with running(run_relay, database, js, "escrow"):
        assert await listener.names(300) == names


async def test_events_of_one_aggregate_are_told_in_the_order_of_its_lock(database, js, listener):
    """The transaction that began first and waited for the lock is the later one, whatever its transaction id says."""
    async with running(run_relay, database, js, "escrow"):
        async with database.begin() as began_first:
            await began_first.execute(sa.text("SELECT pg_current_xact_id()"))
            await emit(database, "booked first")
            await outbox.enqueue(
                began_first, events.HoldPlaced(actor="booked second"), aggregate_id="e", now=chassis.NOW
            )
        assert await listener.names(2) == ["booked first", "booked second"]


async def test_a_thousand_events_are_one_batch(database, js, urls):
    async with database.begin() as tx:
        for number in range(1001):
            await outbox.enqueue(tx, events.HoldPlaced(actor=str(number)), aggregate_id="e", now=chassis.NOW)
    connection = await _relay_connection(database)
    assert [await relay_batch(connection, js, "escrow") for _ in range(3)] == [1000, 1, 0]
    await connection.close()


async def test_a_crash_between_publishing_and_marking_publishes_nothing_twice(database, js, urls, listener):
    await emit(database, "a", "b", "c")
    connection = await _relay_connection(database)
    await relay_batch(connection, js, "escrow")
    async with chassis.as_superuser(urls) as admin:
        await admin.execute("UPDATE outbox SET published_at = NULL")
    await emit(database, "d")  # the batch now holds three the stream knows and one it does not
    assert await relay_batch(connection, js, "escrow") == 4
    assert await listener.names(4) == ["a", "b", "c", "d"]
    await connection.close()


async def test_two_relays_publish_everything_once(database, js, listener):
    async with running(run_relay, database, js, "escrow"), running(run_relay, database, js, "escrow"):
        names = [f"n{number:02}" for number in range(50)]
        await emit(database, *names)
        assert await listener.names(50) == names


async def test_an_event_too_large_for_a_message_fails_its_own_transaction(database):
    huge = events.HoldPlaced(actor="x" * outbox.PAYLOAD_BYTES_MAX)
    async with database.begin() as tx:
        with pytest.raises(InvariantViolation, match="fits"):
            await outbox.enqueue(tx, huge, aggregate_id="e", now=chassis.NOW)


async def _relay_connection(database):
    connection = await database.connect_alone()
    await connection.execute("SELECT set_config('app.org_id', '*', false)")
    return connection


# --- consumers -------------------------------------------------------------------------------------------------------


class Inbox:
    """A subscription that writes a note for every event, and fails as told."""

    def __init__(self, name: str, org: str) -> None:
        self.durable = name
        self.org = org
        self.failures: dict[str, list[Exception]] = {}
        self.seen: list[EventMeta] = []
        self.order: list[str] = []
        self.subscription = Subscription(name, {events.HoldPlaced: self.on_hold})

    async def on_hold(self, tx, event: events.HoldPlaced, meta: EventMeta) -> None:
        if meta.org_id != self.org:
            return
        self.seen.append(meta)
        await chassis.add_note(tx, event.actor, meta.org_id)
        if self.failures.get(event.actor):
            raise self.failures[event.actor].pop(0)
        self.order.append(event.actor)


@pytest.fixture
async def inbox(js, org):
    """Its consumers are as the provisioner makes them, but begin with what is published from now on."""
    inbox = Inbox(chassis.fresh_name(), org)
    for consumer in provision.consumers_of("escrow", inbox.subscription):
        request = {
            "stream_name": consumer.stream,
            "config": consumer.configuration() | {"deliver_policy": "new"},
        }
        subject = f"$JS.API.CONSUMER.CREATE.{consumer.stream}.{consumer.name}"
        answer = json.loads((await jetstream.client_of(js).request(subject, json.dumps(request).encode())).data)
        assert "error" not in answer
    return inbox


@asynccontextmanager
async def consuming(database, js, inbox, nudge=None):
    async def run(stop):
        clock = FakeClock(chassis.NOW)
        await run_subscription(database, js, inbox.subscription, clock, stop, nudge or asyncio.Event())

    async with running(run_relay, database, js, "escrow"), running(run):
        yield


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


async def test_an_event_is_handled_as_its_organization_and_for_its_actor(database, js, inbox):
    nudge = asyncio.Event()
    async with consuming(database, js, inbox, nudge):
        await emit(database, "hello")
        await applied(database, "hello")
        await asyncio.wait_for(nudge.wait(), 5)
    meta = inbox.seen[0]
    assert (meta.subject, meta.org_id, meta.actor) == ("realco.escrow.v1.HoldPlaced", inbox.org, "admin-1")
    assert (meta.now, meta.attempt) == (chassis.NOW, 1)


async def test_a_handler_acts_as_its_service_on_behalf_of_the_actor(database, js, inbox):
    principals = []

    async def on_hold(tx, event, meta) -> None:
        if meta.org_id == inbox.org:
            principals.append(current_principal())

    inbox.subscription = Subscription(inbox.durable, {events.HoldPlaced: on_hold})
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
        headers = {key: value for key, value in message.headers.items() if key.startswith("ce-")}
        await js.publish(message.subject, message.data, headers=headers)
        await emit(database, "after")
        await applied(database, "once", "after")
    assert inbox.order == ["once", "after"]


@pytest.mark.parametrize("passing", [Busy("later"), ConnectionError("away"), TimeoutError()])
async def test_what_fails_for_a_while_is_tried_in_place_and_nothing_overtakes_it(database, js, inbox, passing):
    inbox.failures["first"] = [passing] * 3
    async with consuming(database, js, inbox):
        await emit(database, "first", "second")
        await applied(database, "first", "second")
    assert inbox.order == ["first", "second"]
    assert [meta.attempt for meta in inbox.seen] == [1, 2, 3, 4, 1]
    assert await dead_letters(js, inbox) == []


async def test_a_refusal_is_set_aside_at_once_and_replayed_when_mended(database, js, inbox):
    inbox.failures["bad"] = [Refuses("no"), Refuses("still no")]
    async with consuming(database, js, inbox):
        await emit(database, "bad", "good")
        await applied(database, "good")
    letters = await dead_letters(js, inbox)
    assert [letter.headers["realco-cause"] for letter in letters] == ["FAILED_PRECONDITION NEVER"]
    assert letters[0].headers["realco-subject"] == "realco.escrow.v1.HoldPlaced"
    assert await chassis.note_ids(database) == ["good"]

    clock = FakeClock(chassis.NOW)
    first = await replay(database, js, inbox.subscription, clock)
    assert (first.applied, len(first.failed)) == (0, 1)

    async def again() -> bool:  # what failed is offered again after some seconds
        result = await replay(database, js, inbox.subscription, clock)
        return result.applied == 1

    await chassis.until(again, seconds=30)
    assert await chassis.note_ids(database) == ["bad", "good"]
    assert (await replay(database, js, inbox.subscription, clock)).failed == []


async def test_a_bug_is_tried_some_times_and_then_set_aside(database, js, inbox):
    inbox.failures["bug"] = [KeyError("secret value")] * (ATTEMPTS_MAX + 1)
    async with consuming(database, js, inbox):
        await emit(database, "bug", "good")
        await chassis.until(lambda: _has(database, ["good"]), seconds=60)
    [letter] = await dead_letters(js, inbox)
    assert letter.headers["realco-attempts"] == str(ATTEMPTS_MAX)
    assert "secret value" not in str(letter.headers)


@pytest.mark.parametrize(
    ("data", "headers"),
    [
        (b"\xff", {"ce-id": "0192f0c1-2b3c-7def-8000-000000000001", "ce-orgid": "org_1"}),  # no protobuf
        (b"", {"ce-orgid": "org_1"}),
        (b"", {"ce-id": "not a uuid", "ce-orgid": "org_1"}),
        (b"", {"ce-id": "0192f0c1-2b3c-7def-8000-000000000001"}),
        (b"", None),
    ],
)
async def test_a_message_that_is_no_event_of_ours_is_set_aside(database, js, inbox, data, headers):
    async with consuming(database, js, inbox):
        await js.publish("realco.escrow.v1.HoldPlaced", data, headers=headers)
        await chassis.until(lambda: _letters(js, inbox, 1))
        await emit(database, "good")
        await applied(database, "good")
    assert inbox.order == ["good"]


async def _letters(js, inbox, count: int) -> bool:
    return len(await dead_letters(js, inbox)) == count


async def dead_letters(js, inbox) -> list:
    """All there are for this consumer, without taking them."""
    subject = f"{jetstream.DEAD_LETTER_PREFIX}{inbox.durable}"
    subscription = await js.subscribe(subject, ordered_consumer=True)
    found = []
    try:
        while True:
            found.append(await subscription.next_msg(timeout=0.3))
    except TimeoutError:
        return found
    finally:
        await subscription.unsubscribe()


async def test_two_processes_share_a_durable_and_keep_the_order(database, js, inbox):
    names = [f"n{number:02}" for number in range(40)]
    async with consuming(database, js, inbox), consuming(database, js, inbox):
        await emit(database, *names)
        await applied(database, *names)
    assert inbox.order == names


def test_streams_follow_from_the_events():
    async def handler(tx, event, meta) -> None: ...

    subscription = Subscription(
        "d", {foreign.ComplianceCheckCompleted: handler, events.HoldPlaced: handler, events.HoldResolved: handler}
    )
    assert subscription.subjects_by_stream() == {
        "COMPLIANCE": ["realco.compliance.v1.ComplianceCheckCompleted"],
        "ESCROW": ["realco.escrow.v1.HoldPlaced", "realco.escrow.v1.HoldResolved"],
    }


# --- jobs and housekeeping -------------------------------------------------------------------------------------------


async def test_a_job_runs_on_while_there_is_work_and_outlives_its_failures():
    work = [3, ValueError("once"), 2, 0]
    runs: list = []

    async def run() -> int:
        runs.append(work[min(len(runs), len(work) - 1)])
        if isinstance(runs[-1], Exception):
            raise runs[-1]
        return runs[-1]

    nudge = asyncio.Event()

    async def jobs(stop):
        await run_jobs([Job("j", run, interval_seconds=3600)], stop, nudge)

    async with running(jobs):
        await chassis.until(lambda: runs == work)
        nudge.set()  # the interval is an hour; the nudge is now
        await chassis.until(lambda: len(runs) == 5)


async def test_what_has_served_its_time_is_forgotten_and_nothing_else(urls, database):
    await emit(database, "old", "unpublished", "new")
    async with chassis.as_superuser(urls) as admin:
        await admin.execute(
            "UPDATE outbox SET published_at = now() - interval '36 days' WHERE id = (SELECT min(id) FROM outbox);"
            "UPDATE outbox SET published_at = now() - interval '34 days' WHERE id = (SELECT max(id) FROM outbox);"
            "UPDATE outbox SET created_at = now() - interval '99 days';"
            "INSERT INTO handled_events (consumer, event_id, created_at)"
            " SELECT 'c', gen_random_uuid(), now() - n * interval '1 day' FROM unnest(ARRAY[89, 91]) n"
        )
    assert await forget_old_rows(database) == 2
    assert await forget_old_rows(database) == 0
    async with database.begin("*") as tx:
        assert await tx.scalar(sa.select(sa.func.count()).select_from(outbox_table)) == 2
        assert await tx.scalar(sa.select(sa.func.count()).select_from(handled_events)) == 1
