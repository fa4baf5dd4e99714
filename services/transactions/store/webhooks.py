"""Webhooks: the inbox holds each event of a provider once; an organization holds those about its transactions."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from realco.transactions.v1 import events_pb2 as events
from sqlalchemy.dialects import postgresql as pg

from services.chassis.calls.auth import current_principal
from services.chassis.data import leases, outbox
from services.chassis.data.database import LIMITS, Database
from services.chassis.data.due import Due
from services.chassis.data.reach import is_mine
from services.chassis.data.rows import build_new, name_new
from services.chassis.data.seals import NotSealed, Seals, seals_of
from services.chassis.data.statements import Row
from services.chassis.data.transaction import Tx
from services.chassis.values.failure import Failure, write_failure
from services.chassis.values.invariant import invariant
from services.transactions import messages
from services.transactions.domain.transaction import Transaction
from services.transactions.domain.webhooks import WebhookStatus
from services.transactions.tables import webhook_inbox, webhooks

_i, _c = webhook_inbox.c, webhooks.c
_RECEIVED = (
    *("webhook_id", "provider", "provider_event_id", "event_type", "body", "provider_reference"),
    *("ignored_because", "created_at", "proof_digest"),
)
_RECEIVE = (
    pg.insert(webhook_inbox)
    .values(
        **build_new((name, _i[name].type) for name in _RECEIVED),
        due_at=leases.due_in(sa.bindparam("due_ms", type_=sa.BigInteger)),
    )
    .on_conflict_do_nothing(constraint="webhook_inbox_event")
    .returning(_i.webhook_id)
)
_FIND_FIRST = sa.select(_i.webhook_id, _i.proof_digest).where(
    _i.provider == sa.bindparam("provider"), _i.provider_event_id == sa.bindparam("event_id")
)
_FINISH = f"""
UPDATE public.webhook_inbox AS inbox SET due_at = NULL, tries = 0, ignored_because = $4, proof = told.proof
FROM {LIMITS} limits, unnest($1::text[], $2::bigint[], $3::bytea[]) AS told (webhook_id, epoch, proof)
WHERE inbox.webhook_id = told.webhook_id AND inbox.epoch = told.epoch
"""  # noqa: S608  # all of it stands here
_MADE = (
    "org_id",
    "webhook_id",
    "provider",
    "provider_event_id",
    "event_type",
    "status",
    "transaction_id",
    "created_at",
)
_MAKE = (
    pg.insert(webhooks)
    .values(**build_new((name, _c[name].type) for name in _MADE))
    .on_conflict_do_nothing()
    .returning(webhooks)
)
_FINDING = sa.select(webhooks).where(is_mine(webhooks), _c.webhook_id == sa.bindparam("webhook_id"))
_LOCKING = _FINDING.with_for_update(key_share=True)
_CHANGED = ("status", "failure", "applied_at")
_CHANGE = (
    sa.update(webhooks)
    .where(is_mine(webhooks), _c.webhook_id == sa.bindparam("of_webhook_id"))
    .values(build_new((name, _c[name].type) for name in _CHANGED))
    .returning(webhooks)
)
# What came and was not applied.
UNAPPLIED = Due(webhook_inbox, _i.due_at.is_not(None), _i.created_at)


async def insert_into_inbox(tx: Tx, *, due_now: bool, **values: Any) -> tuple[str, bool]:
    """(webhook_id, whether it is new): a repeated event finds the row of the first.

    Raises:
        NotSealed: the row of the first is nobody's webhook. Its provider sends the event again until it is taken.
    """
    digest = seals_of(tx).digest_proof(webhook_inbox.name, values["webhook_id"])
    row = name_new(_RECEIVED, {**values, "proof_digest": digest})
    created = await tx.scalar(_RECEIVE, {**row, "due_ms": 0 if due_now else None})
    if created is not None:
        return str(created), True
    event = {"provider": values["provider"], "event_id": values["provider_event_id"]}
    first = (await tx.execute(_FIND_FIRST, event)).one()
    _prove(seals_of(tx), first)
    return str(first.webhook_id), False


def build_taking(*, count_max: int) -> leases.Taking:
    """How a job takes webhooks: how many at a time."""
    return leases.build_taking(webhook_inbox, count_max=count_max)


async def take_webhooks(tx: Tx, taking: leases.Taking) -> list[Row]:
    """Takes webhooks that are due to be applied, oldest first."""
    return list(await tx.execute(taking.statement))


async def finish_webhooks(database: Database, taken: Sequence[Row], *, ignored_because: str | None = None) -> None:
    """Nothing more is to be done. What this service did not receive is told, and left as it is."""
    told: list[tuple[Any, ...]] = []
    for row in taken:
        with suppress(NotSealed):
            told.append((row.webhook_id, row.epoch, _prove(database.seals, row)))
    if told:
        await database.send_for_all(_FINISH, *map(list, zip(*told, strict=True)), ignored_because)


def _prove(seals: Seals, row: Row) -> bytes:
    """What shows that this service received a webhook. Raises: NotSealed: it did not."""
    return seals.prove_to(row.proof_digest, webhook_inbox.name, row.webhook_id, row.webhook_id)


async def postpone_webhook(tx: Tx, taken: Row) -> None:
    await leases.postpone(tx, webhook_inbox, taken._asdict())


async def lock_or_insert_webhook(tx: Tx, taken: Row, about: Transaction) -> tuple[Row, bool]:
    """The organization's row of a webhook, locked, and whether there was none yet: who makes it publishes it."""
    values = taken._mapping | {
        "org_id": about.org_id,
        "transaction_id": about.transaction_id,
        "status": WebhookStatus.RECEIVED,
    }
    made = (await tx.execute(_MAKE, name_new(_MADE, values))).one_or_none()
    if made is not None:
        return made, True
    found = await lock_webhook(tx, taken.webhook_id)
    assert found is not None  # which is what the insert ran into
    return found, False


