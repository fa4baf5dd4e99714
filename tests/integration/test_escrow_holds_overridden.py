"""What the bank has done is booked whatever persons hold, and what they held besides stays held."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from realco.escrow.v1 import events_pb2 as events
from realco.escrow.v1 import holds_pb2 as holds_pb
from realco.escrow.v1 import postings_pb2 as postings_pb
from structlog.testing import capture_logs

from services.chassis.calls.auth import Principal
from services.chassis.calls.wire import to_timestamp
from services.escrow.domain.chart import CHART
from services.escrow.domain.types import TYPES
from tests.support.escrow import NOW, Escrow, refusal, usd
from tests.support.escrow_payments import Payment
from tests.support.ledger_accounts import ledger_account
from tests.support.statements import list_sent

SUBSCRIPTION = "subscription:inv-001"
HOLDABLE = [f"{line.kind.lower()}{':inv-001' * line.of_party}" for line in CHART if line.may_be_held]
OUTCOMES = {
    "SETTLED": "SETTLED",
    **dict.fromkeys(("FAILED", "CANCELLED"), "ENDED"),
    **dict.fromkeys(("RETURNED", "REVERSED"), "RETURNED"),
}
MONEY_IN = (
    *("SUBMITTED", "SETTLED", "FAILED", "CANCELLED", "RETURNED", "SUBMITTED FAILED", "SUBMITTED RETURNED"),
    *("SUBMITTED SETTLED RETURNED", "SETTLED COMPLETED RETURNED", "SETTLED COMPLETED REVERSED"),
    *("RETURNED SETTLED", "freeze SETTLED RETURNED", "SETTLED COMPLETED freeze RETURNED", "SETTLED freeze RETURNED"),
)
MONEY_OUT = (
    *("SUBMITTED", "SETTLED", "FAILED", "CANCELLED", "RETURNED", "SETTLED COMPLETED RETURNED", "SETTLED REVERSED"),
    *("freeze SETTLED", "freeze SETTLED RETURNED", "RETURNED SETTLED"),
)


async def hold_all(escrow: Escrow, account: str) -> None:
    posted, held = await escrow.posted(account), await escrow.held(account)
    for name in HOLDABLE:
        if left := posted.get(name, 0) - held.get(name, 0):
            await escrow.hold(account, name, left)


async def foresee(escrow: Escrow, payment: Payment, fact: str) -> dict[str, int]:
    """What would stand on each ledger account after the fact, as whoever decides about the payment reads it."""
    transaction, account = payment.transaction, payment.transaction.escrow_account_id
    there = await escrow.posted(account)
    if fact in OUTCOMES:
        request = postings_pb.GetTransactionPreviewRequest(
            escrow_account_id=account,
            type=transaction.type,
            parts=[postings_pb.PartyAmount(party_id=transaction.party_id, amount=transaction.amount)],
            outcome=OUTCOMES[fact],
            transaction_id=transaction.transaction_id,
        )
        for each in (await escrow.call("GetTransactionPreview", request, escrow.transactions)).effects:
            kind, party_id = each.ledger_account.kind.lower(), each.ledger_account.party_id
            name = f"{kind}:{party_id}" if party_id else kind
            assert each.before.amount_minor == there.get(name, 0)
            there[name] = each.after.amount_minor
    return {name: minor for name, minor in there.items() if minor}


async def play(escrow: Escrow, kind: str, facts: str, *, held: bool) -> list[dict[str, int]]:
    """The book after the facts, if one person holds all there is before each of them."""
    account = await escrow.open()
    await escrow.post(account, ("cash", 20 * len(HOLDABLE)), *((name, -20) for name in HOLDABLE))
    payment = Payment(account, kind, 100)
    if TYPES[kind].arrives_as is not None:
        payment.transaction.to_escrow_account_id = await escrow.open()
    if not TYPES[kind].is_inbound:
        source = TYPES[kind].ledger_account_kind
        name = next(name for name in HOLDABLE if name.startswith(source.lower()))
        await escrow.post(account, ("cash", 100), (name, -100))
        assert (await payment.submit(escrow)).HasField("journal_entry")
    came_back = False
    for fact in facts.split():
        if held:
            await hold_all(escrow, account)
        foreseen = await foresee(escrow, payment, fact)
        await (escrow.freeze(account) if fact == "freeze" else payment.happens(escrow, fact))
        if not came_back:
            assert await escrow.posted(account) == foreseen, f"what was told before of {fact}"
        came_back = came_back or fact in ("RETURNED", "REVERSED")  # what is heard after that is heard too late
    assert (await escrow.trial_balance(account)).balanced
    return [await escrow.posted(account), await escrow.pending(account)]


@pytest.mark.parametrize("kind", TYPES)
async def test_what_the_bank_has_done_is_booked_as_it_was_foreseen_and_as_if_no_person_held_anything(escrow, kind):
    for facts in MONEY_IN if TYPES[kind].is_inbound else MONEY_OUT:
        assert await play(escrow, kind, facts, held=True) == await play(escrow, kind, facts, held=False), facts


async def list_holds(escrow: Escrow, account: str, **values: Any) -> list[holds_pb.Hold]:
    request = holds_pb.ListHoldsRequest(escrow_account_id=account, **values)
    return list((await escrow.call("ListHolds", request)).holds)


async def test_the_hold_placed_last_is_overridden_first_and_what_it_held_besides_is_held_anew(escrow):
    account = await escrow.open()
    await escrow.post(account, ("cash", 60), (SUBSCRIPTION, -60))
    payment = Payment(account, "ESCROW_DEPOSIT", 100)
    await payment.happens(escrow, "SETTLED", "COMPLETED")
    kept = await escrow.hold(account, SUBSCRIPTION, 40)
    cut = await escrow.hold(account, SUBSCRIPTION, 70, description="a quarrel", external_id="q-1", metadata={"a": "b"})
    ended = await escrow.hold(account, SUBSCRIPTION, 45)
    await escrow.pass_time(days=1)
    with capture_logs() as logged:
        await payment.happens(escrow, "RETURNED")  # 5 are free
    assert await escrow.posted(account) == {"cash": 60, SUBSCRIPTION: 60}
    assert await escrow.held(account) == {SUBSCRIPTION: 60}

    of = {each.hold_id: each for each in await list_holds(escrow, account) if not each.transaction_id}
    for hold, taken in ((ended, 45), (cut, 50)):
        found = of.pop(hold.hold_id)
        assert (found.status, found.overridden_amount) == (holds_pb.Hold.OVERRIDDEN, usd(taken))
        assert found.captured_amount == usd(0)
        assert found.returned_transaction_id == payment.transaction.transaction_id
    assert of.pop(kept.hold_id).status == holds_pb.Hold.PLACED
    [(rest_id, rest)] = of.items()
    assert (rest.status, rest.amount, rest.replaces_hold_id) == (holds_pb.Hold.PLACED, usd(20), cut.hold_id)
    for name in ("created_by", "reason", "description", "external_id", "metadata", "ledger_account"):
        assert getattr(rest, name) == getattr(cut, name)

    told = [event.hold.hold_id for event in await escrow.events(events.HoldOverridden)]
    assert not await escrow.events(events.HoldCaptured)
    assert told == [ended.hold_id, cut.hold_id]
    assert [event.hold.hold_id for event in await escrow.events(events.HoldPlaced)][-1] == rest_id
    lines = [(line["hold_id"], line["amount_minor"]) for line in logged if line["event"] == "hold_overridden"]
    assert lines == [(ended.hold_id, 45), (cut.hold_id, 50)]
    # What was held the day before is known still.
    assert (await escrow.balance(account, as_of=NOW)).held == usd(155)


async def test_who_wanted_it_held_is_a_maker_of_what_becomes_of_the_rest(escrow):
    account = await escrow.open()
    payment = Payment(account, "ESCROW_DEPOSIT", 100)
    await escrow.post(account, ("cash", 10), (SUBSCRIPTION, -10))
    await payment.happens(escrow, "SETTLED", "COMPLETED")
    beth = Principal("beth", "admin", escrow.org_id)
    place = holds_pb.PlaceHoldRequest(
        idempotency_key="k",
        escrow_account_id=account,
        ledger_account=ledger_account(SUBSCRIPTION),
        amount=usd(105),
        reason=holds_pb.Hold.DISPUTE,
    )
    placed = await escrow.call("PlaceHold", place, beth)
    await payment.happens(escrow, "RETURNED")
    [rest] = await list_holds(escrow, account, status=[holds_pb.Hold.PLACED])
    assert (rest.created_by, rest.amount) == ("beth", usd(10))
    end = holds_pb.ReleaseHoldRequest(idempotency_key="k2", escrow_account_id=account, hold_id=placed.hold_id)
    assert (await refusal(escrow.call("ReleaseHold", end)))[0] == "ILLEGAL_STATUS_CHANGE"
    capture = holds_pb.CaptureHoldRequest(
        idempotency_key="k3",
        escrow_account_id=account,
        hold_id=rest.hold_id,
        to_ledger_account=ledger_account("fees"),
    )
    assert set((await escrow.ask("CaptureHold", capture)).makers) == {"admin-1", "beth"}


async def test_what_another_payment_keeps_back_is_overridden_by_no_return(escrow):
    account = await escrow.open()
    early, late = Payment(account, "ESCROW_DEPOSIT", 100), Payment(account, "ESCROW_DEPOSIT", 30)
    await early.happens(escrow, "SETTLED", "COMPLETED")
    await escrow.post(account, (SUBSCRIPTION, 100), ("issuer_proceeds", -100))
    await late.happens(escrow, "SETTLED")
    await early.happens(escrow, "RETURNED")
    assert await escrow.held(account) == {SUBSCRIPTION: 30}
    assert (await escrow.posted(account))["returns_receivable:inv-001"] == 100


async def test_what_a_hold_whose_time_ran_out_held_besides_is_not_held_anew(escrow):
    """In a frozen account such a hold lasts until the account is unfrozen."""
    account = await escrow.open()
    payment = Payment(account, "ESCROW_DEPOSIT", 100)
    await escrow.post(account, ("cash", 10), (SUBSCRIPTION, -10))
    await payment.happens(escrow, "SETTLED", "COMPLETED")
    await escrow.hold(account, SUBSCRIPTION, 105, expire_time=to_timestamp(NOW + timedelta(days=1)))
    await escrow.freeze(account)
    await escrow.pass_time(days=2)
    await payment.happens(escrow, "RETURNED")
    assert (await escrow.posted(account), await escrow.held(account)) == ({"cash": 10, SUBSCRIPTION: 10}, {})
    [hold] = [each for each in await list_holds(escrow, account) if not each.transaction_id]
    assert (hold.status, hold.overridden_amount) == (holds_pb.Hold.OVERRIDDEN, usd(95))


async def test_a_return_over_many_holds_asks_the_database_no_more_often_than_one_over_two(escrow, monkeypatch):
    sent, counts = list_sent(monkeypatch), []
    for number, minor in ((2, 45), (20, 4)):
        account = await escrow.open()
        payment = Payment(account, "ESCROW_DEPOSIT", 100)
        await payment.happens(escrow, "SETTLED", "COMPLETED")
        for _ in range(number):
            await escrow.hold(account, SUBSCRIPTION, minor)
        sent.clear()
        await payment.happens(escrow, "RETURNED")
        counts.append(len(sent))
        assert await escrow.held(account) == {}
    assert counts[0] == counts[1] > 0
