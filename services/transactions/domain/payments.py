"""What the state of a payment at its provider means for a transaction.

A provider's states only grow: pending, then settled, failed or cancelled, then perhaps returned. What is older than
what we know changes nothing, so webhooks and look-ups may come in any order and any number.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from services.chassis.values.failure import Failure
from services.chassis.values.money import Money
from services.chassis.values.text import quote
from services.transactions.domain.disputes import Dispute, DisputeStatus
from services.transactions.domain.returns import NETWORK_CODE, find_return_code
from services.transactions.domain.states import Status


class PaymentStatus(StrEnum):
    PENDING = "pending"
    SETTLED = "settled"
    RETURNED = "returned"
    FAILED = "failed"
    CANCELLED = "cancelled"


class FormerLife(NamedTuple):
    """When a payment may have been made of which a restored database knows nothing: from when it was ordered until the
    restore."""

    since: datetime
    until: datetime


class Card(NamedTuple):
    """All that is ever known here of a card: whose network it is of, and four digits."""

    brand: str
    last4: str


@dataclass(frozen=True, slots=True)
class ReversingPayment:
    """The debit by which a provider takes a payment back.

    Args:
        status: Its own.
        changed_at: By the provider's business clock.
        reason: Why it failed, in words.
    """

    status: PaymentStatus
    changed_at: datetime | None
    return_code: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment as the provider has it now."""

    payment_id: str
    reference: str  # our transaction id
    status: PaymentStatus
    amount: Money
    is_inbound: bool
    presentment: int
    changed_at: datetime | None  # by the provider's business clock
    return_code: str = ""  # of a debit or credit by ACH
    decline_code: str = ""  # of a card: in a word, why its bank refused the payment, or the refund
    reason: str = ""
    gone_minor: int = 0  # of what had arrived: paid back there, or disputed, besides its return
    is_drawn_again: bool = False  # it had come back, and somebody there had it tried once more
    is_misused: bool = False  # it bears words of ours, and is not what we ordered by them
    payer_action_url: str = ""  # where the payer has to confirm it, while it is pending
    dispute: Dispute | None = None  # the last one, of a card
    card: Card | None = None  # that it was paid by
    reversal: ReversingPayment | None = None  # by which it is taken back; None where the provider says nothing of one
    fee_minor: int | None = None  # what the provider has kept for itself so far; None where it does not say


_P, _S = PaymentStatus, Status

# (the provider's state, ours) -> the moves to make, in order. A pair that is not here is older than what we know.
_TO_MAKE: dict[tuple[PaymentStatus, Status], tuple[Status, ...]] = {
    (_P.PENDING, _S.PROCESSING): (_S.PENDING_SETTLEMENT,),
    (_P.SETTLED, _S.PROCESSING): (_S.PENDING_SETTLEMENT, _S.SETTLED),
    (_P.SETTLED, _S.PENDING_SETTLEMENT): (_S.SETTLED,),
    (_P.RETURNED, _S.PROCESSING): (_S.PENDING_SETTLEMENT, _S.RETURNED),
    (_P.RETURNED, _S.PENDING_SETTLEMENT): (_S.RETURNED,),
    (_P.RETURNED, _S.SETTLED): (_S.RETURNED,),
    (_P.RETURNED, _S.COMPLETED): (_S.RETURNED,),
    (_P.FAILED, _S.PROCESSING): (_S.FAILED,),
    (_P.FAILED, _S.PENDING_SETTLEMENT): (_S.FAILED,),
    (_P.CANCELLED, _S.PROCESSING): (_S.PENDING_SETTLEMENT, _S.CANCELLED),
    (_P.CANCELLED, _S.PENDING_SETTLEMENT): (_S.CANCELLED,),
}

# Where the provider contradicts itself: a payment it settled cannot fail later, nor the other way round: then there is
# money that we said does not come. A person looks; nothing moves.
ENDED_WITHOUT_MONEY, _ENDED_WITH_MONEY = (_P.FAILED, _P.CANCELLED), (_S.SETTLED, _S.COMPLETED)
_CONTRADICTIONS = frozenset(
    {(reported, status) for reported in ENDED_WITHOUT_MONEY for status in _ENDED_WITH_MONEY}
    | {(_P.SETTLED, _S.FAILED), (_P.SETTLED, _S.CANCELLED)}
)
# Money that came back is not there again. A look that began before the return was heard of may say so; none takes a
# minute.
_TAKEN_BACK = frozenset({(_P.SETTLED, _S.RETURNED), (_P.SETTLED, _S.PENDING_RETRY)})
_LOOK_LASTS = timedelta(minutes=1)


