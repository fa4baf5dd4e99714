"""Writes of people and services: escrow accounts, their status, and holds. Each runs in the caller's transaction."""

from __future__ import annotations

from datetime import datetime
from typing import NoReturn

from realco.escrow.v1 import escrow_pb2 as pb
from realco.escrow.v1 import events_pb2 as events
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import current_principal
from services.chassis.calls.wire import from_timestamp
from services.chassis.data import outbox
from services.chassis.values.errors import InvalidField
from services.chassis.values.ids import new_id
from services.chassis.values.invariant import invariant
from services.escrow import messages, store
from services.escrow.booking import book_in
from services.escrow.domain import account, refusals
from services.escrow.domain.account import Status
from services.escrow.domain.chart import normal_balance
from services.escrow.domain.journal import Kind, Leg, NewEntry, once
from services.escrow.store import HoldVerdict

# --- escrow accounts --------------------------------------------------------------------------------------------------


async def create_escrow_account(
    tx: AsyncConnection, request: pb.CreateEscrowAccountRequest, now: datetime
) -> pb.EscrowAccount:
    org_id, escrow_account_id = current_principal().org_id, new_id("esc")
    values = {
        "org_id": org_id,
        "escrow_account_id": escrow_account_id,
        "display_name": request.display_name,
        "currency": request.currency_code,
        "custodian_name": request.custodian_name,
        "custodian_account_last4": request.custodian_account_last4,
        "created_at": now,
        "updated_at": now,
    }
    await store.insert_escrow_account(tx, values)
    row = await store.lock_escrow_account(tx, org_id, escrow_account_id)
    opened = messages.escrow_account(row)
    event = events.EscrowAccountOpened(escrow_account=opened)
    await outbox.enqueue(tx, event, now=now)
    return opened


async def freeze(tx: AsyncConnection, request: pb.FreezeEscrowAccountRequest, now: datetime) -> pb.EscrowAccount:
    return await _move(tx, request.escrow_account_id, Status.FROZEN, now, freeze_reason=request.reason)


async def unfreeze(tx: AsyncConnection, request: pb.UnfreezeEscrowAccountRequest, now: datetime) -> pb.EscrowAccount:
    return await _move(tx, request.escrow_account_id, Status.ACTIVE, now)


async def close(tx: AsyncConnection, request: pb.CloseEscrowAccountRequest, now: datetime) -> pb.EscrowAccount:
    return await _move(tx, request.escrow_account_id, Status.CLOSED, now)


async def _move(
    tx: AsyncConnection, escrow_account_id: str, wanted: Status, now: datetime, *, freeze_reason: str = ""
) -> pb.EscrowAccount:
    principal = current_principal()
    row = await store.lock_escrow_account(tx, principal.org_id, escrow_account_id)
    if row is None:
        raise refusals.EscrowAccountNotFound("There is no such escrow account.")
    if not account.move(Status(row.status), wanted):
        return messages.escrow_account(row)
    if wanted is Status.CLOSED:
        account.check_empty(await store.balances(tx, principal.org_id, escrow_account_id))
    moved = messages.escrow_account(
        await store.set_status(tx, principal.org_id, escrow_account_id, wanted, freeze_reason, now)
    )
    event = events.EscrowAccountStatusChanged(escrow_account=moved, previous_status=row.status)
    await outbox.enqueue(tx, event, now=now)
    return moved


# --- holds ------------------------------------------------------------------------------------------------------------


async def place_hold(tx: AsyncConnection, request: pb.PlaceHoldRequest, now: datetime) -> pb.Hold:
    expires_at = from_timestamp(request.expire_time, "expire_time") if request.HasField("expire_time") else None
    if expires_at is not None and expires_at <= now:
        raise InvalidField("The hold would end before it began.", fields={"expire_time": "must be in the future"})
    return await reserve(
        tx,
        request.escrow_account_id,
        hold_id=new_id("hold"),
        ledger_account=request.ledger_account,
        amount_minor=request.amount.amount_minor,
        currency=request.amount.currency_code,
        reason=pb.Hold.Reason.Name(request.reason),
        expires_at=expires_at,
        now=now,
    )


async def reserve(
    tx: AsyncConnection,
    escrow_account_id: str,
    *,
    hold_id: str,
    ledger_account: str,
    amount_minor: int,
    currency: str,
    reason: str,
    now: datetime,
    transaction_id: str | None = None,
    expires_at: datetime | None = None,
) -> pb.Hold:
    """Places a hold.

    Raises:
        DomainError: less is available, or the escrow account is closed, absent or of another currency.
    """
    principal = current_principal()
    verdict = await store.place_hold(
        tx,
        now,
        org_id=principal.org_id,
        escrow_account_id=escrow_account_id,
        hold_id=hold_id,
        ledger_account=ledger_account,
        amount_minor=amount_minor,
        currency=currency,
        reason=reason,
        transaction_id=transaction_id,
        expires_at=expires_at,
        actor=principal.person,
    )
    match verdict.outcome:
        case "not_found":
            raise refusals.EscrowAccountNotFound("There is no such escrow account.")
        case "closed":
            raise refusals.EscrowAccountClosed("The escrow account is closed.", escrow_account_id=escrow_account_id)
        case "currency_mismatch":
            raise _currency_mismatch(verdict.subject)
        case "insufficient":
            raise refusals.InsufficientAvailableBalance(
                f"{ledger_account} has too little available.",
                ledger_account=ledger_account,
                available_minor=verdict.available_minor,
                requested_minor=amount_minor,
            )
    placed = await _hold(tx, escrow_account_id, hold_id)
    event = events.HoldPlaced(hold=placed)
    await outbox.enqueue(tx, event, now=now)
    return placed


