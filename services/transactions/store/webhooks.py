"""Webhooks: the inbox holds each event of a provider once; an organization holds those about its transactions."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from realco.transactions.v1 import events_pb2 as events
from sqlalchemy.dialects import postgresql as pg

from services.chassis.calls.auth import current_principal
from services.chassis.data import leases, outbox
from services.chassis.data.due import Due
from services.chassis.data.reach import is_mine
from services.chassis.data.seals import seals_of
from services.chassis.data.statements import Row
from services.chassis.data.transaction import Tx
from services.chassis.values.invariant import invariant
from services.transactions import messages
from services.transactions.domain.transaction import Transaction
from services.transactions.domain.webhooks import WebhookStatus
from services.transactions.tables import webhook_inbox, webhooks

_i, _c = webhook_inbox.c, webhooks.c
# What came and was not applied.
UNAPPLIED = Due(webhook_inbox, _i.due_at.is_not(None), _i.created_at)


async def insert_into_inbox(tx: Tx, *, due_now: bool, **values: Any) -> tuple[str, bool]:
    """(webhook_id, whether it is new): a repeated event finds the row of the first.

    Raises:
        NotSealed: the row of the first is nobody's webhook. Its provider sends the event again until it is taken.
    """
    digest = seals_of(tx).digest_proof(webhook_inbox.name, values["webhook_id"])
    due_at = leases.due_in(0) if due_now else None
    row = pg.insert(webhook_inbox).values(**values, due_at=due_at, proof_digest=digest)
    statement = row.on_conflict_do_nothing(constraint="webhook_inbox_event").returning(_i.webhook_id)
    created = await tx.scalar(statement)
    if created is not None:
        return str(created), True
    known = sa.select(_i.webhook_id, _i.proof_digest).where(
        _i.provider == values["provider"], _i.provider_event_id == values["provider_event_id"]
    )
    first = (await tx.execute(known)).one()
    _prove(tx, first.webhook_id, first.proof_digest)
    return str(first.webhook_id), False


def build_taking(*, count_max: int) -> leases.Taking:
    """How a job takes webhooks: how many at a time."""
    return leases.build_taking(webhook_inbox, count_max=count_max)


async def take_webhooks(tx: Tx, taking: leases.Taking) -> list[Row]:
    """Takes webhooks that are due to be applied, oldest first."""
    return list(await tx.execute(taking.statement))


async def finish_webhook(tx: Tx, taken: Row, *, ignored_because: str | None = None) -> None:
    """Nothing more is to be done. Raises: NotSealed: the webhook was not received by this service."""
    proof = _prove(tx, taken.webhook_id, taken.proof_digest)
    await leases.finish(tx, webhook_inbox, taken._asdict(), ignored_because=ignored_because, proof=proof)


def _prove(tx: Tx, webhook_id: str, digest: bytes | None) -> bytes:
    """What shows that this service received a webhook. Raises: NotSealed: it did not."""
    return seals_of(tx).prove_to(digest, webhook_inbox.name, webhook_id, webhook_id)


async def postpone_webhook(tx: Tx, taken: Row) -> None:
    await leases.postpone(tx, webhook_inbox, taken._asdict())


async def lock_or_insert_webhook(tx: Tx, taken: Row, about: Transaction, now: datetime) -> Row:
    """The organization's row of a webhook, locked: made, and published, if there is none yet."""
    names = ("webhook_id", "provider", "provider_event_id", "event_type", "created_at")
    values = {name: taken._mapping[name] for name in names}
    row = pg.insert(webhooks).values(
        org_id=about.org_id, transaction_id=about.transaction_id, status=WebhookStatus.RECEIVED, **values
    )
    made = (await tx.execute(row.on_conflict_do_nothing().returning(webhooks))).one_or_none()
    if made is not None:
        await _enqueue(tx, made, about.escrow_account_id, now)
        return made
    found = await lock_webhook(tx, taken.webhook_id)
    assert found is not None  # which is what the insert ran into
    return found


async def find_webhook(tx: Tx, webhook_id: str) -> Row | None:
    return (await tx.execute(_select_one(webhook_id))).one_or_none()


async def find_payment_id(tx: Tx, webhook_id: str) -> str | None:
    """The provider's id of the payment that one is about. Over all organizations: the inbox has none."""
    of_it = sa.select(webhook_inbox.c.provider_reference).where(webhook_inbox.c.webhook_id == webhook_id)
    found: str | None = await tx.scalar(of_it)
    return found


async def lock_webhook(tx: Tx, webhook_id: str) -> Row | None:
    return (await tx.execute(_select_one(webhook_id).with_for_update(key_share=True))).one_or_none()


def _select_one(webhook_id: str) -> sa.Select[Any]:
    return sa.select(webhooks).where(is_mine(webhooks), _c.webhook_id == webhook_id)


async def save_webhook(tx: Tx, row: Row, escrow_account_id: str, now: datetime, **changes: Any) -> Row:
    """Changes a locked webhook of the organization, and publishes it."""
    statement = sa.update(webhooks).where(_c.org_id == row.org_id, _c.webhook_id == row.webhook_id)
    changed = (await tx.execute(statement.values(changes).returning(webhooks))).one()
    await _enqueue(tx, changed, escrow_account_id, now)
    return changed


async def save_due(tx: Tx, webhook_id: str) -> None:
    """Has a job apply a webhook of the organization again. Whoever is at work on it finds that its lease is over."""
    is_due = await tx.scalar(sa.select(sa.func.replay_webhook(current_principal().org_id, webhook_id)))
    invariant(bool(is_due), "a webhook of an organization is in the inbox")


async def _enqueue(tx: Tx, row: Row, escrow_account_id: str, now: datetime) -> None:
    event = events.WebhookUpdated(webhook=messages.to_webhook(row), escrow_account_id=escrow_account_id)
    await outbox.enqueue(tx, event, now=now)


async def forget_bodies(tx: Tx, *, before: datetime, count_max: int) -> int:
    """Forgets the bodies of webhooks received before then that no job has to apply; how many."""
    old = sa.select(_i.webhook_id).where(_i.body.is_not(None), _i.due_at.is_(None), _i.created_at < before)
    locked = old.order_by(_i.created_at).limit(count_max).with_for_update(skip_locked=True)
    forgotten = sa.update(webhook_inbox).where(_i.webhook_id.in_(locked.scalar_subquery())).values(body=None)
    return (await tx.execute(forgotten)).rowcount
