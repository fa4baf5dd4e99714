"""Transactions move, and the book follows: each story as a table of facts and the balances after them."""

from __future__ import annotations

import pytest
from buf.validate import validate_pb2
from realco.escrow.v1 import escrow_accounts_pb2 as accounts_pb
from realco.escrow.v1 import events_pb2 as events
from realco.escrow.v1 import holds_pb2 as holds_pb
from realco.escrow.v1 import journal_pb2 as journal_pb
from realco.type.v1.money_pb2 import Money
from structlog.testing import capture_logs

from services.chassis.calls.wire import to_timestamp
from services.chassis.values.errors import DomainError
from services.escrow.domain.journal import AMOUNT_MINOR_MAX
from tests.support.escrow import key, new_entry, refusal
from tests.support.escrow_payments import Payment

SUBSCRIPTION = "subscription:inv-001"
UNAPPLIED = "unapplied:inv-001"
ARRIVED = {"cash": 100, SUBSCRIPTION: 100}
PAYABLE, PROCEEDS, REFUND = (
    journal_pb.LedgerAccount.PAYABLE,
    journal_pb.LedgerAccount.ISSUER_PROCEEDS,
    journal_pb.LedgerAccount.SUBSCRIPTION,
)


@pytest.mark.parametrize(
    ("facts", "posted", "pending", "held"),
    [
        (["SUBMITTED"], {}, {"in_transit": 100, SUBSCRIPTION: 100}, {}),
        (["SUBMITTED", "SETTLED"], ARRIVED, {}, {SUBSCRIPTION: 100}),
        (["SUBMITTED", "SETTLED", "COMPLETED"], ARRIVED, {}, {}),
        (["SETTLED"], ARRIVED, {}, {SUBSCRIPTION: 100}),  # nobody said it was submitted
        (["SETTLED", "SUBMITTED"], ARRIVED, {}, {SUBSCRIPTION: 100}),  # said late
        (["SUBMITTED", "SUBMITTED", "SETTLED", "SETTLED"], ARRIVED, {}, {SUBSCRIPTION: 100}),
        (["SUBMITTED", "FAILED"], {}, {}, {}),
        (["SUBMITTED", "CANCELLED"], {}, {}, {}),
        (["SUBMITTED", "RETURNED"], {}, {}, {}),
        (["SUBMITTED", "SETTLED", "RETURNED"], {}, {}, {}),  # within the return-risk period
        (["SUBMITTED", "SETTLED", "COMPLETED", "RETURNED"], {}, {}, {}),
        (["SUBMITTED", "SETTLED", "RETURNED", "RETURNED"], {}, {}, {}),
        (["SUBMITTED", "SETTLED", "COMPLETED", "REVERSED"], {}, {}, {}),
        (["SUBMITTED", "RETURNED", "SETTLED"], {}, {}, {}),  # it came and went, in whatever order that is heard
        (["RETURNED", "SUBMITTED", "SETTLED", "COMPLETED", "RETURNED"], {}, {}, {}),
        (["FAILED"], {}, {}, {}),
        (["CANCELLED"], {}, {}, {}),
        (["COMPLETED"], {}, {}, {}),
    ],
)
async def test_a_contribution_comes_in(escrow, facts, posted, pending, held):
    account = await escrow.open()
    await Payment(account, "ESCROW_DEPOSIT", 100).happens(escrow, *facts)
    assert (await escrow.posted(account), await escrow.pending(account)) == (posted, pending)
    assert await escrow.held(account) == held
    assert (await escrow.trial_balance(account)).balanced


