"""Webhooks: each event of a provider is received once; an organization holds those about its transactions."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from realco.transactions.v1 import events_pb2 as events
from sqlalchemy.dialects import postgresql as pg

from services.chassis.calls.auth import current_principal
from services.chassis.data import leases, outbox
from services.chassis.data.database import LIMITS, Database
from services.chassis.data.due import Due
from services.chassis.data.reach import is_mine
from services.chassis.data.rows import build_new, build_values_table, list_by_column, name_new
from services.chassis.data.seals import NotSealed, Seals, seals_of
from services.chassis.data.sql import Row, build_rows
from services.chassis.data.transaction import Tx
from services.chassis.values.failure import Failure, write_failure
from services.chassis.values.ids import new_id
from services.transactions import messages
from services.transactions.domain.transaction import Transaction
from services.transactions.domain.webhooks import ProviderEvent, WebhookStatus
from services.transactions.tables import webhooks
from services.transactions.tables.webhooks import received_webhooks

_r, _c = received_webhooks.c, webhooks.c
_RECEIVE = f"""
INSERT INTO public.received_webhooks (webhook_id, provider, provider_event_id, event_type, body, provider_reference,
                                      ignored_because, created_at, due_at, proof_digest)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, CASE WHEN $9 THEN clock_timestamp() END, $10 FROM {LIMITS} limits
