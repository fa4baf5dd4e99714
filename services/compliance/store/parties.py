"""Parties and who acts for them. Every change of a party is published with its state."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from operator import attrgetter
from typing import Any, NamedTuple

import sqlalchemy as sa
from realco.compliance.v1 import events_pb2 as events

from services.chassis.calls.auth import current_principal
from services.chassis.calls.wire import to_timestamp
from services.chassis.data import outbox
from services.chassis.data.aggregates import Aggregate, list_columns, read_fields, seal_columns
from services.chassis.data.reach import is_mine
from services.chassis.data.reads import Read, Source, fetch_rows
from services.chassis.data.rows import insert_many
from services.chassis.data.seals import keep_sealed
from services.chassis.data.sql import Row
from services.chassis.data.transaction import Tx
from services.chassis.values.money import Money
from services.chassis.values.session import Session
from services.compliance import messages
from services.compliance.domain.names import build_skeleton
from services.compliance.domain.parties import INTEREST_LASTS, Party, PartyPerson
from services.compliance.store import checks
from services.compliance.tables import ended_sessions, former_persons, parties, party_persons

_c = parties.c


def _read_party(row: Row) -> Party:
    return read_fields(
        Party,
        row,
        annual_income=_read_money(row.annual_income_minor, row.annual_income_currency),
        net_worth=_read_money(row.net_worth_minor, row.net_worth_currency),
    )


def _read_money(amount_minor: int | None, currency: str | None) -> Money | None:
    return None if amount_minor is None or currency is None else Money(amount_minor, currency)


def _list_columns(party: Party) -> dict[str, Any]:
    income, worth = party.annual_income, party.net_worth
    return list_columns(
        parties,
        party,
        name_skeleton=build_skeleton(party.legal_name),
        annual_income_minor=income and income.amount_minor,
        annual_income_currency=income and income.currency,
        net_worth_minor=worth and worth.amount_minor,
        net_worth_currency=worth and worth.currency,
        metadata=dict(party.metadata),
    )


PARTIES = Aggregate(parties, "party_id", _read_party, _list_columns)


async def find_party(tx: Tx, party_id: str) -> Party | None:
    """Raises: NotSealed."""
    return await PARTIES.find(tx, party_id)


async def list_look_alikes(tx: Tx, party: Party) -> list[Party]:
    """The other parties of the organization whose names read the same, the oldest first, without rows that this service
    did not write."""
    is_alike = _c.name_skeleton == build_skeleton(party.legal_name)
    found = await PARTIES.list_ours(tx, is_alike, _c.party_id != party.party_id)
    return sorted(found, key=lambda each: (each.created_at, each.party_id))


async def lock_parties(tx: Tx, party_ids: Collection[str]) -> dict[str, Party]:
    """The parties by id, locked in the order of their ids.

    Whoever counts against a party's limits or changes its checks holds this lock, and takes it before any other.

    Raises: NotSealed.
    """
    return {party.party_id: party for party in await PARTIES.lock_these(tx, party_ids)}


async def insert_party(tx: Tx, party: Party, persons: Sequence[PartyPerson]) -> None:
    """With those who act for it, or wait to. Its checks are there already: the event tells how they stand."""
    await PARTIES.insert(tx, party)
    await _insert_persons(tx, persons)
    await _publish(tx, party, events.PartyCreated(), party.created_at)


async def save_party(tx: Tx, before: Party, after: Party, event: Any, now: datetime) -> Party:
    """The next version of a locked party, once its checks and persons are as they will be.

    Args:
        event: What happened, without the party's state, which is filled in.
    """
    saved = await PARTIES.save(tx, before, after, now)
    await _publish(tx, saved, event, now)
    return saved


async def publish_clearance(tx: Tx, party: Party, now: datetime) -> None:
    """For a locked party of whom nothing changed but its checks."""
    await _publish(tx, party, events.PartyClearanceChanged(), now)


async def _publish(tx: Tx, party: Party, event: Any, now: datetime) -> None:
    latest = await checks.list_latest_checks(tx, [party.party_id])
    event.party.CopyFrom(messages.to_party(party, latest.get(party.party_id, {})))
    if "person_ids" in event.DESCRIPTOR.fields_by_name:
        for one in await list_persons(tx, party.party_id):
            (event.person_ids if one.acts else event.waiting_person_ids).append(one.person_id)
    await outbox.enqueue(tx, event, now=now)


# --- who acts for them ------------------------------------------------------------------------------------------------


def read_person(row: Row) -> PartyPerson:
    return read_fields(PartyPerson, row, session=Session.of_row(row))


async def list_persons(tx: Tx, party_id: str) -> list[PartyPerson]:
    """Who acts for the party or waits to, in the order of their names."""
    return list(map(read_person, await _list_named(tx, _Whose(party_id=party_id))))


async def list_parties_of_person(source: Source, person_id: str) -> list[str]:
    """The parties the person acts for, in the order of their ids."""
    return [row.party_id for row in await _list_named(source, _Whose(person_id=person_id), who_acts=True)]


async def list_interested_persons(tx: Tx, party_id: str, now: datetime) -> list[str]:
    """Who acts for the party or waits to, or acted for it not long ago."""
    left = await _list_former(tx, _Whose(party_id=party_id), now - INTEREST_LASTS, who_acted=True)
    return sorted({*(one.person_id for one in await list_persons(tx, party_id)), *(row.person_id for row in left)})


async def list_former_parties_of(source: Source, person_id: str, now: datetime) -> list[str]:
    """The parties the person acted for, and no longer does, not long ago."""
    left = await _list_former(source, _Whose(person_id=person_id), now - INTEREST_LASTS, who_acted=True)
    return sorted({row.party_id for row in left})


class _Whose(NamedTuple):
    """A party, a person, or one for the other."""

    party_id: str | None = None
    person_id: str | None = None

    def list_given(self) -> dict[str, str]:
        return {name: value for name, value in self._asdict().items() if value is not None}


@cache
def _build_read(table: sa.Table, names: tuple[str, ...], *conditions: sa.ColumnElement[bool]) -> Read:
    """Those of a party, of a person, or of one for the other."""
    named = (table.c[name] == sa.bindparam(name) for name in names)
    query = sa.select(table).where(is_mine(table), *named, *conditions)
    return Read(query.order_by(table.c.party_id, table.c.person_id))


_HAS_ACTED: sa.ColumnElement[bool] = former_persons.c.has_acted
_ENDED_SINCE = former_persons.c.ended_at > sa.bindparam("since", type_=former_persons.c.ended_at.type)
_ACTS = party_persons.c.act_started_at.is_not(None)


async def _list_named(source: Source, whose: _Whose, *, who_acts: bool = False) -> list[Row]:
    """Who acts for whom or waits to, by party and person: of each the latest row that is ours, unless it is over.

    Args:
        who_acts: Only who acts. No row of who waits, or waited, is read: one admin alone may name a person often.
    """
    given = whose.list_given()
    named = _build_read(party_persons, tuple(given), *([_ACTS] if who_acts else []))
    said = _find_latest(keep_sealed(source, party_persons, await fetch_rows(source, named, **given)))
    ended = _find_latest(await _list_former(source, whose, who_acted=who_acts))
    return [row for pair, row in said.items() if pair not in ended or row.version > ended[pair].version]


def _find_latest(rows: Iterable[Row]) -> dict[tuple[str, str], Row]:
    """By party and person, in the order in which they come first."""
    latest: dict[tuple[str, str], Row] = {}
    for row in rows:
        pair = row.party_id, row.person_id
        latest[pair] = max(latest.get(pair, row), row, key=attrgetter("version"))
    return latest


async def _list_former(
    source: Source, whose: _Whose, since: datetime | None = None, *, who_acted: bool = False
) -> list[Row]:
    """Who acted for whom or waited to, until some time, or one after `since`. A row that is not ours ends nothing."""
    given: dict[str, Any] = whose.list_given()
    conditions = ([_HAS_ACTED] if who_acted else []) + ([] if since is None else [_ENDED_SINCE])
    read = _build_read(former_persons, tuple(given), *conditions)
    given |= {} if since is None else {"since": since}
    return keep_sealed(source, former_persons, await fetch_rows(source, read, **given))


async def find_last_end(tx: Tx, party_id: str, person_id: str) -> Row | None:
    """When, and by whom, it was last ended that the person acts for the party, or waits to."""
    return _find_latest(await _list_former(tx, _Whose(party_id, person_id))).get((party_id, person_id))


async def insert_end_of_sessions(tx: Tx, person_id: str, ended_at: datetime, now: datetime) -> None:
    """
    Args:
        ended_at: This moment of the database: sign-ins are not in the time of a test clock.
    """
    ended = {"person_id": person_id, "ended_at": ended_at, "ended_by": current_principal().person}
    await insert_many(tx, ended_sessions, [seal_columns(tx, ended_sessions, ended)])
    await outbox.enqueue(tx, events.SessionsEnded(person_id=person_id, end_time=to_timestamp(ended_at)), now=now)


async def find_last_end_of_sessions(source: Source, person_id: str) -> Row | None:
    """When, and by whom, the person's sessions were last ended. A row that is not ours ends none.

    No more rows are read than stand before the last that is ours, a page at a time: however many somebody made up,
    nobody else waits until all are checked, and once the sessions are ended anew none of them is read any more.
    """
    before = _NEVER
    while rows := await fetch_rows(source, _ENDS, person_id=person_id, before=before):
        if ours := keep_sealed(source, ended_sessions, rows):
            return ours[0]
        before = rows[-1].ended_at
    return None


_NEVER = datetime(9999, 1, 1, tzinfo=UTC)
_PAGE_ROWS = 100
_ENDS = Read(
    sa.select(ended_sessions)
    .where(
        is_mine(ended_sessions),
        ended_sessions.c.person_id == sa.bindparam("person_id"),
        ended_sessions.c.ended_at < sa.bindparam("before", type_=ended_sessions.c.ended_at.type),
    )
    .order_by(ended_sessions.c.ended_at.desc())
    .limit(_PAGE_ROWS)
)


async def find_end_of_sessions(source: Source, person_id: str) -> datetime | None:
    """When the person's sessions were last ended."""
    found = await find_last_end_of_sessions(source, person_id)
    return None if found is None else found.ended_at


