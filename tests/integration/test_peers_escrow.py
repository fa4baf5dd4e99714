"""Escrow as other services ask it: one test body, over the fake of their tests and over the real service."""

from __future__ import annotations

from typing import Any

import pytest
from realco.escrow.v1 import escrow_accounts_pb2 as accounts_pb
from realco.escrow.v1 import journal_pb2 as journal_pb
from structlog.testing import capture_logs

from services.chassis.calls.auth import acting_as
from services.chassis.values.errors import Bug, DomainError
from services.chassis.values.ids import new_id
from services.transactions.clients import EscrowClient
from tests.support.ledger_accounts import name_of
from tests.support.peers.books import Callers, MemoryBook, RealBook, balances
from tests.support.peers.orders import declaration, payout, release
from tests.support.peers.wire import Wire

Kind = journal_pb.LedgerAccount
UNKNOWN = "esc_" + "0" * 26


def legs_of(entry: journal_pb.JournalEntry) -> list[tuple[str, int]]:
    """Debits are positive, credits negative."""
    sign = {journal_pb.LedgerEntry.DEBIT: 1, journal_pb.LedgerEntry.CREDIT: -1}
    assert entry.leg_count == len(entry.ledger_entries)
    assert all(leg.layer == journal_pb.LedgerEntry.POSTED for leg in entry.ledger_entries)
    return [
        (name_of(leg.ledger_account), sign[leg.direction] * leg.amount.amount_minor) for leg in entry.ledger_entries
    ]


def outcome_of(result: journal_pb.PostingResult) -> Any:
    if result.HasField("failure"):
        return result.failure.code, dict(result.failure.metadata), result.failure.retryable
    return legs_of(result.journal_entry)


async def test_an_account_is_found_in_its_status_or_is_not_there(book: MemoryBook | RealBook, callers: Callers) -> None:
    account = await book.open("EUR")
    for change, status in (
        (None, "ACTIVE"),
        (book.freeze, "FROZEN"),
        (book.unfreeze, "ACTIVE"),
        (book.close, "CLOSED"),
    ):
        if change:
            await change(account)
        with acting_as(callers.admin):
            asked_by_transactions = await callers.of_transactions.get_escrow_account(account)
        for found in (asked_by_transactions, await callers.ask("get_escrow_account", account)):
            assert found is not None
            assert (found.escrow_account_id, found.currency_code) == (account, "EUR")
            assert accounts_pb.EscrowAccount.Status.Name(found.status) == status
    with acting_as(callers.admin):
        assert await callers.of_transactions.get_escrow_account(UNKNOWN) is None
    assert await callers.ask("get_escrow_account", UNKNOWN) is None
    for question in (
        ("get_escrow_account_balance", UNKNOWN),
        ("get_trial_balance", UNKNOWN),
        ("list_balances", UNKNOWN, []),
    ):
        assert await callers.ask(*question) == ("ESCROW_ACCOUNT_NOT_FOUND", {})


async def test_each_payout_is_taken_from_its_source_or_refused_by_itself(
    book: MemoryBook | RealBook, callers: Callers
) -> None:
    account, frozen, closed = [await book.open() for _ in range(3)]
    for name in ("payable:inv-001", "issuer_proceeds", "subscription:inv-001"):
        await book.fund(account, name, 50)
    await book.freeze(frozen)
    await book.close(closed)
    table = [
        (payout(account, "DISTRIBUTION", 50), [("payable:inv-001", 50), ("in_transit", -50)]),
        (payout(account, "ESCROW_WITHDRAWAL", 49), [("issuer_proceeds", 49), ("in_transit", -49)]),
        (payout(account, "REFUND", 50), [("subscription:inv-001", 50), ("in_transit", -50)]),
        (
            payout(account, "DISTRIBUTION", 1),
            (
                "INSUFFICIENT_AVAILABLE_BALANCE",
                {
                    "ledger_account_kind": "PAYABLE",
                    "party_id": "inv-001",
                    "available_minor": "0",
                    "requested_minor": "1",
                    "currency_code": "USD",
                },
                False,
            ),
        ),
        (
            payout(account, "ESCROW_WITHDRAWAL", 2),
            (
                "INSUFFICIENT_AVAILABLE_BALANCE",
                {
                    "ledger_account_kind": "ISSUER_PROCEEDS",
                    "available_minor": "1",
                    "requested_minor": "2",
                    "currency_code": "USD",
                },
                False,
            ),
        ),
        (payout(account, "ESCROW_WITHDRAWAL", 1, "EUR"), ("CURRENCY_MISMATCH", {"currency_code": "USD"}, False)),
        (payout(frozen, "DISTRIBUTION", 1), ("ESCROW_ACCOUNT_FROZEN", {"escrow_account_id": frozen}, False)),
        (payout(closed, "DISTRIBUTION", 1), ("ESCROW_ACCOUNT_CLOSED", {"escrow_account_id": closed}, False)),
        (payout(UNKNOWN, "DISTRIBUTION", 1), ("ESCROW_ACCOUNT_NOT_FOUND", {}, False)),
    ]
    results = await callers.book_payouts(*(item for item, _ in table))
    assert [outcome_of(result) for result in results] == [expected for _, expected in table]
    assert not any(result.replayed for result in results)
    assert await balances(callers, account) == {"cash": 150, "in_transit": -149, "issuer_proceeds": 1}


