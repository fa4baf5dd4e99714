"""Which payouts may be reversed, until when, and what people read of it."""

from __future__ import annotations

from datetime import date
from typing import Final

from services.chassis.values.calendar import add_banking_days
from services.chassis.values.errors import DomainError
from services.chassis.values.explanation import Explanation, spell_gate
from services.chassis.values.failure import Failure
from services.chassis.values.refusals import IllegalStatusChange
from services.transactions.domain.payments import PaymentStatus, ReversingPayment, build_failure
from services.transactions.domain.rails import PROVIDERS, Period
from services.transactions.domain.refusals import (
    PaymentMethodNotSupported,
    ReversalTooLate,
    TypeNotSupported,
)
from services.transactions.domain.returns import spell_failure
from services.transactions.domain.reversals import Reversal, ReversalReason, ReversalStatus
from services.transactions.domain.states import ARRIVED, Status
from services.transactions.domain.transaction import Transaction
from services.transactions.domain.types import TYPES

# House rule: Nacha wants it at the receiver's bank by then; what settles by then is there.
REVERSE_WITHIN: Final = Period(
    "ACH_REVERSAL",
    days=5,
    is_banking_days=True,
    source="Nacha Operating Rules, Section 2.9: within five banking days after the entry in error settled",
)
S = ReversalStatus
_WHY: Final = {
    ReversalReason.DUPLICATE: "it was paid before",
    ReversalReason.WRONG_RECEIVER: "it went to somebody else than it was for",
    ReversalReason.WRONG_AMOUNT: "its amount was another one",
}


def find_last_day(transaction: Transaction) -> date | None:
    """On which its reversal may settle; None of what has not settled."""
    settled_at = transaction.settled_at
    return None if settled_at is None else add_banking_days(settled_at.date(), REVERSE_WITHIN.days)


def check_may_reverse(transaction: Transaction, settles_on: date) -> None:
    """
    Args:
        settles_on: When a reversal that is ordered now settles.

    Raises:
        TypeNotSupported: it is no payout: what was drawn in error is refunded.
        PaymentMethodNotSupported: its provider reverses nothing.
        IllegalStatusChange: it has not settled, or came back, or was reversed before, whatever became of that.
        ReversalTooLate
    """
    if transaction.is_inbound:
        raise TypeNotSupported("What was drawn in error is refunded, and not reversed.", type=transaction.type)
    if not PROVIDERS[transaction.provider].reverses_payouts:
        message = f"{transaction.provider} takes back nothing that it paid."
        raise PaymentMethodNotSupported(message, payment_method=transaction.payment_method)
    if transaction.reversal is not None:
        message = "It is reversed once, whatever became of that."
        raise IllegalStatusChange(transaction.reversal.status, ReversalStatus.ORDERED, message)
    check_may_still_reverse(transaction, settles_on)


def check_may_still_reverse(transaction: Transaction, settles_on: date) -> None:
    """What is asked again when the debit is about to leave. Raises: IllegalStatusChange, ReversalTooLate."""
    if transaction.status not in ARRIVED:
        raise IllegalStatusChange(transaction.status, Status.RETURNED)
    last_day = find_last_day(transaction)
    if last_day is None or settles_on > last_day:
        raise ReversalTooLate(settles_on, last_day)


def find_reversal_refusal(transaction: Transaction, settles_on: date, said: PaymentStatus) -> DomainError | None:
    """Why a debit that was ordered is not wanted any more, if so.

    Args:
        said: By the provider, of the payout: what has not left, or was taken out of the bank's way, nobody has.
    """
    try:
        check_may_still_reverse(transaction, settles_on)
    except DomainError as refusal:
        return refusal
    if said is not PaymentStatus.SETTLED:
        message = f"Its provider says {said} of the payout: nobody has its money."
        return IllegalStatusChange(transaction.status, Status.RETURNED, message)
    return None


def explain_deadline(transaction: Transaction, reason: ReversalReason, settles_on: date) -> Explanation:
    """What is said to be wrong, and how much time is left: a gate that is shut once that is over."""
    last_day = find_last_day(transaction)
    statement = (
        f"It is said that {_WHY[reason]}. A debit of the whole amount would settle on {settles_on}; the last day for"
        f" that is {last_day}: {REVERSE_WITHIN.days} banking days after it settled. Tell who was paid by then, and why."
    )
    is_open = last_day is not None and settles_on <= last_day
    operands = (spell_gate(is_open), ("reason", reason.value), ("days", str(REVERSE_WITHIN.days)))
    return Explanation(statement, REVERSE_WITHIN.rule, operands, REVERSE_WITHIN.source)


def build_payout_failure(reversal: Reversal) -> Failure:
    """Why a payout came back that was reversed."""
    return Failure("PAYOUT_REVERSED", f"It was taken back, for {_WHY[reversal.reason]}.")


def build_debit_failure(said: ReversingPayment) -> Failure:
    """Why the debit drew nothing, or came back."""
    return build_failure(said.status, said.return_code, said.reason, of="reversal")


def spell_cause(row: Transaction, before: ReversalStatus, after: Reversal) -> str | None:
    """What a person reads who looks at it; None where the book has what the bank did, and nothing is to be done."""
    why = "" if after.failure is None else spell_failure(after.failure)
    owed = _spell_ledger_account(row)
    match before, after.status:
        case ((S.ORDERED | S.SETTLED), S.FAILED) if row.status in ARRIVED:
            return f"It was not taken back ({why}): who was paid has {row.amount}. Nothing is to be booked."
        case S.COMPLETED, S.RETURNED:
            return (
                f"The bank sent the reversal back ({why}) after it had counted: who was paid has {row.amount}, and the"
                f" book owes it once more. Pay it no more, and book by hand: credit CASH {row.amount}, debit {owed} as"
                " far as it is there, and RETURNS_RECEIVABLE of the party with the rest."
            )
        case ((S.ORDERED | S.SETTLED | S.COMPLETED), S.DRAWN_IN_EXCESS):
            return (
                f"The payout came back by its bank, and its reversal stayed: {row.amount} was drawn too much, which no"
                f" book has. Book by hand: debit CASH {row.amount}, credit SUSPENSE; and give it back to whom it was"
                " drawn from."
            )
        case ((S.RETURNED | S.DRAWN_IN_EXCESS), S.FAILED):
            return (
                f"Of the payout and its reversal just one has come back by now, as the book has it: what was booked by"
                f" hand for that, {row.amount}, is to be undone."
            )
    return None


def _spell_ledger_account(row: Transaction) -> str:
    source = TYPES[row.type].source
    return f"{source} of the party" if source in ("PAYABLE", "SUBSCRIPTION") else f"{source}"