async def test_of_the_most_that_a_request_may_name_the_book_takes_a_thousand_at_once(escrow):
    """What is accepted can be booked: nobody makes a dead letter by a request, nor fills an account for others."""
    rules = Money.DESCRIPTOR.fields_by_name["amount_minor"].GetOptions().Extensions[validate_pb2.field]
    most, account = rules.int64.lte, await escrow.open()
    for facts in (("SUBMITTED",), ("SUBMITTED", "SETTLED"), ("SUBMITTED", "SETTLED", "COMPLETED", "RETURNED")):
        await Payment(account, "DEPOSIT", most, party="sponsor-1", method="WIRE").happens(escrow, *facts)
    assert await escrow.posted(account) == {"cash": most, "distributable": most}
    assert await escrow.pending(account) == {"in_transit": most, "distributable": most}
    assert 1000 * most < AMOUNT_MINOR_MAX // 2


async def test_a_contribution_is_told_of_with_its_investment_and_its_return_names_it(escrow):
    account = await escrow.open()
    payment = Payment(account, "ESCROW_DEPOSIT", 100)
    await payment.happens(escrow, "SUBMITTED", "SETTLED", "RETURNED")
    submitted, settled, returned = await escrow.journal()
    assert [entry.type for entry in (submitted, settled, returned)] == [
        journal_pb.JournalEntry.DEPOSIT,
        journal_pb.JournalEntry.DEPOSIT,
        journal_pb.JournalEntry.RETURN,
    ]
    assert {entry.transaction_id for entry in (submitted, settled, returned)} == {payment.transaction.transaction_id}
    assert {entry.investment_id for entry in (submitted, settled, returned)} == {payment.transaction.investment_id}
    assert returned.reverses_journal_entry_id == settled.journal_entry_id
    assert settled.created_by == "admin-1"
    placed, [ended] = await escrow.events(events.HoldPlaced), await escrow.events(events.HoldReleased)
    assert [event.hold.reason for event in placed] == [holds_pb.Hold.RETURN_RISK]
    assert ended.hold.status == holds_pb.Hold.RELEASED


async def test_a_second_presentment_is_booked_anew(escrow):
    account = await escrow.open()
    payment = Payment(account, "ESCROW_DEPOSIT", 100)
    await payment.happens(escrow, "SUBMITTED", "SETTLED", "RETURNED")
    payment.transaction.presentments = 2
    await payment.happens(escrow, "RETURNED")
    assert (await escrow.journal())[-1].reverses_journal_entry_id == ""  # nothing of it was booked yet
    payment.transaction.presentments = 3
    await payment.happens(escrow, "SUBMITTED", "SETTLED")
    assert await escrow.posted(account) == ARRIVED
    assert await escrow.held(account) == {SUBSCRIPTION: 100}
    await payment.happens(escrow, "COMPLETED")
    assert await escrow.held(account) == {}


@pytest.mark.parametrize(
    ("method", "facts", "posted", "held"),
    [
        ("ACH", ["SUBMITTED", "SETTLED"], ARRIVED, {SUBSCRIPTION: 100}),
        ("ACH", ["SUBMITTED", "SETTLED", "COMPLETED"], ARRIVED, {}),
        ("CHECK", ["SUBMITTED", "SETTLED"], ARRIVED, {SUBSCRIPTION: 100}),
        ("CHECK", ["SUBMITTED", "SETTLED", "COMPLETED"], ARRIVED, {}),
        ("CHECK", ["SUBMITTED", "SETTLED", "RETURNED"], {}, {}),
        ("WIRE", ["SUBMITTED", "SETTLED"], ARRIVED, {}),
        ("WIRE", ["SUBMITTED", "SETTLED", "COMPLETED"], ARRIVED, {}),
    ],
)
async def test_what_the_transaction_says_is_at_risk_is_held_whatever_the_rail(escrow, method, facts, posted, held):
    account = await escrow.open()
    await Payment(account, "ESCROW_DEPOSIT", 100, method=method).happens(escrow, *facts)
    assert (await escrow.posted(account), await escrow.held(account)) == (posted, held)
    placed = await escrow.events(events.HoldPlaced)
    assert [event.hold.explanation.rule for event in placed] == ([] if method == "WIRE" else ["RETURN_RISK"])


