"""What the run is judged by, read once nothing changes any more: our books through REST, and the bank's own."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from demo import cast
from demo.harness.bank import read_movements
from demo.harness.money import minor_of
from demo.harness.polling import wait_for
from demo.harness.rest import Json
from demo.run import DemoRun
from demo.subscriber import Subscriber


@dataclass(frozen=True, order=True)
class Leg:
    """One ledger entry, reduced to what can be compared."""

    journal_sequence: int  # of its journal entry
    kind: str  # of its ledger account
    party_id: str
    sequence: int
    direction: str
    amount_minor: int
    layer: str

    @property
    def ledger_account(self) -> str:
        return f"{self.kind.lower()}:{self.party_id}" if self.party_id else self.kind.lower()

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
    journal_entries: dict[str, Json]  # of the ledger entries, by journalSequence, without their legs
    open_holds: list[Json]
    offering: Json
    investments: list[Json]
    distribution: Json
    allocations: dict[str, Json]  # by payee
    transactions: list[Json]  # oldest first
    bank_movements: list[Json]
    events: Counter[str]
    published_legs: list[Leg]  # what the events said
    refused_transaction_id: str

    @property
    def legs(self) -> list[Leg]:
        return [leg_of(entry) for entry in self.ledger_entries]


def leg_of(entry: Json) -> Leg:
    return Leg(
        int(entry["journalSequence"]),
        entry["ledgerAccount"]["kind"],
        entry["ledgerAccount"].get("partyId", ""),
        int(entry["sequence"]),
        entry["direction"],
        minor_of(entry["amount"]),
        entry["layer"],
    )


def read_books(run: DemoRun, subscriber: Subscriber) -> Books:
    """Waits until the subscriber has seen every ledger entry. Raises: ConditionNotMet."""
    account = f"/escrow-accounts/{run.escrow_account_id}"

    def read(path: str) -> Json:
        return dict(run.name_parties(run.auditor.get(path)))

    def list_all(path: str, items: str, **query: str) -> list[Json]:
        return list(run.name_parties(run.auditor.list_all(path, items, **query)))

    answers = run.auditor.iterate_answers(f"{account}/ledger", order="OLDEST_FIRST", pageSize="200")
    pages = list(map(run.name_parties, answers))
    ledger_entries = [entry for page in pages for entry in page["ledgerEntries"]]
    legs = sorted(map(leg_of, ledger_entries))
    published = wait_for(
        "the subscriber to see every ledger entry",
        lambda: read_published_legs(subscriber, run),
        lambda published: set(legs) <= set(published),
        lambda published: f"{len(published)} of {len(legs)}",
        seconds=30.0,
    )
    return Books(
        trial_balance=read(f"{account}/trial-balance"),
        ledger_accounts=list_all(f"{account}/ledger-accounts", "ledgerAccounts"),
        ledger_entries=ledger_entries,
        journal_entries={entry["journalSequence"]: entry for page in pages for entry in page["journalEntries"]},
        open_holds=list_all(f"{account}/holds", "holds", status="PLACED"),
        offering=read(f"/offerings/{run.offering_id}"),
        investments=list_all("/investments", "investments", offeringId=run.offering_id)[::-1],
        distribution=read(f"/distributions/{run.distribution_id}"),
        allocations=run.list_allocations(),
        transactions=list_all("/transactions", "transactions", escrowAccountId=run.escrow_account_id)[::-1],
        bank_movements=read_movements(run.bank, "2024-01-01", "2026-12-31"),
        events=subscriber.count_events(),
        published_legs=published,
        refused_transaction_id=run.refused_transaction_id,
    )


def read_published_legs(subscriber: Subscriber, run: DemoRun) -> list[Leg]:
    legs = []
    for entry in subscriber.list_journal_entries(run.escrow_account_id):
        for leg in entry.ledger_entries:
            account = leg.ledger_account
            legs.append(
                Leg(
                    entry.journal_sequence,
                    type(account).Kind.Name(account.kind),
                    run.name_parties(account.party_id),
                    leg.sequence,
                    type(leg).Direction.Name(leg.direction),
                    leg.amount.amount_minor,
                    type(leg).Layer.Name(leg.layer),
                )
            )
    return sorted(legs)


def wait_until_settled(run: DemoRun) -> None:
    """Until every service has handled the last events. Raises: ConditionNotMet."""
    for party in cast.FUNDERS:
        run.wait_for_investment(party, "to show what was paid", distributedAmount=sum(cast.ALLOCATIONS[party.id]))