async def find_person(tx: Tx, party_id: str, person_id: str) -> PartyPerson | None:
    return next(map(read_person, await _list_named(tx, _Whose(party_id, person_id))), None)


async def save_person(tx: Tx, party: Party, person: PartyPerson, event: Any, now: datetime) -> PartyPerson:
    """Somebody acts for a locked party, as this says. It holds from now on, whatever was said of the person before."""
    person = replace(person, version=party.version + 1, updated_at=now)
    await _insert_persons(tx, [person])
    await save_party(tx, party, party, event, now)
    return person


async def admit_persons(tx: Tx, party: Party, persons: Sequence[PartyPerson], now: datetime) -> Party:
    """Those who waited act for a locked party from now on; the party after it."""
    for each in persons:
        event = events.PartyPersonAdded(person_id=each.person_id)
        admitted = await save_person(tx, party, replace(each, act_started_at=now), event, now)
        party = replace(party, version=admitted.version, updated_at=now)
    return party


async def _insert_persons(tx: Tx, persons: Sequence[PartyPerson]) -> None:
    rows = [list_columns(party_persons, person, **person.session._asdict()) for person in persons]
    await insert_many(tx, party_persons, [seal_columns(tx, party_persons, row) for row in rows])


async def insert_end_of_person(tx: Tx, party: Party, person: PartyPerson, now: datetime) -> Party:
    """Ends that a person acts for a locked party, or waits to, and answers the party."""
    ended = {
        "party_id": party.party_id,
        "person_id": person.person_id,
        "version": party.version + 1,
        "ended_at": now,
        "ended_by": current_principal().person,
        "has_acted": person.acts,
    }
    await insert_many(tx, former_persons, [seal_columns(tx, former_persons, ended)])
    return await save_party(tx, party, party, events.PartyPersonRemoved(person_id=person.person_id), now)