@pytest.mark.parametrize("arrived", [75, 130], ids=["short", "over"])
async def test_what_a_check_brought_is_booked_and_held_and_nothing_of_what_was_announced_is_left(escrow, arrived):
    account = await escrow.open()
    payment = Payment(account, "ESCROW_DEPOSIT", 100, method="CHECK")
    await payment.happens(escrow, "SUBMITTED")
    payment.transaction.announced_amount.CopyFrom(payment.transaction.amount)
    payment.transaction.amount.amount_minor = arrived
    await payment.happens(escrow, "SETTLED")
    assert await escrow.posted(account) == {"cash": arrived, SUBSCRIPTION: arrived}
    assert (await escrow.held(account), await escrow.pending(account)) == ({SUBSCRIPTION: arrived}, {})
    await payment.happens(escrow, "RETURNED")
    assert (await escrow.posted(account), await escrow.held(account)) == ({}, {})


async def test_cash_of_the_issuer_is_held_like_anybodys_while_its_bank_may_take_it_back(escrow):
    account = await escrow.open()
    payment = Payment(account, "DEPOSIT", 100, party="sponsor-1")
    await payment.happens(escrow, "SUBMITTED", "SETTLED")
    there = {"cash": 100, "distributable": 100}
    assert (await escrow.posted(account), await escrow.held(account)) == (there, {"distributable": 100})
    await payment.happens(escrow, "COMPLETED")
    assert (await escrow.posted(account), await escrow.held(account)) == (there, {})


async def test_a_late_return_of_money_that_has_left_is_owed_by_its_party(escrow):
    account = await escrow.open()
    payment = Payment(account, "ESCROW_DEPOSIT", 100)
    await payment.happens(escrow, "SETTLED", "COMPLETED")
    await escrow.post(account, (SUBSCRIPTION, 70), ("issuer_proceeds", -70))
    await escrow.post(account, ("issuer_proceeds", 70), ("cash", -70))
    with capture_logs() as logged:
        await payment.happens(escrow, "RETURNED")
    told = [(line["party_id"], line["amount_minor"]) for line in logged if line["event"] == "money_owed_by_party"]
    assert told == [("inv-001", 70)]
    # 30 were left of it; the bank took 100 all the same, and there were 30 in cash.
    assert await escrow.posted(account) == {"returns_receivable:inv-001": 70, "cash": -70}
    balance = await escrow.balance(account)
    assert [each.amount_minor for each in (balance.posted, balance.pending_out, balance.available)] == [-70, 0, -70]
    assert (await escrow.trial_balance(account)).balanced


@pytest.mark.parametrize("return_first", [True, False])
async def test_a_late_return_and_a_settling_payout_leave_the_same_book_in_either_order(escrow, return_first):
    account = await escrow.open()
    early, late = Payment(account, "ESCROW_DEPOSIT", 100), Payment(account, "ESCROW_DEPOSIT", 30, party="inv-002")
    for payment in (early, late):
        await payment.happens(escrow, "SETTLED", "COMPLETED")
    await escrow.post(account, (SUBSCRIPTION, 100), ("issuer_proceeds", -100))
    payout = Payment(account, "ESCROW_WITHDRAWAL", 100, party="sponsor-1")
    await payout.submit(escrow)
    facts = [(early, "RETURNED"), (payout, "SETTLED")]
    for payment, fact in facts if return_first else reversed(facts):
        await payment.happens(escrow, fact)
    assert await escrow.posted(account) == {
        "returns_receivable:inv-001": 100,
        "subscription:inv-002": 30,
        "cash": -70,
    }
    await payout.happens(escrow, "RETURNED")
    posted = await escrow.posted(account)
    assert posted["issuer_proceeds"] == 100
    assert (posted["cash"], posted.get("in_transit", 0)) == (30, 0)
    assert (await escrow.trial_balance(account)).balanced


