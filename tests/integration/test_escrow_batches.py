"""Entries booked together, entries that mirror others, and accounts that take none."""

from __future__ import annotations

import asyncio

import pytest
from realco.escrow.v1 import escrow_accounts_pb2 as accounts_pb
from realco.escrow.v1 import events_pb2 as events
from realco.escrow.v1 import journal_pb2 as journal_pb

from services.chassis.values.errors import DomainError, InvalidField
from tests.support.escrow import CREDIT, DEBIT, key, name_of, new_entry, refusal
from tests.support.events import as_in_events
from tests.support.statements import list_sent

PENDING = journal_pb.LedgerEntry.PENDING


async def test_each_item_of_a_batch_succeeds_or_is_refused_by_itself_in_order(escrow):
    account = await escrow.open()
    subscribe = new_entry(("cash", 100), ("subscription:inv-001", -100))
    refund = new_entry(("subscription:inv-001", 60), ("cash", -60))
    unknown = new_entry(reverses_journal_entry_id="je_" + "0" * 26)
    results = await escrow.post_together(
        account,
        [
            ("early", refund),  # there is nothing yet
            ("in", subscribe),
            ("out", refund),
            ("out", refund),  # the same again
            ("out", subscribe),  # the same key for another thing
            ("late", refund),  # 40 are left
            ("none", unknown),
        ],
    )
    assert [(result.idempotency_key, result.failure.code) for result in results] == [
        ("early", "INSUFFICIENT_AVAILABLE_BALANCE"),
        ("in", ""),
        ("out", ""),
        ("out", ""),
        ("out", "IDEMPOTENCY_KEY_REUSED"),
        ("late", "INSUFFICIENT_AVAILABLE_BALANCE"),
        ("none", "JOURNAL_ENTRY_NOT_FOUND"),
    ]
    assert results[5].failure.metadata["available_minor"] == "40"
    assert results[3].journal_entry == results[2].journal_entry
    assert await escrow.posted(account) == {"cash": 40, "subscription:inv-001": 40}
    [event] = await escrow.events(events.JournalEntriesPosted)
    assert [entry.journal_entry_id for entry in event.journal_entries] == [
        results[1].journal_entry.journal_entry_id,
        results[2].journal_entry.journal_entry_id,
    ]
    assert list(event.journal_entries) == [as_in_events(results[n].journal_entry) for n in (1, 2)]


async def test_a_large_batch_is_booked_in_parts_as_if_in_one(escrow):
    """What an entry finds of those before it does not depend on the part of the batch in which they were."""
    account = await escrow.open()
    subscribe, refund = (new_entry(("cash", minor), ("subscription:inv-001", -minor)) for minor in (1, -299))
    items = [(f"in-{n}", subscribe) for n in range(300)]
    results = await escrow.post_together(
        account, [*items, ("in-0", subscribe), ("in-299", refund), ("out", refund), ("late", refund), items[0]]
    )
    assert [result.failure.code for result in results] == [
        *[""] * 301,
        "IDEMPOTENCY_KEY_REUSED",
        "",
        "INSUFFICIENT_AVAILABLE_BALANCE",
        "",
    ]
    assert results[300].journal_entry == results[304].journal_entry == results[0].journal_entry
    assert await escrow.posted(account) == {"cash": 1, "subscription:inv-001": 1}
    told = [entry for event in await escrow.events(events.JournalEntriesPosted) for entry in event.journal_entries]
    assert told == [as_in_events(results[n].journal_entry) for n in (*range(300), 302)]


async def test_a_batch_has_no_more_legs_than_one_transaction_books_in_time(escrow):
    account = await escrow.open()
    wide = new_entry(*[("cash", 1), ("fees", -1)] * 500)
    first = await escrow.call(
        "PostJournalEntry",
        journal_pb.PostJournalEntryRequest(idempotency_key=key(), escrow_account_id=account, journal_entry=wide),
    )
    mirror = new_entry(type_=journal_pb.JournalEntry.REVERSAL, reverses_journal_entry_id=first.journal_entry_id)
    for entry in (wide, mirror):
        assert (await refusal(escrow.post_together(account, [(key(), entry)] * 21)))[0] == "INVALID_FIELD"
    assert await escrow.posted(account) == {"cash": 500, "fees": 500}


async def test_an_entry_is_reversed_once_by_its_mirror(escrow):
    account = await escrow.open()
    original = await escrow.post(account, ("cash", 100), ("subscription:inv-001", -70), ("fees", -30))
    reversal = await escrow.post(
        account, type_=journal_pb.JournalEntry.REVERSAL, reverses_journal_entry_id=original.journal_entry_id
    )
    assert reversal.reverses_journal_entry_id == original.journal_entry_id
    assert [(name_of(leg.ledger_account), leg.direction) for leg in reversal.ledger_entries] == [
        ("cash", CREDIT),
        ("subscription:inv-001", DEBIT),
        ("fees", DEBIT),
    ]
    assert await escrow.posted(account) == {}
    again = escrow.post(
        account, type_=journal_pb.JournalEntry.REVERSAL, reverses_journal_entry_id=original.journal_entry_id
    )
    assert await refusal(again) == ("ALREADY_REVERSED", {"journal_entry_id": original.journal_entry_id})
    elsewhere = escrow.post(
        await escrow.open(), type_=journal_pb.JournalEntry.REVERSAL, reverses_journal_entry_id=original.journal_entry_id
    )
    with pytest.raises(DomainError) as unknown:
        await elsewhere
    assert (unknown.value.reason, list(unknown.value.fields)) == (
        "JOURNAL_ENTRY_NOT_FOUND",
        ["journal_entry.reverses_journal_entry_id"],
    )


