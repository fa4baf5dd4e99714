"""What a provider keeps for itself is missing in cash, stands where it shows, and leaves everybody their money."""

from __future__ import annotations

from datetime import timedelta

import pytest
from realco.escrow.v1 import journal_pb2 as journal_pb

from tests.support.escrow import Escrow, key, new_entry
from tests.support.escrow_payments import Payment

SUBSCRIPTION = "subscription:inv-001"


async def pay_in(escrow: Escrow, account: str, fee: int, *, method: str = "CARD") -> Payment:
    payment = Payment(account, "ESCROW_DEPOSIT", 100, method=method)
    await payment.costs(escrow, fee, fact="SETTLED")
    return payment


@pytest.mark.parametrize(
    ("set_aside", "stands_on"),
    [
        (0, {"cash": 97, "provider_fees": 3}),
        (2, {"cash": 99, "provider_fees": 1}),
        (3, {"cash": 100}),
        (5, {"cash": 102, "fees": 2}),
    ],
    ids=["nothing is set aside", "a part is", "just that is", "more is"],
)
async def test_a_fee_is_taken_from_what_is_set_aside_for_fees_and_the_rest_is_missing(escrow, set_aside, stands_on):
    account = await escrow.open()
    if set_aside:
        await escrow.post(account, ("cash", set_aside), ("fees", -set_aside))
    await pay_in(escrow, account, 3)
    assert await escrow.posted(account) == stands_on | {SUBSCRIPTION: 100}
    assert (await escrow.held(account)) == {SUBSCRIPTION: 100}
    assert (await escrow.trial_balance(account)).balanced


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ([3, 3, 3], 3),
        ([3, 18], 18),
        ([3, 18, 3], 3),
        ([3, 18, 3, 18], 18),
        ([3, 0], 0),
    ],
    ids=["said again", "a dispute's, too", "which was given back", "and was taken again", "all of it was given back"],
)
async def test_the_book_has_what_the_provider_said_last_that_it_kept(escrow, told, kept):
    account = await escrow.open()
    payment = await pay_in(escrow, account, told[0])
    for fee in told[1:]:
        await payment.costs(escrow, fee)
    assert await escrow.posted(account) == {
        name: minor for name, minor in (("cash", 100 - kept), ("provider_fees", kept), (SUBSCRIPTION, 100)) if minor
    }


async def test_an_older_word_that_is_heard_late_changes_nothing(escrow):
    account = await escrow.open()
    payment = Payment(account, "ESCROW_DEPOSIT", 100, method="CARD")
    await payment.happens(escrow, "SETTLED")
    payment.version = 4
    await payment.costs(escrow, 18)
    payment.version, payment.happened_at = 2, escrow.clock.now() - timedelta(minutes=1)
    await payment.costs(escrow, 3)
    assert await escrow.posted(account) == {"cash": 82, "provider_fees": 18, SUBSCRIPTION: 100}
    payment.version, payment.happened_at = 5, None
    await payment.costs(escrow, 3)
    assert await escrow.posted(account) == {"cash": 97, "provider_fees": 3, SUBSCRIPTION: 100}


async def test_what_is_paid_in_for_a_fee_makes_it_good_and_what_is_given_back_then_is_set_aside(escrow):
    account = await escrow.open()
    payment = await pay_in(escrow, account, 18)
    await escrow.post(account, ("cash", 18), ("provider_fees", -18))
    assert await escrow.posted(account) == {"cash": 100, SUBSCRIPTION: 100}
    await payment.costs(escrow, 3)
    assert await escrow.posted(account) == {"cash": 115, SUBSCRIPTION: 100, "fees": 15}


async def test_money_that_comes_back_leaves_the_fee_with_the_provider(escrow):
    account = await escrow.open()
    payment = await pay_in(escrow, account, 3)
    await payment.costs(escrow, 18)
    await payment.happens(escrow, "RETURNED")
    # Of cash there were 82, and the bank took 100.
    assert await escrow.posted(account) == {"cash": -18, "provider_fees": 18}
    assert (await escrow.trial_balance(account)).balanced
    await escrow.post(account, ("cash", 18), ("provider_fees", -18))
    assert await escrow.posted(account) == {}


