"""What the escrow in memory does where a payee owes: it refuses, or books the set-off as the real one plans it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from realco.escrow.v1 import journal_pb2, postings_pb2
from realco.transactions.v1.transactions_pb2 import Transaction
from realco.type.v1.money_pb2 import Money

from services.escrow.domain import refusals
from services.escrow.domain.chart import Direction, LedgerAccount
from services.escrow.domain.journal import Leg
from services.escrow.domain.set_offs import build_set_off, list_debts, share_set_off
from services.escrow.domain.types import require_type
from services.escrow.messages import read_ledger_account
from tests.support.ledger_accounts import ledger_account

_SIGNS = {Direction.CREDIT: 1, Direction.DEBIT: -1}


def answer_set_offs(
    made: Iterable[tuple[postings_pb2.SetOffReceivablesRequest.Payout, int]],
) -> postings_pb2.SetOffReceivablesResponse:
    """
    Args:
        made: How much is set off of each item.
    """
    result = postings_pb2.SetOffReceivablesResponse.SetOff
    results = [
        result(
            idempotency_key=item.idempotency_key,
            set_off_amount=Money(currency_code=item.amount.currency_code, amount_minor=minor),
        )
        for item, minor in made
    ]
    return postings_pb2.SetOffReceivablesResponse(set_offs=results)


def build_leg(name: str, minor: int) -> Leg:
    """The leg that changes a ledger account by so much, credits above zero."""
    account = read_ledger_account(ledger_account(name), "")
    return Leg(account, Direction.CREDIT if minor > 0 else Direction.DEBIT, abs(minor))


def find_source(item: Any) -> str:
    """The ledger account that the payout would be taken from, as tests write it."""
    return _spell(_find_source(item))


def plan_set_off(
    item: Any, minor: int, booked: Iterable[tuple[journal_pb2.JournalEntry, Sequence[Leg]]]
) -> list[tuple[list[tuple[str, int]], dict[str, str]]]:
    """The legs of each entry, and what it is about.

    Args:
        booked: All entries of the escrow account.
    """
    debts = list_debts(item.party_id, [(entry.investment_id or None, legs) for entry, legs in booked])
    parts = share_set_off(minor, debts)
    made = []
    for each in build_set_off(_find_source(item), item.party_id, item.investment_id or None, parts):
        named = {"investment_id": each.investment_id, "distribution_id": item.distribution_id}
        legs = [(_spell(leg.ledger_account), _SIGNS[leg.direction] * leg.amount_minor) for leg in each.legs]
        made.append((legs, {name: named_id for name, named_id in named.items() if named_id}))
    return made


def _find_source(item: Any) -> LedgerAccount:
    return require_type(Transaction.Type.Name(item.type)).ledger_account_of(item.party_id)


def _spell(account: LedgerAccount) -> str:
    return f"{account.kind.lower()}:{account.party_id}".removesuffix(":")


def build_debt(escrow_account_id: str, party_id: str, owed_minor: int, currency: str) -> refusals.PartyOwes:
    return refusals.PartyOwes(
        "What the bank took back is owed.",
        party_id=party_id,
        escrow_account_id=escrow_account_id,
        owed_minor=owed_minor,
        currency_code=currency,
    )
