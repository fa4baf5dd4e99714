"""One attempt to pay somebody: an allocation, the proceeds of an offering, or a refund.

Its key is the idempotency key with which transactions is asked, so asking again is safe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Final

from services.chassis.values.failure import Failure
from services.chassis.values.invariant import invariant
from services.distributions.domain.destination import pays_to_account
from services.distributions.domain.distribution import Allocation
from services.distributions.domain.investment import Investment
from services.distributions.domain.offering import Offering
from services.distributions.domain.states import PayoutStatus


class PayoutType(Enum):
    """The types of transactions, by their names there."""

    DISTRIBUTION = "DISTRIBUTION"
    ESCROW_WITHDRAWAL = "ESCROW_WITHDRAWAL"
    REFUND = "REFUND"


# By which transactions says that a refund goes to several cards.
REFUND_IN_PARTS: Final = "REFUND_IN_PARTS"
# What a transaction says that it pays: the word of transactions for the type.
DESCRIPTIONS = {
    PayoutType.DISTRIBUTION: "Distribution",
    PayoutType.ESCROW_WITHDRAWAL: "Proceeds of an offering",
    PayoutType.REFUND: "Refund of a contribution",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Payout:
    request_key: str
    saga_id: str
    type: PayoutType
    offering_id: str
    escrow_account_id: str
    party_id: str
    currency: str
    amount_minor: int  # what is paid: without what was set off
    set_off_minor: int | None = 0  # None: escrow is to be asked how much of it is set off
    attempt: int
    investment_id: str | None = None
    distribution_id: str | None = None
    allocation_id: str | None = None
    bank_account_id: str | None = None
    payment_method: str | None = None  # the rail, if one was named, as transactions names it
    refund_approved: bool = False  # whether two persons decided on it, who saw all that goes back
    asked_again: bool = False  # whether it is a refund that failed, and a person asked that it is sent again
    status: PayoutStatus = PayoutStatus.REQUESTED
    transaction_id: str | None = None
    transaction_version: int = 0  # of the newest event applied: an older one changes nothing
    failure: Failure | None = None
    created_at: datetime
    updated_at: datetime
    version: int = 1

    @property
    def awaits_set_off(self) -> bool:
        """Whether escrow is to be asked first what the payee owes: the payout is less by it."""
        return self.set_off_minor is None

    @property
    def has_failed(self) -> bool:
        """Whether it came to nothing, and was not only to go in parts."""
        is_over = self.status in (PayoutStatus.FAILED, PayoutStatus.RETURNED)
        return is_over and (self.failure is None or self.failure.code != REFUND_IN_PARTS)

    @property
    def is_refused(self) -> bool:
        """Whether it ended before it was a transaction: it is never to become one, whoever asks for it."""
        return self.status is PayoutStatus.FAILED and self.transaction_id is None


def set_off(payout: Payout, minor: int) -> Payout:
    """The payout with so much of it set off: it pays the rest. Nothing is left to pay where that was all."""
    invariant(payout.awaits_set_off and 0 <= minor <= payout.amount_minor, "what is set off is part of what is owed")
    return replace(payout, amount_minor=payout.amount_minor - minor, set_off_minor=minor)


def count_unpaid_proceeds(attempts: Sequence[Payout]) -> int:
    """What of the proceeds of a closing is neither paid nor set off, in minor units; nothing while any is under way.

    Args:
        attempts: To pay them, the first one first, which was to pay all.
    """
    if not attempts or not (attempts[-1].has_failed or attempts[-1].status is PayoutStatus.COMPLETED):
        return 0
    asked_minor = attempts[0].amount_minor + (attempts[0].set_off_minor or 0)
    set_off_minor = sum(each.set_off_minor or 0 for each in attempts)
    return asked_minor - set_off_minor - sum(each.amount_minor for each in attempts if not each.has_failed)


def _begin_set_off(offering: Offering) -> int | None:
    return None if offering.sets_off else 0


def name_allocation_payout(allocation: Allocation) -> str:
    """The key of its current attempt."""
    return f"alloc:{allocation.allocation_id}:{allocation.attempts}"


def build_allocation_payout(
    offering: Offering,
    allocation: Allocation,
    saga_id: str,
    now: datetime,
    *,
    amount_minor: int | None = None,
    bank_account_id: str | None = None,
    payment_method: str | None = None,
) -> Payout:
    """The payout of the allocation's current attempt.

    Args:
        amount_minor: Where it is not all that was not set off.
    """
    return Payout(
        request_key=name_allocation_payout(allocation),
        saga_id=saga_id,
        type=PayoutType.DISTRIBUTION,
        offering_id=offering.offering_id,
        distribution_id=allocation.distribution_id,
        allocation_id=allocation.allocation_id,
        escrow_account_id=offering.escrow_account_id,
        party_id=allocation.party_id,
        bank_account_id=bank_account_id,
        payment_method=payment_method,
        currency=allocation.currency,
        amount_minor=allocation.amount_minor - allocation.set_off_minor if amount_minor is None else amount_minor,
        set_off_minor=_begin_set_off(offering),
        attempt=allocation.attempts,
        created_at=now,
        updated_at=now,
    )


def build_proceeds_payout(
    offering: Offering,
    amount_minor: int,
    attempt: int,
    saga_id: str,
    now: datetime,
    *,
    payment_method: str | None = None,
) -> Payout:
    return Payout(
        request_key=_number(f"close:{offering.offering_id}:proceeds", attempt),
        saga_id=saga_id,
        type=PayoutType.ESCROW_WITHDRAWAL,
        offering_id=offering.offering_id,
        escrow_account_id=offering.escrow_account_id,
        party_id=offering.sponsor_party_id,
        bank_account_id=offering.proceeds_bank_account_id if pays_to_account(payment_method) else None,
        payment_method=payment_method,
        currency=offering.currency,
        amount_minor=amount_minor,
        set_off_minor=_begin_set_off(offering),
        attempt=attempt,
        created_at=now,
        updated_at=now,
    )


def build_refund_payout(
    offering: Offering,
    investment: Investment,
    amount_minor: int,
    attempt: int,
    saga_id: str,
    now: datetime,
    *,
    approved: bool,
    asked_again: bool,
    bank_account_id: str | None = None,
    payment_method: str | None = None,
) -> Payout:
    return Payout(
        request_key=_number(f"refund:{investment.investment_id}", attempt),
        saga_id=saga_id,
        type=PayoutType.REFUND,
        offering_id=offering.offering_id,
        investment_id=investment.investment_id,
        refund_approved=approved,
        asked_again=asked_again,
        escrow_account_id=offering.escrow_account_id,
        party_id=investment.party_id,
        bank_account_id=bank_account_id,
        payment_method=payment_method,
        currency=investment.currency,
        amount_minor=amount_minor,
        set_off_minor=_begin_set_off(offering),
        attempt=attempt,
        created_at=now,
        updated_at=now,
    )


def find_part(payout: Payout, failure: Failure) -> int | None:
    """How much of a refund, in minor units, may go now, where transactions says that it goes in parts."""
    part = failure.metadata.get("refundable_minor", "")
    is_part = payout.type is PayoutType.REFUND and failure.code == REFUND_IN_PARTS and part.isdecimal()
    return int(part) if is_part and 0 < int(part) < payout.amount_minor else None


def build_refund_part(refused: Payout, part_minor: int, now: datetime) -> Payout:
    """The next attempt: less, for the same reason, and by the same persons."""
    attempt = refused.attempt + 1
    return replace(
        refused,
        request_key=_number(f"refund:{refused.investment_id}", attempt),
        amount_minor=part_minor,
        set_off_minor=0,  # what is set off counts with the attempt of which it was
        attempt=attempt,
        status=PayoutStatus.REQUESTED,
        failure=None,
        created_at=now,
        updated_at=now,
        version=1,
    )


def _number(key: str, attempt: int) -> str:
    return key if attempt == 1 else f"{key}:{attempt}"
