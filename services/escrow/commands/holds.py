"""Holds: placed, captured, released, expired, overridden. Each runs in the caller's transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NoReturn

from realco.escrow.v1 import events_pb2 as events
from realco.escrow.v1 import holds_pb2 as pb

from services.chassis.calls.auth import current_principal
from services.chassis.calls.wire import from_timestamp
from services.chassis.data import outbox
from services.chassis.data.stops import note_stop
from services.chassis.data.transaction import Tx
from services.chassis.process.telemetry import log
from services.chassis.values.etags import check_etag
from services.chassis.values.ids import new_id
from services.chassis.values.invariant import invariant
from services.chassis.values.money import Money
from services.chassis.values.refusals import (
    CurrencyMismatch,
    EscrowAccountClosed,
    EscrowAccountFrozen,
    EscrowAccountNotFound,
    IllegalStatusChange,
    check_currency,
)
from services.chassis.values.stops import STOPS_WITHIN
from services.escrow import actions, messages
from services.escrow.commands.journal_entries import name_field
from services.escrow.domain import refusals
from services.escrow.domain.chart import LedgerAccount
from services.escrow.domain.holds import (
    Hold,
    HoldStatus,
    check_may_be_captured,
    check_may_be_held,
    check_may_end_at,
    check_may_hold_more,
    has_run_out,
)
from services.escrow.domain.journal import EntryType, NewEntry, build_key, credit, debit
from services.escrow.messages import read_ledger_account
from services.escrow.posting.booking import book_in
from services.escrow.posting.checks import check_book, check_whole_book
from services.escrow.store import holds as store
from services.escrow.store.escrow_accounts import ESCROW_ACCOUNTS
from services.escrow.store.holds import HoldVerdict

_End = events.HoldCaptured | events.HoldReleased | events.HoldExpired

_ENDS: Mapping[HoldStatus, type[_End]] = {
    HoldStatus.CAPTURED: events.HoldCaptured,
    HoldStatus.RELEASED: events.HoldReleased,
    HoldStatus.EXPIRED: events.HoldExpired,
}


async def place_hold(tx: Tx, request: pb.PlaceHoldRequest, now: datetime) -> pb.Hold:
    expires_at = from_timestamp(request.expire_time, "expire_time") if request.HasField("expire_time") else None
    check_may_end_at(expires_at, now)
    account = read_ledger_account(request.ledger_account, "ledger_account")
    check_may_be_held(account)
    principal = current_principal()
    if not principal.service:
        check_may_hold_more(await store.lock_open_count(tx, request.escrow_account_id, principal.person))
        if await store.was_freed(tx, request.escrow_account_id, account, principal.person, now - STOPS_WITHIN):
            await note_stop(tx, "HOLD_AGAIN", f"{request.escrow_account_id}/{account.kind}/{account.party_id}", now)
    hold = await reserve_money(
        tx,
        request.escrow_account_id,
        account,
        hold_id=new_id("hold"),
        amount_minor=request.amount.amount_minor,
        currency=request.amount.currency_code,
        reason=pb.Hold.Reason.Name(request.reason),
        description=request.description,
        expires_at=expires_at,
        external_id=request.external_id or None,
        metadata=request.metadata,
        now=now,
    )
    return actions.answer_hold(hold)


async def reserve_money(
    tx: Tx,
    escrow_account_id: str,
    account: LedgerAccount,
    *,
    hold_id: str,
    amount_minor: int,
    currency: str,
    reason: str,
    now: datetime,
    description: str = "",
    transaction_id: str | None = None,
    expires_at: datetime | None = None,
    external_id: str | None = None,
    metadata: Mapping[str, str] | None = None,
    created_by: str | None = None,
    replaces_hold_id: str | None = None,
) -> Hold:
    """Places a hold on a ledger account.

    Args:
        created_by: Who wanted it; None: the caller.

    Raises:
        DomainError: less is available, or the escrow account is closed, absent or of another currency.
        NotSealed: somebody else has the hold's id, or holds or moved what is not available.
    """
    verdict = await store.insert_hold(
        tx,
        escrow_account_id,
        hold_id,
        now,
        kind=account.kind.value,
        party_id=account.party_id,
        amount_minor=amount_minor,
        currency=currency,
        reason=reason,
        description=description,
        transaction_id=transaction_id,
        expires_at=expires_at,
        created_by=created_by or current_principal().person,
        external_id=external_id,
        metadata=dict(metadata or {}),
        replaces_hold_id=replaces_hold_id,
    )
    if verdict.outcome == "taken":
        await _find(tx, escrow_account_id, hold_id)  # somebody else knew which id comes next
        invariant(False, "this service gives each hold an id of its own")
    if verdict.outcome == "insufficient":
        await store.check_holds_on(tx, escrow_account_id, [account])
        await check_whole_book(tx, escrow_account_id)
    if verdict.outcome != "done":
        _refuse_placing(verdict, escrow_account_id, account, amount_minor, currency)
    return await _publish(tx, events.HoldPlaced, escrow_account_id, hold_id, now)


def _refuse_placing(
    verdict: HoldVerdict, escrow_account_id: str, account: LedgerAccount, amount_minor: int, currency: str
) -> NoReturn:
    match verdict.outcome:
        case "not_found":
            raise EscrowAccountNotFound()
        case "closed":
            raise EscrowAccountClosed(escrow_account_id)
        case "currency_mismatch":
            raise CurrencyMismatch(verdict.subject, "amount.currency_code")
        case _:  # insufficient
            raise refusals.InsufficientAvailableBalance(
                f"The ledger account {account} has too little available.",
                fields={"amount.amount_minor": "is more than the ledger account has available"},
                available_minor=verdict.available_minor,
                requested_minor=amount_minor,
                currency_code=currency,
                ledger_account_kind=account.kind.value,
                party_id=account.party_id,
            )


async def release_hold(tx: Tx, request: pb.ReleaseHoldRequest, now: datetime) -> pb.Hold:
    hold = await _lock_as_read(tx, request)
    await check_book(tx, request.escrow_account_id, hold.escrow_account_entries)
    return actions.answer_hold(await end_hold(tx, request.escrow_account_id, request.hold_id, HoldStatus.RELEASED, now))


async def capture_hold(tx: Tx, request: pb.CaptureHoldRequest, now: datetime) -> pb.Hold:
    hold = await _lock_as_read(tx, request)
    if request.HasField("amount"):
        check_currency(request.amount.currency_code, hold.currency, "amount.currency_code")
    entry = build_capture(request, hold)
    captured = Money(entry.moved_minor, hold.currency)
    # First the hold, so that what it held is free to move; then the money. Both or neither.
    ended = await end_hold(tx, request.escrow_account_id, request.hold_id, HoldStatus.CAPTURED, now, moved=captured)
    await book_in(tx, [entry], now)
    return actions.answer_hold(ended)


def build_capture(request: pb.CaptureHoldRequest, hold: Hold) -> NewEntry:
    """The entry by which a hold is captured. Raises: InvalidField, InTransitNotByHand."""
    principal, held = current_principal(), hold.ledger_account
    receiving = read_ledger_account(request.to_ledger_account, "to_ledger_account")
    check_may_be_captured(held, receiving)
    captured_minor = request.amount.amount_minor if request.HasField("amount") else hold.amount_minor
    return NewEntry(
        org_id=principal.org_id,
        escrow_account_id=request.escrow_account_id,
        journal_entry_id=new_id("je"),
        # A backstop: the key of a capture is the hold's, so there can be one.
        key=build_key("hold", request.hold_id, body=f"{receiving.kind} {receiving.party_id}".encode()),
        type=EntryType.CAPTURE,
        description=f"Capture of {request.hold_id}",
        legs=(debit(held, captured_minor), credit(receiving, captured_minor)),
        created_by=principal.person,
        transaction_id=hold.transaction_id,
        investment_id=request.investment_id or None,
        asks_for_seals=True,
        named_field=name_field("investment_id"),
    )


async def end_hold(
    tx: Tx,
    escrow_account_id: str,
    hold_id: str,
    status: HoldStatus,
    now: datetime,
    *,
    moved: Money | None = None,
    when_frozen: bool = False,
) -> Hold:
    """Ends an open hold, once.

    Args:
        moved: What of it moves, since it was captured; None: nothing.

    Raises:
        DomainError: there is none, it is not open, it holds less, or the escrow account is frozen.
    """
    principal = current_principal()
    verdict = await store.save_end_of_hold(
        tx,
        escrow_account_id,
        hold_id,
        status,
        now,
        principal.person,
        moved_minor=0 if moved is None else moved.amount_minor,
        when_frozen=when_frozen,
    )
    if verdict.outcome != "done":
        _refuse_ending(verdict, escrow_account_id, status, moved)
    return await _publish(tx, _ENDS[status], escrow_account_id, hold_id, now)


async def override_holds(
    tx: Tx, holds: Sequence[Hold], missing_minor: int, returned_transaction_id: str, now: datetime
) -> None:
    """Ends holds, in their order, until what a return takes is free to move. What one held besides is held anew.

    The bank has the money, whatever a person wanted held. The hold of the rest is that person's, too. One whose time
    ran out, which in a frozen account lasts until it is unfrozen, is over, the rest as well.
    """
    taken = []
    for hold in holds:
        if missing_minor > 0:
            taken.append((hold, min(missing_minor, hold.amount_minor)))
            missing_minor -= hold.amount_minor
    if not taken:
        return
    invariant(missing_minor <= 0, "a return takes no more than there is")
    verdicts = await store.save_overrides(tx, taken, now, returned_transaction_id)
    for (hold, taken_minor), verdict in zip(taken, verdicts, strict=True):
        if verdict.outcome != "done":
            _refuse_ending(verdict, hold.escrow_account_id, HoldStatus.OVERRIDDEN, Money(taken_minor, hold.currency))
        log.warning(
            "hold_overridden",
            escrow_account_id=hold.escrow_account_id,
            hold_id=hold.hold_id,
            transaction_id=returned_transaction_id,
            amount_minor=taken_minor,
            currency=hold.currency,
        )
    last, last_taken_minor = taken[-1]  # of which alone something may be left
    overridden = await store.list_holds(tx, last.escrow_account_id, [hold.hold_id for hold, _ in taken])
    await outbox.enqueue_all(tx, [events.HoldOverridden(hold=messages.to_hold(each)) for each in overridden], now=now)
    if last.amount_minor > last_taken_minor and not has_run_out(last.expires_at, now):
        await reserve_money(
            tx,
            last.escrow_account_id,
            last.ledger_account,
            hold_id=new_id("hold"),
            amount_minor=last.amount_minor - last_taken_minor,
            currency=last.currency,
            reason=last.reason,
            now=now,
            description=last.description,
            expires_at=last.expires_at,
            external_id=last.external_id,
            metadata=last.metadata,
            created_by=last.created_by,
            replaces_hold_id=last.hold_id,
        )


async def let_hold_expire(tx: Tx, escrow_account_id: str, hold_id: str, expires_at: datetime, now: datetime) -> None:
    """Lets an open hold end by itself at a time."""
    if await store.save_expiry_of_hold(tx, escrow_account_id, hold_id, expires_at):
        await _publish(tx, events.HoldUpdated, escrow_account_id, hold_id, now)


def _refuse_ending(verdict: HoldVerdict, escrow_account_id: str, status: HoldStatus, moved: Money | None) -> NoReturn:
    match verdict.outcome:
        case "not_found":
            raise refusals.HoldNotFound()
        case "frozen":
            raise EscrowAccountFrozen(escrow_account_id)
        case "exceeds":
            assert moved is not None  # nothing is no more than is held
            raise refusals.CaptureExceedsHold(
                "More is captured than is held.",
                fields={"amount.amount_minor": "is more than is held"},
                held_minor=verdict.available_minor,
                requested_minor=moved.amount_minor,
                currency_code=moved.currency,
            )
        case _:
            raise IllegalStatusChange(verdict.subject, status)


async def _lock_as_read(tx: Tx, request: pb.CaptureHoldRequest | pb.ReleaseHoldRequest) -> Hold:
    """The hold that a request names; nobody else changes it, for nobody else changes its escrow account.

    Raises:
        HoldNotFound: there is none.
        EtagMismatch: it is not as it was when the request's etag was read.
    """
    await ESCROW_ACCOUNTS.lock(tx, request.escrow_account_id)
    hold = await _find(tx, request.escrow_account_id, request.hold_id)
    check_etag(request.etag, hold.etag)
    return hold


async def _find(tx: Tx, escrow_account_id: str, hold_id: str) -> Hold:
    hold = await store.find_hold(tx, escrow_account_id, hold_id)
    if hold is None:
        raise refusals.HoldNotFound()
    return hold


async def _publish(
    tx: Tx,
    event: type[events.HoldPlaced | events.HoldUpdated | _End],
    escrow_account_id: str,
    hold_id: str,
    now: datetime,
) -> Hold:
    """Publishes the hold as it now is: every change of one passes here."""
    hold = await _find(tx, escrow_account_id, hold_id)
    await outbox.enqueue(tx, event(hold=messages.to_hold(hold)), now=now)
    return hold
