"""What must tie out in the end: each check compares two independent sources, in whole cents."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from demo import cast
from demo.books import Books
from demo.harness.ledger import name_of_account
from demo.harness.money import format_minor, minor_of
from demo.money_out import read_shares, read_tiers


@dataclass(frozen=True)
class Check:
    """One sentence, and the faults that make it untrue."""

    sentence: str
    faults: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.faults


def run_checks(books: Books) -> list[Check]:
    return [Check(sentence, tuple(find(books))) for sentence, find in _CHECKS.items()]


def _check_trial_balance(books: Books) -> Iterator[str]:
    trial = books.trial_balance
    debit = sum(minor_of(line.get("debit")) for line in trial["lines"])
    credit = sum(minor_of(line.get("credit")) for line in trial["lines"])
    if debit != credit:
        yield f"its lines add up to {format_minor(debit)} and {format_minor(credit)}"
    difference = minor_of(trial["difference"])
    if difference or not trial["balanced"]:
        yield f"the book itself says: difference {format_minor(difference)}, balanced {trial['balanced']}"


def _check_entries(books: Books) -> Iterator[str]:
    sums: dict[tuple[int, str], int] = defaultdict(int)
    for leg in books.legs:
        sums[leg.journal_sequence, leg.layer] += leg.debit_minor
    for (journal_sequence, layer), difference in sums.items():
        if difference:
            yield f"journal entry {journal_sequence} is off by {format_minor(difference)} in {layer}"


def _check_balances(books: Books) -> Iterator[str]:
    sums: dict[str, int] = defaultdict(int)
    pending: dict[str, int] = defaultdict(int)
    for leg in books.legs:
        (sums if leg.layer == "POSTED" else pending)[leg.ledger_account] += leg.debit_minor
    kept = {
        name_of_account(line["ledgerAccount"]): minor_of(line["posted"])
        * (1 if line["normalBalance"] == "DEBIT" else -1)
        for line in books.ledger_accounts
    }
    for code in kept | sums:
        if kept.get(code, 0) != sums[code]:
            yield f"{code} has {format_minor(kept.get(code, 0))}, its entries add up to {format_minor(sums[code])}"
    for code, left in pending.items():
        if left:
            yield f"{code} still has {format_minor(left)} pending"


def _check_sequences(books: Books) -> Iterator[str]:
    numbers: dict[str, list[int]] = defaultdict(list)
    for leg in books.legs:
        numbers[leg.ledger_account].append(leg.sequence)
    for code, found in numbers.items():
        if sorted(found) != list(range(1, len(found) + 1)):
            yield f"{code} has {sorted(found)}"


def _check_remainders(books: Books) -> Iterator[str]:
    for line in books.ledger_accounts:
        if left := minor_of(line["posted"]):
            yield f"{name_of_account(line['ledgerAccount'])} is left with {format_minor(left)}"
    for hold in books.open_holds:
        yield f"{hold['holdId']} is open on {name_of_account(hold['ledgerAccount'])}"


def _check_bank(books: Books) -> Iterator[str]:
    """The wire does not pass the ACH desk: it is the one movement of cash that the bank does not list."""
    ours = Counter(leg.debit_minor for leg in books.legs if leg.kind == "CASH" and leg.layer == "POSTED")
    ours[cast.DISTRIBUTION_MINOR] -= 1
    theirs = Counter(int(movement["amount_minor"]) for movement in books.bank_movements)
    for amount_minor in sorted(ours | theirs):
        if ours[amount_minor] != theirs[amount_minor]:
            found = f"{ours[amount_minor]} times in our cash, {theirs[amount_minor]} times at the bank"
            yield f"{format_minor(amount_minor)} is {found}"


def _check_waterfall(books: Books) -> Iterator[str]:
    found_tiers, found_parts = read_tiers(books.distribution), read_shares(books.allocations)
    for tier in cast.TIERS.keys() | found_tiers.keys():
        if found_tiers.get(tier) != cast.TIERS.get(tier):
            yield f"{tier} is {found_tiers.get(tier)}, not {cast.TIERS.get(tier)}"
    for payee in cast.ALLOCATIONS.keys() | found_parts.keys():
        if found_parts.get(payee) != cast.ALLOCATIONS.get(payee):
            yield f"{payee} gets {found_parts.get(payee)}, not {cast.ALLOCATIONS.get(payee)}"
    total = sum(minor_of(allocation["amount"]) for allocation in books.allocations.values())
    if total != cast.DISTRIBUTION_MINOR:
        yield f"the allocations add up to {format_minor(total)}"


def _check_payouts(books: Books) -> Iterator[str]:
    for payee, allocation in books.allocations.items():
        payouts = [one for one in books.transactions if one.get("allocationId") == allocation["allocationId"]]
        paid = [minor_of(one["amount"]) for one in payouts if one["status"] == "COMPLETED"]
        if paid != [minor_of(allocation["amount"])] or allocation["status"] != "COMPLETED":
            amounts = ", ".join(map(format_minor, paid)) or "nothing"
            total = format_minor(minor_of(allocation["amount"]))
            yield f"{payee} is {allocation['status']} and was paid {amounts} of {total}"


def _check_transactions(books: Books) -> Iterator[str]:
    found = Counter((one["type"], one["partyId"], one["status"]) for one in books.transactions)
    wanted = Counter({("ESCROW_DEPOSIT", party.id, "COMPLETED"): 1 for party in cast.FUNDERS})
    wanted[("ESCROW_DEPOSIT", cast.DAN.id, "FAILED")] = 1
    wanted[("ESCROW_WITHDRAWAL", cast.SPONSOR, "COMPLETED")] = 1
    wanted[("DEPOSIT", cast.SPONSOR, "COMPLETED")] = 1
    wanted[("DISTRIBUTION", cast.BEN.id, "FAILED")] = 1
    wanted += Counter({("DISTRIBUTION", payee, "COMPLETED"): 1 for payee in cast.ALLOCATIONS})
    for which in sorted((found - wanted) + (wanted - found)):
        yield f"{' '.join(which)}: {found[which]}, not {wanted[which]}"


def _check_refusal(books: Books) -> Iterator[str]:
    for entry in books.journal_entries.values():
        if entry.get("transactionId") == books.refused_transaction_id:
            yield f"{entry['journalEntryId']} was booked for it"
    for movement in books.bank_movements:
        if books.refused_transaction_id in str(movement["reference"]):
            yield f"the bank moved {movement['id']} for it"


def _check_investments(books: Books) -> Iterator[str]:
    if books.offering["status"] != "CLOSED" or books.offering["closingDate"] != cast.CLOSING.date().isoformat():
        yield f"the offering is {books.offering['status']} on {books.offering.get('closingDate')}"
    by_investor = {investment["partyId"]: investment for investment in books.investments}
    if by_investor.keys() != {party.id for party in cast.INVESTORS}:
        yield f"there are investments of {sorted(by_investor)}"
        return
    for party in cast.FUNDERS:
        investment = by_investor[party.id]
        words = ("amount", "fundedAmount", "unreturnedCapital", "distributedAmount")
        found = tuple(minor_of(investment.get(word)) for word in words)
        wanted = (party.commitment_minor, party.commitment_minor, 0, sum(cast.ALLOCATIONS[party.id]))
        if found != wanted:
            yield f"{party.id}: {', '.join(words)} are {found}, not {wanted}"
    if by_investor[cast.DAN.id]["status"] != "CANCELLED":
        yield f"{cast.DAN.id} is {by_investor[cast.DAN.id]['status']}"


def _check_subscriber(books: Books) -> Iterator[str]:
    published, booked = Counter(books.published_legs), Counter(books.legs)
    for leg in sorted((published - booked) + (booked - published)):
        counts = f"published {published[leg]} times, booked {booked[leg]} times"
        yield f"journal entry {leg.journal_sequence} {leg.ledger_account}: {counts}"


_CHECKS: dict[str, Callable[[Books], Iterator[str]]] = {
    "The trial balance's difference is zero": _check_trial_balance,
    "Every journal entry balances, in each layer": _check_entries,
    "Every balance is the sum of its ledger entries, and nothing is left pending": _check_balances,
    "Every ledger account's entries are numbered without gaps": _check_sequences,
    "Every cent that came in went out, and no hold is open": _check_remainders,
    "The bank moved exactly what our cash account says, nothing twice": _check_bank,
    "The waterfall is the agreed one to the cent": _check_waterfall,
    "Every payee was paid its allocation exactly once": _check_payouts,
    "Every transaction ended as the story says": _check_transactions,
    "The refused contribution moved nothing": _check_refusal,
    "The offering is closed and the investments show what was paid": _check_investments,
    "The subscriber was told of every ledger entry exactly once": _check_subscriber,
}
