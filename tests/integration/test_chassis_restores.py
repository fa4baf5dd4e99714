"""A restored database knows what it has forgotten, and nobody decides by it before somebody has looked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from datetime import timedelta
from functools import partial

import pytest
import sqlalchemy as sa
from realco.approvals.v1 import approvals_pb2
from realco.escrow.v1 import events_pb2 as events
from structlog.testing import capture_logs

from services.chassis.calls.auth import acting_as
from services.chassis.calls.status import to_status
from services.chassis.data import outbox
from services.chassis.data.incarnation import read_incarnation
from services.chassis.data.restores import find_restore
from services.chassis.data.tables import seen_restores
from services.chassis.events.restore_look import NotLookedThrough, Passing
from services.chassis.events.signatures import EventKeys
from services.chassis.values.errors import Unavailable
from services.chassis.values.restore import RestoreNotSeen
from tests.support import chassis, servers
from tests.support.approval_desk import CHECKER, Desk, S
from tests.support.approvals import gates_of
from tests.support.chassis_events import event_named, running
from tests.support.event_keys import event_key, event_keys, signed
from tests.support.restored_streams import CLOCK, SUBJECT, find_names, forget, see, tell, watching
from tests.support.restores import restored_to_here


@pytest.fixture
def nats_url(tmp_path):
    """A server of the test's own: what others told here would be missing as well."""
    with servers.nats(tmp_path / "nats") as url:
        yield url


@pytest.fixture
def keys(tmp_path):
    return event_keys(tmp_path)


async def test_what_was_told_since_the_backup_is_missing_and_what_was_told_before_it_or_after_it_is_not(
    database, js, urls, keys
):
    await tell(database, js, "before-1", "before-2")
    await forget(database, js, urls, "lost-1", "lost-2")
    await tell(database, js, "after-1", "after-2")
    assert await find_names(database, js, keys) == ["lost-1", "lost-2"]
    assert await find_names(database, js, keys) == ["lost-1", "lost-2"], "and each is kept once"


async def test_nobody_else_who_writes_into_the_stream_makes_a_loss_up(database, js, urls, keys, org):
    await forget(database, js, urls, "lost")
    forged = event_named("forged")
    forged.meta.CopyFrom(meta_of(org, "another-life"))
    subject, body = f"{SUBJECT}.{org}.esc_1", forged.SerializeToString()
    by_another = f"{event_key('transactions').kid} {event_key('transactions').sign(subject, 'x', body).split()[1]}"
    for headers in (None, {"ce-id": "x"}, {"ce-id": "x", "realco-signature": by_another}):
        await js.publish(subject, body, headers=headers)
    await js.publish(subject, body, headers=signed(f"{SUBJECT}.other.esc_1", forged.meta.event_id, body))
    assert await find_names(database, js, keys) == ["lost"]


async def test_what_is_signed_with_a_key_that_is_not_known_any_more_does_not_pass_for_looked_through(
    database, js, urls, keys, tmp_path
):
    await forget(database, js, urls, "lost-1", "lost-2")
    others = tmp_path / "others.json"
    others.write_text(json.dumps({"keys": [event_key("transactions").public_jwk()]}))
    without = EventKeys(str(others))
    with pytest.raises(NotLookedThrough, match="not in EVENT_JWKS"):
        await find_names(database, js, without)
    assert await find_names(database, js, keys) == ["lost-1", "lost-2"], "once the key is there again"


async def test_what_is_told_twice_is_missing_once(database, js, urls, keys):
    await forget(database, js, urls, "lost")
    message = await js.get_msg("ESCROW", (await js.stream_info("ESCROW")).state.last_seq)
    again = {name: value for name, value in message.headers.items() if not name.startswith("Nats-")}
    await js.publish(message.subject, message.data, headers=again)
    assert await find_names(database, js, keys) == ["lost"]


def meta_of(org, incarnation, *, aggregate_id="hold_1", version=1, days_old=0):
    made = int((CLOCK.now() - timedelta(days=days_old)).timestamp() * 1000)
    event_id = uuid.UUID(int=(made << 80) | (7 << 76) | (2 << 62) | uuid.uuid4().int >> 66)
    meta = event_named("any").meta
    meta.event_id, meta.org_id, meta.aggregate_id = str(event_id), org, aggregate_id
    meta.aggregate_version, meta.incarnation = version, incarnation
    meta.occur_time.FromDatetime(chassis.NOW)
    return meta


