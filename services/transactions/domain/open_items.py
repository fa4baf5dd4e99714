"""Open items of an escrow account, as the book tells of them: money that is missing, and money that is not applied."""

from __future__ import annotations

from typing import Final

from services.chassis.values.money import Money
from services.transactions.domain.exceptions import About, ExceptionKind

# By the kind of the ledger account, as far as we know them: escrow may be newer than we are.
_OPEN: Final = {
    "RETURNS_RECEIVABLE": "{party} owes {amount}: a bank took back money that had been passed on by then",
    "PROVIDER_FEES": "Payment providers kept {amount} of money that came in, and nobody has paid it in since",
    "CASH": "The custodian's bank account is overdrawn by {amount}: a bank took back more than was there",
    "UNAPPLIED": "{amount} of {party} came while the escrow account was frozen, and is not applied",
    "SUSPENSE": "{amount} is in the escrow account that nobody has explained",
}
_SETTLED: Final = {
    "RETURNS_RECEIVABLE": "{party} owes nothing any more",
    "PROVIDER_FEES": "Nothing is missing any more of what payment providers kept",
    "CASH": "The custodian's bank account is not overdrawn any more",
    "UNAPPLIED": "Nothing of {party} is not applied any more",
    "SUSPENSE": "Nothing is not explained any more",
}
_NOT_APPLIED: Final = frozenset({"UNAPPLIED", "SUSPENSE"})


def find_exception_kind(kind: str) -> ExceptionKind:
    """By the kind of the ledger account."""
    return ExceptionKind.MONEY_NOT_APPLIED if kind in _NOT_APPLIED else ExceptionKind.SHORTFALL


def describe_open_item(
    kind: str,
    party_id: str,
    amount: Money,
    *,
    escrow_account_id: str,
    transaction_id: str | None,
    investment_id: str | None,
) -> About:
    """
    Args:
        kind: Of the ledger account.
        party_id: Whose it is; empty where it is nobody's.
    """
    return About(
        transaction_id=transaction_id,
        amount=amount,
        escrow_account_id=escrow_account_id,
        party_id=party_id or None,
        investment_id=investment_id,
        owed_for=f"{kind} {party_id}".rstrip(),
    )


def spell_open_item(kind: str, about: About, journal_entry_id: str) -> str:
    """How it stands after an entry of the book, and what to do where nothing is open any more."""
    assert about.amount is not None
    words = _OPEN if about.amount.amount_minor else _SETTLED
    said = words.get(kind, "{amount} is open on {kind}").format(party=about.party_id, amount=about.amount, kind=kind)
    after = f"{said} (after {journal_entry_id}"
    if about.transaction_id is not None:
        after += f", {about.transaction_id}"
    return f"{after}). {'' if about.amount.amount_minor else 'Resolve this.'}".rstrip()
