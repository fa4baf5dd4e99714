"""What nobody can look at after a restore is passed over by a person alone, and told to whoever decides."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from functools import partial

import asyncpg
import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from services.chassis.calls.auth import acting_as
from services.chassis.data import outbox
from services.chassis.data.positions import find_position, move_position
from services.chassis.data.restores import find_restore
from services.chassis.data.urls import dsn_of
from services.chassis.events.forgotten import list_and_record
from services.chassis.events.restore_look import CONSUMER, NotLookedThrough, Passing
from services.chassis.events.signatures import EventKeys
from services.chassis.values.restore import ANY_KEY
from tests.support import chassis, servers
from tests.support.approval_desk import CHECKER, Desk, S
from tests.support.chassis_events import event_named, running
from tests.support.event_keys import event_key, event_keys
from tests.support.restored_streams import CLOCK, SUBJECT, find_names, forget, see, tell, watching
from tests.support.restores import restored_to_here

FORGED = "escrow:AAAAAAAAAAAAAAAA"


@pytest.fixture
def nats_url(tmp_path):
    """A server of the test's own: what others told here would be missing as well."""
    with servers.nats(tmp_path / "nats") as url:
        yield url


@pytest.fixture
def keys(tmp_path):
    return event_keys(tmp_path)


@pytest.fixture
async def desk(urls):
    async with chassis.opened(urls) as database:
        yield Desk(database)


async def see_without(database, js, keys, person="ops-1", **passing):
    given = Passing(person, **passing)
    return await list_and_record(database, js, "escrow", keys, CLOCK, seen_by=person, passing=given)


async def forge(js, kid=FORGED):
    await js.publish(f"{SUBJECT}.org.esc_1", b"x", headers={"ce-id": "x", "realco-signature": f"{kid} BBBB"})


async def lose_one(database, js, urls):
    """The stream has messages 1, 3 and 4: the second was told and lost, and so were the database's own of all four."""
    async with restored_to_here(urls):
        with acting_as(CHECKER):
            for name, account in (("first", "esc_1"), ("removed", "esc_2"), ("lost-1", "esc_3"), ("lost-2", "esc_2")):
                async with database.begin() as tx:
                    await outbox.enqueue(tx, event_named(name, account), now=chassis.NOW)
            await tell(database, js)
    right = (await js.stream_info("ESCROW")).config
    await js.update_stream(right.evolve(max_msgs_per_subject=1))
    await js.update_stream(right)


async def read_told(desk, approval):
    [told] = [each for each in (await desk.get(approval)).explanations if each.rule == "RESTORED"]
    return told.statement, [one.value for one in told.operands if one.name == "not looked at"]


async def has_seen(database):
    return (await find_restore(database.reader)).is_seen


@pytest.mark.parametrize("after", [1, 2, 3])
async def test_nobody_passes_over_messages_that_the_stream_has(database, js, urls, keys, after):
    await forget(database, js, urls, "lost-1", "lost-2", "lost-3")
    with pytest.raises(NotLookedThrough, match="has lost no messages there"):
        await see_without(database, js, keys, "mallory", after=after)
    assert not await has_seen(database)
    assert await find_names(database, js, keys) == ["lost-1", "lost-2", "lost-3"]


@pytest.mark.parametrize("after", [1, 3, 4])
async def test_a_person_goes_on_after_what_the_stream_has_lost_and_after_nothing_more(desk, js, urls, keys, after):
    await lose_one(desk.database, js, urls)
    with pytest.raises(NotLookedThrough, match="lacks what comes after 1, up to 2: go on after these with --after 2"):
        await see_without(desk.database, js, keys, "mallory", after=after)
    assert not await has_seen(desk.database)


async def test_whoever_decides_is_told_how_many_messages_were_passed_over_and_by_whom(desk, js, urls, keys):
    await lose_one(desk.database, js, urls)
    approval = await desk.ask()
    with capture_logs() as logs:
        lines = await see_without(desk.database, js, keys, "mallory", after=2)
    assert "escrow: messages that were not looked at: 1 that the stream has lost, passed over by “mallory”" in lines
    [logged] = [each for each in logs if each["event"] == "messages_passed_over"]
    assert (logged["count"], logged["person"], logged["first"], logged["last"]) == (1, "mallory", 2, 2)
    statement, told = await read_told(desk, approval)
    assert "1 message of before was not looked at (1 that the stream has lost, passed over by “mallory”)" in statement
    assert told == ["1 that the stream has lost, passed over by “mallory”"]
    assert (await desk.grant(approval)).status == S.EXECUTED


async def test_what_was_passed_over_once_is_not_asked_for_again_and_counts_once(database, js, urls, keys):
    await lose_one(database, js, urls)
    assert await find_names(database, js, keys, Passing("ops-1", after=2)) == ["first", "lost-1", "lost-2"]
    await alter_position(database, seal=b"x")
    lines = await see(database, js, keys, "ops-2")
    assert "escrow: messages that were not looked at: 1 that the stream has lost, passed over by “ops-1”" in lines


async def alter_position(database, **values):
    set_to = ", ".join(f"{name} = :{name}" for name in values)
    async with database.begin_for_all() as tx:  # as the service's own session, with what it proves
        changed = sa.text(f"UPDATE handled_positions SET {set_to} WHERE consumer = 'forgotten_events'")
        await tx.execute(changed, values)


async def test_a_position_that_a_login_altered_has_the_stream_looked_through_anew(database, js, urls, keys):
    await forget(database, js, urls, "lost-1")
    await find_names(database, js, keys)
    await alter_position(database, stream_sequence=0)
    with capture_logs() as logs:
        assert await find_names(database, js, keys) == ["lost-1"]
    assert "stream_looked_through_anew" in [each["event"] for each in logs]


