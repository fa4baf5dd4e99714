"""What an offering asks of the book: its closing, its distributions and its payouts."""

from __future__ import annotations

import asyncio

import pytest
from google.protobuf.message import Message
from realco.compliance.v1.notary_pb2 import Movement
from realco.escrow.v1 import journal_pb2 as journal_pb
from realco.escrow.v1 import postings_pb2 as postings_pb

from services.chassis.calls.auth import Principal
from services.chassis.values.ids import new_id
from services.compliance.domain.refusals import MovementNotDecided
from services.distributions.domain.refusals import MovementNotOrdered
from tests.support.escrow import Escrow, key, refusal, usd
from tests.support.peers.orders import declaration

OFFERING, DISTRIBUTION = "off_" + "0" * 26, "dist_" + "0" * 26


async def test_closing_releases_every_named_subscription_or_none(escrow):
    account = await escrow.open()
    await escrow.post(account, ("cash", 100), ("subscription:inv-001", -60), ("subscription:inv-002", -40))
    parts = [
        postings_pb.PartyAmount(party_id="inv-001", amount=usd(60)),
        postings_pb.PartyAmount(party_id="inv-002", amount=usd(41)),
    ]
    request = postings_pb.ReleaseSubscriptionsRequest(
        idempotency_key="1" * 64, escrow_account_id=account, offering_id="off_" + "0" * 26, subscriptions=parts
    )
    reason, metadata = await refusal(escrow.call("ReleaseSubscriptions", request, escrow.transactions))
    assert (reason, metadata["ledger_account_kind"], metadata["party_id"]) == (
        "INSUFFICIENT_AVAILABLE_BALANCE",
        "SUBSCRIPTION",
        "inv-002",
    )
    assert "issuer_proceeds" not in await escrow.posted(account)
    request.subscriptions[1].amount.amount_minor = 40
    request.idempotency_key = "2" * 64
    entry = await escrow.call("ReleaseSubscriptions", request, escrow.transactions)
    assert entry.type == journal_pb.JournalEntry.RELEASE
    assert await escrow.call("ReleaseSubscriptions", request, escrow.transactions) == entry
    assert await escrow.posted(account) == {"cash": 100, "issuer_proceeds": 100}
    request.subscriptions[1].party_id = "inv-001"
    assert (await refusal(escrow.call("ReleaseSubscriptions", request, escrow.transactions)))[0] == "INVALID_FIELD"


async def test_a_distribution_is_declared_to_the_cent(escrow):
    account = await escrow.open()
    await escrow.post(account, ("cash", 100), ("distributable", -100))
    request = postings_pb.DeclareDistributionRequest(
        idempotency_key="1" * 64,
        escrow_account_id=account,
        distribution_id="dist_" + "0" * 26,
        payables=[
            postings_pb.PartyAmount(party_id="inv-001", amount=usd(33)),
            postings_pb.PartyAmount(party_id="sponsor-1", amount=usd(67)),
        ],
    )
    entry = await escrow.call("DeclareDistribution", request, escrow.transactions)
    assert entry.distribution_id == request.distribution_id
    assert entry.created_by == "admin-1"
    assert await escrow.posted(account) == {"cash": 100, "payable:inv-001": 33, "payable:sponsor-1": 67}
    more = postings_pb.DeclareDistributionRequest()
    more.CopyFrom(request)
    more.idempotency_key = "2" * 64
    assert (await refusal(escrow.call("DeclareDistribution", more, escrow.transactions)))[1] == {
        "ledger_account_kind": "DISTRIBUTABLE",
        "available_minor": "0",
        "requested_minor": "100",
        "currency_code": "USD",
    }


