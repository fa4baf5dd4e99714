"""Which payouts may be reversed, until when, and what people read of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Final, NamedTuple

from services.chassis.values.calendar import add_banking_days
from services.chassis.values.errors import DomainError
from services.chassis.values.explanation import HOUSE_RULE, Explanation, spell_gate
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
from services.transactions.domain.schedule import compute_final_at
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
# Its money is there, in the book by itself or by hand.
_STAYED: Final = (S.COMPLETED, S.DRAWN_IN_EXCESS)
# So many payouts that were taken back are named one by one, the newest.
_NAMED_MAX: Final = 10
_WHY: Final = {
    ReversalReason.DUPLICATE: "it was paid before",
    ReversalReason.WRONG_RECEIVER: "it went to somebody else than it was for",
    ReversalReason.WRONG_AMOUNT: "its amount was another one",
}


class TakenBack(NamedTuple):
    """Payouts that a debit took back, or is about to, the newest first.

    Args:
        altered_ids: Of these, which came back, nobody knows by what: they were altered in the database.
        is_all: There are no others.
    """

    payouts: Sequence[Transaction]
    altered_ids: Sequence[str] = ()
    is_all: bool = True

    @property
    def has_altered(self) -> bool:
        return bool(self.altered_ids)


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


def find_debit_final_at(row: Transaction) -> datetime | None:
    """From when the debit that took a payout back, or drew it in excess, can come back no more; None of what no debit
    drew, or one that came back itself. It is a debit as any other: the account that was paid may be a person's.
    """
    reversal = row.reversal
    if reversal is None or reversal.status not in _STAYED or reversal.settled_at is None:
        return None
    return compute_final_at(reversal.settled_at, row.rail, is_inbound=True)


def may_debit_come_back(row: Transaction, now: datetime) -> bool:
    """Whether the bank of who was paid may yet send back the debit that took it back."""
    final_at = find_debit_final_at(row)
    return final_at is not None and now < final_at


def build_payout_failure(row: Transaction, reversal: Reversal) -> Failure:
    """Why a payout came back that was reversed, for whoever pays it again: there may be nothing to be paid."""
    said = f"It was taken back, for {_WHY[reversal.reason]}."
    final_at = find_debit_final_at(replace(row, reversal=reversal))
    if final_at is not None:
        said += f" The debit that took it back may itself come back until {final_at:%Y-%m-%d}."
    return Failure("PAYOUT_REVERSED", said)


def explain_taken_back_payouts(found: TakenBack, now: datetime) -> list[Explanation]:
    """Which payouts to the parties are taken back: what is paid to them now may be the same once more."""
    told = [_explain_taken_back_payout(row, now) for row in found.payouts[:_NAMED_MAX]]
    if (count := len(found.payouts) - _NAMED_MAX) > 0 or not found.is_all:
        statement = f"{count} more payouts to them were taken back by debits."
        if not found.is_all:
            statement = "So many payouts to them came back that some are not read: debits may have taken back more."
        told.append(Explanation(statement, "PAYOUT_TAKEN_BACK", (), HOUSE_RULE))
    if found.has_altered:
        statement = "A payout to them that came back was altered in the database: a debit may have taken it back."
        told.append(Explanation(statement, "MONEY_ALTERED", (), HOUSE_RULE))
    return told


def _explain_taken_back_payout(row: Transaction, now: datetime) -> Explanation:
    """That a party was paid before, and a debit takes it back, which may not have the last word."""
    reversal = row.reversal
    assert reversal is not None
    assert row.settled_at is not None  # what was not paid is not drawn back
    why, final_at = _WHY[reversal.reason], find_debit_final_at(row)
    statement = f"{row.transaction_id} paid {row.amount} to {row.party_id} on {row.settled_at:%Y-%m-%d}, and "
    if reversal.is_under_way:
        done = "is to take" if reversal.settled_at is None else f"of {reversal.settled_at:%Y-%m-%d} takes"
        came_back = "" if row.status in ARRIVED else " It came back by its bank as well."
        statement += (
            f"a debit {done} it back, for {why}, which does not count yet: it may fail or come back, and who is paid"
            f" again would have both.{came_back}"
        )
    else:
        assert reversal.settled_at is not None
        as_well = "came back by its bank, and " if reversal.status is S.DRAWN_IN_EXCESS else ""
        statement += f"it {as_well}was taken back by a debit of {reversal.settled_at:%Y-%m-%d}, for {why}."
        statement += _spell_last_word(reversal, final_at, now)
    operands = (("transaction", row.transaction_id), ("amount", row.amount), ("reversal", reversal.status.value))
    return Explanation(statement, "PAYOUT_TAKEN_BACK", operands, HOUSE_RULE)


def _spell_last_word(reversal: Reversal, final_at: datetime | None, now: datetime) -> str:
    """Of a debit that counted, or drew too much: whether it may come back in its turn."""
    if final_at is None:
        ended_at = reversal.ended_at or reversal.settled_at
        return f" The debit came back on {ended_at:%Y-%m-%d}: who was paid has it, and is to be paid it no more."
    if now < final_at:
        again = "given it back" if reversal.status is S.DRAWN_IN_EXCESS else "paid again"
        return f" The debit may itself come back until {final_at:%Y-%m-%d}: who is {again} would have both."
    return " The debit can come back no more."


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
                f" drawn from.{_spell_risk(row, after)}"
            )
        case ((S.RETURNED | S.DRAWN_IN_EXCESS), S.FAILED):
            return (
                f"Of the payout and its reversal just one has come back by now, as the book has it: what was booked by"
                f" hand for that, {row.amount}, is to be undone."
            )
    return None


def _spell_risk(row: Transaction, after: Reversal) -> str:
    final_at = find_debit_final_at(replace(row, reversal=after))
    if final_at is None:
        return ""
    return f" Their bank may send the debit back until {final_at:%Y-%m-%d}: whoever has it before that may have both."


def _spell_ledger_account(row: Transaction) -> str:
    source = TYPES[row.type].source
    return f"{source} of the party" if source in ("PAYABLE", "SUBSCRIPTION") else f"{source}"
