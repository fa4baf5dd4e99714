"""A service that was restored, and that nobody has looked through, answers persons, and other services not."""

from __future__ import annotations

from functools import partial

import pytest

from services.chassis.calls.client import ACTOR_TOKEN
from services.chassis.calls.restore_gate import RestoreGate
from services.chassis.events.forgotten import list_and_record
from services.chassis.events.restore_watch import run_restore_watch
from services.chassis.values.clock import SystemClock
from tests.support import chassis, servers
from tests.support.access_matrix import Keys, access_of, has_route, is_stream, methods_of, serving
from tests.support.chassis_events import running
from tests.support.event_keys import event_keys
from tests.support.restores import restored_to_here

AWAY = "UNAVAILABLE"


@pytest.fixture
def nats_url(tmp_path):
    """A server of the test's own: what others told here would be missing as well."""
    with servers.nats(tmp_path / "nats") as url:
        yield url


@pytest.fixture
def keys(tmp_path):
    return Keys(tmp_path)


async def list_answered(served, keys, area, *more):
    """Those of the RPCs that each service may call, with what comes along."""
    found = {True: set(), False: set()}
    for method in methods_of(area):
        for caller in access_of(method).services:
            answer = await served.call(method, keys.services[caller].token(area), *more)
            found[answer != AWAY].add(method.full_name)
    return found


@pytest.mark.parametrize(("area", "answers_for_persons"), [("escrow", False), ("compliance", True)])
async def test_a_restored_service_answers_no_other_one_and_persons_as_ever_until_somebody_has_looked(
    database, urls, js, tmp_path, keys, area, answers_for_persons
):
    async with restored_to_here(urls):
        pass
    gate, alarms, told = RestoreGate(answers_for_persons=answers_for_persons), {}, event_keys(tmp_path)
    watch = partial(watching, database, js, area, told, alarms, gate)
    person = keys.issuer.token()
    async with running(watch), serving(keys.issuer.verifier(area), area, gate=gate) as served:
        await chassis.until(lambda: alarms)
        assert not (await list_answered(served, keys, area))[True], "no job of another service goes on by its records"
        for_person = await list_answered(served, keys, area, (ACTOR_TOKEN, person))
        assert for_person[not answers_for_persons] == set()
        assert for_person[answers_for_persons]
        await check_persons_are_answered(served, keys, area, person)
        await list_and_record(database, js, area, told, SystemClock(), seen_by="ops-1")
        await chassis.until(lambda: not alarms)
        assert not (await list_answered(served, keys, area))[False]


async def check_persons_are_answered(served, keys, area, person):
    """Who calls by a route, and whose call another service passes on: so one says no in the inbox."""
    for method in methods_of(area):
        access = access_of(method)
        if has_route(method) and "ADMIN" in names_of(access) and not is_stream(method):
            assert await served.call(method, person) != AWAY, method.full_name
        for caller in access.passed_on_by:
            if caller == area:
                continue
            answer = await served.call(method, keys.services[caller].token(area), (ACTOR_TOKEN, person))
            assert answer != AWAY, method.full_name


def names_of(access):
    return {access.Role.Name(role) for role in access.roles}


async def watching(database, js, area, keys, alarms, gate, stop):
    await run_restore_watch(database, js, area, keys, stop, alarms, gate, look_seconds=0.05)


async def test_a_database_that_was_not_restored_keeps_nobody_out(database, js, tmp_path, keys):
    gate, alarms = RestoreGate(), {}
    watch = partial(watching, database, js, "escrow", event_keys(tmp_path), alarms, gate)
    async with running(watch), serving(keys.issuer.verifier(), "escrow", gate=gate) as served:
        assert not (await list_answered(served, keys, "escrow"))[False]
