"""Escrow accounts: opened, edited, frozen, unfrozen, closed. Each runs in the caller's transaction."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from realco.escrow.v1 import escrow_accounts_pb2 as pb
from realco.escrow.v1 import events_pb2 as events

from services.chassis.calls.auth import current_principal
from services.chassis.data import outbox
from services.chassis.data.seals import seals_of
from services.chassis.data.stops import note_stop
from services.chassis.data.transaction import Tx
from services.chassis.values.etags import check_etag
from services.chassis.values.ids import new_id
from services.chassis.values.moves import check_move
from services.chassis.values.refusals import (
    EscrowAccountClosed,
    NameFixed,
    PartyNotFound,
)
from services.escrow import actions, messages
from services.escrow.clients import Peers
from services.escrow.domain.account import (
    MOVES,
    AccountUse,
    EscrowAccount,
    Status,
    check_empty,
    check_unused,
    close,
    freeze,
    is_frozen_so,
    may_change,
    unfreeze,
)
from services.escrow.posting.checks import check_whole_book
from services.escrow.store.approvals import APPROVAL_WRITER, UNFREEZE, check_unfreezing
from services.escrow.store.escrow_accounts import ESCROW_ACCOUNTS, list_balances, require_locked
from services.escrow.store.journal import has_entries

CHANGE = "change of an escrow account"
_EVENTS = {
    Status.FROZEN: events.EscrowAccountFrozen,
    Status.ACTIVE: events.EscrowAccountUnfrozen,
    Status.CLOSED: events.EscrowAccountClosed,
}


async def create_escrow_account(
    tx: Tx, request: pb.CreateEscrowAccountRequest, unknown: PartyNotFound | None, now: datetime
) -> pb.EscrowAccount:
    """Opens it.

    Args:
        unknown: The refusal of a sponsor that is not there, asked for before the transaction.
    """
    if unknown is not None:
        raise unknown
    escrow_account_id = new_id("esc")
    account = EscrowAccount(
        escrow_account_id=escrow_account_id,
        display_name=request.display_name,
        currency=request.currency_code,
        sponsor_party_id=request.sponsor_party_id,
        custodian_name=request.custodian_name,
        custodian_account_last4=request.custodian_account_last4,
        external_id=request.external_id or None,
        metadata=dict(request.metadata),
        created_at=now,
        created_by=current_principal().person,
        updated_at=now,
        change_digest=seals_of(tx).digest_proof(CHANGE, *_version_of(escrow_account_id, 1)),
    )
    await ESCROW_ACCOUNTS.insert(tx, account)
    await outbox.enqueue(tx, events.EscrowAccountCreated(escrow_account=messages.to_escrow_account(account)), now=now)
    return await actions.answer_escrow_account(tx, account)


async def update_escrow_account(tx: Tx, request: pb.UpdateEscrowAccountRequest, now: datetime) -> pb.EscrowAccount:
    """Raises: EscrowAccountNotFound, EtagMismatch, NameFixed, EscrowAccountClosed, TooManyStops."""
    account = await _lock(tx, request)
    changes: dict[str, Any] = {}
    for name in request.update_mask.paths:
        given = dict(request.metadata) if name == "metadata" else getattr(request, name)
        changes[name] = given if given or name != "external_id" else None
    renamed = changes.get("display_name", account.display_name) != account.display_name
    if renamed and await has_entries(tx, account.escrow_account_id):
        raise NameFixed("Money has been booked in it under this name: it stays.")
    changed = replace(account, **changes)
    if changed != account:
        await APPROVAL_WRITER.note_edit(tx, account.escrow_account_id, account.etag, now)
    return await _change(tx, account, changed, now)


async def change_escrow_account_custodian(
    tx: Tx, request: pb.ChangeEscrowAccountCustodianRequest, now: datetime
) -> pb.EscrowAccount:
    account = await _lock(tx, request)
    custodian, last4 = request.custodian_name, request.custodian_account_last4
    return await _change(tx, account, replace(account, custodian_name=custodian, custodian_account_last4=last4), now)


async def freeze_escrow_account(tx: Tx, request: pb.FreezeEscrowAccountRequest, now: datetime) -> pb.EscrowAccount:
    account = await _lock(tx, request)
    person = current_principal().person
    if is_frozen_so(account, request.note, person):
        return await actions.answer_escrow_account(tx, account)
    await APPROVAL_WRITER.cancel_undoing(tx, UNFREEZE, account.escrow_account_id, now)
    await note_stop(tx, "FREEZE_ESCROW_ACCOUNT", account.escrow_account_id, now)
    frozen = freeze(account, request.note, person, now)
    if account.status is Status.FROZEN:
        return await _save(tx, account, frozen, now)
    return await _move(tx, account, frozen, now)


async def unfreeze_escrow_account(tx: Tx, request: pb.UnfreezeEscrowAccountRequest, now: datetime) -> pb.EscrowAccount:
    account = await _lock(tx, request)
    await check_unfreezing(tx, account)
    return await _move(tx, account, unfreeze(account, current_principal().person, now), now)


async def ask_about_use(peers: Peers, escrow_account_id: str) -> AccountUse:
    """What the account is still needed for, by what the others know. Raises Unavailable: one of them is away."""
    offerings = await peers.distributions.list_open_offerings(escrow_account_id)
    transaction_ids = await peers.transactions.list_unfinished_transactions(escrow_account_id)
    return AccountUse(offerings.offering_ids, transaction_ids, offerings.paying_offering_ids)


async def close_escrow_account(
    tx: Tx, request: pb.CloseEscrowAccountRequest, use: AccountUse, now: datetime
) -> pb.EscrowAccount:
    """Ends it, for ever.

    Args:
        use: What `ask_about_use` answered. Whatever begins after it was asked finds the account closed when money is
            to move, and does not move it.

    Raises: BalancesNotZero, EscrowAccountStillNeeded, IllegalStatusChange.
    """
    account = await _lock(tx, request)
    if account.status is not Status.CLOSED:
        check_unused(use)
    return await _move(tx, account, close(account, current_principal().person, now), now)


async def _lock(tx: Tx, request: Any) -> EscrowAccount:
    """The request's escrow account, locked.

    Raises:
        EscrowAccountNotFound: there is none.
        EtagMismatch: it is not the one the request's etag was read from.
    """
    account = await require_locked(tx, request.escrow_account_id)
    check_etag(request.etag, account.etag)
    return account


async def _change(tx: Tx, before: EscrowAccount, after: EscrowAccount, now: datetime) -> pb.EscrowAccount:
    """What changes nothing is no new version. Raises EscrowAccountClosed."""
    if not may_change(before.status):
        raise EscrowAccountClosed(before.escrow_account_id)
    if before == after:
        return await actions.answer_escrow_account(tx, before)
    return await _save(tx, before, after, now)


async def _move(tx: Tx, before: EscrowAccount, after: EscrowAccount, now: datetime) -> pb.EscrowAccount:
    """Nothing changes where it has that status."""
    if before.status is after.status:
        return await actions.answer_escrow_account(tx, before)
    check_move(MOVES, before.status, after.status)
    if after.status is Status.CLOSED:
        await check_whole_book(tx, before.escrow_account_id)
        check_empty(await list_balances(tx, before.escrow_account_id), before.currency)
    return await _save(tx, before, after, now)


async def _save(tx: Tx, before: EscrowAccount, after: EscrowAccount, now: datetime) -> pb.EscrowAccount:
    """Writes the account, and tells it: every change of an escrow account passes here.

    The database asks for the proof of the version there was: who has a login alters none, so that it can be frozen.
    """
    seals, account_id, version = seals_of(tx), before.escrow_account_id, before.version
    proof = seals.prove(before.change_digest, CHANGE, *_version_of(account_id, version))
    digest = seals.digest_proof(CHANGE, *_version_of(account_id, version + 1))
    saved = await ESCROW_ACCOUNTS.save(tx, before, replace(after, change_proof=proof, change_digest=digest), now)
    event = _EVENTS[saved.status] if saved.status is not before.status else events.EscrowAccountUpdated
    await outbox.enqueue(tx, event(escrow_account=messages.to_escrow_account(saved)), now=now)
    return await actions.answer_escrow_account(tx, saved)


def _version_of(escrow_account_id: str, version: int) -> tuple[str, str, int]:
    return current_principal().org_id, escrow_account_id, version
