"""Offerings: opened, changed, closed, refunded."""

from __future__ import annotations

from datetime import datetime

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from realco.distributions.v1 import events_pb2 as events
from realco.distributions.v1 import offerings_pb2 as pb
from realco.escrow.v1 import escrow_pb2 as escrow
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import current_principal
from services.chassis.calls.wire import from_timestamp
from services.chassis.data.outbox import enqueue
from services.chassis.values.errors import DomainError, InvalidField, Kind
from services.chassis.values.ids import new_id
from services.distributions import gates, messages
from services.distributions.clients import Escrow
from services.distributions.commands import agreements, closings, refunds
from services.distributions.commands.agreements import PLANS_END
from services.distributions.domain.closing import Exemption, earliest_early_close
from services.distributions.domain.states import OFFERING_MOVES, OfferingStatus, move
from services.distributions.errors import EscrowAccountNotUsable, OfferingNotFound, OfferingNotOpen, TermsFixed
from services.distributions.store import investments as investments_store
from services.distributions.store import rows
from services.distributions.tables import offerings


async def read_escrow_account(peer: Escrow, request: pb.CreateOfferingRequest) -> escrow.EscrowAccount | None:
    """The escrow account an offering is to be opened on, before any write; None if there is no such account."""
    try:
        return await peer.get_escrow_account(request.escrow_account_id)
    except DomainError as refusal:
        if refusal.kind is Kind.NOT_FOUND:
            return None
        raise


async def create(
    tx: AsyncConnection, request: pb.CreateOfferingRequest, account: escrow.EscrowAccount | None, now: datetime
) -> pb.Offering:
    terms = agreements.read(request.terms) if request.HasField("terms") else agreements.DEFAULT
    open_at = _moment(request.open_time, "open_time", now) if request.HasField("open_time") else now
    deadline_at = _moment(request.deadline_time, "deadline_time", now)
    target = request.target_amount
    maximum = request.maximum_amount if request.HasField("maximum_amount") else target
    _check_amounts(target.currency_code, target.amount_minor, maximum.currency_code, maximum.amount_minor)
    if deadline_at <= open_at:
        raise InvalidField("The deadline is too early.", fields={"deadline_time": "must be after open_time"})
    _check_account(request.escrow_account_id, account, target.currency_code)
    row = await rows.insert(
        tx,
        offerings,
        offering_id=new_id("off"),
        display_name=request.display_name,
        sponsor_party_id=request.sponsor_party_id,
        escrow_account_id=request.escrow_account_id,
        exemption=pb.Offering.Exemption.Name(request.exemption),
        currency=target.currency_code,
        target_minor=target.amount_minor,
        maximum_minor=maximum.amount_minor,
        open_at=open_at,
        deadline_at=deadline_at,
        **agreements.columns(terms),
        status=OfferingStatus.OPEN.value,
        created_by=current_principal().person,
        created_at=now,
        updated_at=now,
    )
    if row is None:
        raise _not_usable(request.escrow_account_id, "used by another offering")
    return await _announced(tx, row, events.OfferingOpened, now)


def _moment(timestamp: Timestamp, field: str, now: datetime) -> datetime:
    """A time somebody can mean: in the calendar, and not beyond every plan."""
    moment = from_timestamp(timestamp, field)
    if abs(moment - now) > PLANS_END:
        raise InvalidField("No such time.", fields={field: "must lie within ten years of now"})
    return moment


def _check_amounts(currency: str, target_minor: int, maximum_currency: str, maximum_minor: int) -> None:
    if maximum_currency != currency:
        raise InvalidField("Two currencies.", fields={"maximum_amount.currency_code": "must be that of target_amount"})
    if maximum_minor < target_minor:
        raise InvalidField("The maximum is too small.", fields={"maximum_amount": "must not be below target_amount"})


def _check_account(escrow_account_id: str, account: escrow.EscrowAccount | None, currency: str) -> None:
    if account is None:
        raise _not_usable(escrow_account_id, "unknown")
    if account.status != escrow.EscrowAccount.ACTIVE:
        raise _not_usable(escrow_account_id, escrow.EscrowAccount.Status.Name(account.status))
    if account.currency_code != currency:
        raise _not_usable(escrow_account_id, f"its currency is {account.currency_code}")


