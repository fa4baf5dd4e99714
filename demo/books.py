"""What the end of the play is judged by, read once all has come to rest: ours through REST, and the bank's own."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from demo import cast
from demo.client import Json
from demo.money import minor
from demo.stage import Stage
from demo.subscriber import Subscriber
from demo.waiting import wait_for


@dataclass(frozen=True, order=True)
class Leg:
    """One ledger entry, reduced to what can be compared."""

    journal_entry_id: str
    ledger_account: str
    sequence: int
    direction: str
    amount_minor: int
    layer: str

    @property
    def debit_minor(self) -> int:
        """Negative for a credit."""
        return self.amount_minor if self.direction == "DEBIT" else -self.amount_minor


@dataclass(frozen=True)
class Books:
    """As the auditor found them."""

    trial_balance: Json
    ledger_accounts: list[Json]
    ledger_entries: list[Json]  # oldest first
    open_holds: list[Json]
    offering: Json
    investments: list[Json]
    distribution: Json
    allocations: dict[str, Json]  # by payee
    transactions: list[Json]  # oldest first
    bank_movements: list[Json]
    events: Counter[str]
    told_legs: list[Leg]  # what the subscriber was told
    refused_transaction_id: str

    @property
    def legs(self) -> list[Leg]:
        return [leg_of(entry) for entry in self.ledger_entries]


def leg_of(entry: Json) -> Leg:
    return Leg(
        entry["journalEntryId"],
        entry["ledgerAccount"],
        int(entry["sequence"]),
        entry["direction"],
        minor(entry["amount"]),
        entry["layer"],
    )


def read_books(stage: Stage, subscriber: Subscriber) -> Books:
    """Waits until the subscriber was told of every ledger entry. Raises: WaitedInVain."""
    auditor, account = stage.auditor, f"/escrow-accounts/{stage.escrow_account_id}"
    ledger_entries = auditor.list_all(f"{account}/ledger", "ledgerEntries")[::-1]
    legs = sorted(map(leg_of, ledger_entries))
    told = wait_for(
        "the subscriber to see every ledger entry",
        lambda: told_legs(subscriber, stage.escrow_account_id),
        lambda told: set(legs) <= set(told),
        lambda told: f"{len(told)} of {len(legs)}",
        seconds=30.0,
    )
    statement = stage.bank.get("/statement", **{"from": "2024-01-01", "to": "2026-12-31"})
    return Books(
        trial_balance=auditor.get(f"{account}/trial-balance"),
        ledger_accounts=auditor.list_all(f"{account}/ledger-accounts", "ledgerAccounts"),
        ledger_entries=ledger_entries,
        open_holds=auditor.list_all(f"{account}/holds", "holds", status="PLACED"),
        offering=auditor.get(f"/offerings/{stage.offering_id}"),
        investments=auditor.list_all("/investments", "investments", offeringId=stage.offering_id)[::-1],
        distribution=auditor.get(f"/distributions/{stage.distribution_id}"),
        allocations=stage.allocations(),
        transactions=auditor.list_all("/transactions", "transactions", escrowAccountId=stage.escrow_account_id)[::-1],
        bank_movements=statement["movements"],
        events=subscriber.counts(),
        told_legs=told,
        refused_transaction_id=stage.refused_transaction_id,
    )


def told_legs(subscriber: Subscriber, escrow_account_id: str) -> list[Leg]:
    legs = []
    for entry in subscriber.journal_entries(escrow_account_id):
        for leg in entry.ledger_entries:
            direction = type(leg).Direction.Name(leg.direction)
            layer = type(leg).Layer.Name(leg.layer)
            legs.append(
                Leg(
                    entry.journal_entry_id,
                    leg.ledger_account,
                    leg.sequence,
                    direction,
                    leg.amount.amount_minor,
                    layer,
                )
            )
    return sorted(legs)


def at_rest(stage: Stage) -> None:
    """Waits for the last events to be followed everywhere. Raises: WaitedInVain."""
    for party in cast.FUNDERS:
        stage.wait_for_investment(party, "to show what was paid", distributedAmount=sum(cast.ALLOCATIONS[party.id]))