def list_moves(reported: PaymentStatus, status: Status) -> tuple[Status, ...]:
    """The moves that bring a transaction in `status` to where the provider has it; empty if we know more already."""
    return _TO_MAKE.get((reported, status), ())


_OUTCOMES = {_S.SETTLED: "SETTLED", _S.RETURNED: "RETURNED", _S.FAILED: "ENDED", _S.CANCELLED: "ENDED"}


def find_outcome(reported: PaymentStatus, status: Status) -> str | None:
    """What becomes of the money of a transaction by what the provider says, as escrow calls it; None: nothing new."""
    moves = list_moves(reported, status)
    return _OUTCOMES.get(moves[-1]) if moves else None


def is_contradiction(reported: PaymentStatus, status: Status, known_for: timedelta) -> bool:
    """
    Args:
        known_for: For how long nothing has changed of the transaction.
    """
    says = reported, status
    return says in _CONTRADICTIONS or (says in _TAKEN_BACK and known_for > _LOOK_LASTS)


def is_won_again(dispute: Dispute | None, reference: str | None, status: DisputeStatus) -> bool:
    """Whether what was lost is said to be won after all: its money is with the provider again, and in no book."""
    known = dispute is not None and dispute.reference == reference and status is DisputeStatus.LOST
    return known and dispute is not None and dispute.status is not DisputeStatus.LOST


# What a provider may keep of however small a payment, a rule of the house: three disputes, of 15 USD each, and more.
_FEE_OF_SMALL_PAYMENTS_MINOR_MAX = 50_00
# Until then nothing was collected. What is cancelled may have come back before.
_KEEPS_FEES = frozenset({_S.SETTLED, _S.COMPLETED, _S.RETURNED, _S.PENDING_RETRY, _S.FAILED, _S.CANCELLED})


def compute_fees(payment: Payment, status: Status, earlier_minor: int) -> int | None:
    """What the provider has kept for itself of all attempts; None where it says nothing new, or nothing to believe.

    Args:
        status: The transaction's.
        earlier_minor: By attempts before this one.
    """
    if payment.fee_minor is None or is_fee_absurd(payment) or status not in _KEEPS_FEES:
        return None
    return earlier_minor + payment.fee_minor


def is_fee_absurd(payment: Payment) -> bool:
    """Whether the provider says that it kept more than there was: a person looks."""
    return (payment.fee_minor or 0) > max(payment.amount.amount_minor, _FEE_OF_SMALL_PAYMENTS_MINOR_MAX)


def build_failure(
    status: PaymentStatus,
    return_code: str,
    reason: str,
    *,
    of: str = "payment",
    decline_code: str = "",
    retryable: bool = False,
) -> Failure:
    """Why a bank did not carry it out, or sent it back.

    Args:
        reason: In the bank's or the provider's own words.
        of: What was not carried out.
        decline_code: In a word, why the bank of a card refused it.
    """
    code = "RETURNED_BY_BANK" if status is PaymentStatus.RETURNED else "DECLINED_BY_PROVIDER"
    if return_code:
        return Failure(code, find_return_code(return_code).name, retryable, {NETWORK_CODE: return_code})
    why = f" It says: {quote(reason)}." if reason else ""
    said = {NETWORK_CODE: decline_code} if decline_code else {}
    return Failure(code, f"The bank did not carry out the {of}.{why}", retryable, said)


def find_difference(payment: Payment, *, reference: str, amount: Money, is_inbound: bool, presentment: int) -> str:
    """In what a provider's answer is not about our payment; empty if it is. Its amount is checked, never believed."""
    for name, theirs, ours in (
        ("reference", payment.reference, reference),
        ("amount", payment.amount, amount),
        ("direction", payment.is_inbound, is_inbound),
        ("presentment", payment.presentment, presentment),
    ):
        if theirs != ours:
            return name
    return ""