async def test_each_payout_is_taken_or_refused_by_itself(escrow):
    account, other = await escrow.open(), await escrow.open()
    await escrow.post(account, ("cash", 100), ("payable:inv-001", -60), ("issuer_proceeds", -40))
    await escrow.post(other, ("cash", 10), ("subscription:inv-001", -10))
    payout = postings_pb.BatchBookPayoutsRequest

    def item(account: str, type_: str, minor: int, currency: str = "USD") -> postings_pb.BatchBookPayoutsRequest.Item:
        return payout.Item(
            idempotency_key=key(),
            escrow_account_id=account,
            transaction_id=new_id("txn"),
            type=type_,
            party_id="inv-001",
            amount={"currency_code": currency, "amount_minor": minor},
        )

    items = [
        item(account, "DISTRIBUTION", 61),
        item(account, "DISTRIBUTION", 60),
        item(account, "ESCROW_WITHDRAWAL", 40),
        item(other, "REFUND", 10),
        item(account, "DISTRIBUTION", 1, "EUR"),
    ]
    answer = await escrow.call("BatchBookPayouts", payout(items=items), escrow.transactions)
    assert [(result.failure.code, result.journal_entry.type) for result in answer.results] == [
        ("INSUFFICIENT_AVAILABLE_BALANCE", 0),
        ("", journal_pb.JournalEntry.DISTRIBUTION),
        ("", journal_pb.JournalEntry.WITHDRAWAL),
        ("", journal_pb.JournalEntry.REFUND),
        ("CURRENCY_MISMATCH", 0),
    ]
    assert answer.results[4].failure.metadata == {"currency_code": "USD"}
    assert (await escrow.balance(account)).pending_out == usd(100)
    assert await escrow.posted(other) == {"cash": 10, "in_transit": -10}
    again = await escrow.call("BatchBookPayouts", payout(items=items[1:4]), escrow.transactions)
    assert all(result.replayed for result in again.results)
    assert [result.journal_entry for result in again.results] == [
        result.journal_entry for result in answer.results[1:4]
    ]


async def test_what_was_booked_by_a_decision_is_answered_again_when_the_decision_is_good_no_longer(escrow):
    account = await escrow.open()
    await escrow.post(account, ("cash", 100), ("distributable", -100))
    declare = postings_pb.DeclareDistributionRequest(
        idempotency_key="a" * 64,
        escrow_account_id=account,
        distribution_id=new_id("dist"),
        payables=[postings_pb.PartyAmount(party_id="inv-001", amount=usd(40))],
    )
    booked = await escrow.call("DeclareDistribution", declare, escrow.transactions)
    escrow.compliance.refusal = MovementNotDecided("No.")
    assert await escrow.call("DeclareDistribution", declare, escrow.transactions) == booked
    declare.payables[0].amount.amount_minor += 1
    assert (await refusal(escrow.call("DeclareDistribution", declare, escrow.transactions)))[0] != ""
    assert await escrow.posted(account) == {"cash": 100, "distributable": 60, "payable:inv-001": 40}


async def test_what_two_persons_did_not_decide_is_not_booked_and_the_notary_is_asked_for_every_line(escrow):
    account = await escrow.open()
    await escrow.post(account, ("cash", 100), ("distributable", -60), ("subscription:inv-001", -40))
    part = postings_pb.PartyAmount(party_id="inv-001", amount=usd(40))
    of_release, of_declaration, offering_id, distribution_id = "a" * 64, "b" * 64, new_id("off"), new_id("dist")
    release = postings_pb.ReleaseSubscriptionsRequest(
        idempotency_key=of_release, escrow_account_id=account, offering_id=offering_id, subscriptions=[part]
    )
    declare = postings_pb.DeclareDistributionRequest(
        idempotency_key=of_declaration, escrow_account_id=account, distribution_id=distribution_id, payables=[part]
    )
    escrow.compliance.refusal = MovementNotDecided("No.")
    before = await escrow.posted(account)
    assert (await refusal(escrow.call("ReleaseSubscriptions", release, escrow.transactions)))[
        0
    ] == "MOVEMENT_NOT_DECIDED"
    assert (await refusal(escrow.call("DeclareDistribution", declare, escrow.transactions)))[
        0
    ] == "MOVEMENT_NOT_DECIDED"
    assert await escrow.posted(account) == before

    asked = {
        "escrow_account_id": account,
        "lines": [Movement.Line(party_id="inv-001", amount=usd(40))],
    }
    assert escrow.compliance.asked == [
        Movement(kind=Movement.CLOSE_OFFERING, resource_id=offering_id, content_hash=of_release, **asked),
        Movement(kind=Movement.APPROVE_DISTRIBUTION, resource_id=distribution_id, content_hash=of_declaration, **asked),
    ]