async def test_what_arrives_while_frozen_is_kept_apart_until_somebody_applies_it(escrow):
    account = await escrow.open()
    payment, bounced = Payment(account, "ESCROW_DEPOSIT", 100), Payment(account, "ESCROW_DEPOSIT", 7)
    await payment.happens(escrow, "SUBMITTED")
    await escrow.freeze(account)
    await payment.happens(escrow, "SETTLED", "COMPLETED")
    await bounced.happens(escrow, "SUBMITTED", "SETTLED", "RETURNED")
    assert await escrow.posted(account) == {"cash": 100, UNAPPLIED: 100}
    # Past its return risk: the hold ends once the account is unfrozen.
    assert (await escrow.pending(account), await escrow.held(account)) == ({}, {UNAPPLIED: 100})
    await escrow.unfreeze(account)
    assert await escrow.expire_holds() == 1
    await escrow.post(account, (UNAPPLIED, 100), (SUBSCRIPTION, -100))
    await payment.happens(escrow, "RETURNED")
    assert await escrow.posted(account) == {}


@pytest.mark.parametrize("is_frozen", [False, True], ids=["active", "frozen again"])
@pytest.mark.parametrize("has_left", [False, True], ids=["it is there", "it has left"])
async def test_a_return_takes_no_money_of_another_that_is_not_applied_yet(escrow, *, is_frozen: bool, has_left: bool):
    account = await escrow.open()
    applied, waiting = (Payment(account, "ESCROW_DEPOSIT", 100, party=party) for party in ("inv-001", "inv-002"))
    await escrow.freeze(account)
    for payment in (applied, waiting):
        await payment.happens(escrow, "SUBMITTED", "SETTLED", "COMPLETED")
    await escrow.unfreeze(account)
    await escrow.expire_holds()
    await escrow.post(account, (UNAPPLIED, 100), (SUBSCRIPTION, -100))
    if has_left:
        await escrow.post(account, (SUBSCRIPTION, 100), ("cash", -100))
    if is_frozen:
        await escrow.freeze(account)
    await applied.happens(escrow, "RETURNED")
    left = {"returns_receivable:inv-001": 100} if has_left else {"cash": 100}
    assert await escrow.posted(account) == {"unapplied:inv-002": 100, **left}


async def test_what_arrived_while_frozen_is_applied_by_nobody_while_its_bank_may_take_it_back(escrow):
    account = await escrow.open()
    payment = Payment(account, "ESCROW_DEPOSIT", 100)
    await escrow.freeze(account)
    await payment.happens(escrow, "SUBMITTED", "SETTLED")
    await escrow.unfreeze(account)
    applied = escrow.post(account, (UNAPPLIED, 100), (SUBSCRIPTION, -100))
    assert (await refusal(applied))[0] == "INSUFFICIENT_AVAILABLE_BALANCE"
    await payment.happens(escrow, "RETURNED")
    assert (await escrow.posted(account), await escrow.held(account)) == ({}, {})


async def test_a_return_risk_hold_outlasts_the_freeze(escrow):
    account = await escrow.open()
    payment = Payment(account, "ESCROW_DEPOSIT", 100)
    await payment.happens(escrow, "SETTLED")
    await escrow.freeze(account)
    await payment.happens(escrow, "COMPLETED")
    assert await escrow.expire_holds() == 0
    assert await escrow.held(account) == {SUBSCRIPTION: 100}
    # That it now ends by itself is a change of the hold, so it is published.
    [changed] = await escrow.events(events.HoldUpdated)
    request = holds_pb.GetHoldRequest(escrow_account_id=account, hold_id=changed.hold.hold_id)
    read = await escrow.call("GetHold", request)
    assert read.aggregate_version == changed.meta.aggregate_version
    read.ClearField("aggregate_version")
    assert changed.hold == read
    assert changed.hold.expire_time == to_timestamp(escrow.clock.now())
    await escrow.unfreeze(account)
    assert await escrow.expire_holds() == 1
    assert await escrow.held(account) == {}