async def test_nobody_is_paid_from_cash_that_is_not_there_or_while_they_owe(
    book: MemoryBook | RealBook, callers: Callers
) -> None:
    account = await book.open()
    for party_id, minor in (("inv-001", 60), ("inv-002", 40)):
        await book.fund(account, f"payable:{party_id}", minor)
    await book.fund(account, "subscription:inv-002", 20)
    await book.hold(account, "subscription:inv-002", 20)
    # The bank took 10 back: all owe what they owed, and cash has 10 less.
    await book.fund(account, "returns_receivable:inv-002", -10)
    owes = {"party_id": "inv-002", "escrow_account_id": account, "owed_minor": "10", "currency_code": "USD"}
    missing = {"available_minor": "90", "requested_minor": "91", "currency_code": "USD", "ledger_account_kind": "CASH"}
    await book.fund(account, "payable:inv-003", 91)
    await book.fund(account, "returns_receivable:inv-004", -91)
    table = [
        (payout(account, "DISTRIBUTION", 40, party_id="inv-002"), ("PARTY_OWES", owes, False)),
        (payout(account, "DISTRIBUTION", 91, party_id="inv-003"), ("INSUFFICIENT_AVAILABLE_BALANCE", missing, False)),
        (payout(account, "DISTRIBUTION", 60), [("payable:inv-001", 60), ("in_transit", -60)]),
    ]
    results = await callers.book_payouts(*(item for item, _ in table))
    assert [outcome_of(result) for result in results] == [expected for _, expected in table]


async def test_a_payouts_entry_says_what_it_is_for(book: MemoryBook | RealBook, callers: Callers) -> None:
    account = await book.open()
    await book.fund(account, "payable:inv-001", 10)
    distribution_id = new_id("dist")
    item = payout(account, "DISTRIBUTION", 10, distribution_id=distribution_id)
    [result] = await callers.book_payouts(item)
    entry = result.journal_entry
    assert entry.type == journal_pb.JournalEntry.DISTRIBUTION
    assert (entry.transaction_id, entry.distribution_id) == (item.transaction_id, distribution_id)
    assert (entry.HasField("investment_id"), entry.created_by) == (False, "admin-1")


async def test_the_first_decision_about_a_payouts_key_stays(book: MemoryBook | RealBook, callers: Callers) -> None:
    account = await book.open()
    await book.fund(account, "payable:inv-001", 10)
    taken, refused, elsewhere = [payout(account, "DISTRIBUTION", minor) for minor in (10, 1, 1)]
    elsewhere.escrow_account_id = UNKNOWN
    first = await callers.book_payouts(taken, refused, elsewhere)
    await book.fund(account, "payable:inv-001", 1)
    again = await callers.book_payouts(taken, refused)
    assert [result.replayed for result in again] == [True, True]
    assert again[0].journal_entry == first[0].journal_entry
    assert again[1].failure == first[1].failure
    changed = [payout(account, "DISTRIBUTION", 2, idempotency_key=each.idempotency_key) for each in (taken, refused)]
    assert [outcome_of(result) for result in await callers.book_payouts(*changed)] == [
        ("IDEMPOTENCY_KEY_REUSED", {"idempotency_key": each.idempotency_key}, False) for each in changed
    ]
    # An account that is not there decides nothing.
    elsewhere.escrow_account_id = account
    [later] = await callers.book_payouts(elsewhere)
    assert (later.HasField("journal_entry"), later.replayed) == (True, False)