@pytest.mark.parametrize("order", ["release", "declaration"])
async def test_a_movement_is_booked_once_it_is_ordered_in_whatever_order_its_lines_are_in_the_name_of_who_ordered_it(
    escrow: Escrow, order: str
) -> None:
    """Two persons decided; whoever has the key of distributions repeats it before that has written its order."""
    account = await escrow.open()
    await escrow.post(account, ("cash", 80), ("distributable", -50), ("subscription:inv-001", -30))
    await escrow.post(account, ("cash", 20), ("subscription:inv-002", -20))
    parts = [postings_pb.PartyAmount(party_id=f"inv-00{n}", amount=usd(minor)) for n, minor in ((1, 30), (2, 20))]
    given = {"idempotency_key": "a" * 64, "escrow_account_id": account}

    def build(parts: list[postings_pb.PartyAmount]) -> Message:
        if order == "release":
            return postings_pb.ReleaseSubscriptionsRequest(**given, offering_id=OFFERING, subscriptions=parts)
        return postings_pb.DeclareDistributionRequest(**given, distribution_id=DISTRIBUTION, payables=parts)

    rpc = "ReleaseSubscriptions" if order == "release" else "DeclareDistribution"
    thief, saga = (
        Principal("service:distributions", "service", escrow.org_id, name) for name in ("auditor-1", "admin-2")
    )
    before = await escrow.posted(account)
    escrow.distributions.refusal = MovementNotOrdered("No.")
    assert (await refusal(escrow.call(rpc, build(parts), thief)))[0] == "MOVEMENT_NOT_ORDERED"
    assert await escrow.posted(account) == before
    escrow.distributions.refusal = None
    entry = await escrow.call(rpc, build(parts[::-1]), thief)
    assert entry.created_by == "admin-1", "distributions was asked, and what a caller says is for the log alone"
    assert await escrow.call(rpc, build(parts), saga) == entry
    assert len({movement.SerializeToString() for movement in escrow.distributions.asked_about}) == 1
    escrow.distributions.refusal = MovementNotOrdered("It is done.")
    assert await escrow.call(rpc, build(parts), saga) == entry, "what was booked is answered for ever"


@pytest.mark.parametrize("order", ["refused first", "booked first"])
async def test_what_was_refused_is_not_booked_by_a_call_that_was_let_pass_before(escrow, order):
    account = await escrow.open()
    await escrow.post(account, ("cash", 100), ("distributable", -100))
    request = declaration(account, ("inv-001", 40))
    passed, goes_on, check = asyncio.Event(), asyncio.Event(), escrow.compliance.check_movement

    async def let_pass_and_wait(movement: Movement) -> None:
        await check(movement)
        passed.set()
        await goes_on.wait()

    escrow.compliance.check_movement = let_pass_and_wait
    under_way = asyncio.create_task(escrow.call("DeclareDistribution", request, escrow.transactions))
    await passed.wait()
    escrow.compliance.check_movement, escrow.compliance.refusal = check, MovementNotDecided("No.")
    if order == "booked first":
        goes_on.set()
        entry = await under_way
        assert await escrow.call("DeclareDistribution", request, escrow.transactions) == entry
        assert await escrow.posted(account) == {"cash": 100, "distributable": 60, "payable:inv-001": 40}
        return
    refused = await refusal(escrow.call("DeclareDistribution", request, escrow.transactions))
    assert refused[0] == "MOVEMENT_NOT_DECIDED"
    goes_on.set()
    assert await refusal(under_way) == ("MOVEMENT_GIVEN_UP", {"content_hash": request.idempotency_key})
    # Nor when it is decided after all, or not ordered any more.
    escrow.compliance.refusal = None
    for escrow.distributions.refusal in (None, MovementNotOrdered("No.")):
        again = await refusal(escrow.call("DeclareDistribution", request, escrow.transactions))
        assert again[0] == "MOVEMENT_GIVEN_UP"
    assert await escrow.posted(account) == {"cash": 100, "distributable": 100}


async def test_a_call_that_nobody_ordered_spoils_no_later_order(escrow):
    account = await escrow.open()
    await escrow.post(account, ("cash", 100), ("distributable", -100))
    request = declaration(account, ("inv-001", 40))
    escrow.compliance.refusal, escrow.distributions.refusal = MovementNotDecided("No."), MovementNotOrdered("No.")
    # Not what compliance says, which would have no row in the book and yet be taken for the last word.
    assert (await refusal(escrow.call("DeclareDistribution", request, escrow.transactions)))[
        0
    ] == "MOVEMENT_NOT_ORDERED"
    escrow.compliance.refusal = escrow.distributions.refusal = None
    await escrow.call("DeclareDistribution", request, escrow.transactions)
    assert await escrow.posted(account) == {"cash": 100, "distributable": 60, "payable:inv-001": 40}
