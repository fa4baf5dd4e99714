"""Which parties there are and who acts for them, as a service has heard it: kept from the events of their owner."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Protocol

import sqlalchemy as sa
from realco.type.v1.event_pb2 import EventMeta
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import Principal, acting_as, current_principal
from services.chassis.calls.parties import Ask, CurrentParties
from services.chassis.data.database import Database
from services.chassis.data.reach import is_mine
from services.chassis.data.seals import keep_sealed, seal_of, sealed
from services.chassis.values.refusals import PartyNotFound

metadata = sa.MetaData()

# Every party that was heard of, and its last event: an older one that arrives late brings nobody back.
heard_parties = sa.Table(
    "heard_parties",
    metadata,
    sa.Column("org_id", sa.Text, primary_key=True),
    sa.Column("party_id", sa.Text, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("incarnation", sa.Text, nullable=False),
)

heard_persons = sa.Table(
    "heard_persons",
    metadata,
    sa.Column("org_id", sa.Text, primary_key=True),
    sa.Column("person_id", sa.Text, primary_key=True),
    sa.Column("party_id", sa.Text, primary_key=True),
    # Of the party's event that said so: a row counts while that is the last one.
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("incarnation", sa.Text, nullable=False),
    sa.Column("seal", pg.BYTEA, nullable=False),
    sa.Index("heard_persons_party", "org_id", "party_id"),
    info=sealed("org_id", "person_id", "party_id", "version", "incarnation"),
)

TABLES = tuple(metadata.tables)


def attach(target: sa.MetaData) -> None:
    """Makes the tables part of a service's metadata: each service that lets investors in owns its copies."""
    for table in metadata.sorted_tables:
        table.to_metadata(target)


async def record_persons(tx: AsyncConnection, party_id: str, persons: Collection[str], meta: EventMeta) -> None:
    """Takes over who acts for the party, unless something later was heard.

    Args:
        persons: All of them.
        meta: Of the event that says so; the party is its aggregate.
    """
    org_id, known = current_principal().org_id, heard_parties.c
    news = {"version": meta.aggregate_version, "incarnation": meta.incarnation}
    heard = pg.insert(heard_parties).values(org_id=org_id, party_id=party_id, **news)
    later = sa.or_(known.version < meta.aggregate_version, known.incarnation != meta.incarnation)
    heard = heard.on_conflict_do_update(index_elements=["org_id", "party_id"], set_=news, where=later)
    if (await tx.execute(heard)).rowcount == 0:
        return
    c = heard_persons.c
    await tx.execute(sa.delete(heard_persons).where(c.org_id == org_id, c.party_id == party_id))
    named = [{"org_id": org_id, "person_id": person_id, "party_id": party_id, **news} for person_id in persons]
    if rows := [{**row, "seal": seal_of(tx, heard_persons, row)} for row in named]:
        await tx.execute(sa.insert(heard_persons), rows)


class Known(Protocol):
    """What the owner of the parties says of one."""

    known: bool


class KnownParties:
    """Which parties there are: those that were heard of; what nobody has heard of here, its owner is asked about.

    Args:
        ask: Asks the owner about parties.
    """

    def __init__(self, database: Database, ask: Callable[[Sequence[str]], Awaitable[Sequence[Known]]]) -> None:
        self._database = database
        self._ask = ask

    async def find_refusal(self, party_id: str, field: str) -> PartyNotFound | None:
        """Why a request of somebody who may name any party may not name this one: there is none.

        Not to be called inside a transaction.

        Args:
            party_id: The party; empty where the request names none.
            field: The request's field that names it.

        Raises:
            Unavailable: nobody can tell.
        """
        if not party_id or current_principal().confined:  # an investor reaches its own parties, and they are there
            return None
        if await self._is_heard(party_id):
            return None
        [found] = await self._ask([party_id])
        return None if found.known else PartyNotFound(field)

    async def _is_heard(self, party_id: str) -> bool:
        c = heard_parties.c
        found = sa.select(c.party_id).where(is_mine(heard_parties), c.party_id == party_id)
        async with self._database.begin() as tx:
            return await tx.scalar(found) is not None


class HeardParties(CurrentParties):
    """The parties of a caller, from the copy and from its owner."""

    def __init__(self, database: Database, ask: Ask) -> None:
        super().__init__(ask)
        self._database = database

    async def list_heard(self, principal: Principal) -> frozenset[str]:
        c, last = heard_persons.c, heard_parties.c
        same = [c[name] == last[name] for name in ("org_id", "party_id", "version", "incarnation")]
        mine = sa.select(heard_persons).join(heard_parties, sa.and_(*same))
        mine = mine.where(c.org_id == principal.org_id, c.person_id == principal.person)
        with acting_as(principal):
            async with self._database.begin() as tx:
                heard = frozenset(row.party_id for row in keep_sealed(tx, heard_persons, await tx.execute(mine)))
        # Of a person who was added just now nothing was heard yet: the first steps need not wait for the event.
        return heard or await self.list_current(principal)