async def test_a_closing_releases_every_subscription_or_none(book: MemoryBook | RealBook, callers: Callers) -> None:
    account = await book.open()
    await book.fund(account, "subscription:inv-001", 60)
    await book.fund(account, "subscription:inv-002", 40)
    too_much = release(account, ("inv-001", 60), ("inv-002", 41))
    refusal = (
        "INSUFFICIENT_AVAILABLE_BALANCE",
        {
            "ledger_account_kind": "SUBSCRIPTION",
            "party_id": "inv-002",
            "available_minor": "40",
            "requested_minor": "41",
            "currency_code": "USD",
        },
    )
    assert await callers.ask("release_subscriptions", too_much) == refusal
    assert await balances(callers, account) == {"cash": 100, "subscription": 100}
    await book.fund(account, "subscription:inv-002", 1)
    assert await callers.ask("release_subscriptions", too_much) == refusal, "and stays refused under its key"
    whole = release(account, ("inv-001", 60), ("inv-002", 41))
    entry = await callers.ask("release_subscriptions", whole)
    assert entry.type == journal_pb.JournalEntry.RELEASE
    assert legs_of(entry) == [("subscription:inv-001", 60), ("subscription:inv-002", 41), ("issuer_proceeds", -101)]
    assert await callers.ask("release_subscriptions", whole) == entry
    other = release(account, ("inv-001", 1), idempotency_key=whole.idempotency_key)
    assert (await callers.ask("release_subscriptions", other))[0] == "IDEMPOTENCY_KEY_REUSED"
    assert await balances(callers, account) == {"cash": 101, "issuer_proceeds": 101}


async def test_what_is_held_of_a_subscription_is_told_with_its_holds_and_released_by_nobody(
    book: MemoryBook | RealBook, callers: Callers
) -> None:
    account = await book.open()
    for party_id, minor in (("inv-001", 60), ("inv-002", 40)):
        await book.fund(account, f"subscription:{party_id}", minor)
    holds = [await book.hold(account, "subscription:inv-002", minor) for minor in (5, 10)]
    found = await callers.ask("list_balances", account, [journal_pb.LedgerAccount.SUBSCRIPTION])
    available = {name_of(each.ledger_account): each.available.amount_minor for each in found}
    assert available == {"subscription:inv-001": 60, "subscription:inv-002": 25}
    with acting_as(callers.admin):
        listed = await callers.of_distributions.list_subscription_holds(account, ["inv-001", "inv-002"])
    told = [(each.hold_id, each.ledger_account.party_id, each.amount.amount_minor) for each in listed]
    assert told == [(holds[1], "inv-002", 10), (holds[0], "inv-002", 5)]
    reason, facts = await callers.ask("release_subscriptions", release(account, ("inv-002", 26)))
    assert (reason, facts["available_minor"]) == ("INSUFFICIENT_AVAILABLE_BALANCE", "25")


async def test_nothing_is_released_while_anybody_owes_what_a_bank_took_back(
    book: MemoryBook | RealBook, callers: Callers
) -> None:
    account = await book.open()
    for party_id, minor in (("inv-001", 40), ("inv-002", 30)):
        await book.fund(account, f"subscription:{party_id}", minor)
    # What inv-003 was paid again and the bank took back is missing in the cash of the others.
    await book.fund(account, "returns_receivable:inv-003", -40)
    found = await callers.ask("list_balances", account, [Kind.RETURNS_RECEIVABLE])
    assert [(name_of(each.ledger_account), each.posted.amount_minor) for each in found] == [
        ("returns_receivable:inv-003", 40)
    ]
    asked = release(account, ("inv-001", 40), ("inv-002", 30))
    refusal = ("PARTY_OWES", {"escrow_account_id": account, "owed_minor": "40", "currency_code": "USD"})
    assert await callers.ask("release_subscriptions", asked) == refusal
    await book.fund(account, "returns_receivable:inv-003", 40)
    assert await callers.ask("release_subscriptions", asked) == refusal, "and stays refused under its key"
    await callers.ask("release_subscriptions", release(account, ("inv-001", 40), ("inv-002", 30)))
    assert await balances(callers, account) == {"cash": 70, "issuer_proceeds": 70}


