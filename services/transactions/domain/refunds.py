"""Where a contribution that is given back goes: to where it came from, unless a second person agrees to another place.

What was paid by card goes back to that card, by the provider that took it, a card after the other: then nobody has it
twice, from us and by a dispute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from services.chassis.values.errors import DomainError
from services.chassis.values.money import Money
from services.transactions.domain.refusals import PaymentDisputed, RefundInParts
from services.transactions.domain.states import Status
from services.transactions.domain.transaction import Transaction
from services.transactions.domain.types import (
    REFUND_CAME_BACK,
    REFUND_CAME_BACK_BY_PERSONS,
    REFUND_ELSEWHERE,
    REFUND_NOT_FINAL,
    REFUND_TAKEN_BACK,
)


def choose_refund_account(named: str | None, received: Sequence[Transaction]) -> str | None:
    """The account that a refund goes to; None: the party's default for payouts.

    Args:
        received: The contributions that arrived, the last one first. A wire or a check comes from no account.
    """
    return named or (received[0].bank_account_id if received else None)


def explain_refund(account_id: str | None, received: Sequence[Transaction], *, is_approved: bool) -> list[str]:
    """Why a second person approves a refund to this account: all that hold; empty where nobody has to.

    Args:
        received: The contributions that arrived, of which it gives back.
        is_approved: Whether two persons decided that the money goes back.
    """
    is_elsewhere = account_id is None or {row.bank_account_id for row in received} != {account_id}
    # Who asks for what is not final could have it twice: from us, and from the bank.
    is_final = is_approved or all(row.is_final for row in received)
    return [REFUND_ELSEWHERE] * is_elsewhere + [REFUND_NOT_FINAL] * (not is_final)


def explain_return(row: Transaction) -> str | None:
    """Why a second person approves another refund of an investment of which one, this one, is there again; None where
    it is not, or never was away.
    """
    if row.status is not Status.RETURNED:
        return None
    if row.came_back_by_reversal:
        return REFUND_TAKEN_BACK
    # That may be somebody's word alone, too, and then who gains is paid once more.
    return REFUND_CAME_BACK_BY_PERSONS if row.rail.is_confirmed_by_a_person else REFUND_CAME_BACK


def count_refundable(received: Sequence[Transaction], *, released_minor: int, gone_minor: int) -> int:
    """How much of an investment is there to be given back, in minor units: what its contributions brought.

    What persons booked for it beside them brought nothing of which anybody knows where it came from.

    Args:
        released_minor: What a closing took of it.
        gone_minor: What went back of it, or is on its way.
    """
    return sum(row.amount.amount_minor for row in received) - released_minor - gone_minor


class CardPayment(NamedTuple):
    """A contribution by card, and how much of it has not been given back."""

    row: Transaction
    left_minor: int

    @property
    def left(self) -> Money:
        return Money(self.left_minor, self.row.amount.currency)

    def find_refusal(self, amount_minor: int) -> DomainError | None:
        """Why not so much of it is given back now, if so."""
        if self.row.is_disputed:
            message = "Who holds the card disputes the payment: nothing of it is given back until that is over."
            return PaymentDisputed(message, transaction_id=self.row.transaction_id)
        if amount_minor > self.left_minor:
            message = "Only a part of it goes to the next card that it came from."
            currency = self.row.amount.currency
            return RefundInParts(message, refundable_minor=self.left_minor, currency_code=currency)
        return None

    def explain(self, *, is_approved: bool) -> list[str]:
        """Why a second person approves a refund of it; empty where nobody has to."""
        return [] if is_approved or self.row.is_final else [REFUND_NOT_FINAL]


def list_card_payments(
    received: Sequence[Transaction], given_back: Mapping[str, int], failed: Mapping[str, int]
) -> list[CardPayment]:
    """The contributions by card of which anything is left to give back, in the order in which that is done: those last
    to which most came to nothing, so that a card that takes none keeps none from the others.

    Args:
        received: The contributions that arrived, the last one first.
        given_back: How much of which contribution went back, or is on its way back, in minor units.
        failed: How many refunds to the card of which contribution came to nothing.
    """
    by_card = [row for row in received if row.rail.is_for_contributions]
    by_card.sort(key=lambda row: failed.get(row.transaction_id, 0))
    left = [CardPayment(row, row.amount.amount_minor - given_back.get(row.transaction_id, 0)) for row in by_card]
    return [each for each in left if each.left_minor > 0]


def list_by_account(received: Sequence[Transaction]) -> list[Transaction]:
    """Without what came by card."""
    return [row for row in received if not row.rail.is_for_contributions]
