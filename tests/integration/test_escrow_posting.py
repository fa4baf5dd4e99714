"""Posting, as callers see it: what is booked, what is refused, and what a retry is told."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from realco.escrow.v1 import journal_pb2 as pb

from services.chassis.calls.answer import REPLAYED, answer_metadata, begin_answer
from services.chassis.values.errors import DomainError
from services.escrow.jobs import forget_refusals
from tests.support.escrow import CREDIT, DEBIT, Escrow, key, ledger_account, name_of, new_entry, refusal


async def test_an_entry_is_booked_with_the_balances_after_it(escrow):
    account = await escrow.open()
    entry = await escrow.post(account, ("cash", 100), ("subscription:inv-001", -100), type_=pb.JournalEntry.DEPOSIT)
    second = await escrow.post(account, ("cash", 50), ("subscription:inv-002", -30), ("fees", -20))
    assert entry.journal_entry_id.startswith("je_")
    assert entry.type == pb.JournalEntry.DEPOSIT
    assert entry.created_by == "admin-1"
    assert entry.effective_time == entry.create_time
    lines = [
        (
            name_of(leg.ledger_account),
            leg.sequence,
            leg.direction,
            leg.amount.amount_minor,
            leg.balance_after.amount_minor,
        )
        for leg in [*entry.ledger_entries, *second.ledger_entries]
    ]
    assert lines == [
        ("cash", 1, DEBIT, 100, 100),
        ("subscription:inv-001", 1, CREDIT, 100, 100),
        ("cash", 2, DEBIT, 50, 150),
        ("subscription:inv-002", 1, CREDIT, 30, 30),
        ("fees", 1, CREDIT, 20, 20),
    ]
    assert await escrow.posted(account) == {
        "cash": 150,
        "subscription:inv-001": 100,
        "subscription:inv-002": 30,
        "fees": 20,
    }
    assert (await escrow.trial_balance(account)).balanced


async def test_what_may_not_be_booked_is_refused_with_the_facts_and_changes_nothing(escrow):
    account = await escrow.open()
    await escrow.post(account, ("cash", 100), ("subscription:inv-001", -100))
    before = await escrow.balance(account)
    table = [
        # entry, reason, metadata
        (
            (("subscription:inv-001", 101), ("cash", -101)),
            "INSUFFICIENT_AVAILABLE_BALANCE",
            {
                "ledger_account_kind": "SUBSCRIPTION",
                "party_id": "inv-001",
                "available_minor": "100",
                "requested_minor": "101",
                "currency_code": "USD",
            },
        ),
        (
            (("subscription:inv-002", 1), ("cash", -1)),  # has never been seen
            "INSUFFICIENT_AVAILABLE_BALANCE",
            {
                "ledger_account_kind": "SUBSCRIPTION",
                "party_id": "inv-002",
                "available_minor": "0",
                "requested_minor": "1",
                "currency_code": "USD",
            },
        ),
        (
            (("cash", 10), ("fees", -9)),
            "JOURNAL_ENTRY_UNBALANCED",
            {"debit_minor": "10", "credit_minor": "9", "currency_code": "USD"},
        ),
    ]
    for legs, reason, metadata in table:
        assert await refusal(escrow.post(account, *legs)) == (reason, metadata)
    unknown = "esc_" + "0" * 26
    assert (await refusal(escrow.post(unknown, ("cash", 1), ("fees", -1))))[0] == "ESCROW_ACCOUNT_NOT_FOUND"
    assert await escrow.balance(account) == before
    assert "subscription:inv-002" not in {name_of(line.ledger_account) for line in before.ledger_accounts}


async def test_an_entry_is_judged_as_a_whole(escrow):
    account = await escrow.open()
    await escrow.post(
        account, ("subscription:inv-001", 60), ("cash", 100), ("cash", -60), ("subscription:inv-001", -100)
    )
    assert await escrow.posted(account) == {"cash": 40, "subscription:inv-001": 40}


async def test_in_transit_alone_has_two_sides(escrow):
    account = await escrow.open()
    await escrow.post(account, ("cash", 100), ("in_transit", -100))
    balance = await escrow.balance(account)
    assert (balance.posted.amount_minor, balance.pending_out.amount_minor, balance.available.amount_minor) == (
        100,
        100,
        0,
    )


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        (new_entry(("cash", 1)), "journal_entry.legs"),
        (new_entry(), "journal_entry.legs"),
        (new_entry(("cash", 2**61), ("fees", -(2**61))), "journal_entry.legs"),
        (new_entry(("cash", 1), ("fees", -1), reverses_journal_entry_id="je_" + "0" * 26), "journal_entry.legs"),
        (
            new_entry(reverses_journal_entry_id="je_" + "0" * 26, investment_id="inv_" + "0" * 26),
            "journal_entry.investment_id",
        ),
        (
            new_entry(("cash", 1), ("fees", -1), effective_time={"seconds": 4_000_000_000}),
            "journal_entry.effective_time",
        ),
    ],
)
async def test_what_cannot_be_an_entry_is_a_malformed_request(escrow, entry, field):
    request = pb.PostJournalEntryRequest(
        idempotency_key=key(), escrow_account_id=await escrow.open(), journal_entry=entry
    )
    with pytest.raises(DomainError) as refused:
        await escrow.call("PostJournalEntry", request)
    assert refused.value.reason == "INVALID_FIELD"
    assert list(refused.value.fields) == [field]


async def test_balances_stay_within_their_bounds(escrow):
    account = await escrow.open()
    large = 2**61 - 1
    for _ in range(2):
        await escrow.post(account, ("cash", large), ("fees", -large))
    assert (await refusal(escrow.post(account, ("cash", large), ("fees", -large))))[0] == "INVALID_FIELD"
    await escrow.post(account, ("cash", 1), ("fees", -1))
    assert (await escrow.posted(account))["cash"] == 2 * large + 1
    assert (await escrow.trial_balance(account)).balanced


async def test_a_retry_is_told_of_the_first_entry(escrow):
    account, name = await escrow.open(), key()
    first = await escrow.post(account, ("cash", 100), ("fees", -100), idempotency_key=name)
    await escrow.pass_time(hours=1)
    again = await escrow.post(account, ("cash", 100), ("fees", -100), idempotency_key=name)
    assert again == first
    other = escrow.post(account, ("cash", 101), ("fees", -101), idempotency_key=name)
    assert await refusal(other) == ("IDEMPOTENCY_KEY_REUSED", {"idempotency_key": name})
    elsewhere = escrow.post(await escrow.open(), ("cash", 100), ("fees", -100), idempotency_key=name)
    assert await refusal(elsewhere) == ("IDEMPOTENCY_KEY_REUSED", {"idempotency_key": name})
    # Another caller's keys, and another organization's, are their own.
    assert (
        await escrow.post(account, ("cash", 1), ("fees", -1), idempotency_key=name, principal=escrow.transactions)
        != first
    )
    theirs = await escrow.open(principal=escrow.stranger)
    await escrow.post(theirs, ("cash", 7), ("fees", -7), idempotency_key=name, principal=escrow.stranger)
    assert (await escrow.posted(account))["cash"] == 101


async def test_a_refusal_is_the_first_decision_about_its_key_and_is_given_again(escrow):
    account, name = await escrow.open(), key()
    wanted = (("subscription:inv-001", 5), ("cash", -5))
    first = await refusal(escrow.post(account, *wanted, idempotency_key=name))
    await escrow.post(account, ("cash", 5), ("subscription:inv-001", -5))
    begin_answer()
    assert await refusal(escrow.post(account, *wanted, idempotency_key=name)) == first
    assert answer_metadata() == ((REPLAYED, "true"),)
    begin_answer()
    other = escrow.post(account, ("subscription:inv-001", 4), ("cash", -4), idempotency_key=name)
    assert await refusal(other) == ("IDEMPOTENCY_KEY_REUSED", {"idempotency_key": name})
    assert answer_metadata() == ()
    again = await escrow.post_together(account, [(name, new_entry(*wanted)), (key(), new_entry(*wanted))])
    assert [(result.failure.code, result.replayed) for result in again] == [(first[0], True), ("", False)]
    assert await escrow.posted(account) == {}


async def test_each_kind_of_refusal_is_kept_and_what_is_no_decision_leaves_the_key_free(escrow):
    account, unknown = await escrow.open(), "je_" + "0" * 26
    original = await escrow.post(account, ("cash", 9), ("fees", -9))
    reversal = new_entry(reverses_journal_entry_id=original.journal_entry_id)
    await escrow.post_together(account, [(key(), reversal)])
    await escrow.post(account, ("cash", 9), ("suspense", -9))
    entries = {
        "JOURNAL_ENTRY_UNBALANCED": new_entry(("cash", 2), ("fees", -1)),
        "CURRENCY_MISMATCH": new_entry(("cash", 1), ("fees", -1), currency="EUR"),
        "ALREADY_REVERSED": reversal,
        "INSUFFICIENT_AVAILABLE_BALANCE": new_entry(("fees", 1), ("cash", -1)),
        "JOURNAL_ENTRY_NOT_FOUND": new_entry(reverses_journal_entry_id=unknown),
        "ESCROW_ACCOUNT_FROZEN": new_entry(("cash", 1), ("fees", -1)),
    }
    for reason, entry in entries.items():
        name = key()
        if reason == "ESCROW_ACCOUNT_FROZEN":
            await escrow.freeze(account)
        [first, second] = await escrow.post_together(account, [(name, entry), (name, entry)])
        [third] = await escrow.post_together(account, [(name, entry)])
        decided = reason != "JOURNAL_ENTRY_NOT_FOUND"
        assert (first.failure.code, first.replayed) == (reason, False)
        for again in (second.failure, third.failure):  # which says where its own request has it
            assert (again.code, again.message, again.metadata) == (
                first.failure.code,
                first.failure.message,
                first.failure.metadata,
            )
        assert (second.replayed, third.replayed) == (decided, decided), reason
    await escrow.unfreeze(account)
    assert await escrow.posted(account) == {"cash": 9, "suspense": 9}


async def test_a_kept_refusal_is_forgotten_after_thirty_days(service_urls):
    urls = await service_urls("escrow")
    async with Escrow(urls) as escrow:
        account, name = await escrow.open(), key()
        wanted = (("subscription:inv-001", 5), ("cash", -5))
        await refusal(escrow.post(account, *wanted, idempotency_key=name))
        await escrow.post(account, ("cash", 5), ("subscription:inv-001", -5))
        assert await forget_refusals(escrow.dependencies) == 0
        admin = await asyncpg.connect(urls.admin_url.replace("postgresql+asyncpg", "postgresql"))
        await admin.execute("UPDATE refused_postings SET created_at = created_at - interval '31 days'")
        await admin.close()
        assert await forget_refusals(escrow.dependencies) == 1
        await escrow.post(account, *wanted, idempotency_key=name)
        assert await escrow.posted(account) == {}


async def test_a_posting_that_is_only_validated_is_judged_and_undone(escrow):
    account, name = await escrow.open(), key()
    request = pb.PostJournalEntryRequest(
        idempotency_key=name,
        escrow_account_id=account,
        journal_entry=new_entry(("cash", 5), ("fees", -5)),
        validate_only=True,
    )
    would_be = await escrow.call("PostJournalEntry", request)
    assert [leg.balance_after.amount_minor for leg in would_be.ledger_entries] == [5, 5]
    assert await escrow.posted(account) == {}
    assert await escrow.journal() == []
    short = new_entry(("fees", 5), ("cash", -5))
    request = pb.PostJournalEntryRequest(
        idempotency_key=name, escrow_account_id=account, journal_entry=short, validate_only=True
    )
    assert (await refusal(escrow.call("PostJournalEntry", request)))[0] == "INSUFFICIENT_AVAILABLE_BALANCE"
    # The key is free all the same.
    await escrow.post(account, ("cash", 5), ("fees", -5), idempotency_key=name)


@pytest.mark.parametrize(
    ("account", "party_id", "fault"),
    [
        ("subscription", None, "must be given for this kind"),
        ("cash", "inv-001", "must not be given for this kind"),
    ],
)
async def test_a_ledger_account_names_a_party_where_its_kind_is_of_one(escrow, account, party_id, fault):
    wanted = new_entry(("fees", 1), ("suspense", -1))
    wanted.legs[1].ledger_account.CopyFrom(ledger_account(account))
    if party_id:
        wanted.legs[1].ledger_account.party_id = party_id
    request = pb.PostJournalEntryRequest(
        idempotency_key=key(), escrow_account_id=await escrow.open(), journal_entry=wanted
    )
    with pytest.raises(DomainError) as refused:
        await escrow.call("PostJournalEntry", request)
    assert refused.value.fields == {"journal_entry.legs[1].ledger_account.party_id": fault}


async def test_the_same_request_many_times_at_once_is_booked_once(escrow):
    account, name = await escrow.open(), key()
    answers = await asyncio.gather(
        *(escrow.post(account, ("cash", 100), ("fees", -100), idempotency_key=name) for _ in range(20))
    )
    assert len({answer.journal_entry_id for answer in answers}) == 1
    assert await escrow.posted(account) == {"cash": 100, "fees": 100}
    assert len(await escrow.journal()) == 1


def test_a_leg_that_persons_post_is_settled() -> None:
    """What is on its way is said by transactions alone: without it, what the bank does next would find another book."""
    assert {field.name for field in pb.Leg.DESCRIPTOR.fields} == {"ledger_account", "direction", "amount"}
