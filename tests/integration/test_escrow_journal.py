"""The journal, read: an entry with its legs, the list by what a person would look for, and events that are cut."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from realco.escrow.v1 import events_pb2 as events
from realco.escrow.v1 import holds_pb2 as holds_pb
from realco.escrow.v1 import journal_pb2 as journal_pb
from realco.escrow.v1 import postings_pb2 as postings_pb
from realco.type.v1.sort_pb2 import Sort

from services.chassis.calls.auth import Principal
from services.chassis.calls.validation import validate
from services.chassis.calls.wire import to_timestamp
from services.chassis.values.errors import InvalidField
from services.escrow.queries import journal
from tests.support.escrow import NOW, Escrow, name_of, new_entry, on, refusal, usd
from tests.support.escrow_payments import Payment
from tests.support.events import as_in_events


def minutes(number: float) -> datetime:
    return NOW + timedelta(minutes=number)


async def get(
    escrow: Escrow, account: str, entry_id: str, principal: Principal | None = None
) -> journal_pb.JournalEntry:
    request = journal_pb.GetJournalEntryRequest(escrow_account_id=account, journal_entry_id=entry_id)
    return await escrow.call("GetJournalEntry", request, principal)


async def listed(escrow: Escrow, account: str, **filters: Any) -> list[journal_pb.JournalEntry]:
    """All pages of the list."""
    found, token = [], ""
    while True:
        request = journal_pb.ListJournalEntriesRequest(escrow_account_id=account, page_token=token, **filters)
        page = await escrow.call("ListJournalEntries", request)
        found += page.journal_entries
        if not (token := page.next_page_token):
            return found


async def test_an_entry_got_alone_has_its_first_legs_and_the_ledger_all_of_them(escrow, monkeypatch):
    account = await escrow.open()
    booked = await escrow.post(account, ("cash", 3), *((f"subscription:inv-00{number}", -1) for number in (1, 2, 3)))
    await escrow.post(account, ("cash", 1), ("fees", -1))
    monkeypatch.setattr(journal, "LEGS_OF_ONE_MAX", 2)
    read = await get(escrow, account, booked.journal_entry_id)
    assert (read.leg_count, [leg.leg for leg in read.ledger_entries]) == (4, [1, 2])
    legs = await escrow.ledger(account, journal_entry_id=[booked.journal_entry_id], order=Sort.OLDEST_FIRST)
    assert list(legs.ledger_entries) == list(booked.ledger_entries)


@pytest.mark.parametrize("type_", ["DISTRIBUTION", "CAPTURE", "RELEASE", "RETURN"])
def test_what_is_declared_captured_released_or_returned_is_posted_by_what_does_it(type_):
    entry = new_entry(("cash", 1), ("fees", -1), type_=journal_pb.JournalEntry.Type.Value(type_))
    with pytest.raises(InvalidField) as refused:
        validate(entry)
    assert list(refused.value.fields) == ["type"]


async def test_an_entry_is_read_as_it_was_answered_when_it_was_booked(escrow):
    account = await escrow.open()
    booked = await escrow.post(
        account,
        ("cash", 100),
        ("subscription:inv-001", -60),
        ("fees", -40),
        external_id="ours-1",
        metadata={"batch": "7"},
        investment_id="inv_" + "0" * 26,
        effective_time=to_timestamp(minutes(-30)),
    )
    read = await get(escrow, account, booked.journal_entry_id)
    assert list(read.allowed_actions) == ["reverse"]
    read.ClearField("allowed_actions")
    assert read == booked
    assert (read.journal_sequence, read.leg_count, [leg.leg for leg in read.ledger_entries]) == (1, 3, [1, 2, 3])
    assert (read.external_id, dict(read.metadata)) == ("ours-1", {"batch": "7"})
    assert await listed(escrow, account) == [booked]
    assert await escrow.journal() == [as_in_events(booked)]


async def test_an_entry_may_be_reversed_by_whom_the_contract_lets_while_it_is_not(escrow):
    account = await escrow.open()
    booked = await escrow.post(account, ("cash", 100), ("fees", -100))
    auditor = Principal("auditor-1", "auditor", escrow.org_id)
    assert list((await get(escrow, account, booked.journal_entry_id, auditor)).allowed_actions) == []
    await escrow.freeze(account)
    assert list((await get(escrow, account, booked.journal_entry_id)).allowed_actions) == []
    await escrow.unfreeze(account)
    await escrow.post(account, reverses_journal_entry_id=booked.journal_entry_id)
    assert list((await get(escrow, account, booked.journal_entry_id)).allowed_actions) == []


async def test_an_entry_of_another_escrow_account_or_organization_is_not_there(escrow):
    account, other = await escrow.open(), await escrow.open()
    booked = await escrow.post(account, ("cash", 1), ("fees", -1))
    for elsewhere in (
        get(escrow, other, booked.journal_entry_id),
        get(escrow, account, "je_" + "0" * 26),
    ):
        assert (await refusal(elsewhere))[0] == "JOURNAL_ENTRY_NOT_FOUND"
    stranger = get(escrow, account, booked.journal_entry_id, escrow.stranger)
    assert (await refusal(stranger))[0] == "ESCROW_ACCOUNT_NOT_FOUND"


@pytest.fixture
async def payment(escrow) -> Payment:
    """An account with three entries of hand, a minute apart, and a contribution of inv-001 in two."""
    payment = Payment(await escrow.open(), "ESCROW_DEPOSIT", 50)
    account = payment.transaction.escrow_account_id
    for number in range(3):
        escrow.clock.set(minutes(number))
        await escrow.post(
            account,
            ("cash", 10 + number),
            (f"subscription:inv-00{number % 2 + 1}", -10 - number),
            external_id=f"ours-{number}",
            effective_time=to_timestamp(minutes(-10 * number)),
        )
    escrow.clock.set(minutes(10))
    await payment.happens(escrow, "SUBMITTED", "SETTLED")
    return payment


@pytest.mark.parametrize(
    ("filters", "sequences"),
    [
        ({}, [5, 4, 3, 2, 1]),
        ({"page_size": 2}, [5, 4, 3, 2, 1]),
        ({"order": Sort.OLDEST_FIRST, "page_size": 2}, [1, 2, 3, 4, 5]),
        ({"party_id": ["inv-001"]}, [5, 4, 3, 1]),
        ({"party_id": ["inv-009"]}, []),
        ({"type": [journal_pb.JournalEntry.DEPOSIT]}, [5, 4]),
        ({"type": [journal_pb.JournalEntry.DEPOSIT, journal_pb.JournalEntry.FEE]}, [5, 4]),
        ({"external_id": ["ours-1"]}, [2]),
        ({"from_time": to_timestamp(minutes(1)), "to_time": to_timestamp(minutes(10))}, [3, 2]),
        (
            {
                "effective_from": to_timestamp(minutes(-20)),
                "effective_to": to_timestamp(minutes(0)),
            },
            [3, 2],
        ),
    ],
)
async def test_the_journal_is_listed_by_what_a_person_looks_for(escrow, payment, filters, sequences):
    found = await listed(escrow, payment.transaction.escrow_account_id, **filters)
    assert [entry.journal_sequence for entry in found] == sequences
    assert all(len(entry.ledger_entries) == entry.leg_count for entry in found)


async def test_what_a_transaction_caused_is_found_in_journal_and_ledger(escrow, payment):
    account, transaction_id = payment.transaction.escrow_account_id, payment.transaction.transaction_id
    found = await listed(escrow, account, transaction_id=[transaction_id])
    assert [entry.journal_sequence for entry in found] == [5, 4]
    ids = [found[1].journal_entry_id]
    assert [entry.journal_sequence for entry in await listed(escrow, account, ids=ids)] == [4]
    ledger = await escrow.ledger(account, transaction_id=[transaction_id], page_size=1000)
    assert len(ledger.ledger_entries) == sum(entry.leg_count for entry in found)
    assert {entry.transaction_id for entry in ledger.journal_entries} == {transaction_id}


@pytest.mark.parametrize(
    ("name", "amounts"),
    [
        ("subscription", [50, 50, 50, 12, 11, 10]),  # of every party: pending, pending undone, settled
        ("subscription:inv-002", [11]),
        ("payable", []),
        ("payable:inv-001", []),
    ],
)
async def test_the_ledger_is_filtered_by_kind_and_party(escrow, payment, name, amounts):
    page = await escrow.ledger(payment.transaction.escrow_account_id, **on(name))
    assert [leg.amount.amount_minor for leg in page.ledger_entries] == amounts


async def test_the_ledger_is_cut_by_when_it_happened_too_whenever_it_was_booked(escrow, payment):
    effective = {"effective_from": to_timestamp(minutes(-20)), "effective_to": to_timestamp(minutes(0))}
    page = await escrow.ledger(payment.transaction.escrow_account_id, **on("cash"), **effective)
    assert [leg.amount.amount_minor for leg in page.ledger_entries] == [12, 11]


async def test_a_list_takes_several_kinds_and_means_any_of_them(escrow, payment):
    account = payment.transaction.escrow_account_id
    kinds = [journal_pb.LedgerAccount.CASH, journal_pb.LedgerAccount.SUBSCRIPTION]
    every = list((await escrow.ledger(account)).ledger_entries)
    page = await escrow.ledger(account, kind=kinds)
    assert list(page.ledger_entries) == [leg for leg in every if leg.ledger_account.kind in kinds] != every
    assert list((await escrow.ledger(account, kind=kinds[:1] * 2)).ledger_entries) == list(
        (await escrow.ledger(account, kind=kinds[:1])).ledger_entries
    )


async def test_the_ledger_of_a_party_has_all_its_ledger_accounts(escrow):
    account = await escrow.open()
    await escrow.post(account, ("cash", 10), ("subscription:inv-001", -10))
    await escrow.post(account, ("subscription:inv-001", 4), ("payable:inv-001", -4))
    page = await escrow.ledger(account, party_id=["inv-001"], order=Sort.OLDEST_FIRST)
    names = [name_of(leg.ledger_account) for leg in page.ledger_entries]
    assert names == ["subscription:inv-001", "subscription:inv-001", "payable:inv-001"]


async def test_a_filter_that_cannot_match_is_refused(escrow):
    account = await escrow.open()
    for question in (
        escrow.ledger(account, kind=[journal_pb.LedgerAccount.CASH], party_id=["inv-001"]),
        escrow.ledger(
            account, kind=[journal_pb.LedgerAccount.PAYABLE, journal_pb.LedgerAccount.CASH], party_id=["inv-001"]
        ),
        escrow.call(
            "ListHolds", holds_pb.ListHoldsRequest(escrow_account_id=account, kind=["FEES"], party_id=["inv-001"])
        ),
    ):
        with pytest.raises(InvalidField) as refused:
            await question
        assert list(refused.value.fields) == ["party_id"]


async def test_a_page_of_entries_ends_where_it_has_many_legs(escrow):
    """So an answer stays small enough to be sent, whatever the entries."""
    account = await escrow.open()
    wide = new_entry(*[("cash", 1), ("fees", -1)] * 500)
    for batch in range(2):
        await escrow.post_together(account, [(f"wide-{batch}-{number}", wide) for number in range(3)])
    request = journal_pb.ListJournalEntriesRequest(escrow_account_id=account)
    page = await escrow.call("ListJournalEntries", request)
    assert sum(entry.leg_count for entry in page.journal_entries) == journal.LEGS_MAX == 5_000
    assert [entry.journal_sequence for entry in await listed(escrow, account)] == [6, 5, 4, 3, 2, 1]


async def test_an_entry_too_large_for_one_event_says_which_part_of_how_many_it_is(escrow):
    account = await escrow.open()
    parts = [postings_pb.PartyAmount(party_id=f"investor-{n:04}", amount=usd(1)) for n in range(6_000)]
    await escrow.post(account, ("cash", 6_000), ("distributable", -6_000))
    request = postings_pb.DeclareDistributionRequest(
        idempotency_key="1" * 64, escrow_account_id=account, distribution_id="dist_" + "0" * 26, payables=parts
    )
    entry = await escrow.call("DeclareDistribution", request, escrow.transactions)
    published = [
        event
        for event in await escrow.events(events.JournalEntriesPosted)
        if event.journal_entries[0].journal_entry_id == entry.journal_entry_id
    ]
    assert len(published) > 1
    assert [(event.part, event.part_count) for event in published] == [
        (number, len(published)) for number in range(1, len(published) + 1)
    ]
    pieces = [piece for event in published for piece in event.journal_entries]
    assert {piece.leg_count for piece in pieces} == {6_001}
    assert [leg.leg for piece in pieces for leg in piece.ledger_entries] == list(range(1, 6_002))
    assert [leg for piece in pieces for leg in piece.ledger_entries] == list(entry.ledger_entries)
