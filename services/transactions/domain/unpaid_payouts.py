"""Money that is to be paid and stands still: which end of a payout calls a person, and what that person reads.

A payout is never sent a second time by itself. So whatever ended otherwise than paid is owed until a person has it sent
again, and the same debt is one exception however often it comes to nothing (`owed_for`). What staff ordered is owed to
nobody: what was refused as it was ordered, or what persons took back, stands still for nobody.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Final

from services.chassis.values.failure import Failure
from services.chassis.values.money import Money
from services.transactions.domain.exceptions import About
from services.transactions.domain.returns import spell_failure
from services.transactions.domain.states import ENDED, Status
from services.transactions.domain.transaction import Transaction
from services.transactions.domain.types import TYPES, TransactionType

# How a refund ends that only has to go to several cards: what goes to each is ordered by itself.
_GOES_IN_PARTS: Final = "REFUND_IN_PARTS"
_NOT_APPROVED_IN_TIME: Final = "APPROVAL_EXPIRED"
_WHY_MAX: Final = 200


def stands_still(previous: Status | None, row: Transaction) -> bool:
    """Whether a move has a payout end, and its money is to be paid all the same."""
    if row.is_inbound or row.status not in ENDED:
        return False
    if not TYPES[row.type].is_for_staff:
        return True
    if row.status is Status.CANCELLED:
        return row.failure is not None and row.failure.code == _NOT_APPROVED_IN_TIME
    return previous is not Status.INITIATED and not row.came_back_by_reversal


def is_refused_for_good(failure: Failure) -> bool:
    """Whether a payout that never became a transaction was refused, and not only to go in parts."""
    return failure.code != _GOES_IN_PARTS


def describe_owed(row: Transaction) -> About:
    """What a payout is to pay, whichever transaction does."""
    return build_owed(
        TYPES[row.type],
        row.amount,
        escrow_account_id=row.escrow_account_id,
        party_id=row.party_id,
        investment_id=row.investment_id,
        distribution_id=row.distribution_id,
        allocation_id=row.allocation_id,
        order_id=row.transaction_id,
        transaction_id=row.transaction_id,
        bank_account_id=row.bank_account_id,
        provider=row.provider,
        makers={row.created_by, *row.makers_and_checkers},
    )


def build_owed(
    kind: TransactionType,
    amount: Money,
    *,
    escrow_account_id: str,
    party_id: str,
    investment_id: str | None,
    distribution_id: str | None,
    allocation_id: str | None,
    order_id: str,
    makers: Collection[str],
    transaction_id: str | None = None,
    bank_account_id: str | None = None,
    provider: str | None = None,
) -> About:
    """
    Args:
        order_id: What stands for the debt where nothing else does: each order is one then.
    """
    return About(
        transaction_id=transaction_id,
        bank_account_id=bank_account_id,
        provider=provider,
        amount=amount,
        escrow_account_id=escrow_account_id,
        party_id=party_id,
        investment_id=investment_id,
        distribution_id=distribution_id,
        allocation_id=allocation_id,
        owed_for=_name_debt(kind, investment_id, allocation_id, order_id),
        makers=makers,
    )


def _name_debt(kind: TransactionType, investment_id: str | None, allocation_id: str | None, order_id: str) -> str:
    if kind.is_for_staff:
        return order_id
    if kind.is_of_closing:
        return kind.name  # an escrow account has one offering, and that one closing
    return allocation_id or investment_id or order_id


def describe_refund_of(row: Transaction) -> About:
    """The refund that a contribution would go back by."""
    return About(escrow_account_id=row.escrow_account_id, owed_for=row.investment_id)


def spell_unpaid(row: Transaction) -> str:
    why = "it was cancelled" if row.failure is None else spell_failure(row.failure)
    return spell_owed(TYPES[row.type], describe_owed(row), f"{row.transaction_id} {row.status}, {why}")


def spell_owed(kind: TransactionType, about: About, why: str) -> str:
    """Who is to be paid how much, why that stands still, and what to do."""
    why = why if len(why) <= _WHY_MAX else f"{why[: _WHY_MAX - 1]}…"
    owed = f"{kind.label}: {about.amount} to {about.party_id} is not paid."
    return f"{owed} {why.rstrip('.')}. {_spell_remedy(kind, about)}"


def _spell_remedy(kind: TransactionType, about: About) -> str:
    if kind.is_for_staff:
        return "If it is still to be paid, order it anew: POST /transactions."
    if kind.gives_back:
        return f"To send it again: POST /investments/{about.investment_id}/refund/resend."
    if kind.is_of_closing:
        return "To send it again: POST /offerings/{id}/proceeds/resend of the offering of the escrow account."
    path = f"/distributions/{about.distribution_id}/allocations/{about.allocation_id}"
    return f"To send it again: POST {path}/resend."


def spell_ordered_anew(row: Transaction, now: datetime) -> str:
    return (
        f"{row.amount} to {row.party_id} was ordered anew on {now:%Y-%m-%d}, as {row.transaction_id}."
        " Wait for it: this says what becomes of it."
    )


def spell_arrived(row: Transaction) -> str:
    arrived = f"{row.amount} has arrived at {row.party_id} since, by {row.transaction_id}."
    return f"{arrived} Where no more is owed, resolve this."


def spell_came_back(row: Transaction) -> str:
    """Of a contribution that its bank took back, which is not to be refunded any more."""
    return (
        f"The contribution {row.transaction_id}, {row.amount}, went back by its bank since: less is to be refunded, or"
        f" nothing. See the refundableAmount of {row.investment_id}; where nothing is left, resolve this."
    )
