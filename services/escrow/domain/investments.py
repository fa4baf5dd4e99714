"""Which investment counts what persons post: distributions counts it by the investment that an entry names and by the
party of the ledger account, and by nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from services.chassis.values.errors import InvalidField
from services.chassis.values.explanation import HOUSE_RULE, Explanation
from services.chassis.values.money import Money
from services.chassis.values.refusals import InvestmentNotFound
from services.escrow.domain.chart import LedgerAccount, LedgerAccountKind
from services.escrow.domain.journal import NewEntry, sum_changes

# What a party has in an offering, or owes to it. A contract test compares them with what distributions counts.
COUNTED_KINDS: Final = frozenset(
    {LedgerAccountKind.SUBSCRIPTION, LedgerAccountKind.UNAPPLIED, LedgerAccountKind.RETURNS_RECEIVABLE}
)
# Whoever reads so many knows enough.
_NAMED_MAX: Final = 100


class Share(NamedTuple):
    """What of a ledger account was booked for one investment; None: for none."""

    ledger_account: LedgerAccount
    investment_id: str | None


def list_counted(entry: NewEntry) -> list[LedgerAccount]:
    """The ledger accounts of which an investment counts what the entry posts; none of a reversal, which belongs to
    whatever its original does.
    """
    if entry.reverses_journal_entry_id:
        return []
    return [account for account in sum_changes(entry.legs) if account.kind in COUNTED_KINDS]


def is_counted(entry: NewEntry) -> bool:
    """Whether it matters which investment it names."""
    return not entry.reverses_journal_entry_id and bool(entry.investment_id or list_counted(entry))


def check_investment(entry: NewEntry, parties: Mapping[str, str]) -> None:
    """What an entry posts for an investment is counted by it.

    Args:
        parties: Of each investment in the offering of the escrow account, its party.

    Raises: InvestmentNotFound.
    """
    if entry.investment_id is None:
        return
    party_id = parties.get(entry.investment_id)
    if party_id is None or any(account.party_id != party_id for account in list_counted(entry)):
        raise InvestmentNotFound(entry.named_field)


def list_taken(entry: NewEntry) -> list[Share]:
    """Of which shares an entry takes, or settles them, where investments count.

    A reversal names what its original does: what that one brought may be gone by now.
    """
    changes = sum_changes(entry.legs)
    return [
        Share(account, entry.investment_id)
        for account, minor in changes.items()
        if account.kind in COUNTED_KINDS and minor < 0
    ]


def check_taken(entries: Iterable[NewEntry], booked: Mapping[Share, int], currency: str) -> None:
    """What was booked for an investment is taken by an entry that names it, and no more than that: else one investment
    counts it for ever, and never ends.

    Args:
        entries: Each is judged after those before it.
        booked: What was booked for each share, on the normal side of its ledger account, in minor units.

    Raises: InvalidField.
    """
    left = Counter(booked)
    for entry in entries:
        for account, minor in sum_changes(entry.legs).items():
            if account.kind in COUNTED_KINDS:
                left[Share(account, entry.investment_id)] += minor
        for share in list_taken(entry):
            if left[share] < 0:
                raise build_not_booked(entry, share, left[share], currency)


def build_not_booked(entry: NewEntry, share: Share, left_minor: int, currency: str) -> InvalidField:
    """The refusal of an entry that takes what was booked for another investment, or for none.

    Args:
        left_minor: What would be left of the share after it: below zero.
    """
    account, investment_id = share
    taken_minor = -sum_changes(entry.legs)[account]
    there, taken = Money(max(0, left_minor + taken_minor), currency), Money(taken_minor, currency)
    whom = "no investment" if investment_id is None else investment_id
    said = f"{taken} would be taken from {account}, of which {there} was booked for {whom}"
    if entry.reverses_journal_entry_id:
        cure, fault = "reverse what took the rest first", f"cannot be reversed: {there} of it is left on {account}"
    elif investment_id is None:
        cure = "name the investment that the rest was booked for"
        fault = f"is required: what is taken from {account} was booked for one"
    else:
        cure = "take the rest by an entry for what it was booked for"
        fault = f"has no more than {there} on {account}"
    return InvalidField(f"{said}: {cure}.", fields={entry.named_field or "investment_id": fault})


def explain_uncounted(entries: Iterable[NewEntry], offering_id: str | None) -> list[Explanation]:
    """What is posted for no investment, in an escrow account that keeps the money of an offering."""
    if not offering_id:
        return []
    found = {account: None for each in entries if each.investment_id is None for account in list_counted(each)}
    if not found:
        return []
    named = ", ".join(map(str, list(found)[:3])) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
    statement = (
        f"What is posted on {named} names no investment and counts for none of {offering_id}: no closing and no refund"
        " takes it."
    )
    operands = tuple((account.kind.value, account.party_id) for account in list(found)[:_NAMED_MAX])
    return [Explanation(statement, "COUNTS_FOR_NO_INVESTMENT", operands, HOUSE_RULE)]
