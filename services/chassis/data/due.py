"""What is due by business time: found over all organizations, in the order of time, and done one by one.

What cannot be done (a row that is not sealed, or that somebody keeps locked) stays due and holds up nothing else: each
run goes through all that is due, a page at a time, so whoever alters rows hinders these rows and no others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.data.database import Database
from services.chassis.data.database_errors import is_away
from services.chassis.data.leases import find_first
from services.chassis.data.seals import NotSealed
from services.chassis.data.sql import Row
from services.chassis.data.transaction import Tx
from services.chassis.process.telemetry import log
from services.chassis.values.errors import DomainError
from services.chassis.values.times import YEAR_MIN

PAGE_ROWS = 100
# Nothing is put off for longer than a day at a time (leases.py), and then it is done.
PATIENCE = timedelta(hours=25)
# A moment of long ago is none of ours, and perhaps none that can be read: it is counted, and holds up no other.
_READABLE_FROM = datetime(YEAR_MIN, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Due:
    """The rows of a table for which a condition holds are due from a moment on.

    Args:
        moment: Of business time. What no login of the database can change unnoticed.
        patience: For how long a row may be due; after that somebody has to look (overdue.py).
    """

    table: sa.Table
    condition: sa.ColumnElement[bool] | sa.TextClause
    moment: sa.ColumnElement[Any]
    patience: timedelta = PATIENCE

    # Built once and run often: to build a statement costs more than to run it.
    @cached_property
    def first_page(self) -> sa.Select[Any]:
        key = list(self.table.primary_key.columns)
        return self._found.order_by(self.moment, *key).limit(sa.bindparam("count_max", type_=sa.Integer))

    @cached_property
    def next_page(self) -> sa.Select[Any]:
        """Of what comes after the row whose values are given as `after_<column>`."""
        key = list(self.table.primary_key.columns)
        after = [sa.bindparam(f"after_{column.name}", type_=column.type) for column in key]
        return self.first_page.where(sa.tuple_(self.moment, *key) > sa.tuple_(self._bind("after_moment"), *after))

    @cached_property
    def first_due(self) -> sa.ColumnElement[float]:
        """In how many seconds a row is due (`Job.work`)."""
        conditions = sa.and_(self.condition, self._is_readable)
        return find_first(self.table, self.moment, self._bind("now"), conditions)

    @cached_property
    def count(self) -> sa.Select[Any]:
        return sa.select(sa.func.count()).select_from(self.table).where(self.is_past)

    @cached_property
    def is_past(self) -> sa.ColumnElement[bool]:
        """Whether a row is due at the parameter `now`."""
        return sa.and_(self.condition, self.moment <= self._bind("now"))

    @property
    def _found(self) -> sa.Select[Any]:
        found = sa.select(*self.table.primary_key.columns, self.moment.label("due_from"))
        return found.where(self.is_past, self._is_readable)

    @property
    def _is_readable(self) -> sa.ColumnElement[bool]:
        return self.moment > sa.literal(_READABLE_FROM, self.moment.type)

    def list_after(self, row: Row) -> dict[str, Any]:
        key = {f"after_{column.name}": row._mapping[column.name] for column in self.table.primary_key.columns}
        return key | {"after_moment": row.due_from}

    def name_row(self, row: Row) -> str:
        return " ".join(str(row._mapping[column.name]) for column in self.table.primary_key.columns)

    def _bind(self, name: str) -> sa.BindParameter[Any]:
        return sa.bindparam(name, type_=self.moment.type)


async def list_pages(
    database: Database, due: Due, now: datetime, count_max: int = PAGE_ROWS
) -> AsyncIterator[Sequence[Row]]:
    """All that is due: the keys of the rows, each row once."""
    values: dict[str, Any] = {"now": now, "count_max": count_max}
    statement = due.first_page
    while True:
        async with database.begin_for_all() as tx:
            rows = (await tx.execute(statement, values)).all()
        if rows:
            yield rows
        if len(rows) < count_max:
            return
        statement, values = due.next_page, values | due.list_after(rows[-1])


async def do_due(
    database: Database,
    name: str,
    due: Due,
    now: datetime,
    work: Callable[[Tx, Row, datetime], Awaitable[None]],
    count_max: int = PAGE_ROWS,
) -> int:
    """Works on each row in a transaction of its own organization; how many were done.

    Args:
        name: The service that does it.
    """
    done = 0
    async for rows in list_pages(database, due, now, count_max):
        for row in rows:
            with acting_as(service_principal(name, row.org_id)):
                try:
                    async with database.begin() as tx:
                        await work(tx, row, now)
                except Exception as error:
                    if is_away(error):
                        raise
                    _say(due, row, error)
                else:
                    done += 1
    return done


def _say(due: Due, row: Row, error: Exception) -> None:
    """Why a row stays due. One that is not sealed is in the log already; one that is refused, somebody was faster."""
    if isinstance(error, NotSealed | DomainError):
        return
    name = due.name_row(row)
    log.error("due_row_failed", table=due.table.name, row=name, error=type(error).__name__, exc_info=error)
