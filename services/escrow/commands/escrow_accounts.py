"""Writes of people: escrow accounts and their status. Each runs in the caller's transaction."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from realco.escrow.v1 import escrow_pb2 as pb
from realco.escrow.v1 import events_pb2 as events
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import current_principal
from services.chassis.data import outbox
from services.chassis.values.errors import InvalidField
from services.chassis.values.etags import check_etag, etag_of
from services.chassis.values.ids import new_id
from services.escrow import actions, messages, store
from services.escrow.domain import account, refusals
from services.escrow.domain.account import Status


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
        "external_id": request.external_id or None,
        "metadata": dict(request.metadata),
        "created_at": now,
        "updated_at": now,
    }
    await store.insert_escrow_account(tx, values)
    row = await _lock(tx, escrow_account_id)
    await outbox.enqueue(tx, events.EscrowAccountOpened(escrow_account=messages.to_escrow_account(row)), now=now)
    return await _answer(tx, row)


async def update_escrow_account(
    tx: AsyncConnection, request: pb.UpdateEscrowAccountRequest, now: datetime
) -> pb.EscrowAccount:
    row = await _lock(tx, request.escrow_account_id, request.etag)
    changes: dict[str, Any] = {}
    for name in request.update_mask.paths:
        given = dict(request.metadata) if name == "metadata" else getattr(request, name)
        if not given and name in ("display_name", "custodian_name"):
            raise InvalidField("An escrow account has a name and a custodian.", fields={name: "must not be empty"})
        changes[name] = given if given or name != "external_id" else None
    if all(getattr(row, name) == value for name, value in changes.items()):
        return await _answer(tx, row)
    changed = await store.change_escrow_account(tx, row.org_id, row.escrow_account_id, now, **changes)
    await outbox.enqueue(tx, events.EscrowAccountUpdated(escrow_account=messages.to_escrow_account(changed)), now=now)
    return await _answer(tx, changed)


async def freeze_escrow_account(
    tx: AsyncConnection, request: pb.FreezeEscrowAccountRequest, now: datetime
) -> pb.EscrowAccount:
    return await _move(tx, request, Status.FROZEN, now, freeze_reason=request.reason)


async def unfreeze_escrow_account(
    tx: AsyncConnection, request: pb.UnfreezeEscrowAccountRequest, now: datetime
) -> pb.EscrowAccount:
    return await _move(tx, request, Status.ACTIVE, now)


async def close_escrow_account(
    tx: AsyncConnection, request: pb.CloseEscrowAccountRequest, now: datetime
) -> pb.EscrowAccount:
    return await _move(tx, request, Status.CLOSED, now)


async def _move(
    tx: AsyncConnection,
    request: pb.FreezeEscrowAccountRequest | pb.UnfreezeEscrowAccountRequest | pb.CloseEscrowAccountRequest,
    wanted: Status,
    now: datetime,
    *,
    freeze_reason: str = "",
) -> pb.EscrowAccount:
    row = await _lock(tx, request.escrow_account_id, request.etag)
    if not account.move(Status(row.status), wanted):
        return await _answer(tx, row)
    if wanted is Status.CLOSED:
        account.check_empty(await store.list_balances(tx, row.org_id, row.escrow_account_id))
    moved = await store.change_escrow_account(
        tx, row.org_id, row.escrow_account_id, now, status=wanted.value, freeze_reason=freeze_reason
    )
    event = events.EscrowAccountStatusChanged(
        escrow_account=messages.to_escrow_account(moved), previous_status=row.status
    )
    await outbox.enqueue(tx, event, now=now)
    return await _answer(tx, moved)


async def _lock(tx: AsyncConnection, escrow_account_id: str, etag: str = "") -> sa.Row[Any]:
    """The escrow account's row, locked.

    Raises:
        EscrowAccountNotFound: there is none.
        EtagMismatch: it is not the one the etag was read from.
    """
    row = await store.lock_escrow_account(tx, current_principal().org_id, escrow_account_id)
    if row is None:
        raise refusals.EscrowAccountNotFound("There is no such escrow account.")
    check_etag(etag, etag_of(row.escrow_account_id, row.version))
    return row


async def _answer(tx: AsyncConnection, row: sa.Row[Any]) -> pb.EscrowAccount:
    return messages.to_escrow_account(row, await actions.of_escrow_account(tx, row))
