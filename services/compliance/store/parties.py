"""Parties and who acts for them: rows in, rows out. Every change of a party is published with its state."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from realco.compliance.v1 import events_pb2 as events
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.data import outbox
from services.chassis.data.reach import is_mine
from services.chassis.data.seals import check_row, check_rows, keep_sealed, seal_of, seal_rows
from services.compliance import messages
from services.compliance.domain.parties import INTEREST_LASTS
from services.compliance.store import checks
from services.compliance.tables import ended_sessions, former_persons, parties, party_persons

_c = parties.c
_p = party_persons.c


async def find_party(tx: AsyncConnection, party_id: str) -> sa.Row[Any] | None:
    """Raises: NotSealed."""
    row = (await tx.execute(sa.select(parties).where(is_mine(parties), _c.party_id == party_id))).one_or_none()
    return None if row is None else check_row(tx, parties, row)


async def lock_parties(tx: AsyncConnection, party_ids: Collection[str]) -> dict[str, sa.Row[Any]]:
    """The parties by id, locked in the order of their ids.

    Whoever counts against a party's limits or changes its checks holds this lock, and takes it before any other.

    Raises: NotSealed.
    """
    statement = (
        sa.select(parties)
        .where(is_mine(parties), _c.party_id.in_(party_ids))
        .order_by(_c.party_id)
        .with_for_update(key_share=True)
    )
    return {row.party_id: row for row in check_rows(tx, parties, await tx.execute(statement))}


async def insert_party(
    tx: AsyncConnection, now: datetime, persons: Mapping[str, str | None], *, created_by: str, **values: Any
) -> sa.Row[Any]:
    """Its checks are there already: the event tells how they stand.

    Args:
        persons: Those who act for it, each with a title or none.
    """
    statement = sa.insert(parties).values(**values, version=1, created_at=now, updated_at=now)
    row = (await tx.execute(statement.returning(parties))).one()
    await seal_rows(tx, parties, [row])
    whose = {"org_id": row.org_id, "party_id": row.party_id, "version": 1, "created_by": created_by}
    named = [{**whose, "person_id": person_id, "title": title} for person_id, title in persons.items()]
    if named:
        rows = [{**one, "created_at": now, "updated_at": now} for one in named]
        written = await tx.execute(sa.insert(party_persons).returning(party_persons), rows)
        await seal_rows(tx, party_persons, written)
    await _publish(tx, row, events.PartyCreated(), now)
    return row


async def save_party(tx: AsyncConnection, before: Any, event: Any, now: datetime, **changes: Any) -> sa.Row[Any]:
    """The next version of a locked party, once its checks and persons are as they will be.

    Args:
        event: What happened, without the party's state, which is filled in.
    """
    statement = sa.update(parties).where(_c.org_id == before.org_id, _c.party_id == before.party_id)
    values = {**changes, "version": before.version + 1, "updated_at": now}
    row = (await tx.execute(statement.values(values).returning(parties))).one()
    await seal_rows(tx, parties, [row])
    await _publish(tx, row, event, now)
    return row


async def publish_clearance(tx: AsyncConnection, row: Any, now: datetime) -> None:
    """For a locked party of whom nothing changed but its checks."""
    await _publish(tx, row, events.PartyClearanceChanged(), now)


async def _publish(tx: AsyncConnection, row: Any, event: Any, now: datetime) -> None:
    latest = await checks.list_latest_checks(tx, [row.party_id])
    event.party.CopyFrom(messages.to_party(row, latest.get(row.party_id, {})))
    if "person_ids" in event.DESCRIPTOR.fields_by_name:
        event.person_ids.extend(one.person_id for one in await list_persons(tx, row.party_id))
    await outbox.enqueue(tx, event, now=now)


# --- who acts for them ------------------------------------------------------------------------------------------------


async def list_persons(tx: AsyncConnection, party_id: str) -> list[sa.Row[Any]]:
    """Who acts for the party, in the order of their names."""
    return await _list_acting(tx, _Whose(party_id=party_id))


async def list_parties_of_person(tx: AsyncConnection, person_id: str) -> list[str]:
    """The parties the person acts for, in the order of their ids."""
    return [row.party_id for row in await _list_acting(tx, _Whose(person_id=person_id))]


async def list_interested_persons(tx: AsyncConnection, party_id: str, now: datetime) -> list[str]:
    """Who acts for the party, or acted for it not long ago."""
    left = await _list_former(tx, _Whose(party_id=party_id), now - INTEREST_LASTS)
    return sorted({one.person_id for one in (*await list_persons(tx, party_id), *left)})


async def list_former_parties_of(tx: AsyncConnection, person_id: str, now: datetime) -> list[str]:
    """The parties the person acted for, and no longer does, not long ago."""
    left = await _list_former(tx, _Whose(person_id=person_id), now - INTEREST_LASTS)
    return sorted({row.party_id for row in left})


class _Whose(NamedTuple):
    """A party, a person, or one for the other."""

    party_id: str | None = None
    person_id: str | None = None

    def select(self, table: sa.Table) -> sa.Select[Any]:
        named = [table.c[name] == value for name, value in self._asdict().items() if value is not None]
        return sa.select(table).where(is_mine(table), *named).order_by(table.c.party_id, table.c.person_id)


async def _list_acting(tx: AsyncConnection, whose: _Whose) -> list[sa.Row[Any]]:
    """Who acts for whom, by party and person: a row that was removed and put back is none."""
    ended: dict[tuple[str, str], int] = {}
    for row in await _list_former(tx, whose):
        ended[row.party_id, row.person_id] = max(row.version, ended.get((row.party_id, row.person_id), 0))
    acting = keep_sealed(tx, party_persons, await tx.execute(whose.select(party_persons)))
    return [row for row in acting if row.version > ended.get((row.party_id, row.person_id), 0)]


async def _list_former(tx: AsyncConnection, whose: _Whose, since: datetime | None = None) -> list[sa.Row[Any]]:
    """Who acted for whom until some time, or a time after `since`. A row that is not ours ends nothing."""
    found = whose.select(former_persons)
    if since is not None:
        found = found.where(former_persons.c.ended_at > since)
    return keep_sealed(tx, former_persons, await tx.execute(found))


async def insert_end_of_sessions(tx: AsyncConnection, **values: Any) -> datetime:
    """Ended at this moment of the database: sign-ins are not in the time of a test clock."""
    statement = sa.insert(ended_sessions).values(**values).returning(ended_sessions.c.ended_at)
    ended_at: datetime = (await tx.execute(statement)).scalar_one()
    return ended_at


async def find_end_of_sessions(tx: AsyncConnection, person_id: str) -> datetime | None:
    """When the person's sessions were last ended."""
    c = ended_sessions.c
    theirs = sa.select(sa.func.max(c.ended_at)).where(is_mine(ended_sessions), c.person_id == person_id)
    found: datetime | None = await tx.scalar(theirs)
    return found


