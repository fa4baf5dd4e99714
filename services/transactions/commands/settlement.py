"""Applies the state of a payment at its provider, however it became known: a webhook, a look-up, or the order's answer.

The caller holds the transaction's lock. The outcome depends only on where the transaction is and where the provider
has the payment, so repeated and reordered webhooks have the same result (reliability rule c25).
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, Final

from services.chassis.data.transaction import Tx
from services.chassis.values.failure import Failure
from services.chassis.values.money import Money
from services.transactions.commands.bank_accounts import forbid_bank_account
from services.transactions.commands.exceptions import describe_transaction
from services.transactions.commands.reversal_outcomes import follow_reversal
from services.transactions.dependencies import ACTOR
from services.transactions.domain import schedule
from services.transactions.domain.disputes import Dispute, DisputeStatus, spell_cause
from services.transactions.domain.exceptions import About, ExceptionKind
from services.transactions.domain.payments import (
    ENDED_WITHOUT_MONEY,
    Payment,
    PaymentStatus,
    build_failure,
    compute_fees,
    find_difference,
    is_contradiction,
    is_fee_absurd,
    is_won_again,
    list_moves,
)
from services.transactions.domain.returns import find_return_code, may_represent, spell_failure
from services.transactions.domain.states import Status
from services.transactions.domain.transaction import FINAL, Transaction
from services.transactions.store import moves, provider_payments
from services.transactions.store.bank_accounts import list_makers_of_payee
from services.transactions.store.exception_reports import note_cause, report
from services.transactions.store.moves import Step


class PaymentNotOurs(Exception):
    """The provider's payment is not the one we ordered, or cannot be what it says: a person looks, nothing moves."""


async def report_not_ours(tx: Tx, row: Transaction, payment: Payment, error: PaymentNotOurs, now: datetime) -> None:
    """Somebody has to look: money may have moved that no book has."""
    about = describe_payment(row.provider, payment, row)
    report(tx, ExceptionKind.PAYMENT_NOT_OURS, about, str(error), now, status=row.status)


def describe_payment(provider: str, payment: Payment, row: Transaction | None = None) -> About:
    """
    Args:
        row: The transaction that it is said to be of.
    """
    return About(
        transaction_id=None if row is None else row.transaction_id,
        bank_account_id=None if row is None else row.bank_account_id,
        provider=provider,
        provider_payment_id=payment.payment_id,
        amount=payment.amount,
    )


async def follow_payment(tx: Tx, row: Transaction, payment: Payment, now: datetime) -> Transaction:
    """Brings a locked transaction to where the provider has its current attempt.

    Raises:
        PaymentNotOurs: amount, direction or reference differ, or the provider contradicts itself.
    """
    if objection := find_objection(row, payment, now):
        raise PaymentNotOurs(objection)
    # The world's time of the fact; a provider's clock is not believed where it is absurd.
    at = max(row.created_at, min(now, payment.changed_at or now))
    disputes = _is_news(row, payment.dispute)
    for status in list_moves(payment.status, row.status):
        match status:
            case Status.PENDING_SETTLEMENT:
                row = await _record_submission(tx, row, payment, now)
            case Status.SETTLED:
                row = await record_settlement(tx, row, at, now, **_list_settled_facts(row, payment))
            case Status.RETURNED:
                row = await _record_return(tx, row, payment, at, now)
            case Status.FAILED:
                row = await _record_failure(tx, row, payment, now)
            case _:
                row = await moves.save_move(
                    tx, row, status, actor=ACTOR, now=now, note=f"the provider: {payment.status}"
                )
    if payment.dispute is not None and disputes:
        if _is_news(row, payment.dispute):  # no move has said it
            row = await moves.save_dispute(tx, row, payment.dispute, actor=ACTOR, now=now)
        if cause := spell_cause(payment.dispute):
            about = describe_transaction(row, payment.dispute.reference)
            tell = note_cause if payment.dispute.status is DisputeStatus.WON else report
            tell(tx, ExceptionKind.CARD_DISPUTED, about, cause, now)
    fees_minor = compute_fees(payment, row.status, row.earlier_fees_minor)
    if fees_minor is not None and fees_minor != row.provider_fee_minor:
        row = await moves.save_provider_fee(tx, row, fees_minor, actor=ACTOR, now=now)
    row = await follow_reversal(tx, row, payment, now)
    if is_fee_absurd(payment):  # the money is where it is all the same
        error = PaymentNotOurs("the provider says that it kept more of it than there was")
        await report_not_ours(tx, row, payment, error, now)
    if payment.gone_minor:  # nor does more that is gone keep the return from the book
        error = PaymentNotOurs(f"it came back, and {_spell_gone(payment)} was paid back or is disputed at the provider")
        await report_not_ours(tx, row, payment, error, now)
    return row


def _spell_gone(payment: Payment) -> Money:
    return Money(payment.gone_minor, payment.amount.currency)