@pytest.mark.parametrize(
    ("days_old", "version", "is_missing"),
    [
        (400, 1, False),  # the outbox has forgotten it by itself
        (40, 1, False),
        (40, 2, True),  # beyond its aggregate's last number
        (33, 1, True),  # young enough to be in the outbox
        (0, 1, True),
    ],
)
async def test_an_event_that_is_older_than_the_outbox_is_known_by_its_number(
    database, js, urls, keys, org, days_old, version, is_missing
):
    await tell(database, js, "hold_1")
    async with database.begin() as tx:
        aggregate_id = await tx.scalar(
            sa.text("SELECT aggregate_id FROM aggregate_versions WHERE org_id = :o"), {"o": org}
        )
    event = event_named("old")
    event.meta.CopyFrom(meta_of(org, "another-life", aggregate_id=aggregate_id, version=version, days_old=days_old))
    async with restored_to_here(urls):
        pass
    subject, body = f"{SUBJECT}.{org}.esc_1", event.SerializeToString()
    await js.publish(subject, body, headers=signed(subject, event.meta.event_id, body))
    assert await find_names(database, js, keys) == (["old"] if is_missing else [])


async def test_a_stream_that_lost_messages_does_not_pass_for_looked_through_until_a_person_goes_on_after_them(
    database, js, urls, keys
):
    await tell(database, js, "before")
    async with restored_to_here(urls):
        for name, account in (("removed", "esc_2"), ("lost-1", "esc_3"), ("lost-2", "esc_2")):
            async with database.begin() as tx:
                await outbox.enqueue(tx, event_named(name, account), now=chassis.NOW)
        await tell(database, js)
    right = (await js.stream_info("ESCROW")).config
    await js.update_stream(right.evolve(max_msgs_per_subject=1))
    await js.update_stream(right)
    for _ in range(2):
        with pytest.raises(NotLookedThrough, match="lacks what comes after 1, up to 2"):
            await see(database, js, keys)
    async with database.begin_for_all() as tx:
        assert (await find_restore(tx)).seen_by is None
    assert await find_names(database, js, keys, Passing("ops-1", after=2)) == ["lost-1", "lost-2"]


async def test_a_service_whose_restore_nobody_has_looked_through_has_an_alarm_that_says_how_to(
    database, js, urls, keys
):
    await forget(database, js, urls, "lost-1", "lost-2")
    alarms: dict[str, str] = {}
    with capture_logs() as logs:
        async with running(partial(watching, database, js, keys, alarms)):
            await chassis.until(lambda: alarms.get("restore", "").startswith("2 events of before are missing, no yes"))
            assert "python -m services.chassis.events.forgotten escrow --seen-by" in alarms["restore"]
            lines = await see(database, js, keys, "ops-1")
            await chassis.until(lambda: not alarms)
    assert [line.split()[1] for line in lines[:2]] == ["HoldPlaced", "HoldPlaced"]
    assert all(line.endswith("by admin-1") for line in lines[:2])
    assert [each["event"] for each in logs if each["event"].startswith("restore_")] == [
        "restore_not_seen",
        "restore_seen",
    ]


async def test_a_database_that_was_not_restored_has_nothing_to_look_through(database, js, keys):
    await tell(database, js, "one")
    assert await see(database, js, keys) == ["escrow: this database was not restored"]
    async with database.begin_for_all() as tx:
        assert await tx.scalar(sa.select(sa.func.count()).select_from(seen_restores)) == 0


@pytest.fixture
async def desk(urls):
    async with chassis.opened(urls) as database:
        yield Desk(database)


async def test_no_yes_counts_before_somebody_has_looked_and_a_no_does(desk, js, urls, keys):
    async with restored_to_here(urls):
        with acting_as(CHECKER):
            await tell(desk.database, js, "lost-1", "lost-2")
    approval, other = await desk.ask(), await desk.ask(key="key-2", hold_id="hold_2")
    with acting_as(CHECKER):
        async with running(partial(watching, desk.database, js, keys, alarms := {})):
            await chassis.until(lambda: "2 events" in alarms.get("restore", ""))
    read = await desk.get(approval)
    assert ("approve" in read.allowed_actions, gates_of(read, "shut")) == (False, ["RESTORED"])
    [told] = [each for each in read.explanations if each.rule == "RESTORED"]
    assert "2 events of before are not in them; nobody has looked through it yet" in told.statement
    assert ("HoldPlaced", "2") in [(one.name, one.value) for one in told.operands]
    with pytest.raises(RestoreNotSeen) as refusal:
        await desk.grant(approval)
    assert to_status(refusal.value, "escrow").code == 14, "the key stays free"
    with acting_as(CHECKER):
        no = approvals_pb2.RejectApprovalRequest(approval_id=other.approval_id, note="no", etag=other.etag)
        assert (await desk.service.RejectApproval(no, None)).status == S.REJECTED
    await see(desk.database, js, keys, "ops-1")
    read = await desk.get(approval)
    assert ("approve" in read.allowed_actions, gates_of(read, "open")) == (True, ["RESTORED"])
    [told] = [each for each in read.explanations if each.rule == "RESTORED"]
    assert told.statement.endswith("2 events of before are not in them; “ops-1” looked through what is missing.")
    assert (await desk.grant(approval)).status == S.EXECUTED


