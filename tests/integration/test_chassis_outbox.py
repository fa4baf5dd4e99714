"""Events leave with their transaction, each at least once, those of one aggregate in their order."""

from __future__ import annotations

import json
import re
import time
import uuid
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import asyncpg
import pytest
import sqlalchemy as sa
from realco.escrow.v1 import events_pb2 as events

from services.chassis.data import leadership, migrate, outbox
from services.chassis.data.event_messages import PAYLOAD_BYTES_MAX
from services.chassis.events import relay
from services.chassis.events.relay import relay_batch
from services.chassis.events.streams import MESSAGE_ID, client_of
from services.chassis.values.invariant import InvariantViolation
from tests.support import chassis
from tests.support.chassis_events import emit, event_named, relaying, unpublished
from tests.support.event_keys import event_key, event_keys


async def test_an_event_is_published_with_everything_a_subscriber_needs(database, js, listener, org, tmp_path):
    async with relaying(database, js):
        await emit(database, "first")
        assert await listener.names(1) == ["first"]
        await chassis.until(lambda: _all_published(database))
    headers = listener.messages[0].headers
    assert headers["ce-specversion"] == "1.0"
    assert headers["ce-type"] == "realco.escrow.v1.HoldPlaced"
    assert listener.messages[0].subject == f"realco.escrow.v1.HoldPlaced.{org}.esc_1"
    assert headers["ce-source"] == "/realco/escrow"
    assert headers["ce-time"] == "2026-11-22T12:00:00+00:00"
    assert (headers["ce-subject"], headers["ce-aggregateversion"]) == ("esc_1", "1")
    assert headers["ce-dataschema"] == "urn:realco:proto:realco/escrow/v1/events.proto"
    page = (Path(__file__).parents[2] / "docs" / "subscribing.md").read_text()
    table = page.partition("| header | meaning |")[2].partition("\n\n")[0]
    described = {name for row in table.splitlines() for name in re.findall(r"`([^`]+)`", row.split(" | ")[0])}
    in_a_batch = {"Nats-Batch-Id", "Nats-Batch-Sequence", "Nats-Batch-Commit"}
    assert {*headers, "traceparent", *in_a_batch} == described
    meta = events.HoldPlaced.FromString(listener.messages[0].data).meta
    assert headers["ce-id"] == headers["Nats-Msg-Id"] == meta.event_id
    assert (meta.org_id, meta.aggregate_id, meta.aggregate_version, meta.actor) == (org, "esc_1", 1, "admin-1")
    assert meta.occur_time.ToJsonString() == "2026-11-22T12:00:00Z"
    assert uuid.UUID(meta.incarnation)
    message = listener.messages[0]
    await event_keys(tmp_path).check(message.subject, headers, message.data)  # it does not refuse


def test_who_reads_cloudevents_reads_what_an_event_is_about_whatever_signs_its_id_has():
    """Source: CloudEvents, NATS protocol binding 1.0.3, 3.1.3.2: readers decode a header once."""
    person = 'jörg: 5% "x" 日本'
    told = dict.fromkeys(("event_id", "scope", "aggregate_version", "traceparent"), "")
    told |= {"event_type": "realco.compliance.v1.SessionsEnded", "org_id": "org_1", "payload": b""}
    message = relay._message(told | {"aggregate_id": person, "occurred_at": chassis.NOW}, "compliance", event_key())
    header = message.headers["ce-subject"]
    assert header == "j%C3%B6rg:%205%25%20%22x%22%20%E6%97%A5%E6%9C%AC"
    assert unquote(header) == person


async def _all_published(database) -> bool:
    return await unpublished(database) == 0


async def test_what_is_rolled_back_is_never_published(database, js, listener):
    async with relaying(database, js):
        async with database.begin_rehearsal() as tx:
            await outbox.enqueue(tx, event_named("no", "e"), now=chassis.NOW)
        await emit(database, "yes")
        assert await listener.names(1) == ["yes"]