def _list_settled_facts(row: Transaction, payment: Payment) -> dict[str, Any]:
    """The card and the fee, to be kept with the settlement."""
    changes: dict[str, Any] = {}
    if payment.card is not None:
        changes |= {"card_brand": payment.card.brand, "card_last4": payment.card.last4}
    if (fees_minor := compute_fees(payment, Status.SETTLED, row.earlier_fees_minor)) is not None:
        changes["provider_fee_minor"] = fees_minor
    return changes


def _is_news(row: Transaction, dispute: Dispute | None) -> bool:
    """Whether a dispute stands otherwise than the transaction has it."""
    return dispute is not None and any(getattr(row, name) != value for name, value in dispute.list_changes().items())


EARLIER_ATTEMPT: Final = "it is of an earlier attempt"
NOT_AN_ATTEMPT: Final = "the provider has a payment under our reference that is none of its attempts"


def find_hindrance(row: Transaction, payment_id: str, earlier: Collection[str]) -> str:
    """Why nothing comes of a payment that a webhook is about, whatever the provider says of it; empty where it may.

    Args:
        earlier: The provider's ids of the attempts before the current one.
    """
    if payment_id == row.provider_reference:
        return ""
    return EARLIER_ATTEMPT if payment_id in earlier else NOT_AN_ATTEMPT


async def try_to_follow(tx: Tx, row: Transaction, payment: Payment, now: datetime) -> Failure | None:
    """Brings a locked transaction to where a payment is that its provider told us of, if it is its own.

    Returns: Why it could not follow; somebody has been told then.
    """
    is_current = payment.payment_id == row.provider_reference
    earlier = () if is_current else await provider_payments.list_earlier_references(tx, row)
    hindrance = find_hindrance(row, payment.payment_id, earlier)
    try:
        if hindrance == NOT_AN_ATTEMPT and payment.status not in ENDED_WITHOUT_MONEY:
            raise PaymentNotOurs(hindrance)
        if hindrance == EARLIER_ATTEMPT and payment.status is PaymentStatus.SETTLED:
            raise PaymentNotOurs("the provider says settled of an attempt that had ended before")
        # How much of it each attempt cost is not known, so the book cannot follow, and a person looks.
        if hindrance == EARLIER_ATTEMPT and (kept_minor := payment.fee_minor or 0) > row.earlier_fees_minor:
            kept = Money(kept_minor, payment.amount.currency)
            raise PaymentNotOurs(f"the provider kept {kept} of an attempt that had ended before: it is in no book")
        if not hindrance:
            await follow_payment(tx, row, payment, now)
    except PaymentNotOurs as error:
        await report_not_ours(tx, row, payment, error, now)
        return Failure("PAYMENT_NOT_OURS", str(error))
    return None


def find_objection(row: Transaction, payment: Payment, now: datetime) -> str:
    """Why the provider's payment is not followed; empty if it is."""
    wrong = find_difference(
        payment,
        reference=row.transaction_id,
        amount=row.amount,
        is_inbound=row.is_inbound,
        presentment=max(row.presentments, 1),
    )
    if wrong:
        return f"the provider's payment differs in {wrong}"
    if payment.is_drawn_again:
        return "it had come back, and was drawn again at the provider"
    if is_won_again(payment.dispute, row.dispute_reference, row.dispute_status):
        return "a dispute that was lost is not lost any more: its money is with the provider, and in no book"
    if payment.gone_minor and payment.status is not PaymentStatus.RETURNED:
        return f"{_spell_gone(payment)} of it was paid back at the provider, or is disputed there"
    if payment.reversal is not None and row.reversal is None:
        return "it is taken back at the provider, and nobody ordered that"
    if not row.came_back_by_reversal and is_contradiction(payment.status, row.status, now - row.updated_at):
        return f"the provider says {payment.status} of a transaction that is {row.status}"
    return ""


async def _record_submission(tx: Tx, row: Transaction, payment: Payment, now: datetime) -> Transaction:
    await provider_payments.save_provider_reference(tx, row, payment.payment_id)
    changes: dict[str, Any] = {}
    if row.rail.is_confirmed_by_a_person:  # by nobody who had a part in the account by now
        makers = await list_makers_of_payee(tx, row)
        changes = {
            "makers_and_checkers": sorted(makers.union(row.makers_and_checkers)),
            "next_look_at": schedule.compute_announcement_end(row.created_at, row.rail, is_inbound=row.is_inbound),
        }
    return await moves.save_move(
        tx,
        row,
        Status.PENDING_SETTLEMENT,
        actor=ACTOR,
        now=now,
        note="the rail accepted it",
        provider_reference=payment.payment_id,
        payer_action_url=payment.payer_action_url or None,
        due_ms=None if row.rail.is_confirmed_by_a_person else schedule.compute_poll_ms(0),
        **changes,
    )


