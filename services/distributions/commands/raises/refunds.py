"""Contributions that go back: asked for, sent once they may go, and finished."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from google.protobuf.message import Message
from realco.distributions.v1 import events_pb2 as events
from realco.distributions.v1 import offerings_pb2 as pb

from services.chassis.data.transaction import Tx
from services.chassis.values.etags import check_etag
from services.distributions.actions import answer_offering
from services.distributions.commands.mandates import inherit_mandate, mandate_of_caller, mandate_of_service
from services.distributions.domain.counted_journal import check_is_counted
from services.distributions.domain.investment import Investment, begin_cancellings, list_untaken
from services.distributions.domain.offering import Offering, check_may_refund
from services.distributions.domain.payout import build_refund_payout
from services.distributions.domain.preconditions import build_funded_precondition, build_owed_precondition
from services.distributions.domain.refunds import AskedAgain, RefundPosition, list_failed
from services.distributions.domain.sagas import Mandate, SagaKind
from services.distributions.domain.states import UNTAKEN, InvestmentStatus, OfferingStatus
from services.distributions.store.approvals import REFUND_OFFERING, cancel_closings, is_being_done
from services.distributions.store.counted_journals import check_counted, find_counted
from services.distributions.store.investments import are_all_cancelled, lock_investments_of, save_investments
from services.distributions.store.offerings import lock_offering, save_offering
from services.distributions.store.payouts import PAYOUTS, lock_refund_positions
from services.distributions.store.sagas import insert_saga

_WITHDRAWN = {
    InvestmentStatus.CANCELLING: events.InvestmentCancelling,
    InvestmentStatus.CANCELLED: events.InvestmentCancelled,
}
_ENDS = {
    OfferingStatus.REFUNDING: events.OfferingRefunding,
    OfferingStatus.REFUNDED: events.OfferingRefunded,
}


async def refund_offering(tx: Tx, request: pb.RefundOfferingRequest, now: datetime) -> pb.Offering:
    """Ends the raise; every contribution goes back. Where it is ended already, refunds that failed are sent again."""
    offering = await lock_offering(tx, request.offering_id)
    check_etag(request.etag, offering.etag)
    check_may_refund(offering)
    await check_counted(tx, offering.escrow_account_id)
    if offering.status is OfferingStatus.REFUNDING:
        return answer_offering(await _resend_failed(tx, offering, now), now)
    refunding = replace(offering, status=OfferingStatus.REFUNDING, refund_note=request.note)
    event = events.OfferingRefunding()
    offering = await save_offering(tx, offering, refunding, event, now)
    await cancel_closings(tx, offering.offering_id, now)
    offering = await cancel_all(tx, offering, now)
    return answer_offering(await pay_due_refunds(tx, offering, now), now)


async def _resend_failed(tx: Tx, offering: Offering, now: datetime) -> Offering:
    """Sends each refund again that failed, to where its money came from. Raises: NothingToResend."""
    failed = list_failed(await lock_refund_positions(tx, offering.offering_id))
    is_decided = await is_being_done(tx, REFUND_OFFERING, offering.offering_id, build_owed_precondition(failed))
    shown_minor = max(each.owed_minor for each in failed) if is_decided else 0  # they saw what each is owed
    ids = [each.investment.investment_id for each in failed]
    return await pay_due_refunds(tx, offering, now, investment_ids=ids, again=AskedAgain(shown_minor))


async def cancel_all(tx: Tx, offering: Offering, now: datetime) -> Offering:
    """Begins to cancel all investments of the offering that no closing took. Returns the offering after it."""
    untaken = list_untaken(await lock_investments_of(tx, offering.offering_id))
    is_decided = await is_being_done(tx, REFUND_OFFERING, offering.offering_id, build_funded_precondition(untaken))
    return await cancel_each(tx, offering, untaken, now, is_decided=is_decided)


async def cancel_each(
    tx: Tx, offering: Offering, investments: Sequence[Investment], now: datetime, *, is_decided: bool
) -> Offering:
    """From here on they take no more money, and transactions cancels what waits to be drawn for them. `pay_due_refunds`
    gives back what they have, in the caller's name.

    Args:
        offering: Locked by the caller.
        is_decided: Two persons decided that what is in them now goes back.

    Returns: The offering after it.
    """
    if not investments:
        return offering
    mandate = mandate_of_caller()
    saga_id = await insert_saga(tx, SagaKind.REFUND, offering.offering_id, mandate)
    cancelling = begin_cancellings(investments, mandate, saga_id, is_decided=is_decided)
    await save_investments(tx, list(zip(investments, cancelling, strict=True)), events.InvestmentCancelling, now)
    withdrawn_minor = sum(each.amount_minor for each in cancelling)
    after = replace(offering, committed_minor=offering.committed_minor - withdrawn_minor)
    return await save_offering(tx, offering, after, events.OfferingUpdated(), now)


async def pay_due_refunds(
    tx: Tx,
    offering: Offering,
    now: datetime,
    *,
    investment_ids: Sequence[str] | None = None,
    again: AskedAgain | None = None,
) -> Offering:
    """Pays the refunds that are due, and has statuses follow the money.

    Nothing of it while the offering's contributions are counted anew, after which it is called again.

    An investment that is withdrawn is CANCELLED exactly while nothing of its money is here or on its way, and a raise
    that ended without closing is REFUNDED exactly while all its investments are CANCELLED.

    Args:
        offering: Locked by the caller.
        investment_ids: Only these; None is all of the offering.
        again: A person asks: refunds that failed are tried again. What two persons did not see then is covered by what
            two saw when they decided that it goes back, or by nobody.

    Returns: The offering after it.
    """
    counted = await find_counted(tx, offering.escrow_account_id)
    if again is not None:
        check_is_counted(counted)
    if counted is not None and counted.waits:
        return offering
    due: dict[Mandate, list[RefundPosition]] = {}
    positions = await _follow_money(tx, await lock_refund_positions(tx, offering.offering_id, investment_ids), now)
    for position in positions:
        if not position.may_go(again=again is not None):
            continue
        mandate = position.investment.refund_mandate or mandate_of_service()
        if again is not None:
            mandate = await _inherit_mandate(tx, position)
        due.setdefault(mandate, []).append(position)
    for mandate, found in due.items():
        await _pay_refunds(tx, offering, mandate, found, now, again)
    return await _follow_investments(tx, offering, now)


async def _inherit_mandate(tx: Tx, position: RefundPosition) -> Mandate:
    """By which the caller has a refund sent again: whoever had it go back before has a part in that."""
    last, wanted = position.last_saga_id, position.investment.refund_mandate
    mandate = mandate_of_caller() if last is None else await inherit_mandate(tx, last)
    return mandate if wanted is None else mandate.join(wanted.persons)


async def _follow_money(tx: Tx, positions: Sequence[RefundPosition], now: datetime) -> list[RefundPosition]:
    """Brings each investment to the status that its money says, and ends why its refund failed where nothing is owed.

    Returns: The positions after it.
    """
    changes = [(each.investment, each.follow_failure()) for each in positions]
    positions = await _save(tx, positions, [each for each in changes if each[0] is not each[1]], now)
    for status, event in _WITHDRAWN.items():
        due = [each.investment for each in positions if each.status is status]
        positions = await _save(tx, positions, [(each, replace(each, status=status)) for each in due], now, event)
    return positions


async def _save(
    tx: Tx,
    positions: Sequence[RefundPosition],
    changes: Sequence[tuple[Investment, Investment]],
    now: datetime,
    event: type[Message] = events.InvestmentUpdated,
) -> list[RefundPosition]:
    """The positions after changes of their investments."""
    saved = {each.investment_id: each for each in await save_investments(tx, changes, event, now)}
    return [replace(each, investment=saved.get(each.investment.investment_id, each.investment)) for each in positions]


async def _follow_investments(tx: Tx, offering: Offering, now: datetime) -> Offering:
    """Brings a raise that ended without closing to the status that its investments say. Returns it after that."""
    if offering.status not in UNTAKEN:
        return offering
    is_over = await are_all_cancelled(tx, offering.offering_id)
    status = OfferingStatus.REFUNDED if is_over else OfferingStatus.REFUNDING
    return await save_offering(tx, offering, replace(offering, status=status), _ENDS[status](), now)


async def _pay_refunds(
    tx: Tx,
    offering: Offering,
    mandate: Mandate,
    positions: Sequence[RefundPosition],
    now: datetime,
    again: AskedAgain | None,
) -> None:
    asked_again = again is not None
    again = again or AskedAgain(0)
    saga_id = await insert_saga(tx, SagaKind.REFUND, offering.offering_id, mandate)
    # A new refund is under way: why the last one failed says nothing of it, and stays with the earlier ones.
    changes = [(each.investment, each.investment.with_refund_failure(None)) for each in positions]
    await save_investments(tx, changes, events.InvestmentUpdated, now)
    payouts = [
        build_refund_payout(
            *(offering, each.investment, each.owed_minor, each.last_attempt + 1, saga_id, now),
            approved=each.is_covered(again.shown_minor),
            asked_again=asked_again,
            bank_account_id=again.bank_account_id,
            payment_method=again.payment_method,
        )
        for each in positions
    ]
    await PAYOUTS.insert_all(tx, payouts)
