"""What a restored database has forgotten, and who looked through it.

The owner alone says that a database was restored (migrate.py). What it lacks is found in the service's own stream
(events/restore_look.py). Who looked through it is said at a console (events/forgotten.py), of one incarnation: what
was said in another one counts for nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from operator import attrgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from services.chassis.calls.auth import current_principal
from services.chassis.data.database import Database
from services.chassis.data.guards import Op
from services.chassis.data.reach import is_mine
from services.chassis.data.readable import iterate_sealed
from services.chassis.data.reads import Read, Reader, Source, fetch_rows
from services.chassis.data.retention import OUTBOX_DAYS
from services.chassis.data.seals import keep_sealed, seal_of, seals_of
from services.chassis.data.sql import Row, build_rows
from services.chassis.data.tables import forgotten_events, passed_messages, seen_losses, seen_restores
from services.chassis.data.transaction import Tx
from services.chassis.values.explanation import Explanation
from services.chassis.values.ids import uuid7
from services.chassis.values.restore import (
    RESTORED_DAYS,
    Restore,
    Told,
    Unread,
    check_seen,
    explain_restore,
    spell_unread,
)

_f = forgotten_events.c
_LIVING = f"""
SELECT incarnation::text AS living, begun_at, begun_at > now() - interval '{RESTORED_DAYS} days' AS is_recent
FROM public.incarnation WHERE is_restored
"""  # noqa: S608  # all of it stands here
_SEEN = "SELECT * FROM public.seen_restores WHERE seen_id = ANY($1::text[]) AND incarnation = $2"
# How many rows are counted of what nobody has checked.
COUNTED_MAX = 10_000
_FIRST = (
    sa.select(_f.event_id, _f.event_type)
    .where(is_mine(forgotten_events), _f.incarnation == sa.bindparam("of_incarnation"))
    .limit(COUNTED_MAX)
    .subquery()
)
_COUNT = Read(
    sa.select(_FIRST.c.event_type, sa.func.count(sa.distinct(_FIRST.c.event_id)).label("number"))
    .group_by(_FIRST.c.event_type)
    .order_by(sa.desc("number"), _FIRST.c.event_type)
)
_LOSSES = Read(
    sa.select(seen_losses).where(
        is_mine(seen_losses), seen_losses.c.loss_id == sa.any_(sa.bindparam("ids", type_=postgresql.ARRAY(sa.Text)))
    )
)
# An event is in the outbox for OUTBOX_DAYS; a day of these is for the clocks. Of an older one the number that its
# aggregate was restored with says whether it was there. When a row was written says the database: none that is added
# now hides anything.
_FIND_MISSING = f"""
SELECT told.place FROM unnest($1::text[], $2::uuid[], $3::timestamptz[], $4::text[], $5::bigint[])
    WITH ORDINALITY AS told (org_id, event_id, made_at, aggregate_id, aggregate_version, place)
WHERE NOT EXISTS (
    SELECT FROM public.outbox o, public.incarnation
    WHERE o.org_id = told.org_id AND o.event_id = told.event_id AND o.created_at < begun_at)
  AND (told.made_at > now() - interval '{OUTBOX_DAYS - 1} days' OR NOT EXISTS (
    SELECT FROM public.aggregate_versions v
    WHERE v.org_id = told.org_id AND v.aggregate_id = told.aggregate_id
      AND v.restored_version >= told.aggregate_version))