async def put_back(database, **to):
    async with database.begin_for_all() as tx:
        position = await find_position(tx, CONSUMER, "ESCROW")
        await move_position(tx, CONSUMER, "ESCROW", replace(position, **to))


async def test_a_stream_that_was_put_back_is_looked_through_anew(database, js, urls, keys):
    await forget(database, js, urls, "lost-1", "lost-2")
    await find_names(database, js, keys)
    await put_back(database, stream_sequence=1, stored_at="2020-01-01T00:00:00Z")
    assert await find_names(database, js, keys) == ["lost-1", "lost-2"]


async def test_one_command_passes_over_all_that_is_forged_with_the_id_of_a_key_and_over_no_loss(desk, js, urls, keys):
    async with restored_to_here(urls):
        with acting_as(CHECKER):
            for name in ("lost-1", "lost-2", "lost-3"):
                await tell(desk.database, js, name)
                await forge(js)
    approval = await desk.ask()
    with pytest.raises(NotLookedThrough, match=f"--without-key {FORGED}"):
        await see(desk.database, js, keys)
    lines = await see_without(desk.database, js, keys, without_key=FORGED)
    assert [line.split()[1] for line in lines[:3]] == ["HoldPlaced"] * 3
    statement, told = await read_told(desk, approval)
    assert "3 events of before are not in them; 3 messages of before were not looked at" in statement
    assert told == [f"3 of a key that was not known ({FORGED}), passed over by “ops-1”"]


async def test_who_keeps_writing_with_made_up_keys_keeps_nobody_from_having_looked(database, js, urls, keys):
    await forget(database, js, urls, "lost-1")

    async def keep_forging(stop):
        number = 0
        while not stop.is_set():
            await forge(js, f"escrow:{number:016d}")
            number += 1
            await asyncio.sleep(0.01)

    async with running(keep_forging):
        await chassis.until(lambda: _has_more_than(js, 20))
        with pytest.raises(NotLookedThrough, match="--without-key escrow:0000000000000000"):
            await see(database, js, keys)
        lines = await see_without(database, js, keys, without_key=ANY_KEY)
    assert await has_seen(database)
    assert any("of keys that were not known, passed over by “ops-1”" in line for line in lines)


async def _has_more_than(js, count):
    return (await js.stream_info("ESCROW")).state.last_seq > count


@pytest.mark.parametrize("kid", ["escrow:AAAA", "escrow:", "escrow:AAAAAAAAAAAAAAA/", "escrow:AAAAAAAAAAAAAAAAA"])
async def test_what_is_signed_with_what_is_no_id_of_a_key_stops_nothing(database, js, urls, keys, kid):
    await forget(database, js, urls, "lost-1")
    await forge(js, kid)
    assert await find_names(database, js, keys) == ["lost-1"]


async def test_who_hides_losses_by_taking_a_key_away_is_told_with_their_number_to_whoever_decides(
    desk, js, urls, keys, tmp_path
):
    async with restored_to_here(urls):
        with acting_as(CHECKER):
            await tell(desk.database, js, "lost-1", "lost-2")
    others = tmp_path / "others.json"
    others.write_text(json.dumps({"keys": [event_key("transactions").public_jwk()]}))
    approval = await desk.ask()
    await see_without(desk.database, js, EventKeys(str(others)), "mallory", without_key=ANY_KEY)
    statement, _ = await read_told(desk, approval)
    assert (
        "2 messages of before were not looked at (2 of keys that were not known, passed over by “mallory”" in statement
    )


async def test_kinds_that_a_login_makes_up_hide_nothing_from_whoever_decides(desk, js, urls, keys):
    async with restored_to_here(urls):
        with acting_as(CHECKER):
            await tell(desk.database, js, "lost-1")
    approval = await desk.ask()
    await see(desk.database, js, keys)
    async with desk.database.begin_for_all() as tx:
        await tx.execute(
            sa.text(
                "INSERT INTO forgotten_events SELECT org_id, 'x' || g, incarnation, 'x' || g, 'a.' || g % 30, 'x', 'x',"
                " now(), g, 'x' FROM forgotten_events, generate_series(1, 3000) g"
            )
        )
    [told] = [each for each in (await desk.get(approval)).explanations if each.rule == "RESTORED"]
    assert [(one.name, one.value) for one in told.operands][1] == ("HoldPlaced", "1")
    assert "1 event of before is not in them" in told.statement


async def test_who_keeps_the_position_locked_keeps_no_alarm_away_and_is_named(database, js, urls, keys):
    await forget(database, js, urls, "lost-1")
    await find_names(database, js, keys)
    await put_back(database, stream_sequence=0, stored_at="")  # there is something to look through

    async def keep_locked():
        session = await asyncpg.connect(dsn_of(urls.app_url))
        await session.execute("SET idle_in_transaction_session_timeout = 0; BEGIN")
        await session.fetch("SELECT FROM handled_positions WHERE consumer = 'forgotten_events' FOR SHARE")
        return session

    session = await keep_locked()
    login = await session.fetchval("SELECT current_user")
    alarms: dict[str, str] = {}
    with acting_as(CHECKER):
        async with running(partial(watching, database, js, keys, alarms)):
            await chassis.until(lambda: alarms)
            assert "python -m services.chassis.events.forgotten escrow --seen-by" in alarms["restore"]
    pid = session.get_server_pid()
    with pytest.raises(NotLookedThrough, match=f"session {pid} of {login} keeps its row of handled_positions locked"):
        await list_and_record(database, js, "escrow", keys, CLOCK, seen_by="ops-1", patience_seconds=0.5)
    trying = asyncio.create_task(see(database, js, keys))
    await asyncio.sleep(5)  # longer than a statement waits for a lock
    await session.close()
    await trying
    assert await has_seen(database)
