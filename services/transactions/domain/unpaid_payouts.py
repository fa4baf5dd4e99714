"""Money that is to be paid and stands still: which end of a payout calls a person, and what that person reads.

A payout is never sent a second time by itself. So whatever ended otherwise than paid is owed until a person has it sent
again, and the same debt is one exception however often it comes to nothing (`owed_for`).

The exception's amount is what stands still of the debt by now, since it was last opened: who resolved it was done
with what stood still before. A share and the proceeds are paid by one order at a time, which pays all that is left:
of these it is what the last one was to pay, and nothing once another is ordered. A refund goes in parts, to several
cards, or once more for what came late: an order that ends unpaid adds what it was to pay, and a new one takes that
away again. So parts that come to nothing are owed together, and one that is sent again hides no other. What was set
off of a refund meanwhile is not known here; the words say where all that is owed stands.

What staff ordered is owed to nobody: what was refused as it was ordered, what nobody approved, and what persons took
back, stands still for nobody. Where two persons had it paid and it came to nothing, the order is a debt of its own:
what is paid instead of it says so (`replaced_transaction_id`), and is followed; what does not say so is another debt.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields, replace
from datetime import datetime
from typing import Final

from services.chassis.values.failure import Failure
from services.chassis.values.money import Money
from services.transactions.domain.exceptions import (
    About,
    ExceptionKind,
    PaymentException,
    build_reported,
    build_with_cause,
)
from services.transactions.domain.refusals import RefundInParts
from services.transactions.domain.returns import spell_end
from services.transactions.domain.states import ENDED, Status
from services.transactions.domain.transaction import Transaction
from services.transactions.domain.types import TYPES, TransactionType

KIND: Final = ExceptionKind.PAYOUT_NOT_PAID
_WHY_MAX: Final = 200
_REFUND: Final = next(each for each in TYPES.values() if each.gives_back)


def stands_still(previous: Status | None, row: Transaction) -> bool:
    """Whether a move has a payout end, and its money is to be paid all the same."""
    if row.is_inbound or row.status not in ENDED:
        return False
    if not TYPES[row.type].is_for_staff:
        return True
    is_refused = previous is Status.INITIATED or row.status is Status.CANCELLED
    return not is_refused and not row.came_back_by_reversal


def is_refused_for_good(failure: Failure) -> bool:
    """Whether a payout that never became a transaction was refused, and not only to go in parts."""
    return failure.code != RefundInParts.reason


def is_ordered_for_a_debt(previous: Status | None, row: Transaction) -> bool:
    """Whether a new payout may pay what stood still before: an order of staff only where it says so."""
    may_follow = not TYPES[row.type].is_for_staff or row.replaced_transaction_id is not None
    return previous is None and not row.is_inbound and may_follow


def is_paid_for_a_debt(row: Transaction) -> bool:
    return row.status is Status.SETTLED and not row.is_inbound


def is_replacement_given_up(row: Transaction) -> bool:
    """Whether what staff ordered instead of something ended so that this by itself calls nobody (`stands_still`)."""
    return row.replaced_transaction_id is not None and row.status in ENDED and not row.came_back_by_reversal


def is_taken_back_for_good(row: Transaction) -> bool:
    """Whether a contribution went back by its bank, and is not presented again by itself: less is to be refunded."""
    is_of_investment = row.is_inbound and row.investment_id is not None
    return is_of_investment and row.status is Status.RETURNED and not (row.failure and row.failure.retryable)


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
        order_id=row.replaced_transaction_id or row.transaction_id,
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
    about = About(
        transaction_id=transaction_id,
        bank_account_id=bank_account_id,
        provider=provider,
        amount=amount,
        escrow_account_id=escrow_account_id,
        party_id=party_id,
        investment_id=investment_id,
        distribution_id=distribution_id,
        allocation_id=allocation_id,
        makers=makers,
    )
    return replace(about, owed_for=_name_debt(kind, about) or order_id)


def _name_debt(kind: TransactionType, about: About) -> str | None:
    if kind.owed_once_a is None:
        return None
    # Beside the shares and refunds of the same escrow account, which their own ids name.
    return kind.name if kind.owed_once_a == "escrow_account_id" else getattr(about, kind.owed_once_a)


def describe_refund_of(row: Transaction) -> About:
    """The refund that a contribution would go back by."""
    return About(escrow_account_id=row.escrow_account_id, owed_for=row.investment_id)


def find_unpaid(
    before: PaymentException | None,
    exception_id: str,
    *,
    kind: TransactionType,
    about: About,
    why: str,
    was_ordered: bool,
    now: datetime,
) -> PaymentException:
    """The exception once an order came to nothing.

    Args:
        before: The one of the same debt, if there is one.
        about: What the order was to pay.
        was_ordered: Whether it was taken away when it was ordered: not where it was refused at once.
    """
    assert about.amount is not None
    minor, currency = about.amount.amount_minor, about.amount.currency
    others_minor = 0
    if kind.is_owed_in_parts and before is not None and before.is_open and before.currency == currency:
        others_minor = before.amount_minor or 0
    if not was_ordered:
        others_minor = _count_left(kind, others_minor, minor)
    all_of_it = Money(minor + others_minor, currency)
    cause = spell_owed(kind, about, why, all_of_it)
    found = replace(about, amount=all_of_it)
    return build_reported(before, exception_id, kind=KIND, about=found, cause=cause, now=now)


def note_ordered(before: PaymentException, *, row: Transaction, now: datetime) -> PaymentException:
    """The exception once its debt, or a part of it, was ordered anew."""
    kind, minor = TYPES[row.type], before.amount_minor or 0
    left_minor = _count_left(kind, minor, row.amount.amount_minor)
    said = (
        f"{row.amount} to {row.party_id} was ordered anew on {now:%Y-%m-%d}, as {row.transaction_id}."
        " Wait for it: this says what becomes of it."
    )
    return build_with_cause(before, _add_left(said, row, left_minor), amount_minor=left_minor)


def note_given_up(before: PaymentException, *, row: Transaction) -> PaymentException:
    """The exception once what staff ordered instead of what came to nothing was refused, rejected or cancelled."""
    about = describe_owed(row)
    cause = spell_owed(TYPES[row.type], about, spell_unpaid(row), None)
    return build_with_cause(before, cause, amount_minor=row.amount.amount_minor)


def note_arrived(before: PaymentException, *, row: Transaction) -> PaymentException:
    """The exception once a payout of its debt has arrived.

    Of a refund in parts an earlier one may come back while a later one is on its way: what was found since is not told
    away by it.
    """
    if before.last_seen_at > row.created_at:
        return before
    said = f"{row.amount} has arrived at {row.party_id} since, by {row.transaction_id}."
    said = _add_left(said, row, before.amount_minor or 0)
    return build_with_cause(before, f"{said} Where no more is owed, resolve this.")


def note_taken_back(before: PaymentException, *, row: Transaction) -> PaymentException:
    """The exception of a refund once the bank of a contribution took that back, which is not to be refunded any more.

    What was paid, or is on its way, is not said to be less by it: that is owed by its party then.
    """
    if not before.amount_minor:
        return before
    path = _spell_path(_REFUND, replace(describe_refund_of(row), investment_id=row.investment_id))
    return build_with_cause(
        before,
        f"The contribution {row.transaction_id}, {row.amount}, went back by its bank since: less is to be refunded,"
        f" or nothing. See the refundableAmount of {row.investment_id}; where nothing is left, resolve this. To send"
        f" what is left: POST {path}.",
    )


def _count_left(kind: TransactionType, minor: int, ordered_minor: int) -> int:
    """How much stands still once so much of it was ordered anew."""
    return max(0, minor - ordered_minor) if kind.is_owed_in_parts else 0


def _add_left(said: str, row: Transaction, left_minor: int) -> str:
    if not left_minor:
        return said
    left = Money(left_minor, row.amount.currency)
    return (
        f"{said} {left} that stood still before is not in it: it is to be ordered, too, or was set off. See the"
        f" refundableAmount of {row.investment_id}."
    )


def spell_unpaid(row: Transaction) -> str:
    return f"{row.transaction_id} {row.status}, {spell_end(row.failure)}"


def spell_owed(kind: TransactionType, about: About, why: str, all_of_it: Money | None) -> str:
    """Who is to be paid how much, why that stands still, and what to do.

    Args:
        about: What the last order was to pay.
        all_of_it: What stands still with it; None where that is not asked.
    """
    why = (why if len(why) <= _WHY_MAX else f"{why[: _WHY_MAX - 1]}…").rstrip(".")
    if all_of_it is None or all_of_it == about.amount:
        said = f"{kind.label}: {about.amount} to {about.party_id} is not paid. {why}."
    else:
        said = (
            f"{kind.label}: {all_of_it} to {about.party_id} is not paid, by several orders. The last was to pay"
            f" {about.amount}. {why}. What was set off since is not owed any more: see the refundableAmount of"
            f" {about.investment_id}."
        )
    return f"{said} {_spell_remedy(kind, about)}"


def _spell_remedy(kind: TransactionType, about: About) -> str:
    if kind.resend_path is None:
        instead = f"POST /transactions, with replacedTransactionId {about.owed_for}"
        return f"If it is still to be paid, order it anew: {instead}. If it is not, resolve this."
    again = f"To send it again: POST {_spell_path(kind, about)}."
    # More may have come since, which goes with it.
    return f"{again} All that is owed by now is the refundableAmount." if kind.gives_back else again


def _spell_path(kind: TransactionType, about: About) -> str:
    said = {each.name: getattr(about, each.name) for each in fields(about)}
    return str(kind.resend_path).format(**said | {"id": "{id}"})