async def test_whoever_decides_is_told_of_their_own_organization_alone_and_for_thirty_days(
    desk, database, js, urls, keys
):
    async with restored_to_here(urls):
        await tell(database, js, "of-another-organization")
    await see(database, js, keys)
    approval = await desk.ask()
    [told] = [each for each in approval.explanations if each.rule == "RESTORED"]
    assert "no event of before is known to be missing; “ops-1” looked" in told.statement
    async with chassis.as_superuser(urls) as admin:
        await admin.execute("UPDATE incarnation SET begun_at = now() - interval '30 days 1 minute'")
    assert [each.rule for each in (await desk.get(approval)).explanations] == []


async def test_who_looked_through_an_earlier_restore_or_wrote_so_by_sql_has_not_looked_through_this_one(
    desk, js, urls, keys
):
    async with restored_to_here(urls):
        pass
    await see(desk.database, js, keys)
    approval = await desk.ask()
    assert "RESTORED" not in gates_of(await desk.get(approval), "shut")
    async with restored_to_here(urls):
        pass
    async with desk.database.begin_for_all() as tx:
        living = await read_incarnation(tx)
        await tx.execute(
            sa.text(
                "INSERT INTO seen_restores SELECT 'x', :living, person, 0, 0, '{}', seen_at, seal FROM seen_restores"
            ),
            {"living": living},
        )
    with pytest.raises(RestoreNotSeen):
        await desk.grant(approval)


async def test_however_many_rows_a_login_makes_up_before_and_after_somebody_looked_none_of_them_is_read(
    desk, js, urls, keys
):
    async def make_up(name):
        async with desk.database.begin_for_all() as tx:  # as the service's own session, with what it proves
            await tx.execute(
                sa.text(
                    "INSERT INTO seen_restores SELECT :name || g, i.incarnation, 'x', 0, 0, '{}', '2000-01-01', 'x'"
                    " FROM generate_series(1, 2000) g, incarnation i"
                ),
                {"name": name},
            )

    async with restored_to_here(urls):
        pass
    await make_up("0")
    assert not (await find_restore(desk.database.reader)).is_seen
    await see(desk.database, js, keys)
    await make_up("1")
    with capture_logs() as logs:
        assert (await find_restore(desk.database.reader)).seen_by == "ops-1"
    assert logs == [], "a row that was read is in the log"
    assert (await desk.grant(await desk.ask())).status == S.EXECUTED


async def test_who_says_second_that_they_have_looked_does_not_take_the_place_of_who_said_so_first(
    database, js, urls, keys
):
    async with restored_to_here(urls):
        pass
    await see(database, js, keys, "ops-1")
    await see(database, js, keys, "ops-2")
    assert (await find_restore(database.reader)).seen_by == "ops-1"


def test_the_command_says_which_service_there_is_none_of():
    there = {"DATABASE_URL": "postgresql://u@h/d", "WORKER_DATABASE_URL": "postgresql://w@h/d"}
    there |= {"EVENT_JWKS": "keys.json", "NATS_URL": "nats://h"}
    command = [sys.executable, "-m", "services.chassis.events.forgotten", "nobody"]
    ended = subprocess.run(command, env=os.environ | there, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (1, "cannot begin: no service is called nobody\n")


async def test_an_event_that_a_login_adds_to_the_outbox_after_the_restore_is_missing_all_the_same(
    database, js, urls, keys, org
):
    await forget(database, js, urls, "lost")
    message = await js.get_msg("ESCROW", 1)
    lost = events.HoldPlaced.FromString(message.data)
    async with database.begin_for_all() as tx:  # as the service's own session, with what it proves
        await tx.execute(
            sa.text(
                "INSERT INTO outbox (org_id, event_id, event_type, aggregate_id, aggregate_version, scope, payload,"
                " occurred_at) VALUES (:org, :event_id, 'x', 'x', 1, '_', '', now())"
            ),
            {"org": org, "event_id": lost.meta.event_id},
        )
    assert await find_names(database, js, keys) == ["lost"]


async def test_what_was_approved_before_the_backup_is_done_once_somebody_has_looked(desk, js, urls, keys):
    approval = await desk.ask()
    desk.deed.raises = Unavailable("It is away.")
    with pytest.raises(Unavailable):
        await desk.grant(approval)
    desk.deed.raises = None
    async with restored_to_here(urls):
        pass
    for has_looked in (False, True):
        if has_looked:
            await see(desk.database, js, keys)
        await desk.make_due()
        await desk.jobs["resume_approvals"].run()
        assert await desk.notes() == (["captured hold_1"] if has_looked else [])
