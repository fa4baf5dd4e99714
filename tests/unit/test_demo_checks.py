"""The demo's last word is worth something: one wrong fact in sound books fails the check that is about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from demo import cast
from demo.books import Books, leg_of
from demo.checks import run_checks
from demo.harness.money import format_minor, minor_of, usd

Json = dict[str, Any]
ONE_CENT = 1


def entry(number: int, account: str, sequence: int, debit_minor: int) -> Json:
    return {
        "journalSequence": str(number),
        "ledgerAccount": {"kind": account},
        "sequence": str(sequence),
        "direction": "DEBIT" if debit_minor > 0 else "CREDIT",
        "amount": usd(abs(debit_minor)),
        "layer": "POSTED",
    }


def transaction(kind: str, party: str, status: str, amount_minor: int = 0, allocation: str = "") -> Json:
    return {"type": kind, "partyId": party, "status": status, "amount": usd(amount_minor), "allocationId": allocation}


def sound() -> Books:
    """A short book that ties out: cash in and out against `suspense`, and the waterfall of the story."""
    moved = [party.commitment_minor for party in cast.FUNDERS] + [-cast.TARGET_MINOR, cast.DISTRIBUTION_MINOR]
    moved += [-sum(parts) for parts in cast.ALLOCATIONS.values()]
    ledger = [
        leg
        for number, amount_minor in enumerate(moved, start=1)
        for leg in (entry(number, "CASH", number, amount_minor), entry(number, "SUSPENSE", number, -amount_minor))
    ]
    totals = {payee: sum(parts) for payee, parts in cast.ALLOCATIONS.items()}
    allocations = {
        payee: {
            "allocationId": f"alloc_{payee}",
            "status": "COMPLETED",
            "amount": usd(totals[payee]),
            "lines": [
                {"kind": kind, "amount": usd(part)} for kind, part in zip(cast.TIERS, parts, strict=True) if part
            ],
        }
        for payee, parts in cast.ALLOCATIONS.items()
    }
    investments = [
        {
            "partyId": party.id,
            "amount": usd(party.commitment_minor),
            "fundedAmount": usd(party.commitment_minor if party in cast.FUNDERS else 0),
            "unreturnedCapital": usd(0),
            "distributedAmount": usd(totals.get(party.id, 0)),
            "status": "ACTIVE" if party in cast.FUNDERS else "CANCELLED",
        }
        for party in cast.INVESTORS
    ]
    transactions = [
        *(transaction("ESCROW_DEPOSIT", party.id, "COMPLETED") for party in cast.FUNDERS),
        transaction("ESCROW_DEPOSIT", cast.DAN.id, "FAILED"),
        transaction("ESCROW_WITHDRAWAL", cast.SPONSOR, "COMPLETED"),
        transaction("DEPOSIT", cast.SPONSOR, "COMPLETED"),
        transaction("DISTRIBUTION", cast.BEN.id, "FAILED", totals[cast.BEN.id], f"alloc_{cast.BEN.id}"),
        *(transaction("DISTRIBUTION", payee, "COMPLETED", total, f"alloc_{payee}") for payee, total in totals.items()),
    ]
    lines = [{"kind": kind, "debit": usd(0), "credit": usd(0)} for kind in ("CASH", "SUSPENSE")]
    accounts = [
        {"ledgerAccount": {"kind": kind}, "normalBalance": side, "posted": usd(0)}
        for kind, side in (("CASH", "DEBIT"), ("SUSPENSE", "CREDIT"))
    ]
    return Books(
        trial_balance={"lines": lines, "difference": usd(0), "balanced": True},
        ledger_accounts=accounts,
        ledger_entries=ledger,
        journal_entries={
            leg["journalSequence"]: {"journalEntryId": "je_" + leg["journalSequence"], "transactionId": "txn_x"}
            for leg in ledger
        },
        open_holds=[],
        offering={"status": "CLOSED", "closingDate": "2025-01-01"},
        investments=investments,
        distribution={
            "tierTotals": [
                {"kind": kind, "investorsAmount": usd(investors), "sponsorAmount": usd(sponsor)}
                for kind, (investors, sponsor) in cast.TIERS.items()
            ]
        },
        allocations=allocations,
        transactions=transactions,
        bank_movements=[
            {"id": f"mov_{amount_minor}", "amount_minor": amount_minor, "reference": "txn_x"}
            for amount_minor in moved
            if amount_minor != cast.DISTRIBUTION_MINOR
        ],
        events=Counter(),
        published_legs=sorted(map(leg_of, ledger)),
        refused_transaction_id="txn_refused",
    )


def failed(books: Books) -> list[str]:
    return [check.sentence for check in run_checks(books) if not check.passed]


def more(money: Json) -> Json:
    return usd(minor_of(money) + ONE_CENT)


def a_cent_more_in_a_leg(books: Books) -> None:
    books.ledger_entries[0]["amount"] = more(books.ledger_entries[0]["amount"])


def a_cent_left_in_cash(books: Books) -> None:
    books.trial_balance["lines"][0]["debit"] = books.ledger_accounts[0]["posted"] = usd(ONE_CENT)


def an_entry_is_missing(books: Books) -> None:
    del books.ledger_entries[2:4]


def a_hold_is_open(books: Books) -> None:
    books.open_holds.append({"holdId": "hold_1", "ledgerAccount": {"kind": "CASH"}})


def the_bank_paid_twice(books: Books) -> None:
    books.bank_movements.append(books.bank_movements[-1])


def a_tier_pays_a_cent_more(books: Books) -> None:
    total = books.distribution["tierTotals"][0]
    total["investorsAmount"] = more(total["investorsAmount"])


def a_payee_is_paid_twice(books: Books) -> None:
    books.transactions.append(books.transactions[-1])


def the_refused_payment_was_booked(books: Books) -> None:
    books.journal_entries["1"]["transactionId"] = books.refused_transaction_id


def capital_is_still_owed(books: Books) -> None:
    books.investments[0]["unreturnedCapital"] = usd(ONE_CENT)


def an_entry_was_told_twice(books: Books) -> None:
    books.published_legs.append(books.published_legs[0])


def an_entry_was_not_told(books: Books) -> None:
    books.published_legs.pop()


def test_sound_books_tie_out() -> None:
    assert failed(sound()) == []


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (a_cent_more_in_a_leg, "Every journal entry balances, in each layer"),
        (a_cent_left_in_cash, "The trial balance's difference is zero"),
        (a_cent_left_in_cash, "Every balance is the sum of its ledger entries, and nothing is left pending"),
        (an_entry_is_missing, "Every ledger account's entries are numbered without gaps"),
        (a_hold_is_open, "Every cent that came in went out, and no hold is open"),
        (the_bank_paid_twice, "The bank moved exactly what our cash account says, nothing twice"),
        (a_tier_pays_a_cent_more, "The waterfall is the agreed one to the cent"),
        (a_payee_is_paid_twice, "Every payee was paid its allocation exactly once"),
        (a_payee_is_paid_twice, "Every transaction ended as the story says"),
        (the_refused_payment_was_booked, "The refused contribution moved nothing"),
        (capital_is_still_owed, "The offering is closed and the investments show what was paid"),
        (an_entry_was_told_twice, "The subscriber was told of every ledger entry exactly once"),
        (an_entry_was_not_told, "The subscriber was told of every ledger entry exactly once"),
    ],
)
def test_a_wrong_fact_fails_its_check(harm: Callable[[Books], None], sentence: str) -> None:
    books = sound()
    harm(books)
    assert sentence in failed(books)


@pytest.mark.parametrize(
    ("minor_units", "words"), [(0, "0.00"), (5, "0.05"), (-7, "-0.07"), (12_100_000, "121,000.00"), (-100, "-1.00")]
)
def test_an_amount_is_spelled_for_people(minor_units: int, words: str) -> None:
    assert format_minor(minor_units) == words