async def test_a_distribution_is_declared_to_the_cent(book: MemoryBook | RealBook, callers: Callers) -> None:
    account = await book.open()
    await book.fund(account, "distributable", 100)
    wanted = declaration(account, ("inv-001", 33), ("sponsor-1", 67))
    entry = await callers.ask("declare_distribution", wanted)
    assert (entry.type, entry.distribution_id) == (journal_pb.JournalEntry.DISTRIBUTION, wanted.distribution_id)
    assert legs_of(entry) == [("distributable", 100), ("payable:inv-001", -33), ("payable:sponsor-1", -67)]
    assert await callers.ask("declare_distribution", wanted) == entry
    assert await callers.ask("declare_distribution", declaration(account, ("inv-001", 1))) == (
        "INSUFFICIENT_AVAILABLE_BALANCE",
        {
            "ledger_account_kind": "DISTRIBUTABLE",
            "available_minor": "0",
            "requested_minor": "1",
            "currency_code": "USD",
        },
    )
    assert await balances(callers, account) == {"cash": 100, "payable": 100}


async def test_a_frozen_account_neither_releases_nor_declares(book: MemoryBook | RealBook, callers: Callers) -> None:
    account = await book.open()
    await book.fund(account, "subscription:inv-001", 10)
    await book.fund(account, "distributable", 10)
    await book.freeze(account)
    refusal = ("ESCROW_ACCOUNT_FROZEN", {"escrow_account_id": account})
    assert await callers.ask("release_subscriptions", release(account, ("inv-001", 10))) == refusal
    assert await callers.ask("declare_distribution", declaration(account, ("inv-001", 10))) == refusal


async def test_escrow_says_who_gains_from_what_is_put_on_a_ledger_account(
    book: MemoryBook | RealBook, callers: Callers
) -> None:
    account = await book.open()
    await book.fund(account, "subscription:inv-001", 10)
    await book.fund(account, "payable:inv-002", 10)
    book.commit(account, "inv-003")
    with acting_as(callers.admin):
        gaining = {
            kind: set(await callers.of_transactions.list_beneficiaries(account, kind))
            for kind in ("DISTRIBUTABLE", "ISSUER_PROCEEDS", "FEES")
        }
        with pytest.raises(DomainError) as refusal:
            await callers.of_transactions.list_beneficiaries(UNKNOWN, "DISTRIBUTABLE")
    assert gaining == {
        "DISTRIBUTABLE": {"inv-001", "inv-002", "inv-003", "sponsor-1"},
        "ISSUER_PROCEEDS": {"sponsor-1"},
        "FEES": set(),
    }
    assert refusal.value.reason == "ESCROW_ACCOUNT_NOT_FOUND"


async def test_a_sound_book_balances(book: MemoryBook | RealBook, callers: Callers) -> None:
    account = await book.open()
    await book.fund(account, "distributable", 10)
    answer = await callers.ask("get_trial_balance", account)
    assert (answer.escrow_account_id, answer.balanced) == (account, True)


async def test_only_the_services_the_contract_names_are_answered(book: MemoryBook | RealBook, callers: Callers) -> None:
    stranger = EscrowClient(Wire("compliance").open_channel(*book.servicers))
    with acting_as(callers.admin), capture_logs() as logged, pytest.raises(Bug):
        await stranger.batch_book_payouts([payout(await book.open(), "DISTRIBUTION", 1)])
    assert logged[-1]["reason"] == "PERMISSION_DENIED"


async def test_a_journal_is_listed_from_its_first_entry_on_with_the_life_it_is_of(
    book: MemoryBook | RealBook, callers: Callers
) -> None:
    account = await book.open()
    for minor in (1, 2, 3):
        await book.fund(account, "distributable", minor)
    pages: list[Any] = []
    for _ in range(2):
        token = pages[-1].next_page_token if pages else ""
        pages.append(await callers.ask("list_journal_entries", account, token, 2))
    entries = [entry for page in pages for entry in page.journal_entries]
    assert [entry.journal_sequence for entry in entries] == [1, 2, 3]
    assert [legs_of(entry) for entry in entries] == [[("cash", each), ("distributable", -each)] for each in (1, 2, 3)]
    assert {entry.by_hand for entry in entries} == {True}
    assert pages[-1].next_page_token == ""
    assert len({page.incarnation for page in pages}) == 1
    assert len(pages[0].incarnation) == 36
