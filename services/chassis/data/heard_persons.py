"""Which parties there are and who acts for them, as a service has heard it: kept from the events of their owner."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence

import sqlalchemy as sa
from realco.type.v1.event_pb2 import EventMeta
from sqlalchemy.dialects import postgresql as pg

from services.chassis.calls.auth import Principal, acting_as, current_principal
from services.chassis.calls.parties import Ask, CurrentParties, Known, find_unknown_party
from services.chassis.data.aggregates import seal_columns
from services.chassis.data.database import Database
from services.chassis.data.reach import is_mine
from services.chassis.data.reads import Read, Source, fetch_rows
from services.chassis.data.rows import insert_many
from services.chassis.data.seals import keep_sealed, sealed
from services.chassis.data.transaction import Tx
from services.chassis.values.refusals import PartyNotFound

metadata = sa.MetaData()

# Every party that was heard of, and its last event: an older one that arrives late brings nobody back.
heard_parties = sa.Table(
    "heard_parties",
    metadata,
    sa.Column("org_id", sa.Text, primary_key=True),
    sa.Column("party_id", sa.Text, primary_key=True),
    # How often something new was heard: triggers let it go up by one and never back, whoever writes, while the numbers
    # of the owner leap when its database was restored.
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("aggregate_version", sa.BigInteger, nullable=False),
    sa.Column("seal", pg.BYTEA, nullable=False),
    info=sealed("org_id", "party_id", "version", "aggregate_version"),
)

heard_persons = sa.Table(
    "heard_persons",
    metadata,
    sa.Column("org_id", sa.Text, primary_key=True),
    sa.Column("person_id", sa.Text, primary_key=True),
    sa.Column("party_id", sa.Text, primary_key=True),
    # Of the row of the party: this one counts while it is that, so it counts no more once a later event was heard.
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("seal", pg.BYTEA, nullable=False),
    sa.Index("heard_persons_party", "org_id", "party_id"),
    info=sealed("org_id", "person_id", "party_id", "version"),
)

# That are looked at, of a person: far more than compliance lets anybody act for.
_LOOKED_AT_MAX = 10_000


def attach(target: sa.MetaData) -> None:
    """Makes the tables part of a service's metadata: each service that lets investors in owns its copies."""
    for table in metadata.sorted_tables:
        table.to_metadata(target)


async def record_persons(tx: Tx, party_id: str, persons: Collection[str], meta: EventMeta) -> None:
    """Takes over who acts for the party, unless something later was heard.

    Args:
        persons: All of them.
        meta: Of the event that says so; the party is its aggregate.
    """
    party = sa.and_(is_mine(heard_parties), heard_parties.c.party_id == party_id)
    known = (await tx.execute(sa.select(heard_parties).where(party).with_for_update())).one_or_none()
    # The event says all there is to know. So it is taken over where the row was altered, which then says nothing.
    if known is not None and any(
        row.aggregate_version >= meta.aggregate_version for row in keep_sealed(tx, heard_parties, [known])
    ):
        return
    this = {"party_id": party_id, "version": 1 if known is None else known.version + 1}
    news = seal_columns(tx, heard_parties, {**this, "aggregate_version": meta.aggregate_version})
    if known is None:
        await insert_many(tx, heard_parties, [news])
    else:
        del news["party_id"]
        await tx.execute(sa.update(heard_parties).where(party).values(news))
    # Nobody can delete one, so nobody takes what is theirs out of somebody's sight unseen: what an earlier event said
    # stays, and counts for nothing. A row that a login wrote ahead of the party is stepped over: else whoever is
    # removed would read on because of somebody who is not.
    for person_id in sorted(persons):
        row = seal_columns(tx, heard_persons, {**this, "person_id": person_id})
        added = pg.insert(heard_persons).values({**row, "org_id": current_principal().org_id})
        news = {name: row[name] for name in ("version", "seal")}
        is_behind = heard_persons.c.version < row["version"]
        keyed = {"index_elements": ["org_id", "person_id", "party_id"], "set_": news, "where": is_behind}
        await tx.execute(added.on_conflict_do_update(**keyed))


async def list_parties_of(source: Source, person_id: str) -> frozenset[str]:
    """For whom a person acts, as far as it was heard of."""
    rows = await fetch_rows(source, _OF_PERSON, person_id=person_id)
    return frozenset(row.party_id for row in keep_sealed(source, heard_persons, rows))


_SAME = [heard_persons.c[name] == heard_parties.c[name] for name in ("org_id", "party_id", "version")]
_OF_PERSON = Read(
    sa.select(heard_persons)
    .join(heard_parties, sa.and_(*_SAME))
    .where(is_mine(heard_persons), heard_persons.c.person_id == sa.bindparam("person_id"))
    .limit(_LOOKED_AT_MAX)
)


async def acts_for(tx: Tx, party_id: str) -> bool:
    """Whether the caller, who reaches what is the party's, acts for it: an investor reaches nothing else."""
    return await acts_for_any(tx, [party_id])


async def acts_for_any(tx: Tx, party_ids: Collection[str]) -> bool:
    """Whether the caller acts for one of these parties, of which they reach what is theirs."""
    if not party_ids or current_principal().confined:
        return bool(party_ids)
    return not (await list_parties_of(tx, current_principal().person)).isdisjoint(party_ids)


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
        return await find_unknown_party(self._ask, party_id, field)

    async def list_unknown(self, party_ids: Collection[str]) -> set[str]:
        """Those of them that `find_refusal` refuses. Whoever nobody here has heard of is asked about at once.

        Raises:
            Unavailable: nobody can tell.
        """
        if not party_ids or current_principal().confined:
            return set()
        unheard = sorted(set(party_ids) - await self._list_heard(party_ids))
        found = await self._ask(unheard) if unheard else ()
        return {party_id for party_id, each in zip(unheard, found, strict=True) if not each.known}

    async def _is_heard(self, party_id: str) -> bool:
        return bool(await self._list_heard([party_id]))

    async def _list_heard(self, party_ids: Collection[str]) -> set[str]:
        reader = self._database.reader
        rows = await fetch_rows(reader, _PARTIES, party_ids=list(party_ids))
        return {row.party_id for row in keep_sealed(reader, heard_parties, rows)}


_PARTIES = Read(
    sa.select(heard_parties).where(
        is_mine(heard_parties),
        heard_parties.c.party_id == sa.any_(sa.bindparam("party_ids", type_=pg.ARRAY(sa.Text))),
    )
)


class HeardParties(CurrentParties):
    """The parties of a caller, from the copy and from its owner."""

    def __init__(self, database: Database, ask: Ask) -> None:
        super().__init__(ask)
        self._database = database

    async def list_heard(self, principal: Principal) -> frozenset[str]:
        with acting_as(principal):
            heard = await list_parties_of(self._database.reader, principal.person)
        # Of a person who was added just now nothing was heard yet: the first steps need not wait for the event.
        return heard or await self.list_current(principal)