async def test_a_return_is_booked_though_the_account_is_frozen(escrow):
    account = await escrow.open()
    payment = Payment(account, "ESCROW_DEPOSIT", 100)
    await payment.happens(escrow, "SETTLED")
    await escrow.freeze(account)
    await payment.happens(escrow, "RETURNED")
    assert (await escrow.posted(account), await escrow.held(account)) == ({}, {})


@pytest.mark.parametrize(
    ("kind", "from_account", "booked_as"),
    [
        ("DISTRIBUTION", "payable:inv-001", journal_pb.JournalEntry.DISTRIBUTION),
        ("ESCROW_WITHDRAWAL", "issuer_proceeds", journal_pb.JournalEntry.WITHDRAWAL),
        ("REFUND", SUBSCRIPTION, journal_pb.JournalEntry.REFUND),
        ("WITHDRAWAL", "distributable", journal_pb.JournalEntry.WITHDRAWAL),
        ("CONSTRUCTION_DRAW", "reserves", journal_pb.JournalEntry.WITHDRAWAL),
        ("PLATFORM_FEE", "fees", journal_pb.JournalEntry.FEE),
        ("REFERRAL_FEE", "fees", journal_pb.JournalEntry.FEE),
    ],
)
@pytest.mark.parametrize(
    ("facts", "paid", "on_its_way"),
    [
        (["SUBMITTED"], 0, 100),
        (["SUBMITTED", "SETTLED"], 100, 0),
        (["SUBMITTED", "SETTLED", "COMPLETED"], 100, 0),
        (["SUBMITTED", "SETTLED", "SETTLED"], 100, 0),
        (["FAILED"], 0, 0),
        (["SUBMITTED", "FAILED"], 0, 0),
        (["SUBMITTED", "RETURNED"], 0, 0),
        (["SUBMITTED", "SETTLED", "RETURNED"], 0, 0),
        (["SUBMITTED", "SETTLED", "COMPLETED", "RETURNED", "RETURNED"], 0, 0),
    ],
)
async def test_money_goes_out(escrow, kind, from_account, booked_as, facts, paid, on_its_way):
    account = await escrow.open()
    await escrow.post(account, ("cash", 150), (from_account, -150))
    payment = Payment(account, kind, 100)
    taken = (await payment.submit(escrow)).journal_entry
    assert taken.type == booked_as
    await payment.happens(escrow, *facts)
    left = {"cash": 150 - paid, "in_transit": -on_its_way, from_account: 150 - paid - on_its_way}
    assert await escrow.posted(account) == {code: minor for code, minor in left.items() if minor}
    undone = [entry for entry in await escrow.journal() if entry.reverses_journal_entry_id]
    assert [entry.reverses_journal_entry_id for entry in undone] == (
        [] if paid or on_its_way else [taken.journal_entry_id]
    )
    assert (await escrow.trial_balance(account)).balanced


@pytest.mark.parametrize(("spent", "owed"), [(0, 0), (30, 30), (100, 100)])
async def test_what_the_bank_paid_is_out_of_the_book_though_it_was_restored_from_before_it_was_taken(
    escrow, spent, owed
):
    account = await escrow.open()
    await escrow.post(account, ("cash", 200), ("fees", -100), ("suspense", -100))
    payment = Payment(account, "PLATFORM_FEE", 100)
    if spent:
        await escrow.post(account, ("fees", spent), ("suspense", -spent))
    await payment.happens(escrow, "SUBMITTED", "SETTLED", "SETTLED")
    left = {"cash": 100, "fees": 0, "suspense": 100 + spent, "returns_receivable:inv-001": owed}
    assert await escrow.posted(account) == {name: minor for name, minor in left.items() if minor}
    await payment.happens(escrow, "RETURNED")
    assert await escrow.posted(account) == {
        name: minor for name, minor in {"cash": 200, "fees": 100 - spent, "suspense": 100 + spent}.items() if minor
    }
    assert (await escrow.trial_balance(account)).balanced