async def find_person(tx: AsyncConnection, party_id: str, person_id: str) -> sa.Row[Any] | None:
    return next(iter(await _list_acting(tx, _Whose(party_id, person_id))), None)


async def insert_person(tx: AsyncConnection, party: Any, now: datetime, **values: Any) -> sa.Row[Any]:
    """Lets a person act for a locked party. A row of the person that counts for nothing goes."""
    await tx.execute(sa.delete(party_persons).where(_is_one(party.party_id, values["person_id"])))
    statement = sa.insert(party_persons).values(
        **values,
        org_id=party.org_id,
        party_id=party.party_id,
        version=party.version + 1,
        created_at=now,
        updated_at=now,
    )
    row = (await tx.execute(statement.returning(party_persons))).one()
    await seal_rows(tx, party_persons, [row])
    await save_party(tx, party, events.PartyPersonAdded(person_id=row.person_id), now)
    return row


async def save_person(tx: AsyncConnection, party: Any, person_id: str, now: datetime, **changes: Any) -> sa.Row[Any]:
    """Changes a person of a locked party."""
    values = {**changes, "version": party.version + 1, "updated_at": now}
    statement = sa.update(party_persons).where(_is_one(party.party_id, person_id)).values(values)
    row = (await tx.execute(statement.returning(party_persons))).one()
    await seal_rows(tx, party_persons, [row])
    await save_party(tx, party, events.PartyPersonUpdated(person_id=person_id), now)
    return row


async def delete_person(tx: AsyncConnection, party: Any, person_id: str, now: datetime) -> sa.Row[Any]:
    """Ends that a person acts for a locked party, and answers the party."""
    await tx.execute(sa.delete(party_persons).where(_is_one(party.party_id, person_id)))
    was = {"org_id": party.org_id, "party_id": party.party_id, "person_id": person_id, "version": party.version + 1}
    ended = {**was, "ended_at": now}
    await tx.execute(sa.insert(former_persons).values(**ended, seal=seal_of(tx, former_persons, ended)))
    return await save_party(tx, party, events.PartyPersonRemoved(person_id=person_id), now)


def _is_one(party_id: str, person_id: str) -> sa.ColumnElement[bool]:
    return sa.and_(is_mine(party_persons), _p.party_id == party_id, _p.person_id == person_id)
