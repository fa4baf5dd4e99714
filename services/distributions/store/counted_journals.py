"""How far the journals of escrow accounts are counted, one row each; those that wait to be counted anew are work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.chassis.calls.auth import current_principal
from services.chassis.data import leases
from services.chassis.data.database import Database
from services.chassis.data.due import Due
from services.chassis.data.reach import is_mine
from services.chassis.data.readable import find_sealed
from services.chassis.data.seals import check_row, seal_of
from services.chassis.data.sql import Row
from services.chassis.data.transaction import Tx
from services.distributions.domain.counted_journal import CountedJournal, check_is_counted
from services.distributions.store.sagas import Overtaken
from services.distributions.tables import counted_journals

_c = counted_journals.c
# So many rows are read at a time, so often, where the first ones are not ours.
_PAGE_ROWS, _PAGES_MAX = 1_000, 10
TAKING = leases.build_taking(counted_journals, count_max=1)
# What is not done.
WAITING = Due(counted_journals, _c.waits_since.is_not(None), _c.waits_since)


@dataclass(frozen=True, slots=True)
class Recount:
    """A journal that is to be counted anew, as it was taken. `epoch` counts the takings."""

    org_id: str
    counted: CountedJournal
    epoch: int
    tries: int

    @property
    def key(self) -> dict[str, Any]:
        account = {"org_id": self.org_id, "escrow_account_id": self.counted.escrow_account_id}
        return {**account, "epoch": self.epoch, "tries": self.tries}


def _read(row: Row) -> CountedJournal:
    values = {each.name: getattr(row, each.name) for each in _FIELDS}
    return CountedJournal(**{**values, "past_incarnations": tuple(row.past_incarnations)})


async def find_counted(tx: Tx, escrow_account_id: str) -> CountedJournal | None:
    """None where escrow has told nothing yet of an account that an offering uses. Raises: NotSealed."""
    return await _find(tx, _FINDING, escrow_account_id)


async def lock_counted(tx: Tx, escrow_account_id: str) -> CountedJournal | None:
    """As `find_counted`, with its lock, which is taken before that of the offering."""
    return await _find(tx, _LOCKING, escrow_account_id)


async def _find(tx: Tx, query: sa.Select[Any], escrow_account_id: str) -> CountedJournal | None:
    row = (await tx.execute(query, {"of_account": escrow_account_id})).one_or_none()
    return None if row is None else _read(check_row(tx, counted_journals, row))


async def check_counted(tx: Tx, escrow_account_id: str) -> None:
    """Whether something may be decided by the sums of the offering that uses the account.

    Raises: OfferingNotCounted, NotSealed.
    """
    check_is_counted(await find_counted(tx, escrow_account_id))


async def save_counted(tx: Tx, counted: CountedJournal) -> None:
    """It is due while it waits. The caller has its lock, or there was none."""
    row: dict[str, Any] = {
        "org_id": current_principal().org_id,
        **asdict(counted),
        "past_incarnations": list(counted.past_incarnations),
        "version": counted.version + 1,
    }
    await tx.execute(_KEEPING, {**row, "seal": seal_of(tx, counted_journals, row)})


async def take_recount(database: Database) -> Recount | None:
    """The journal that has waited the longest and that nobody counts, now ours; None if there is none."""
    for row in await leases.take_sealed(database, counted_journals, TAKING):
        return Recount(row.org_id, _read(row), row.epoch, row.tries)
    return None


async def lock_recount(tx: Tx, recount: Recount) -> CountedJournal:
    """As it is by now. Raises: Overtaken: it is not ours any more."""
    for row in await leases.lock_taken(tx, counted_journals, [recount.key]):
        return _read(check_row(tx, counted_journals, row))
    raise Overtaken(recount.counted.escrow_account_id)


async def keep_recount(tx: Tx, recount: Recount) -> None:
    """It stays ours for as long again. Raises: Overtaken."""
    kept = {"due_ms": leases.LEASE_MS, "tries": recount.tries}
    if not await leases.finish(tx, counted_journals, recount.key, **kept):
        raise Overtaken(recount.counted.escrow_account_id)


async def postpone_recount(tx: Tx, recount: Recount) -> bool:
    """Later and later, for ever; False where somebody else took it over."""
    return await leases.postpone(tx, counted_journals, recount.key)


async def list_oldest(tx: Tx, count_max: int) -> Sequence[tuple[str, str]]:
    """Organization and escrow account of the oldest journals of all organizations: even an old backup has those.

    Who writes rows past this service, with ids that come first, hides none of ours, unless they are thousands.
    """
    oldest: list[Row] = []
    query = sa.select(counted_journals).order_by(_c.escrow_account_id, _c.org_id).limit(count_max)
    for _ in range(_PAGES_MAX):
        found = await find_sealed(tx, counted_journals, query)
        oldest += found.rows
        if len(oldest) >= count_max or not found.keys:
            break
        org_id, escrow_account_id = found.keys[-1]
        following = sa.tuple_(_c.escrow_account_id, _c.org_id) > sa.tuple_(escrow_account_id, org_id)
        query = sa.select(counted_journals).where(following).order_by(_c.escrow_account_id, _c.org_id).limit(_PAGE_ROWS)
    return [(row.org_id, row.escrow_account_id) for row in oldest[:count_max]]


async def list_of_other_incarnations(tx: Tx, incarnation: str) -> Sequence[tuple[str, str]]:
    """Organization and escrow account of each journal that waits for nothing and was counted in another incarnation."""
    other = sa.select(_c.org_id, _c.escrow_account_id).where(_c.waits_since.is_(None), _c.incarnation != incarnation)
    return [(row.org_id, row.escrow_account_id) for row in await tx.execute(other.order_by(_c.escrow_account_id))]


def _build_keeping() -> pg.Insert:
    """What is due and is kept stays due when it is; what is due from now on is so at once."""
    given = {name: sa.bindparam(name, type_=_c[name].type) for name in (*_NAMES, "org_id", "seal")}
    due_at = sa.case((given["waits_since"].is_(None), sa.null()), else_=leases.due_in(0))
    row = pg.insert(counted_journals).values(**given, due_at=due_at)
    settled = row.excluded.waits_since.is_(None)
    news = {name: row.excluded[name] for name in (*_NAMES[1:], "seal")} | {
        "due_at": sa.case((settled, sa.null()), else_=sa.func.coalesce(_c.due_at, row.excluded.due_at)),
        "tries": sa.case((settled, 0), else_=_c.tries),
    }
    return row.on_conflict_do_update(index_elements=["org_id", "escrow_account_id"], set_=news)


_FIELDS = fields(CountedJournal)
_NAMES = tuple(each.name for each in _FIELDS)
_KEEPING = _build_keeping()
_FINDING = sa.select(counted_journals).where(
    is_mine(counted_journals), _c.escrow_account_id == sa.bindparam("of_account")
)
_LOCKING = _FINDING.with_for_update(key_share=True)
