"""Holds: what is reserved cannot move, and a reservation ends once."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import timedelta

import pytest
from realco.escrow.v1 import events_pb2 as events
from realco.escrow.v1 import holds_pb2 as holds_pb
from realco.escrow.v1 import journal_pb2 as journal_pb
from realco.type.v1.sort_pb2 import Sort

from services.chassis.calls.auth import Principal, acting_as
from services.chassis.calls.wire import to_timestamp
from services.chassis.values.errors import DomainError
from services.chassis.values.stops import STOPS_WITHIN
from services.escrow.commands.holds import let_hold_expire
from services.escrow.domain import holds as rules
from services.escrow.domain.chart import CHART, Direction
from tests.support.escrow import NOW, SPONSOR, Escrow, key, ledger_account, on, refusal, usd
from tests.support.events import as_in_events

SUBSCRIPTION = "subscription:inv-001"


@pytest.fixture
async def account(escrow) -> str:
    """An escrow account with 100 of inv-001 in it."""
    account = await escrow.open()
    await escrow.post(account, ("cash", 100), (SUBSCRIPTION, -100))
    return account


async def capture(
    escrow: Escrow,
    hold: holds_pb.Hold,
    minor: int | None,
    to: str = "fees",
    idempotency_key: str = "",
    etag: str | None = None,
) -> holds_pb.Hold:
    request = holds_pb.CaptureHoldRequest(
        idempotency_key=idempotency_key or key(),
        escrow_account_id=hold.escrow_account_id,
        hold_id=hold.hold_id,
        to_ledger_account=ledger_account(to),
        amount=None if minor is None else usd(minor),
        etag=etag,
    )
    return await escrow.call("CaptureHold", request)


async def release(escrow: Escrow, hold: holds_pb.Hold, etag: str | None = None) -> holds_pb.Hold:
    request = holds_pb.ReleaseHoldRequest(
        idempotency_key=key(), escrow_account_id=hold.escrow_account_id, hold_id=hold.hold_id, etag=etag
    )
    return await escrow.call("ReleaseHold", request)


@pytest.mark.parametrize(
    ("held", "asked", "available"),
    [
        (0, 40, 100),
        (0, 100, 100),  # the whole
        (60, 40, 40),  # the whole rest
        (60, 41, 40),  # one cent too many
        (0, 101, 100),
    ],
)
async def test_a_hold_reserves_what_is_available_and_no_more(escrow, account, held, asked, available):
    if held:
        await escrow.hold(account, SUBSCRIPTION, held)
    if asked > available:
        assert await refusal(escrow.hold(account, SUBSCRIPTION, asked)) == (
            "INSUFFICIENT_AVAILABLE_BALANCE",
            {
                "ledger_account_kind": "SUBSCRIPTION",
                "party_id": "inv-001",
                "available_minor": str(available),
                "requested_minor": str(asked),
                "currency_code": "USD",
            },
        )
    else:
        hold = await escrow.hold(account, SUBSCRIPTION, asked)
        assert hold.status == holds_pb.Hold.PLACED
        assert (await escrow.held(account)) == {SUBSCRIPTION: held + asked}
        assert list(hold.allowed_actions) == ["capture", "release"]
        [placed] = [event for event in await escrow.events(events.HoldPlaced) if event.hold == as_in_events(hold)]
        assert hold.aggregate_version == placed.meta.aggregate_version
        assert placed.meta.actor == hold.created_by == "admin-1"


async def test_what_is_held_does_not_move(escrow, account):
    await escrow.hold(account, SUBSCRIPTION, 60)
    assert (await refusal(escrow.post(account, (SUBSCRIPTION, 41), ("cash", -41))))[1]["available_minor"] == "40"
    await escrow.post(account, (SUBSCRIPTION, 40), ("cash", -40))
    balance = await escrow.balance(account)
    assert (balance.posted, balance.held, balance.available) == (usd(60), usd(60), usd(0))


async def test_one_person_has_so_many_open_holds_in_an_escrow_account_and_another_one_still_places_theirs(
    escrow, account, monkeypatch
):
    monkeypatch.setattr(rules, "HOLDS_MAX", 3)

    async def hold(_: int) -> holds_pb.Hold | tuple[str, dict[str, str]]:
        try:
            return await escrow.hold(account, SUBSCRIPTION, 1)
        except DomainError as refused:
            return refused.reason, refused.metadata

    answers = await asyncio.gather(*map(hold, range(5)))
    placed = [each for each in answers if isinstance(each, holds_pb.Hold)]
    assert (len(placed), answers.count(("TOO_MANY_HOLDS", {"holds_max": "3"}))) == (3, 2)
    await release(escrow, placed[0])
    assert isinstance(await hold(0), holds_pb.Hold)
    monkeypatch.setattr(escrow, "admin", Principal("another", "admin", escrow.admin.org_id))
    assert isinstance(await hold(0), holds_pb.Hold)


async def test_who_holds_again_what_others_have_let_go_does_so_three_times_an_hour(escrow, account):
    person = Principal("another", "admin", escrow.admin.org_id)
    maker, escrow.admin = escrow.admin, person
    for _ in range(4):
        held, escrow.admin = await escrow.hold(account, SUBSCRIPTION, 100), maker
        await release(escrow, held)
        escrow.admin = person
    assert (await refusal(escrow.hold(account, SUBSCRIPTION, 1)))[0] == "TOO_MANY_STOPS"
    await escrow.post(account, ("cash", 5), ("fees", -5))
    assert await escrow.hold(account, "fees", 1), "something else"
    escrow.admin = maker
    assert await escrow.hold(account, SUBSCRIPTION, 1), "another person"
    escrow.clock.advance(STOPS_WITHIN)
    escrow.admin = person
    assert await escrow.hold(account, SUBSCRIPTION, 1), "much later"


async def test_there_is_nothing_to_hold_on_an_account_that_was_never_used(escrow, account):
    assert (await refusal(escrow.hold(account, "payable:inv-009", 1)))[1]["available_minor"] == "0"
    elsewhere = escrow.hold("esc_" + "0" * 26, "fees", 1)
    assert (await refusal(elsewhere))[0] == "ESCROW_ACCOUNT_NOT_FOUND"


async def test_a_hold_is_in_the_accounts_currency_and_ends_after_it_began(escrow, account):
    euros = holds_pb.PlaceHoldRequest(
        idempotency_key=key(),
        escrow_account_id=account,
        ledger_account=ledger_account("fees"),
        amount={"currency_code": "EUR", "amount_minor": 1},
        reason=holds_pb.Hold.MANUAL,
    )
    assert await refusal(escrow.call("PlaceHold", euros)) == ("CURRENCY_MISMATCH", {"currency_code": "USD"})
    over = escrow.hold(account, SUBSCRIPTION, 1, expire_time=to_timestamp(NOW))
    assert (await refusal(over))[0] == "INVALID_FIELD"


async def test_what_the_chart_lets_be_held_can_be_held_and_nothing_else(escrow, account):
    for line in CHART:
        name = f"{line.kind.lower()}:inv-001" if line.of_party else line.kind.lower()
        other = "cash" if line.normal_balance is Direction.CREDIT or name == "in_transit" else "fees"
        # On IN_TRANSIT is what is on its way out.
        sign = -1 if line.normal_balance is Direction.CREDIT or name == "in_transit" else 1
        await escrow.post(account, (name, sign * 5), (other, -sign * 5))
        if line.may_be_held:
            assert (await escrow.hold(account, name, 5)).status == holds_pb.Hold.PLACED
        else:
            asked = await refusal(escrow.hold(account, name, 5))
            assert asked[0] == "INVALID_FIELD", name


@pytest.mark.parametrize(("captured", "left"), [(60, 40), (25, 75), (None, 40)])
async def test_a_capture_moves_the_whole_or_a_part_and_gives_back_the_rest(escrow, account, captured, left):
    hold = await escrow.hold(account, SUBSCRIPTION, 60)
    name = key()
    done = await capture(escrow, hold, captured, idempotency_key=name)
    assert done.status == holds_pb.Hold.CAPTURED
    assert done.captured_amount == usd(100 - left)
    assert done.resolved_by == "admin-1"
    assert await capture(escrow, hold, captured, idempotency_key=name) == done  # a retry
    assert await escrow.posted(account) == {"cash": 100, SUBSCRIPTION: left, "fees": 100 - left}
    assert await escrow.held(account) == {}
    entry = (await escrow.journal())[-1]
    assert entry.type == journal_pb.JournalEntry.CAPTURE
    assert len(await escrow.events(events.HoldCaptured)) == 1


@pytest.mark.parametrize("ending", ["capture", "release"])
async def test_a_hold_ends_once(escrow, account, ending):
    hold = await escrow.hold(account, SUBSCRIPTION, 60)
    await (capture(escrow, hold, 60) if ending == "capture" else release(escrow, hold))
    status = "CAPTURED" if ending == "capture" else "RELEASED"
    for again, wanted in ((capture(escrow, hold, 60), "CAPTURED"), (release(escrow, hold), "RELEASED")):
        assert await refusal(again) == ("ILLEGAL_STATUS_CHANGE", {"status": status, "wanted_status": wanted})
    assert (await escrow.trial_balance(account)).balanced


@pytest.mark.parametrize("ending", ["capture", "release"])
async def test_a_hold_is_ended_as_it_was_read_by_whoever_wants_to_be_sure(escrow, account, ending):
    read = await escrow.hold(account, SUBSCRIPTION, 60, expire_time=to_timestamp(NOW + timedelta(days=9)))
    with acting_as(escrow.admin):
        async with escrow.database.begin() as tx:
            await let_hold_expire(tx, account, read.hold_id, NOW + timedelta(days=3), NOW)
    now = await escrow.call("GetHold", holds_pb.GetHoldRequest(escrow_account_id=account, hold_id=read.hold_id))

    def end(etag):
        return capture(escrow, read, 60, etag=etag) if ending == "capture" else release(escrow, read, etag)

    assert await refusal(end(read.etag)) == ("ETAG_MISMATCH", {"etag": now.etag})
    ended = await end(now.etag)
    assert len({read.etag, now.etag, ended.etag}) == 3


async def test_of_many_endings_at_once_one_wins(escrow, account):
    hold = await escrow.hold(account, SUBSCRIPTION, 60)
    outcomes = await asyncio.gather(
        *(capture(escrow, hold, 60) for _ in range(5)),
        *(release(escrow, hold) for _ in range(5)),
        return_exceptions=True,
    )
    assert sum(isinstance(outcome, holds_pb.Hold) for outcome in outcomes) == 1
    assert {type(outcome).__name__ for outcome in outcomes} == {"Hold", "IllegalStatusChange"}
    assert await escrow.held(account) == {}
    assert (await escrow.trial_balance(account)).balanced


async def test_a_capture_that_cannot_be_booked_leaves_the_hold(escrow, account):
    hold = await escrow.hold(account, SUBSCRIPTION, 60)
    assert await refusal(capture(escrow, hold, 61)) == (
        "CAPTURE_EXCEEDS_HOLD",
        {"held_minor": "60", "requested_minor": "61", "currency_code": "USD"},
    )
    await escrow.post(account, ("returns_receivable:inv-002", 50), ("cash", -50))
    # The receiving side has too little: the subscription is free, half of the cash has left.
    assert (await refusal(capture(escrow, hold, 60, to="cash")))[0] == "INSUFFICIENT_AVAILABLE_BALANCE"
    assert (await refusal(capture(escrow, hold, 60, to=SUBSCRIPTION)))[0] == "INVALID_FIELD"
    assert await escrow.held(account) == {SUBSCRIPTION: 60}
    unknown = holds_pb.Hold(hold_id="hold_" + "0" * 26, escrow_account_id=account)
    assert (await refusal(capture(escrow, unknown, 1)))[0] == "HOLD_NOT_FOUND"
    assert (await refusal(release(escrow, unknown)))[0] == "HOLD_NOT_FOUND"


async def test_a_hold_ends_by_itself_when_its_time_has_run_out(escrow, account):
    hold = await escrow.hold(account, SUBSCRIPTION, 60, expire_time=to_timestamp(NOW + timedelta(days=1)))
    await escrow.hold(account, SUBSCRIPTION, 10)  # has no time
    assert await escrow.expire_holds() == 0
    await escrow.pass_time(days=1)
    assert await escrow.expire_holds() == 1
    assert await escrow.expire_holds() == 0
    assert await escrow.held(account) == {SUBSCRIPTION: 10}
    [event] = await escrow.events(events.HoldExpired)
    assert (event.hold.hold_id, event.hold.status) == (hold.hold_id, holds_pb.Hold.EXPIRED)
    assert (event.hold.created_by, event.hold.resolved_by, event.meta.actor) == ("admin-1", *["service:escrow"] * 2)
    assert (await refusal(release(escrow, hold)))[1]["status"] == "EXPIRED"


async def test_a_hold_may_be_placed_on_a_frozen_account(escrow, account):
    await escrow.freeze(account)
    hold = await escrow.hold(account, SUBSCRIPTION, 60)
    await escrow.unfreeze(account)
    assert await escrow.held(account) == {SUBSCRIPTION: 60}
    assert (await release(escrow, hold)).status == holds_pb.Hold.RELEASED


async def test_no_hold_ends_in_a_frozen_account(escrow, account):
    hold = await escrow.hold(account, SUBSCRIPTION, 60, expire_time=to_timestamp(NOW + timedelta(days=1)))
    await escrow.freeze(account)
    await escrow.pass_time(days=2)
    assert await escrow.expire_holds() == 0
    for ending in (release(escrow, hold), capture(escrow, hold, 60)):
        assert await refusal(ending) == ("ESCROW_ACCOUNT_FROZEN", {"escrow_account_id": account})
    await escrow.unfreeze(account)
    assert await escrow.expire_holds() == 1


async def test_holds_are_listed_newest_first_a_page_at_a_time(escrow, account):
    placed = []
    for minor in range(1, 8):
        placed.append(await escrow.hold(account, SUBSCRIPTION, minor))
        await escrow.pass_time(seconds=1)
    await release(escrow, placed[2])
    seen, token = [], ""
    for _ in range(4):
        request = holds_pb.ListHoldsRequest(escrow_account_id=account, page_size=2, page_token=token)
        page = await escrow.call("ListHolds", request)
        seen += [hold.amount.amount_minor for hold in page.holds]
        token = page.next_page_token
    assert (seen, token) == ([7, 6, 5, 4, 3, 2, 1], "")
    request = holds_pb.ListHoldsRequest(
        escrow_account_id=account, status=[holds_pb.Hold.RELEASED, holds_pb.Hold.EXPIRED]
    )
    assert [hold.hold_id for hold in (await escrow.call("ListHolds", request)).holds] == [placed[2].hold_id]
    request = holds_pb.ListHoldsRequest(escrow_account_id=account, ids=[placed[4].hold_id, placed[1].hold_id])
    assert [hold.amount.amount_minor for hold in (await escrow.call("ListHolds", request)).holds] == [5, 2]
    request = holds_pb.ListHoldsRequest(
        escrow_account_id=account, order=Sort.OLDEST_FIRST, from_time=placed[5].create_time
    )
    assert [hold.amount.amount_minor for hold in (await escrow.call("ListHolds", request)).holds] == [6, 7]
    for name, found in {SUBSCRIPTION: 7, "subscription": 7, "payable": 0, "subscription:inv-002": 0}.items():
        request = holds_pb.ListHoldsRequest(escrow_account_id=account, **on(name))
        assert len((await escrow.call("ListHolds", request)).holds) == found


async def test_a_hold_is_read_with_why_and_what_may_be_done_with_it(escrow, account):
    hold = await escrow.hold(
        account, SUBSCRIPTION, 60, description="The court asked for it.", external_id="case-7", metadata={"court": "NY"}
    )
    request = holds_pb.GetHoldRequest(escrow_account_id=account, hold_id=hold.hold_id)
    assert await escrow.call("GetHold", request) == hold
    assert (hold.description, hold.explanation.rule) == ("The court asked for it.", "MANUAL")
    assert (hold.external_id, dict(hold.metadata)) == ("case-7", {"court": "NY"})
    auditor = Principal("auditor-1", "auditor", escrow.org_id)
    assert list((await escrow.call("GetHold", request, auditor)).allowed_actions) == []
    await escrow.freeze(account)
    assert list((await escrow.call("GetHold", request)).allowed_actions) == []
    unknown = holds_pb.GetHoldRequest(escrow_account_id=account, hold_id="hold_" + "0" * 26)
    assert (await refusal(escrow.call("GetHold", unknown)))[0] == "HOLD_NOT_FOUND"
    listed = await escrow.call(
        "ListHolds", holds_pb.ListHoldsRequest(escrow_account_id=account, external_id=["case-7"])
    )
    assert [found.hold_id for found in listed.holds] == [hold.hold_id]


async def test_a_hold_that_is_only_validated_is_not_placed(escrow, account):
    hold = await escrow.hold(account, SUBSCRIPTION, 60, validate_only=True)
    assert hold.status == holds_pb.Hold.PLACED
    assert (await refusal(escrow.hold(account, SUBSCRIPTION, 101, validate_only=True)))[0] == (
        "INSUFFICIENT_AVAILABLE_BALANCE"
    )
    assert await escrow.held(account) == {}
    assert await escrow.events(events.HoldPlaced) == []


async def test_who_captures_a_part_of_a_hold_releases_the_rest_and_says_so(escrow: Escrow):
    account = await escrow.open()
    await escrow.post(account, ("cash", 100), ("subscription:inv-001", -100))
    hold = await escrow.hold(account, "subscription:inv-001", 40)
    request = holds_pb.CaptureHoldRequest(
        idempotency_key=key(),
        escrow_account_id=account,
        hold_id=hold.hold_id,
        to_ledger_account=ledger_account("fees"),
        amount=usd(1),
    )
    asking = dataclasses.replace(escrow.admin, subject="admin-9")
    asked = await escrow.ask("CaptureHold", request, asking)
    assert (asked.amount, list(asked.beneficiary_party_ids)) == (usd(40), ["inv-001", SPONSOR]), "all of it is freed"
    assert asked.summary.startswith("Capture 0.01 USD of a hold of 0.40 USD on subscription of inv-001, for fees")
    assert asked.summary.endswith(", and release 0.39 USD")
    [released] = [change for change in asked.changes if change.field == "released"]
    assert released.after_amount == usd(39)
    request.ClearField("amount")
    request.idempotency_key = key()
    whole = await escrow.ask("CaptureHold", request, asking)
    assert (whole.amount, list(whole.beneficiary_party_ids)) == (usd(40), []), "nothing is given back"