@pytest.mark.parametrize(
    ("legs", "type_", "reverses", "field"),
    [
        ((("cash", 1), ("fees", -1)), journal_pb.JournalEntry.REVERSAL, None, "reverses_journal_entry_id"),
        ((), journal_pb.JournalEntry.ADJUSTMENT, "je_" + "0" * 26, "type"),
    ],
)
async def test_an_entry_is_a_reversal_if_and_only_if_it_reverses_one(escrow, legs, type_, reverses, field):
    account = await escrow.open()
    with pytest.raises(InvalidField) as refused:
        await escrow.post(account, *legs, type_=type_, reverses_journal_entry_id=reverses)
    assert list(refused.value.fields) == [f"journal_entry.{field}"]
    assert await escrow.posted(account) == {}


@pytest.mark.parametrize(
    ("legs", "currency", "field"),
    [
        ((("fees", 1), ("cash", 5), ("subscription:inv-001", -6)), "EUR", "legs[0].amount.currency_code"),
        ((("cash", 5), ("fees", 1), ("subscription:inv-001", -6)), "USD", "legs[1].amount.amount_minor"),
    ],
)
async def test_a_refusal_names_the_leg_that_is_at_fault(escrow, legs, currency, field):
    with pytest.raises(DomainError) as refused:
        await escrow.post(await escrow.open(), *legs, currency=currency)
    assert list(refused.value.fields) == [f"journal_entry.{field}"]


@pytest.mark.parametrize(("wrong", "field"), [
    (new_entry(("cash", -1), ("fees", 1)), "legs[1].amount.amount_minor"),
    (new_entry(("cash", 1), ("fees", -1), currency="EUR"), "legs[0].amount.currency_code"),
    (new_entry(type_=journal_pb.JournalEntry.REVERSAL, reverses_journal_entry_id="je_" + "0" * 26),
     "reverses_journal_entry_id"),
])  # fmt: skip
async def test_a_failure_in_a_batch_names_the_field_within_its_item(escrow, wrong, field):
    right = new_entry(("cash", 5), ("subscription:inv-001", -5))
    _, result = await escrow.post_together(await escrow.open(), [(key(), right), (key(), wrong)])
    assert list(result.failure.fields) == [f"journal_entry.{field}"]


async def test_two_reversals_in_one_batch_or_at_once_are_one(escrow):
    account = await escrow.open()
    one, two = [await escrow.post(account, ("cash", 10), ("fees", -10)) for _ in range(2)]
    back = new_entry(type_=journal_pb.JournalEntry.REVERSAL, reverses_journal_entry_id=one.journal_entry_id)
    results = await escrow.post_together(account, [(key(), back), (key(), back)])
    assert [result.failure.code for result in results] == ["", "ALREADY_REVERSED"]
    reverse_two = {"type_": journal_pb.JournalEntry.REVERSAL, "reverses_journal_entry_id": two.journal_entry_id}
    outcomes = await asyncio.gather(*(escrow.post(account, **reverse_two) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(outcome, journal_pb.JournalEntry) for outcome in outcomes) == 1
    assert await escrow.posted(account) == {}


async def test_a_frozen_account_takes_nothing_and_a_closed_one_never_again(escrow):
    account = await escrow.open()
    await escrow.freeze(account)
    frozen = escrow.post(account, ("cash", 1), ("fees", -1))
    assert await refusal(frozen) == ("ESCROW_ACCOUNT_FROZEN", {"escrow_account_id": account})
    await escrow.unfreeze(account)
    await escrow.call("CloseEscrowAccount", accounts_pb.CloseEscrowAccountRequest(escrow_account_id=account))
    closed = escrow.post(account, ("cash", 1), ("fees", -1))
    assert await refusal(closed) == ("ESCROW_ACCOUNT_CLOSED", {"escrow_account_id": account})


async def test_whoever_reads_a_batch_of_many_reversals_asks_the_database_no_more_often_than_of_one(escrow, monkeypatch):
    asked, counts = list_sent(monkeypatch), []
    for number in (1, 20):
        account = await escrow.open()
        posted = await escrow.post_together(
            account, [(key(), new_entry(("cash", 1), ("fees", -1))) for _ in range(number)]
        )
        reversals = [new_entry(reverses_journal_entry_id=each.journal_entry.journal_entry_id) for each in posted]
        items = [{"idempotency_key": key(), "journal_entry": each} for each in reversals]
        request = journal_pb.BatchPostJournalEntriesRequest(escrow_account_id=account, items=items)
        waiting = await escrow.ask("BatchPostJournalEntries", request)
        asked.clear()
        await escrow.read_approval(waiting)
        counts.append(len(asked))
    assert counts[0] == counts[1] > 0