async def test_an_acknowledgement_of_something_else_marks_no_event_as_published(database, js, listener, monkeypatch):
    """Who has a password of the service may have what is answered to another message sent to where the relay waits."""
    client, falsehoods = client_of(js), 2  # of the batch, and of the message alone
    ask = client.request

    async def answer(subject, *arguments, headers=None, **options):
        nonlocal falsehoods
        if headers is not None and MESSAGE_ID in headers and falsehoods:
            falsehoods -= 1
            return SimpleNamespace(data=json.dumps({"stream": "ESCROW", "seq": 1, "batch": "another", "count": 1}))
        return await ask(subject, *arguments, headers=headers, **options)

    monkeypatch.setattr(client, "request", answer)
    told = ["told", "in", "a", "batch"]
    async with relaying(database, js):
        await emit(database, *told)
        assert await listener.names(4) == told
        await chassis.until(lambda: _all_published(database))
    assert falsehoods == 0


async def test_an_event_that_commits_late_is_not_skipped(database, js, listener):
    """Its sequence number is the smaller one: a relay that remembers the last number would lose it."""
    async with relaying(database, js):
        async with database.begin() as slow:
            await outbox.enqueue(slow, event_named("late", "e"), now=chassis.NOW)
            await emit(database, "early")
        assert sorted(await listener.names(2)) == ["early", "late"]


async def test_the_events_of_one_transaction_after_another_keep_their_order(database, js, listener):
    names = [f"n{number:03}" for number in range(300)]
    await emit(database, *names)
    async with relaying(database, js):
        assert await listener.names(300) == names


async def test_events_of_one_aggregate_are_told_in_the_order_of_its_lock(database, js, listener):
    """The transaction that began first and waited for the lock is the later one, whatever its transaction id says."""
    async with relaying(database, js):
        async with database.begin() as began_first:
            await began_first.execute(sa.text("SELECT pg_current_xact_id()"))
            await emit(database, "booked first")
            await outbox.enqueue(began_first, event_named("booked second", "e"), now=chassis.NOW)
        assert await listener.names(2) == ["booked first", "booked second"]


