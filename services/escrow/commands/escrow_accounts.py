"""Escrow accounts: opened, edited, frozen, unfrozen, closed. Each runs in the caller's transaction."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from realco.escrow.v1 import escrow_accounts_pb2 as pb
from realco.escrow.v1 import events_pb2 as events
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import current_principal
from services.chassis.data import outbox
from services.chassis.data.seals import seals_of
from services.chassis.values.etags import check_etag
from services.chassis.values.ids import new_id
from services.chassis.values.moves import check_move
from services.chassis.values.refusals import EscrowAccountClosed, EscrowAccountNotFound
from services.escrow import actions, messages
from services.escrow.domain import account
from services.escrow.domain.account import Status
from services.escrow.store import escrow_accounts as store

_UNFREEZING = "unfreezing"
_MOVES = {
    Status.FROZEN: events.EscrowAccountFrozen,
    Status.ACTIVE: events.EscrowAccountUnfrozen,
    Status.CLOSED: events.EscrowAccountClosed,
}


async def create_escrow_account(
    tx: AsyncConnection, request: pb.CreateEscrowAccountRequest, now: datetime
) -> pb.EscrowAccount:
    principal = current_principal()
    values = {
        "org_id": principal.org_id,
        "escrow_account_id": new_id("esc"),
        "display_name": request.display_name,
        "currency": request.currency_code,
        "custodian_name": request.custodian_name,
        "custodian_account_last4": request.custodian_account_last4,
        "external_id": request.external_id or None,
        "metadata": dict(request.metadata),
        "created_at": now,
        "created_by": principal.person,
        "updated_at": now,
    }
    row = await store.insert_escrow_account(tx, values)
    await outbox.enqueue(tx, events.EscrowAccountCreated(escrow_account=messages.to_escrow_account(row)), now=now)
    return await actions.answer_escrow_account(tx, row)


async def update_escrow_account(
    tx: AsyncConnection, request: pb.UpdateEscrowAccountRequest, now: datetime
) -> pb.EscrowAccount:
    row = await _lock(tx, request)
    changes: dict[str, Any] = {}
    for name in request.update_mask.paths:
        given = dict(request.metadata) if name == "metadata" else getattr(request, name)
        changes[name] = given if given or name != "external_id" else None
    return await _change(tx, row, now, changes)


async def change_escrow_account_custodian(
    tx: AsyncConnection, request: pb.ChangeEscrowAccountCustodianRequest, now: datetime
) -> pb.EscrowAccount:
    row = await _lock(tx, request)
    names = ("custodian_name", "custodian_account_last4")
    return await _change(tx, row, now, {name: getattr(request, name) for name in names})


async def freeze_escrow_account(
    tx: AsyncConnection, request: pb.FreezeEscrowAccountRequest, now: datetime
) -> pb.EscrowAccount:
    row = await _lock(tx, request)
    frozen = {"freeze_note": request.note, "frozen_at": now, "frozen_by": current_principal().person}
    proof = {"unfreeze_digest": seals_of(tx).digest_proof(_UNFREEZING, *_place(row), now)}
    return await _move(tx, row, Status.FROZEN, now, frozen | proof)


async def unfreeze_escrow_account(
    tx: AsyncConnection, request: pb.UnfreezeEscrowAccountRequest, now: datetime
) -> pb.EscrowAccount:
    no_longer = {"freeze_note": "", "frozen_at": None, "frozen_by": None}
    row = await _lock(tx, request)
    unfrozen = {"unfrozen_at": now, "unfrozen_by": current_principal().person}
    proof = {"unfreeze_proof": seals_of(tx).prove(row.unfreeze_digest, _UNFREEZING, *_place(row), row.frozen_at)}
    return await _move(tx, row, Status.ACTIVE, now, no_longer | unfrozen | proof)


async def close_escrow_account(
    tx: AsyncConnection, request: pb.CloseEscrowAccountRequest, now: datetime
) -> pb.EscrowAccount:
    closed = {"closed_at": now, "closed_by": current_principal().person}
    return await _move(tx, await _lock(tx, request), Status.CLOSED, now, closed)


def _place(row: sa.Row[Any]) -> tuple[str, str]:
    return row.org_id, row.escrow_account_id


async def _lock(tx: AsyncConnection, request: Any) -> sa.Row[Any]:
    """The row of the request's escrow account, locked.

    Raises:
        EscrowAccountNotFound: there is none.
        EtagMismatch: it is not the one the request's etag was read from.
    """
    row = await store.lock_escrow_account(tx, request.escrow_account_id)
    if row is None:
        raise EscrowAccountNotFound()
    check_etag(request.etag, messages.to_etag(row))
    return row


async def _change(tx: AsyncConnection, row: sa.Row[Any], now: datetime, changes: dict[str, Any]) -> pb.EscrowAccount:
    """What changes nothing is no new version. Raises EscrowAccountClosed."""
    if not account.may_change(Status(row.status)):
        raise EscrowAccountClosed(row.escrow_account_id)
    if all(getattr(row, name) == value for name, value in changes.items()):
        return await actions.answer_escrow_account(tx, row)
    return await _save(tx, row, now, changes)


async def _move(
    tx: AsyncConnection, row: sa.Row[Any], wanted: Status, now: datetime, changes: dict[str, Any]
) -> pb.EscrowAccount:
    """Moves the account to a status, with what changes beside it; nothing changes where it has that status."""
    current = Status(row.status)
    if current is wanted:
        return await actions.answer_escrow_account(tx, row)
    check_move(account.MOVES, current, wanted)
    if wanted is Status.CLOSED:
        account.check_empty(await store.list_balances(tx, row.escrow_account_id), row.currency)
    return await _save(tx, row, now, {"status": wanted.value, **changes})


async def _save(tx: AsyncConnection, row: sa.Row[Any], now: datetime, changes: dict[str, Any]) -> pb.EscrowAccount:
    """Writes the changes, and tells them: every change of an escrow account passes here."""
    saved = await store.save_escrow_account(tx, row.escrow_account_id, now, changes)
    message = messages.to_escrow_account(saved)
    event = _MOVES[Status(saved.status)] if saved.status != row.status else events.EscrowAccountUpdated
    await outbox.enqueue(tx, event(escrow_account=message), now=now)
    return await actions.answer_escrow_account(tx, saved)