ORDER BY told.place
"""  # noqa: S608  # all of it stands here


async def find_restore(source: Source) -> Restore | None:
    """The restore that this incarnation of the database began with; None where it began with none.

    Two rows are read at most, by their keys, and one where the database was never restored.
    """
    living = next(iter(await _fetch(source, _LIVING)), None)
    if living is None:
        return None
    found = await _fetch(source, _SEEN, _list_seen_ids(source, living.living), living.living)
    restore = Restore(living.living, living.begun_at, living.is_recent)
    for row in keep_sealed(source, seen_restores, found):
        told = {"unread": tuple(row.unread), "unread_count": row.unread_count}
        return replace(restore, seen_by=row.person, seen_at=row.seen_at, **told)
    return restore


async def _fetch(source: Source, text: str, *arguments: Any) -> Sequence[Row]:
    if isinstance(source, Reader):
        return build_rows(await source.send(text, arguments))
    return build_rows(await source.driver.fetch(text, *arguments))


def _list_seen_ids(source: Source, of_incarnation: str) -> list[str]:
    """The id of the row that says that somebody has looked through this restore, under each of the service's keys.

    Nobody else can foretell it, so no login puts a row in its place before it is there, or in front of it: however
    many rows somebody makes up, none of them is read.
    """
    return [code.hex() for code in seals_of(source).list_codes(seen_restores.name, of_incarnation)]


async def is_restore_seen(source: Source) -> bool:
    """Whether these records may be acted on: they were not restored, or somebody has looked through what they lack."""
    restore = await find_restore(source)
    return restore is None or restore.is_seen


async def check_restore_seen(source: Source) -> None:
    """Whether by these records somebody may say yes. Raises: RestoreNotSeen."""
    check_seen(await find_restore(source))


async def explain_recent_restore(source: Source) -> list[Explanation]:
    """For whoever decides in the caller's organization; nothing where there was no restore lately."""
    restore = await find_restore(source)
    if restore is None or (restore.is_seen and not restore.is_recent):
        return []
    return [explain_restore(restore, await _list_losses(source, restore))]


async def _list_losses(source: Source, restore: Restore) -> list[tuple[str, int]]:
    """The types of the caller's events that are missing, each with how many: as they were before whoever looked through
    them. Before somebody has, of no more rows than COUNTED_MAX, and what a login made up is among them.
    """
    if not restore.is_seen:
        rows = await fetch_rows(source, _COUNT, of_incarnation=restore.incarnation)
        return [(row.event_type, row.number) for row in rows]
    ids = _list_loss_ids(source, restore.incarnation, current_principal().org_id)
    found = keep_sealed(source, seen_losses, await fetch_rows(source, _LOSSES, ids=ids))
    return [told for row in found for told in zip(row.event_types, row.event_counts, strict=True)]


def _list_loss_ids(source: Source, of_incarnation: str, org_id: str) -> list[str]:
    return [code.hex() for code in seals_of(source).list_codes(seen_losses.name, of_incarnation, org_id)]


async def list_missing(tx: Tx, told: Sequence[Told]) -> list[int]:
    """The places of those events that the database does not have and had not forgotten by itself, either."""
    columns = [list(column) for column in zip(*told, strict=True)]
    return [row["place"] - 1 for row in await tx.driver.fetch(_FIND_MISSING, *columns)] if told else []


async def note_forgotten(tx: Tx, found: Sequence[Mapping[str, Any]]) -> None:
    """Keeps events that are missing.

    Args:
        found: The columns of each, but for its id here and its seal.
    """
    rows = [{"forgotten_id": str(uuid7()), **each} for each in found]
    if rows:
        sealed = [row | {"seal": seal_of(tx, forgotten_events, row)} for row in rows]
        await tx.execute(sa.insert(forgotten_events), sealed)


async def count_forgotten(tx: Tx, of_incarnation: str) -> int:
    """How many events of all organizations are known to be missing; of no more rows than COUNTED_MAX."""
    first = sa.select(_f.event_id).where(_f.incarnation == of_incarnation).limit(COUNTED_MAX).subquery()
    return int(await tx.scalar(sa.select(sa.func.count(sa.distinct(first.c.event_id)))) or 0)


async def list_forgotten(database: Database, of_incarnation: str) -> list[Row]:
    """The missing events of all organizations, each once, in the order of the stream."""
    pages = iterate_sealed(database, forgotten_events, _f.incarnation == of_incarnation)
    found = {row.event_id: row async for page in pages for row in page}
    return sorted(found.values(), key=attrgetter("stream_sequence"))