def _not_usable(escrow_account_id: str, cause: str) -> EscrowAccountNotUsable:
    return EscrowAccountNotUsable(
        f"The escrow account cannot be used: {cause}.",
        fields={"escrow_account_id": "cannot be used"},
        escrow_account_id=escrow_account_id,
        cause=cause,
    )


async def update(tx: AsyncConnection, request: pb.UpdateOfferingRequest, now: datetime) -> pb.Offering:
    row = await _locked(tx, request.offering_id)
    if row.status != OfferingStatus.OPEN.value:
        raise OfferingNotOpen(
            "Only an open offering can be changed.", status=row.status, deadline_time=row.deadline_at.isoformat()
        )
    changes: dict[str, object] = {}
    if request.HasField("display_name"):
        changes["display_name"] = request.display_name
    if request.HasField("deadline_time"):
        deadline_at = _moment(request.deadline_time, "deadline_time", now)
        if deadline_at < now or deadline_at <= row.open_at:
            raise InvalidField("The deadline is too early.", fields={"deadline_time": "must not be earlier than now"})
        changes["deadline_at"] = deadline_at
        if deadline_at < row.deadline_at:
            _check_notice(row, deadline_at, now)
            changes["early_close_noticed_on"] = now.date()
    if request.HasField("terms"):
        if await investments_store.any_in(tx, row.offering_id):
            raise TermsFixed("Somebody has invested on these terms; they cannot change.")
        changes |= agreements.columns(agreements.read(request.terms))
    if not changes:
        return messages.offering(row)
    changed = await rows.save(tx, offerings, row.offering_id, **changes, updated_at=now)
    return await _announced(tx, changed, events.OfferingUpdated, now)


def _check_notice(row: rows.Row, deadline_at: datetime, now: datetime) -> None:
    """Refuses an early close on short notice: until 48 hours before the new deadline investors may withdraw, so a
    deadline of tomorrow would take that right away today. Source: 17 CFR 227.304(a) and (b).
    """
    earliest = earliest_early_close(now.date())
    if row.exemption == Exemption.REG_CF.value and deadline_at.date() < earliest:
        raise InvalidField(
            "An early close needs five business days' notice.",
            fields={"deadline_time": f"must not be earlier than {earliest}: investors have five business days' notice"},
        )


async def close(tx: AsyncConnection, request: pb.CloseOfferingRequest, seen: gates.Seen, now: datetime) -> pb.Offering:
    """Begins the closing; the saga does the rest. `seen` was read from the other services before the transaction.

    On a closed offering whose proceeds could not be paid, it asks for the payment again.
    """
    row = await _locked(tx, request.offering_id)
    if row.status == OfferingStatus.CLOSED.value and await closings.proceeds_failed(tx, row):
        return messages.offering(await closings.pay_proceeds_again(tx, row, request.proceeds_bank_account_id, now))
    move(OFFERING_MOVES, OfferingStatus(row.status), OfferingStatus.CLOSING)
    if row.status != OfferingStatus.OPEN.value:
        return messages.offering(row)  # it is closing
    await gates.require(tx, row, seen, now)
    return messages.offering(await closings.begin(tx, row, request.proceeds_bank_account_id, now))


async def refund(tx: AsyncConnection, request: pb.RefundOfferingRequest, now: datetime) -> pb.Offering:
    """Ends the raise; every contribution goes back. Asked again, it pays refunds again that failed."""
    row = await _locked(tx, request.offering_id)
    move(OFFERING_MOVES, OfferingStatus(row.status), OfferingStatus.REFUNDING)
    if row.status == OfferingStatus.OPEN.value:
        row = await rows.save(
            tx,
            offerings,
            row.offering_id,
            status=OfferingStatus.REFUNDING.value,
            refund_reason=request.reason,
            updated_at=now,
        )
        await enqueue(tx, events.OfferingRefunding(offering=messages.offering(row), reason=request.reason), now=now)
        await refunds.ask_for_all(tx, row.offering_id, now)
    await refunds.advance(tx, row, now, again=True)
    after = await rows.find(tx, offerings, row.offering_id)
    return messages.offering(after or row)


async def _locked(tx: AsyncConnection, offering_id: str) -> rows.Row:
    row = await rows.find(tx, offerings, offering_id, lock=True)
    if row is None:
        raise OfferingNotFound("No such offering.")
    return row


async def _announced(tx: AsyncConnection, row: rows.Row, event: type[Message], now: datetime) -> pb.Offering:
    offering = messages.offering(row)
    await enqueue(tx, event(offering=offering), now=now)
    return offering