def _currency_mismatch(expected: str) -> refusals.CurrencyMismatch:
    fields = {"amount.currency_code": "is not the escrow account's currency"}
    return refusals.CurrencyMismatch("The escrow account has another currency.", fields=fields, expected=expected)


async def release_hold(tx: AsyncConnection, request: pb.ReleaseHoldRequest, now: datetime) -> pb.Hold:
    return await end_hold(tx, request.escrow_account_id, request.hold_id, "RELEASED", now)


async def capture_hold(tx: AsyncConnection, request: pb.CaptureHoldRequest, now: datetime) -> pb.Hold:
    principal = current_principal()
    hold = await store.hold(tx, principal.org_id, request.escrow_account_id, request.hold_id)
    if hold is None:
        raise refusals.HoldNotFound("There is no such hold in this escrow account.")
    if request.HasField("amount") and request.amount.currency_code != hold.currency:
        raise _currency_mismatch(hold.currency)
    if request.to_ledger_account == hold.ledger_account:
        raise InvalidField("A capture moves money.", fields={"to_ledger_account": "must not be the one the hold is on"})
    captured = request.amount.amount_minor if request.HasField("amount") else hold.amount_minor
    # First the hold, so that what it held is free to move; then the money. Both or neither.
    ended = await end_hold(tx, request.escrow_account_id, request.hold_id, "CAPTURED", now, captured_minor=captured)
    side = normal_balance(hold.ledger_account)
    entry = NewEntry(
        org_id=principal.org_id,
        escrow_account_id=request.escrow_account_id,
        journal_entry_id=new_id("je"),
        # A backstop: the key of a capture is the hold's, so there can be one.
        once=once("hold", request.hold_id, body=request.to_ledger_account.encode()),
        kind=Kind.HOLD,
        description=f"Capture of {request.hold_id}",
        legs=(
            Leg(hold.ledger_account, side.opposite, captured),
            Leg(request.to_ledger_account, side, captured),
        ),
        actor=principal.person,
        transaction_id=hold.transaction_id,
    )
    await book_in(tx, [entry], now)
    return ended


async def end_hold(
    tx: AsyncConnection,
    escrow_account_id: str,
    hold_id: str,
    status: str,
    now: datetime,
    *,
    captured_minor: int = 0,
    when_frozen: bool = False,
) -> pb.Hold:
    """Ends an open hold, once.

    Raises:
        DomainError: there is none, it is not open, it holds less, or the escrow account is frozen.
    """
    principal = current_principal()
    verdict = await store.resolve_hold(
        tx,
        principal.org_id,
        escrow_account_id,
        hold_id,
        status,
        now,
        captured_minor=captured_minor,
        when_frozen=when_frozen,
    )
    if verdict.outcome != "done":
        _refuse_ending(verdict, escrow_account_id, hold_id, captured_minor)
    ended = await _hold(tx, escrow_account_id, hold_id)
    event = events.HoldResolved(hold=ended)
    await outbox.enqueue(tx, event, now=now)
    return ended


async def let_hold_expire(tx: AsyncConnection, escrow_account_id: str, hold_id: str, at: datetime) -> None:
    """Lets an open hold end by itself at a time."""
    await store.let_hold_expire(tx, current_principal().org_id, escrow_account_id, hold_id, at)


def _refuse_ending(verdict: HoldVerdict, escrow_account_id: str, hold_id: str, captured_minor: int) -> NoReturn:
    match verdict.outcome:
        case "not_found":
            raise refusals.HoldNotFound("There is no such hold in this escrow account.")
        case "frozen":
            raise refusals.EscrowAccountFrozen("The escrow account is frozen.", escrow_account_id=escrow_account_id)
        case "exceeds":
            raise refusals.CaptureExceedsHold(
                "More is captured than is held.", held_minor=verdict.available_minor, requested_minor=captured_minor
            )
        case _:
            raise refusals.HoldNotOpen("The hold has ended.", hold_id=hold_id, status=verdict.subject)


async def _hold(tx: AsyncConnection, escrow_account_id: str, hold_id: str) -> pb.Hold:
    row = await store.hold(tx, current_principal().org_id, escrow_account_id, hold_id)
    invariant(row is not None, "a hold that was just written is there")
    return messages.hold(row)