async def test_the_events_of_an_aggregate_are_numbered_without_gaps_whatever_is_rolled_back_and_whoever_tells_them(
    database, js, listener, monkeypatch
):
    processes = [outbox._Last() for _ in range(2)]  # what each remembers of the numbers is out of date now and then
    async with relaying(database, js):
        for number in range(30):
            monkeypatch.setattr(outbox, "_last", processes[number // 4 % 2])
            async with (database.begin if number % 3 else database.begin_rehearsal)() as tx:
                events_of_both = [event_named("a", "a"), event_named("b", "b"), event_named("a", "a")]
                await outbox.enqueue_all(tx, events_of_both, now=chassis.NOW)
                for aggregate_id in ("b", "c", "c"):
                    await outbox.enqueue(tx, event_named(aggregate_id, aggregate_id), now=chassis.NOW)
        await listener.names(120)
    metas = [events.HoldPlaced.FromString(message.data).meta for message in listener.messages]
    for aggregate_id, count in (("a", 40), ("b", 40), ("c", 40)):
        versions = [meta.aggregate_version for meta in metas if meta.aggregate_id == aggregate_id]
        assert versions == list(range(1, count + 1))
    assert len({meta.incarnation for meta in metas}) == 1


async def test_after_a_restore_the_numbers_are_above_all_that_were_told_before_and_come_under_a_new_incarnation(
    database, js, urls, listener, monkeypatch, capsys
):
    async with relaying(database, js):
        await emit(database, "before the backup", "lost by the restore")
        await listener.names(2)
        async with chassis.as_superuser(urls) as admin:
            await admin.execute("SET session_replication_role = replica; UPDATE aggregate_versions SET version = 1")
        restored_at = time.time()
        monkeypatch.setenv("MIGRATION_DATABASE_URL", urls.owner_url)
        assert await migrate.main("escrow", check=False, new_incarnation=True) == 0
        await emit(database, "after the restore", "and then")
        for together in (("new", "newer", "new"), ("newest",)):  # of what the backup did not have
            async with database.begin() as tx:
                await outbox.enqueue_all(tx, [event_named("new", each) for each in together], now=chassis.NOW)
        await listener.names(8)
    *metas, new, newer, again, newest = [events.HoldPlaced.FromString(each.data).meta for each in listener.messages]
    assert again.aggregate_version == new.aggregate_version + 1
    assert min(each.aggregate_version for each in (new, newer, newest, metas[2])) > restored_at * 1_000_000
    assert [each.aggregate_version for each in metas] == [1, 2, (third := metas[2].aggregate_version), third + 1]
    assert metas[0].incarnation == metas[1].incarnation != metas[2].incarnation == metas[3].incarnation
    async with chassis.as_superuser(urls) as admin:
        of_before = "SELECT version, restored_version FROM aggregate_versions WHERE restored_version IS NOT NULL"
        assert [tuple(row) for row in await admin.fetch(of_before)] == [(third + 1, 1)]
    printed = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("{")]  # nor what is logged
    assert printed == [f"escrow: incarnation {metas[2].incarnation} begins"]


async def test_a_thousand_events_are_one_batch(database, js, urls):
    async with database.begin() as tx:
        for number in range(1001):
            await outbox.enqueue(tx, event_named(str(number), "e"), now=chassis.NOW)
    assert [await relay_batch(database, js, "escrow", event_key(), set()) for _ in range(3)] == [
        (1000, True),
        (1, False),
        (0, False),
    ]


async def test_a_crash_between_publishing_and_marking_publishes_nothing_twice(database, js, urls, listener):
    await emit(database, "a", "b", "c")
    await relay_batch(database, js, "escrow", event_key(), set())
    async with chassis.as_superuser(urls) as admin:
        await admin.execute("UPDATE outbox SET published_at = NULL")
    await emit(database, "d")  # the batch now holds three the stream knows and one it does not
    assert (await relay_batch(database, js, "escrow", event_key(), set())).looked_at == 4
    assert await listener.names(4) == ["a", "b", "c", "d"]


async def test_what_the_service_did_not_write_is_told_to_nobody(database, js, urls, org, listener):
    """By a role of the database alone: made up, copied under another id or subject, or changed."""
    copied = (
        "INSERT INTO outbox (org_id, event_id, event_type, aggregate_id, aggregate_version, scope, payload, {more})"
    )
    own = "SELECT org_id, {event_id}, event_type, aggregate_id, 9, {scope}, payload{more}, now() FROM outbox"
    await emit(database, "ours")
    async with chassis.as_superuser(urls) as admin:
        for event_id, scope, more, seal in (
            ("gen_random_uuid()", "scope", "occurred_at", ""),
            ("gen_random_uuid()", "scope", "seal, occurred_at", ", seal"),
            ("gen_random_uuid()", "'esc_2'", "seal, occurred_at", ", 'made up'"),
        ):
            text = copied.format(more=more) + " " + own.format(event_id=event_id, scope=scope, more=seal)
            await admin.execute(text + " WHERE aggregate_version = 1 LIMIT 1")
    await emit(database, "changed")
    async with chassis.as_superuser(urls) as admin:
        await admin.execute("UPDATE outbox SET scope = 'esc_2' WHERE aggregate_version = 2")
    changes = (
        *("aggregate_id = 'esc_2'", "aggregate_version = 9", "occurred_at = now()", "traceparent = 'x'"),
        "occurred_at = '200000-01-01'",  # what no program can read
    )
    for change in changes:
        await emit(database, "changed")
        async with chassis.as_superuser(urls) as admin:
            await admin.execute("SET session_replication_role = replica")
            await admin.execute(f"UPDATE outbox SET {change} WHERE id = (SELECT max(id) FROM outbox)")
    await emit(database, "ours, too")
    foreign = set()
    assert (await relay_batch(database, js, "escrow", event_key(), foreign)).looked_at == 5 + len(changes)
    assert await listener.names(2) == ["ours", "ours, too"]
    assert len(foreign) == await unpublished(database) == 4 + len(changes)
    assert (await relay_batch(database, js, "escrow", event_key(), foreign)).looked_at == 0


_MADE_UP = """
INSERT INTO outbox (org_id, event_id, event_type, aggregate_id, aggregate_version, scope, payload, occurred_at{more})
SELECT 'org_1', gen_random_uuid(), 'x', 'esc_1', 1, 'x', 'x', now(){values} FROM generate_series(1, 1001)
"""


@pytest.mark.parametrize(
    "way",
    [
        "UPDATE outbox SET published_at = now()",
        "UPDATE outbox SET published_at = now(), proof = proof_digest",
        "UPDATE outbox SET published_at = now(), proof = substr(seal, 5)",
        "UPDATE outbox SET published_at = now() - interval '36 days'",
        _MADE_UP.format(more=", id", values=", 1").replace("SELECT", "OVERRIDING SYSTEM VALUE SELECT"),
        _MADE_UP.format(more=", created_at", values=", 'infinity'"),
        _MADE_UP.format(more=", published_at", values=", now() - interval '36 days'"),
        "INSERT INTO leaders VALUES ('relay', gen_random_uuid(), 'infinity')",
        "DELETE FROM outbox",
        "TRUNCATE outbox",
        "UPDATE outbox SET proof_digest = sha256('mine'), proof = 'mine', published_at = now()",
        "UPDATE aggregate_versions SET version = 0",
        "UPDATE aggregate_versions SET version = 9223372036854775807",
        "UPDATE aggregate_versions SET version = version + 1000001",
        "INSERT INTO aggregate_versions VALUES ('org_1', 'new', 1000001)",
        "INSERT INTO aggregate_versions VALUES ('org_1', 'new', -9223372036854775808)",
        "DELETE FROM aggregate_versions",
    ],
)
async def test_who_has_the_login_of_the_worker_takes_no_event_away(database, way):
    await emit(database, "waits")
    with pytest.raises(asyncpg.PostgresError, match=r"keeps its rows|permission denied|is kept"):
        await _execute(database, way.split("; "))


async def _execute(database, statements):
    async with database.begin_for_all() as tx:
        for statement in statements:
            await tx.execute(sa.text(statement))


async def test_an_event_with_a_number_that_somebody_made_up_is_told_to_nobody(database, js):
    await emit(database, "first")
    leap = sa.text("UPDATE aggregate_versions SET version = version + 1000")
    made_up = (
        "INSERT INTO outbox"
        " (org_id, event_id, event_type, aggregate_id, aggregate_version, scope, payload, occurred_at)"
        " SELECT org_id, gen_random_uuid(), 'x', aggregate_id, version, 'x', 'x', now() FROM aggregate_versions"
    )
    async with database.begin() as tx:
        await tx.execute(leap)
        await tx.execute(sa.text(made_up))
    foreign = set()
    await relay_batch(database, js, "escrow", event_key(), foreign)
    assert len(foreign) == 1


async def test_what_proved_an_event_published_proves_nothing_once_it_is_to_be_told_again(database, js, urls, listener):
    await emit(database, "again")
    async with relaying(database, js):
        await listener.names(1)
        await chassis.until(lambda: _only_foreign_waits(database, 0))
    async with chassis.as_superuser(urls) as admin:
        await admin.execute("UPDATE outbox SET published_at = NULL")
    with pytest.raises(asyncpg.PostgresError, match="keeps its rows"):
        await _execute(database, ["UPDATE outbox SET published_at = now()"])
    async with relaying(database, js):
        await chassis.until(lambda: _only_foreign_waits(database, 0))


async def test_what_the_worker_s_login_withholds_is_told_within_seconds_and_in_its_order(database, js, listener):
    """More made-up rows than a batch holds stand before each event, and somebody else says that it leads."""
    for name in ("first", "second"):
        async with database.begin_for_all() as tx:
            await tx.execute(sa.text(_MADE_UP.format(more="", values="")))
        await emit(database, name)
    async with database.begin_for_all() as tx:
        for _ in range(2):
            await tx.execute(sa.text(_MADE_UP.format(more="", values="")))
        another = "INSERT INTO leaders VALUES ('relay', gen_random_uuid(), clock_timestamp() + interval '55 seconds')"
        await tx.execute(sa.text(another))
    began = time.monotonic()
    async with relaying(database, js):
        assert await listener.names(2) == ["first", "second"]
        await chassis.until(lambda: _only_foreign_waits(database, 4 * 1001))
        await emit(database, "third")
        assert await listener.names(3) == ["first", "second", "third"]
    assert time.monotonic() - began < 20


async def _only_foreign_waits(database, count: int) -> bool:
    return await unpublished(database) == count


async def test_events_that_a_lock_withholds_are_told_of_where_the_service_says_whether_it_is_ready(
    database, js, listener, monkeypatch
):
    monkeypatch.setattr(relay, "WITHHELD_SECONDS", 1.0)
    monkeypatch.setattr(relay, "_LOOK_SECONDS", 0.2)
    await emit(database, "withheld")
    faults: dict[str, list[str]] = {}
    async with relaying(database, js, faults):
        async with database.begin_for_all() as tx:
            await tx.execute(sa.text("SELECT FROM outbox FOR UPDATE"))
            await chassis.until(lambda: faults)
        await chassis.until(lambda: not faults)
    assert await listener.names(1) == ["withheld"]


async def test_an_event_that_waits_for_minutes_is_an_alarm_whatever_it_waits_for(database, js, listener, monkeypatch):
    monkeypatch.setattr(relay, "ALARM_SECONDS", 0.5)
    monkeypatch.setattr(relay, "_LOOK_SECONDS", 0.1)
    alarms, faults = {}, {"ESCROW": ["is missing"]}
    await emit(database, "late")
    async with relaying(database, js, faults, alarms):
        await chassis.until(lambda: alarms)
        assert re.fullmatch(r"event \d+ has waited for \d+ seconds", alarms["outbox"])
        faults.clear()
        assert await listener.names(1) == ["late"]
        await chassis.until(lambda: not alarms)


async def test_two_relays_publish_everything_once(database, js, listener):
    async with (
        relaying(database, js),
        relaying(database, js),
    ):
        names = [f"n{number:02}" for number in range(50)]
        await emit(database, *names)
        assert await listener.names(50) == names


async def test_an_event_too_large_for_a_message_fails_its_own_transaction(database):
    huge = event_named("x" * PAYLOAD_BYTES_MAX)
    with pytest.raises(InvariantViolation, match="fits"):
        async with database.begin() as tx:
            await outbox.enqueue(tx, huge, now=chassis.NOW)


async def test_what_people_wrote_stays_behind_and_the_parts_of_an_event_are_numbered_like_events(database):
    entries = [{"external_id": "x" * 1000, "description": "for Ada Park"} for _ in range(500)]
    event = events.JournalEntriesPosted(escrow_account_id="e", journal_entries=entries)
    async with database.begin() as tx:
        await outbox.enqueue_all(tx, [event, event_named("next", "e")], now=chassis.NOW)
    async with database.begin_for_all() as tx:
        rows = (await tx.execute(sa.text("SELECT aggregate_version, payload FROM outbox ORDER BY id"))).all()
    *parts, last = rows
    assert [row.aggregate_version for row in rows] == list(range(1, len(rows) + 1))
    assert len(parts) > 1
    told = [events.JournalEntriesPosted.FromString(part.payload) for part in parts]
    assert [(each.meta.aggregate_version, each.part, each.part_count) for each in told] == [
        (number, number, len(parts)) for number in range(1, len(parts) + 1)
    ]
    assert sum(len(each.journal_entries) for each in told) == 500
    assert not any(b"Ada Park" in row.payload for row in rows)
    assert events.HoldPlaced.FromString(last.payload).hold.hold_id == "next"


async def test_what_another_process_committed_is_told_at_once_by_the_one_that_leads(database, urls, js, monkeypatch):
    for name in ("POLL_SECONDS", "OVERDUE_SECONDS"):
        monkeypatch.setattr(relay, name, 3600)
    monkeypatch.setattr(leadership, "LEASE_SECONDS", 50)  # the other takes over no sooner
    async with chassis.opened(urls) as other, relaying(database, js):
        await emit(database, "by the first")
        await chassis.until(lambda: _is_told(database))
        async with relaying(other, js):
            await emit(other, "by the second")
            await chassis.until(lambda: _is_told(database), seconds=30)


async def _is_told(database) -> bool:
    return await unpublished(database) == 0