async def test_a_fee_for_which_no_cash_is_there_takes_cash_below_zero(escrow):
    account = await escrow.open()
    payment = await pay_in(escrow, account, 0)
    await payment.happens(escrow, "RETURNED")
    await payment.costs(escrow, 15)
    assert await escrow.posted(account) == {"cash": -15, "provider_fees": 15}
    await payment.costs(escrow, 0)
    assert await escrow.posted(account) == {}


async def test_a_fee_is_booked_while_the_account_is_frozen(escrow):
    account = await escrow.open()
    await escrow.freeze(account)
    await pay_in(escrow, account, 3)
    assert await escrow.posted(account) == {"cash": 97, "provider_fees": 3, "unapplied:inv-001": 100}


async def test_a_provider_that_says_nothing_of_fees_has_none_booked(escrow):
    account = await escrow.open()
    payment = Payment(account, "ESCROW_DEPOSIT", 100)
    await payment.happens(escrow, "SETTLED", "UPDATED")
    assert await escrow.posted(account) == {"cash": 100, SUBSCRIPTION: 100}


async def test_an_entry_of_a_fee_says_of_which_transaction_it_is_and_that_no_person_posted_it(escrow):
    account = await escrow.open()
    payment = await pay_in(escrow, account, 3)
    request = journal_pb.ListJournalEntriesRequest(escrow_account_id=account)
    entry = (await escrow.call("ListJournalEntries", request)).journal_entries[0]
    assert (entry.type, entry.transaction_id) == (
        journal_pb.JournalEntry.PROVIDER_FEE,
        payment.transaction.transaction_id,
    )
    assert (entry.by_hand, entry.investment_id) == (False, "")


async def test_what_persons_reversed_of_a_fee_is_booked_again_with_the_next_word_of_the_provider(escrow):
    account = await escrow.open()
    payment = await pay_in(escrow, account, 3)
    request = journal_pb.ListJournalEntriesRequest(escrow_account_id=account)
    entry = (await escrow.call("ListJournalEntries", request)).journal_entries[0]
    reverses = {"type_": journal_pb.JournalEntry.REVERSAL, "reverses_journal_entry_id": entry.journal_entry_id}
    await escrow.post(account, **reverses)
    assert await escrow.posted(account) == {"cash": 100, SUBSCRIPTION: 100}
    await payment.happens(escrow, "UPDATED")
    assert await escrow.posted(account) == {"cash": 97, "provider_fees": 3, SUBSCRIPTION: 100}
    await payment.happens(escrow, "RETURNED")
    assert await escrow.posted(account) == {"cash": -3, "provider_fees": 3}


async def test_money_that_the_provider_kept_pays_nobody(escrow):
    account = await escrow.open()
    payment = await pay_in(escrow, account, 3)
    await payment.happens(escrow, "COMPLETED")
    refund = Payment(account, "REFUND", 100, method="CARD")
    result = await refund.submit(escrow)
    assert result.failure.code == "INSUFFICIENT_AVAILABLE_BALANCE", result
    why = result.failure.metadata
    assert (why["ledger_account_kind"], why["available_minor"]) == ("CASH", "97")


@pytest.mark.parametrize("set_aside", [0, 3], ids=["it is missing", "it was set aside"])
async def test_whoever_approves_that_cash_leaves_reads_what_providers_kept(escrow, set_aside):
    account = await escrow.open()
    await escrow.post(account, ("cash", 50), ("suspense", -50))
    if set_aside:
        await escrow.post(account, ("cash", set_aside), ("fees", -set_aside))
    await pay_in(escrow, account, 3)
    leaving = new_entry(("suspense", 1), ("cash", -1))
    request = journal_pb.PostJournalEntryRequest(
        escrow_account_id=account, idempotency_key=key(), journal_entry=leaving
    )
    told = (await escrow.ask("PostJournalEntry", request)).explanations
    missing = [each.statement for each in told if each.rule == "MONEY_MISSING"]
    assert [each.partition(":")[0] for each in missing] == (
        [] if set_aside else ["0.03 USD is missing in the escrow account"]
    )
