"""One key, one effect, one answer."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from realco.escrow.v1 import holds_pb2 as pb

from services.chassis.calls.answer import REPLAYED, answer_metadata, begin_answer
from services.chassis.calls.auth import acting_as, current_principal, service_principal
from services.chassis.data.handled_events import claim_events
from services.chassis.data.incarnation import read_incarnation
from services.chassis.data.migrate import begin_incarnation
from services.chassis.data.once import (
    IdempotencyKeyReused,
    answered_before,
    decided_meanwhile,
    once,
    replace_answer,
)
from services.chassis.data.operations import Operations
from services.chassis.data.request_keys import RequestInFlight
from services.chassis.data.seals import NotSealed
from services.chassis.values.clock import SystemClock
from services.chassis.values.errors import DomainError, InvalidField, Kind, Unavailable
from tests.support import chassis


class NotEnough(DomainError):
    kind = Kind.FAILED_PRECONDITION
    reason = "NOT_ENOUGH"


@pytest.fixture
async def database(urls):
    async with chassis.opened(urls) as database:
        with acting_as(chassis.ADMIN):
            yield database


def request(key: str = "key-1", amount: int = 100) -> pb.PlaceHoldRequest:
    message = pb.PlaceHoldRequest(idempotency_key=key)
    message.amount.amount_minor = amount
    return message


class Command:
    """Writes a note for each time it runs, then answers or raises."""

    def __init__(self, raises: Exception | None = None) -> None:
        self.runs = 0
        self.raises = raises

    async def __call__(self, tx) -> pb.Hold:
        self.runs += 1
        await chassis.add_note(tx, f"run {self.runs}")
        if self.raises is not None:
            raise self.raises
        return pb.Hold(hold_id=f"hold_{self.runs}")


async def test_a_retry_is_given_the_first_answer(database):
    command = Command()
    first = await once(database, request(), pb.Hold, command)
    again = await once(database, request(), pb.Hold, command)
    assert first == again == pb.Hold(hold_id="hold_1")
    assert await chassis.note_ids(database) == ["run 1"]


async def test_what_is_only_validated_leaves_nothing_behind_and_its_key_free(database):
    message = SimpleNamespace(validate_only=True)
    assert await once(database, message, pb.Hold, Command()) == pb.Hold(hold_id="hold_1")
    with pytest.raises(NotEnough):
        await once(database, message, pb.Hold, Command(NotEnough("Too little.")))
    assert await chassis.note_ids(database) == []


async def test_a_business_refusal_is_an_answer_too_and_leaves_no_effect(database):
    command = Command(NotEnough("Too little.", fields={"amount": "is too much"}, available_minor=5))
    for _ in range(2):
        with pytest.raises(DomainError) as refusal:
            await once(database, request(), pb.Hold, command)
        assert (refusal.value.kind, refusal.value.reason) == (Kind.FAILED_PRECONDITION, "NOT_ENOUGH")
        assert refusal.value.metadata == {"available_minor": "5"}
        assert refusal.value.fields == {"amount": "is too much"}
    assert command.runs == 1
    assert await chassis.note_ids(database) == []


@pytest.mark.parametrize("failure", [InvalidField("malformed"), RuntimeError("a bug"), asyncio.CancelledError()])
async def test_what_is_no_outcome_leaves_the_key_free(database, failure):
    with pytest.raises(type(failure)):
        await once(database, request(), pb.Hold, Command(failure))
    assert await once(database, request(), pb.Hold, Command()) == pb.Hold(hold_id="hold_1")


async def test_another_body_under_the_same_key_is_refused_and_nothing_is_done(database):
    command = Command()
    await once(database, request(amount=100), pb.Hold, command)
    with pytest.raises(IdempotencyKeyReused):
        await once(database, request(amount=101), pb.Hold, command)
    assert command.runs == 1
    # The refusal is about the key: it is not what the key answers from now on.
    assert await once(database, request(amount=100), pb.Hold, command) == pb.Hold(hold_id="hold_1")


@pytest.mark.parametrize("refusal", [None, NotEnough("Too little.")], ids=["done", "refused"])
async def test_a_key_names_one_decision_whatever_it_is_sent_to(database, refusal):
    command, other = Command(refusal), pb.CaptureHoldRequest(idempotency_key="key-1")
    with contextlib.suppress(NotEnough):
        await once(database, request(), pb.Hold, command)
    with pytest.raises(IdempotencyKeyReused) as reused:
        await once(database, other, pb.CaptureHoldResponse, command)
    assert reused.value.fields == {"idempotency_key": "was used with another request"}
    with pytest.raises(IdempotencyKeyReused):
        await answered_before(database, other, pb.CaptureHoldResponse)
    assert command.runs == 1


@pytest.mark.parametrize(
    "other",
    [
        dataclasses.replace(chassis.ADMIN, subject="admin-2"),
        dataclasses.replace(chassis.ADMIN, org_id="org_2"),
        service_principal("escrow", "org_1", on_behalf_of="admin-1"),
    ],
)
async def test_keys_of_different_callers_have_nothing_to_do_with_each_other(database, other):
    ran = []

    async def run(tx) -> pb.Hold:
        ran.append(1)
        return pb.Hold(hold_id=f"hold_{len(ran)}")

    assert (await once(database, request(), pb.Hold, run)).hold_id == "hold_1"
    for number, caller in enumerate((other, service_principal("transactions", "org_1", on_behalf_of="admin-1")), 2):
        with acting_as(caller):
            assert (await once(database, request(), pb.Hold, run)).hold_id == f"hold_{number}"


async def test_a_request_without_a_key_is_just_run(database):
    command = Command()
    await once(database, request(key=""), pb.Hold, command)
    await once(database, request(key=""), pb.Hold, command)
    assert await chassis.note_ids(database) == ["run 1", "run 2"]


async def test_twenty_at_once_have_one_effect_and_one_answer(database):
    command = Command()
    answers = await asyncio.gather(*(once(database, request(), pb.Hold, command) for _ in range(20)))
    assert {answer.hold_id for answer in answers} == {"hold_1"}
    assert await chassis.note_ids(database) == ["run 1"]


async def test_a_retry_does_not_wait_for_ever_for_the_first(database):
    running, may_end = asyncio.Event(), asyncio.Event()

    async def slow(tx) -> pb.Hold:
        running.set()
        await may_end.wait()
        return pb.Hold(hold_id="hold_slow")

    first = asyncio.create_task(once(database, request(), pb.Hold, slow))
    await running.wait()
    with pytest.raises(RequestInFlight):
        await once(database, request(), pb.Hold, Command())
    may_end.set()
    assert (await first).hold_id == "hold_slow"
    assert (await once(database, request(), pb.Hold, Command())).hold_id == "hold_slow"


async def test_while_somebody_locks_the_table_of_the_keys_no_request_is_said_to_be_in_flight(database):
    command = Command()
    async with database.begin_for_all() as tx:
        await tx.execute(sa.text("LOCK TABLE handled_requests IN SHARE MODE"))
        with pytest.raises(Unavailable) as refused:
            await once(database, request(), pb.Hold, command)
    assert (refused.value.retry_after_seconds, command.runs) == (1, 0)
    assert (await once(database, request(), pb.Hold, command)).hold_id == "hold_1"


async def test_two_at_once_hear_the_same_though_the_first_was_refused(database):
    """Its refusal is kept in a second transaction; what waited for the first one comes in between."""
    running, may_end = asyncio.Event(), asyncio.Event()

    async def refused(tx) -> pb.Hold:
        running.set()
        await may_end.wait()
        raise NotEnough("Too little.")

    async def somebody_waits() -> bool:
        async with database.begin() as tx:
            return await tx.scalar(sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")) > 0

    first = asyncio.create_task(once(database, request(), pb.Hold, refused))
    await running.wait()
    second = asyncio.create_task(once(database, request(), pb.Hold, Command()))
    await chassis.until(somebody_waits)
    may_end.set()
    told = [
        answer.reason if isinstance(answer, DomainError) else answer.hold_id
        for answer in await asyncio.gather(first, second, return_exceptions=True)
    ]
    assert told in (["hold_1"] * 2, ["NOT_ENOUGH"] * 2)


async def test_two_that_deadlock_both_succeed(database):
    async with database.begin() as tx:
        await chassis.add_note(tx, "a")
        await chassis.add_note(tx, "b")
    both_hold_one = asyncio.Barrier(2)
    met = set()

    def crossing(first: str, second: str):
        async def run(tx) -> pb.Hold:
            for note_id in (first, second):
                touch = chassis.notes.update().where(chassis.notes.c.note_id == note_id)
                await tx.execute(touch.values(size=chassis.notes.c.size + 1))
                if first not in met:
                    met.add(first)
                    await both_hold_one.wait()
            return pb.Hold()

        return run

    await asyncio.gather(
        once(database, request("k1"), pb.Hold, crossing("a", "b")),
        once(database, request("k2"), pb.Hold, crossing("b", "a")),
    )
    async with database.begin() as tx:
        assert list(await tx.scalars(sa.select(chassis.notes.c.size))) == [2, 2]


async def test_a_second_step_settles_what_a_retry_is_told(database):
    command = Command()
    await once(database, request(), pb.Hold, command)
    async with database.begin() as tx:
        await replace_answer(tx, request(), lambda: pb.Hold(hold_id="settled"))
    assert (await once(database, request(), pb.Hold, command)).hold_id == "settled"
    job = dataclasses.replace(chassis.ADMIN, subject="service:escrow", role="service")
    with acting_as(job):
        async with database.begin() as tx:
            # Who finishes the request answers as its sender, whose replay it is.
            await replace_answer(
                tx,
                request(),
                lambda: NotEnough(f"The bank said no to {current_principal().person}."),
                sender=chassis.ADMIN,
            )
    with pytest.raises(DomainError, match=f"bank said no to {chassis.ADMIN.person}"):
        await once(database, request(), pb.Hold, command)
    assert command.runs == 1


async def test_keys_are_rows_of_their_organization(database):
    await once(database, request(), pb.Hold, Command())
    for org_id, count in (("org_1", 1), ("org_2", 0)):
        async with database.begin(org_id) as tx:
            assert await tx.scalar(sa.text("SELECT count(*) FROM handled_requests")) == count


async def test_an_event_is_new_to_each_consumer_once(database):
    event_id = "0192f0c1-2b3c-7def-8000-000000000001"
    async with database.begin() as tx:
        living = await read_incarnation(tx)
        assert await claim_events(tx, "a", [event_id], living) == {event_id}
        assert not await claim_events(tx, "a", [event_id], living)
        assert await claim_events(tx, "b", [event_id], living) == {event_id}
        several = [event_id, event_id.replace("1", "2"), event_id.replace("1", "2")]
        assert await claim_events(tx, "a", several, living) == {several[1]}


_FORGED = sa.text(
    "INSERT INTO handled_events (org_id, consumer, event_id, incarnation, seal)"
    " VALUES ('org_1', :consumer, :event_id, :living, :seal)"
)


@pytest.mark.parametrize("said", ["running", "answered"])
async def test_a_key_that_somebody_else_took_in_the_database_is_no_answer_and_is_told(database, said):
    forged = (
        "INSERT INTO handled_requests (org_id, principal, idempotency_key, fingerprint, status, answer)"
        " SELECT org_id, principal, 'key-2', fingerprint, :said, answer FROM handled_requests"
    )
    await once(database, request(), pb.Hold, Command())
    async with database.begin() as tx:
        await tx.execute(sa.text(forged), {"said": said})
        await tx.execute(sa.text("UPDATE handled_requests SET status = :said, seal = NULL"), {"said": said})
    for key in ("key-1", "key-2"):
        command = Command()
        with pytest.raises(NotSealed):
            await once(database, request(key), pb.Hold, command)
        assert command.runs == 0


async def test_an_event_that_somebody_else_says_was_handled_is_told_and_not_passed_over(database):
    event_id = "0192f0c1-2b3c-7def-8000-000000000001"
    async with database.begin() as tx:
        living = await read_incarnation(tx)
        assert await claim_events(tx, "a", [event_id], living) == {event_id}
        seal = await tx.scalar(sa.text("SELECT seal FROM handled_events"))
        for consumer, copied in (("b", None), ("c", seal)):
            await tx.execute(_FORGED, {"consumer": consumer, "event_id": event_id, "living": living, "seal": copied})
            with pytest.raises(NotSealed):
                await claim_events(tx, consumer, [event_id], living)


async def test_what_a_restore_lost_of_handled_events_is_not_put_back_by_whoever_kept_it(urls, database):
    """What the backup has counts on; what came after it is told and not passed over."""
    of_backup, lost = "0192f0c1-2b3c-7def-8000-000000000001", "0192f0c1-2b3c-7def-8000-000000000002"
    async with database.begin() as tx:
        before = await read_incarnation(tx)
        for event_id in (of_backup, lost):
            assert await claim_events(tx, "a", [event_id], before) == {event_id}
        find = sa.text("SELECT seal FROM handled_events WHERE event_id = :lost")
        kept = {"consumer": "a", "event_id": lost, "living": before, "seal": await tx.scalar(find, {"lost": lost})}
    async with chassis.as_superuser(urls) as admin:
        await admin.execute("SET session_replication_role = replica")  # a restore asks no trigger
        await admin.execute("DELETE FROM handled_events WHERE event_id = $1", lost)
    now = await begin_incarnation(urls.owner_url)
    async with database.begin() as tx:
        await tx.execute(_FORGED, kept)
    async with database.begin() as tx:
        assert not await claim_events(tx, "a", [of_backup], now)
        with pytest.raises(NotSealed):
            await claim_events(tx, "a", [lost], now)


async def test_what_was_answered_before_is_known_without_running_anything(database):
    assert await answered_before(database, request(), pb.Hold) is None
    await once(database, request(), pb.Hold, Command())
    assert await answered_before(database, request(), pb.Hold) == pb.Hold(hold_id="hold_1")
    with pytest.raises(IdempotencyKeyReused):
        await answered_before(database, request(amount=101), pb.Hold)


async def test_what_a_job_decided_meanwhile_is_the_first_answer_and_no_replay(database):
    begin_answer()
    assert await decided_meanwhile(database, request(), pb.Hold) is None
    await once(database, request(), pb.Hold, Command())
    async with database.begin() as tx:
        await replace_answer(tx, request(), lambda: pb.Hold(hold_id="hold_2"))
    assert await decided_meanwhile(database, request(), pb.Hold) == pb.Hold(hold_id="hold_2")
    assert answer_metadata() == ()
    await answered_before(database, request(), pb.Hold)
    assert answer_metadata() == ((REPLAYED, "true"),)


async def test_a_refusal_that_was_the_answer_before_is_raised_again(database):
    with pytest.raises(NotEnough):
        await once(database, request(), pb.Hold, Command(raises=NotEnough("too little")))
    with pytest.raises(DomainError) as refused:
        await answered_before(database, request(), pb.Hold)
    assert refused.value.reason == "NOT_ENOUGH"


@pytest.mark.parametrize(
    ("found", "validate_only", "is_kept"),
    [
        (NotEnough("Too little."), False, True),
        (NotEnough("Too little."), True, False),
        (Unavailable("A peer is away."), False, False),
        (InvalidField("malformed"), False, False),
    ],
    ids=["a decision", "a rehearsal of it", "nobody can tell", "no request"],
)
async def test_what_is_found_before_the_transaction_is_kept_if_it_is_a_decision(
    database, found, validate_only, is_kept
):
    operations, asked = Operations(database, SystemClock()), []
    message = pb.CaptureHoldRequest(idempotency_key="key-1", validate_only=validate_only)

    async def ask(_):
        asked.append(found)
        if len(asked) == 1:
            raise found

    async def capture(tx, request, facts, now):
        return pb.CaptureHoldResponse()

    with pytest.raises(type(found)):
        await operations.write_on_facts(message, pb.CaptureHoldResponse, ask, capture)
    if not is_kept:
        assert await operations.write_on_facts(message, pb.CaptureHoldResponse, ask, capture) is not None
        return
    begin_answer()
    with pytest.raises(DomainError) as again:
        await operations.write_on_facts(message, pb.CaptureHoldResponse, ask, capture)
    assert (again.value.reason, answer_metadata(), len(asked)) == (found.reason, ((REPLAYED, "true"),), 1)