async def record_restore_seen(
    tx: Tx, restore: Restore, forgotten: Sequence[Row], unread: Sequence[Unread], *, person: str, now: datetime
) -> bool:
    """From now on a yes counts, and whoever decides is told of that. False where somebody has said so before."""
    values = {
        "seen_id": _list_seen_ids(tx, restore.incarnation)[0],
        "incarnation": restore.incarnation,
        "person": person,
        "forgotten_count": len(forgotten),
        "unread_count": sum(one.message_count for one in unread),
        "unread": spell_unread(unread),
        "seen_at": now,
    }
    row = postgresql.insert(seen_restores).values(**values, seal=seal_of(tx, seen_restores, values))
    if not (await tx.execute(row.on_conflict_do_nothing())).rowcount:
        return False
    by_organization: dict[str, Counter[str]] = defaultdict(Counter)
    for lost in forgotten:
        by_organization[lost.org_id][lost.event_type] += 1
    losses = [_to_loss(tx, restore, org_id, counts) for org_id, counts in by_organization.items()]
    sealed = [loss | {"seal": seal_of(tx, seen_losses, loss)} for loss in losses]
    await tx.execute(sa.insert(seen_losses), sealed)
    return True


def _to_loss(tx: Tx, restore: Restore, org_id: str, counts: Counter[str]) -> dict[str, Any]:
    most = counts.most_common()
    return {
        "org_id": org_id,
        "loss_id": _list_loss_ids(tx, restore.incarnation, org_id)[0],
        "incarnation": restore.incarnation,
        "event_types": [event_type for event_type, _ in most],
        "event_counts": [number for _, number in most],
    }


RESTORE_TABLES = (forgotten_events.name, seen_restores.name, seen_losses.name, passed_messages.name)


def create_restore_tables(op: Op) -> None:
    """What the first step of every service's database makes of this (steps.py)."""
    op.create_table(
        "forgotten_events",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("forgotten_id", sa.Text(), nullable=False),
        sa.Column("incarnation", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("aggregate_id", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("occurred_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("stream_sequence", sa.BigInteger(), nullable=False),
        sa.Column("seal", postgresql.BYTEA(), nullable=True),
        sa.PrimaryKeyConstraint("org_id", "forgotten_id"),
    )
    columns = ["org_id", "incarnation", "event_type"]
    op.create_index("forgotten_events_incarnation", "forgotten_events", columns, unique=False)
    op.create_table(
        "seen_restores",
        sa.Column("seen_id", sa.Text(), nullable=False),
        sa.Column("incarnation", sa.Text(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("forgotten_count", sa.BigInteger(), nullable=False),
        sa.Column("unread_count", sa.BigInteger(), nullable=False),
        sa.Column("unread", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("seen_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("seal", postgresql.BYTEA(), nullable=True),
        sa.PrimaryKeyConstraint("seen_id"),
    )
    op.create_table(
        "seen_losses",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("loss_id", sa.Text(), nullable=False),
        sa.Column("incarnation", sa.Text(), nullable=False),
        sa.Column("event_types", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("event_counts", postgresql.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("seal", postgresql.BYTEA(), nullable=True),
        sa.PrimaryKeyConstraint("org_id", "loss_id"),
    )
    op.create_table(
        "passed_messages",
        sa.Column("pass_id", sa.Text(), nullable=False),
        sa.Column("incarnation", sa.Text(), nullable=False),
        sa.Column("kid", sa.Text(), nullable=False),
        sa.Column("first_sequence", sa.BigInteger(), nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), nullable=False),
        sa.Column("message_count", sa.BigInteger(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("passed_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("seal", postgresql.BYTEA(), nullable=True),
        sa.PrimaryKeyConstraint("pass_id"),
    )
    op.create_index("passed_messages_incarnation", "passed_messages", ["incarnation"], unique=False)