async def find_webhook(tx: Tx, webhook_id: str) -> Row | None:
    return (await tx.execute(_FINDING, {"webhook_id": webhook_id})).one_or_none()


async def find_payment_id(tx: Tx, webhook_id: str) -> str | None:
    """The provider's id of the payment that one is about. Over all organizations: the inbox has none."""
    of_it = sa.select(webhook_inbox.c.provider_reference).where(webhook_inbox.c.webhook_id == webhook_id)
    found: str | None = await tx.scalar(of_it)
    return found


async def lock_webhook(tx: Tx, webhook_id: str) -> Row | None:
    return (await tx.execute(_LOCKING, {"webhook_id": webhook_id})).one_or_none()


async def change_webhook(
    tx: Tx, row: Row, *, status: WebhookStatus, failure: Failure | None, applied_at: datetime | None
) -> Row:
    """Changes a locked webhook of the organization: who does publishes it."""
    values = {"status": status, "failure": write_failure(failure), "applied_at": applied_at}
    return (await tx.execute(_CHANGE, {**name_new(_CHANGED, values), "of_webhook_id": row.webhook_id})).one()


async def publish_webhooks(tx: Tx, rows: Sequence[Row], escrow_account_id: str, now: datetime) -> None:
    """Each with its state of then, in their order."""
    told = [
        events.WebhookUpdated(webhook=messages.to_webhook(row), escrow_account_id=escrow_account_id) for row in rows
    ]
    if told:
        await outbox.enqueue_all(tx, told, now=now)


async def save_due(tx: Tx, webhook_id: str) -> None:
    """Has a job apply a webhook of the organization again. Whoever is at work on it finds that its lease is over."""
    is_due = await tx.scalar(sa.select(sa.func.replay_webhook(current_principal().org_id, webhook_id)))
    invariant(bool(is_due), "a webhook of an organization is in the inbox")


async def forget_bodies(tx: Tx, *, before: datetime, count_max: int) -> int:
    """Forgets the bodies of webhooks received before then that no job has to apply; how many."""
    old = sa.select(_i.webhook_id).where(_i.body.is_not(None), _i.due_at.is_(None), _i.created_at < before)
    locked = old.order_by(_i.created_at).limit(count_max).with_for_update(skip_locked=True)
    forgotten = sa.update(webhook_inbox).where(_i.webhook_id.in_(locked.scalar_subquery())).values(body=None)
    return (await tx.execute(forgotten)).rowcount