async def record_settlement(
    tx: Tx,
    row: Transaction,
    at: datetime,
    now: datetime,
    *,
    actor: str = ACTOR,
    note: str = "the money arrived",
    **changes: Any,
) -> Transaction:
    """SETTLED; and COMPLETED at once where nothing is at risk. By time alone only what a person confirmed is FINAL.

    Args:
        at: When it arrived.
    """
    return_risk_end_at = schedule.compute_return_risk_end(at, row.rail, is_inbound=row.is_inbound)
    final_at = schedule.compute_final_at(at, row.rail, is_inbound=row.is_inbound)
    if row.rail.is_confirmed_by_a_person and final_at <= now:
        due_ms, left = None, dict[str, Any](finality=FINAL)
    else:
        next_look_at = schedule.compute_next_look(now, row.rail, at, return_risk_end_at, final_at)
        due_ms, left = 0, {"next_look_at": next_look_at}
    times = {"settled_at": at, "return_risk_end_at": return_risk_end_at, "final_at": final_at}
    steps = [Step(Status.SETTLED, note, due_ms, times | changes | left)]
    if return_risk_end_at is None:
        steps.append(Step(Status.COMPLETED, "it has no return risk", due_ms, left))
    return (await moves.save_steps(tx, [row], *steps, actor=actor, now=now))[0]


async def _record_return(tx: Tx, row: Transaction, payment: Payment, at: datetime, now: datetime) -> Transaction:
    # From when it was heard of: until then the party and staff may cancel it, whatever day a file says.
    next_attempt_at = schedule.compute_represent_at(max(at, now))
    again = may_represent(
        payment.return_code,
        is_inbound=row.is_inbound,
        presentments=row.presentments,
        first_presented_at=row.first_presented_at or row.created_at,
        next_attempt_at=next_attempt_at,
    )
    failure, was_final = _build_failure(payment, retryable=again), row.is_final
    note = spell_failure(failure)
    lost = {} if payment.dispute is None else payment.dispute.list_changes()
    # What its reversal draws all the same is looked for on.
    look = {"due_ms": 0, "next_look_at": row.next_look_at} if row.is_being_reversed else {}
    changes: dict[str, Any] = {"failure": failure, **lost, **look}
    row = await moves.save_move(tx, row, Status.RETURNED, actor=ACTOR, now=now, note=note, **changes)
    await _apply_return_code(tx, row, payment.return_code, now, is_late=was_final)
    if row.reversal is not None:  # which has failed, if somebody looks into it
        cause = "The payout came back by its bank, after its reversal had failed: who was paid has nothing of it."
        note_cause(tx, ExceptionKind.PAYOUT_NOT_REVERSED, describe_transaction(row), cause, now)
    if not again:
        return row
    note = f"presentment {row.presentments + 1} is due on {next_attempt_at:%Y-%m-%d}"
    return await moves.save_move(
        tx, row, Status.PENDING_RETRY, actor=ACTOR, now=now, note=note, next_attempt_at=next_attempt_at
    )


async def _record_failure(tx: Tx, row: Transaction, payment: Payment, now: datetime) -> Transaction:
    failure = _build_failure(payment, retryable=False)
    if row.status is Status.PROCESSING:
        await provider_payments.save_provider_reference(tx, row, payment.payment_id)
    row = await moves.save_move(
        tx,
        row,
        Status.FAILED,
        actor=ACTOR,
        now=now,
        note=spell_failure(failure),
        failure=failure,
        provider_reference=payment.payment_id,
    )
    await _apply_return_code(tx, row, payment.return_code, now)
    return row


def _build_failure(payment: Payment, *, retryable: bool) -> Failure:
    if payment.status is PaymentStatus.RETURNED and payment.dispute is not None:
        why = f" ({payment.dispute.reason})" if payment.dispute.reason else ""
        return Failure("DISPUTE_LOST", f"Who holds the card disputed it{why}, and the bank decided for them.", False)
    said = payment.status, payment.return_code, payment.reason
    return build_failure(*said, decline_code=payment.decline_code, retryable=retryable)


async def _apply_return_code(tx: Tx, row: Transaction, code: str, now: datetime, *, is_late: bool = False) -> None:
    """
    Args:
        is_late: It came back after the last day on which its bank may send it back.
    """
    meaning = find_return_code(code) if code else None
    if meaning is None:
        return
    if meaning.blocks and row.bank_account_id and row.account_number_digest:
        await forbid_bank_account(tx, row.party_id, row.bank_account_id, row.account_number_digest, code, now)
    if meaning.review or is_late:
        about = describe_transaction(row, row.provider_reference)
        late = ", after the last day on which its bank may send it back" if is_late else ""
        report(tx, ExceptionKind.RETURN_TO_REVIEW, about, f"{code}: {meaning.name}{late}", now)