async def test_who_reverses_what_a_transaction_booked_is_told_which_and_that_its_bank_goes_on(escrow):
    account = await escrow.open()
    payment = Payment(account, "ESCROW_DEPOSIT", 100)
    await payment.happens(escrow, "SETTLED", "RETURNED")
    taken = (await escrow.journal())[-1]
    request = journal_pb.PostJournalEntryRequest(
        idempotency_key=key(),
        escrow_account_id=account,
        journal_entry=new_entry(reverses_journal_entry_id=taken.journal_entry_id),
    )
    [told] = [
        each
        for each in (await escrow.ask("PostJournalEntry", request)).explanations
        if each.rule == "REVERSES_TRANSACTION"
    ]
    assert [each.value for each in told.operands] == [taken.journal_entry_id, payment.transaction.transaction_id]


async def test_a_payout_that_was_refused_leaves_nothing_to_undo(escrow):
    account = await escrow.open()
    payment = Payment(account, "DISTRIBUTION", 100)
    assert (await payment.submit(escrow)).failure.code == "INSUFFICIENT_AVAILABLE_BALANCE"
    await payment.happens(escrow, "FAILED")
    assert await escrow.journal() == []


async def test_a_payout_that_has_ended_is_not_covered_again_under_its_key_as_after_a_restore_of_who_pays(escrow):
    account = await escrow.open()
    await escrow.post(account, ("cash", 100), ("payable:inv-001", -100))
    payout = Payment(account, "DISTRIBUTION", 100)
    entry = (await payout.submit(escrow)).journal_entry
    assert (await payout.submit(escrow)).journal_entry.journal_entry_id == entry.journal_entry_id  # asked once more
    await payout.happens(escrow, "FAILED")
    assert (await payout.submit(escrow)).failure.code == "PAYOUT_UNDONE"
    assert await escrow.posted(account) == {"cash": 100, "payable:inv-001": 100}


async def test_a_failed_payout_can_be_sent_again_as_another_attempt(escrow):
    account = await escrow.open()
    await escrow.post(account, ("cash", 100), ("payable:inv-001", -100))
    payment = Payment(account, "DISTRIBUTION", 100)
    await payment.submit(escrow)
    await payment.happens(escrow, "FAILED")
    payment.transaction.attempts = 2
    await payment.submit(escrow)
    await payment.happens(escrow, "SUBMITTED", "SETTLED")
    assert await escrow.posted(account) == {}


async def test_an_event_about_an_account_that_is_not_here_or_closed_is_set_aside(escrow):
    with pytest.raises(DomainError) as refused:
        await Payment("esc_" + "0" * 26, "ESCROW_DEPOSIT", 1).happens(escrow, "SETTLED")
    assert refused.value.reason == "ESCROW_ACCOUNT_NOT_FOUND"
    account = await escrow.open()
    await escrow.call("CloseEscrowAccount", accounts_pb.CloseEscrowAccountRequest(escrow_account_id=account))
    with pytest.raises(DomainError) as refused:
        await Payment(account, "ESCROW_DEPOSIT", 1).happens(escrow, "SETTLED")
    assert refused.value.reason == "ESCROW_ACCOUNT_CLOSED"


async def test_nobody_can_take_the_key_of_a_fact_that_is_still_to_come(escrow):
    account = await escrow.open()
    payment = Payment(account, "ESCROW_DEPOSIT", 100)
    for name in (f"txn:{payment.transaction.transaction_id}:1:settled", key()):
        await escrow.post(account, ("cash", 1), ("fees", -1), idempotency_key=name)
    await payment.happens(escrow, "SETTLED")
    assert (await escrow.posted(account))[SUBSCRIPTION] == 100