ON CONFLICT ON CONSTRAINT received_webhooks_event DO NOTHING
RETURNING webhook_id
"""  # noqa: S608  # all of it stands here
_FIND_FIRST = (
    "SELECT webhook_id, proof_digest FROM public.received_webhooks WHERE provider = $1 AND provider_event_id = $2"
)
_FIND_EVENT = sa.select(received_webhooks).where(
    _r.provider == sa.bindparam("of_provider"), _r.provider_event_id == sa.bindparam("of_event")
)
_FINISH = f"""
UPDATE public.received_webhooks AS received SET due_at = NULL, tries = 0, ignored_because = $4, proof = told.proof
FROM {LIMITS} limits, unnest($1::text[], $2::bigint[], $3::bytea[]) AS told (webhook_id, epoch, proof)
WHERE received.webhook_id = told.webhook_id AND received.epoch = told.epoch
"""  # noqa: S608  # all of it stands here
_CHANGED = ("status", "failure", "applied_at")
_SAVED = (
    *("org_id", "webhook_id", "provider", "provider_event_id", "event_type", "transaction_id", "created_at"),
    *_CHANGED,
)
_VALUES = build_values_table(*((name, _c[name].type) for name in _SAVED))
_INSERT = pg.insert(webhooks).from_select(_SAVED, sa.select(*(_VALUES.c[name] for name in _SAVED)))
# One that was applied once, or that somebody says was, stays as it is.
_SAVE = _INSERT.on_conflict_do_update(
    index_elements=["org_id", "webhook_id"],
    set_={name: _INSERT.excluded[name] for name in _CHANGED},
    where=sa.and_(_c.status == WebhookStatus.RECEIVED, _INSERT.excluded.status != WebhookStatus.RECEIVED),
).returning(webhooks)
_FINDING = sa.select(webhooks).where(is_mine(webhooks), _c.webhook_id == sa.bindparam("webhook_id"))
_LOCKING = _FINDING.with_for_update(key_share=True)
_CHANGE = (
    sa.update(webhooks)
    .where(is_mine(webhooks), _c.webhook_id == sa.bindparam("of_webhook_id"))
    .values(build_new((name, _c[name].type) for name in _CHANGED))
    .returning(webhooks)
)
# What came and was not applied.
NOT_APPLIED = Due(received_webhooks, _r.due_at.is_not(None), _r.created_at)


class Received(NamedTuple):
    """A webhook as it came."""

    webhook_id: str
    provider: str
    provider_event_id: str
    event_type: str
    body: bytes
    provider_reference: str | None
    ignored_because: str | None
    created_at: datetime
    is_due: bool


def build_received(provider: str, event: ProviderEvent, body: bytes, now: datetime) -> Received:
    """A proved webhook. One of a type that is not applied is kept, with the reason."""
    is_applied = event.payment_id != "" or event.is_knock
    return Received(
        webhook_id=new_id("whk"),
        provider=provider,
        provider_event_id=event.event_id,
        event_type=event.event_type,
        body=body,
        provider_reference=event.payment_id or None,
        ignored_because=None if is_applied else "events of this type are only stored",
        created_at=now,
        is_due=is_applied,
    )


async def insert_received(database: Database, received: Received) -> tuple[str, bool]:
    """(webhook_id, whether it is new): a repeated event finds the row of the first.

    Raises:
        NotSealed: the row of the first is nobody's webhook. Its provider sends the event again until it is taken.
    """
    digest = database.seals.digest_proof(received_webhooks.name, received.webhook_id)
    if await database.send_for_all(_RECEIVE, *received, digest):
        return received.webhook_id, True
    [first] = build_rows(await database.send_for_all(_FIND_FIRST, received.provider, received.provider_event_id))
    _prove(database.seals, first)
    return str(first.webhook_id), bool(first.webhook_id == received.webhook_id)  # it may be sent twice


async def insert_all_read(tx: Tx, read: Sequence[Received]) -> tuple[int, list[Received]]:
    """What was read from a provider's own list of events outranks whatever came under the id of one of them, and is
    applied besides: by a webhook, which proves a secret alone, or by somebody's SQL, which is told.

    Returns:
        How many are to be applied or kept anew; those of them of which a webhook said something else.
    """
    new = await _insert_read(tx, read)
    besides, contradicted = [], []
    for each in (each for each in read if each.webhook_id not in new):
        is_ours, is_same = await _compare_first(tx, each)
        if not is_same:
            # Nobody foretells that id, so nothing is in the way.
            besides.append(each._replace(provider_event_id=f"feed:{each.webhook_id}:{each.provider_event_id}"))
            contradicted += [each] * is_ours
    new |= await _insert_read(tx, besides)
    return len(new), contradicted


async def _insert_read(tx: Tx, read: Sequence[Received]) -> set[str]:
    """The ids of those that were not there."""
    if not read:
        return set()
    seals = seals_of(tx)
    values = [
        {name: value for name, value in each._asdict().items() if name != "is_due"}
        | {"due_at": sa.func.clock_timestamp() if each.is_due else None}
        | {"proof_digest": seals.digest_proof(received_webhooks.name, each.webhook_id)}
        for each in read
    ]
    added = pg.insert(received_webhooks).values(values).on_conflict_do_nothing(constraint="received_webhooks_event")
    return set(await tx.scalars(added.returning(_r.webhook_id)))


async def _compare_first(tx: Tx, read: Received) -> tuple[bool, bool]:
    """Of what has the id of an event: whether this service received it, and if so, whether it says the same."""
    event = {"of_provider": read.provider, "of_event": read.provider_event_id}
    first = (await tx.execute(_FIND_EVENT, event)).one()
    with suppress(NotSealed):
        _prove(seals_of(tx), first)
        said = first.event_type, first.provider_reference
        return True, said == (read.event_type, read.provider_reference)
    return False, False


def build_taking(*, count_max: int) -> leases.Taking:
    """How a job takes webhooks: how many at a time."""
    return leases.build_taking(received_webhooks, count_max=count_max)


async def take_webhooks(database: Database, taking: leases.Taking) -> list[Row]:
    """Takes webhooks that are due to be applied, oldest first."""
    return await leases.take(database, taking)


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
    return seals.prove_to(row.proof_digest, received_webhooks.name, row.webhook_id, row.webhook_id)


async def postpone_webhook(tx: Tx, taken: Row) -> None:
    await leases.postpone(tx, received_webhooks, taken._asdict())


async def save_webhooks(
    tx: Tx,
    taken: Sequence[Row],
    about: Transaction,
    *,
    status: WebhookStatus,
    failure: Failure | None,
    applied_at: datetime | None,
) -> list[Row]:
    """Writes what became of webhooks about a transaction of the organization. Those that changed: who does publishes
    them."""
    of = {"org_id": about.org_id, "transaction_id": about.transaction_id}
    outcome = {"status": status, "failure": write_failure(failure), "applied_at": applied_at}
    values = [row._mapping | of | outcome for row in taken]
    return list(await tx.execute(_SAVE, list_by_column(_SAVED, values)))


async def find_webhook(tx: Tx, webhook_id: str) -> Row | None:
    return (await tx.execute(_FINDING, {"webhook_id": webhook_id})).one_or_none()


async def find_payment_id(tx: Tx, webhook_id: str) -> str | None:
    """The provider's id of the payment that one is about. Over all organizations: what was received has none."""
    of_it = sa.select(received_webhooks.c.provider_reference).where(received_webhooks.c.webhook_id == webhook_id)
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
    if not is_due:  # each of an organization was received by us: somebody else wrote this one
        seals_of(tx).refuse("webhooks", webhook_id)


async def forget_bodies(tx: Tx, *, before: datetime, count_max: int) -> int:
    """Forgets the bodies of webhooks received before then that no job has to apply; how many."""
    old = sa.select(_r.webhook_id).where(_r.body.is_not(None), _r.due_at.is_(None), _r.created_at < before)
    locked = old.order_by(_r.created_at).limit(count_max).with_for_update(skip_locked=True)
    forgotten = sa.update(received_webhooks).where(_r.webhook_id.in_(locked.scalar_subquery())).values(body=None)
    return (await tx.execute(forgotten)).rowcount
