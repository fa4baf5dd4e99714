"""Lists that are asked for all the time: one statement a shape of the request, built once, and one round trip.

A shape is which filters have one value, or several, the size of the page, and where it begins: the values are
parameters. One value is compared, several are a list, since only the first leaves the rows in the order of an index.
Where there are few values, and some are rare, they stand in the statement: a plan for any of them reads the whole list
to find the rare ones.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import sqlalchemy as sa
from google.protobuf.message import Message

from services.chassis.calls.auth import current_principal
from services.chassis.data.paging import Cut, Key, Page, check_key, is_descending, time_range
from services.chassis.data.reads import Read, Source, fetch_rows

# Of one list: the sizes of pages alone are a thousand.
_SHAPES_MAX = 64
_REACH = "reach"


class _Shape(NamedTuple):
    filters: tuple[tuple[str, bool | tuple[str, ...]], ...]  # each with whether it is one value, or with its values
    size: int
    beside: bool
    downwards: bool


class Listing:
    """
    Args:
        query: What reads the whole list, its key and `is_mine` among it.
        key: The columns it is sorted by, most significant first, unique as a whole.
        party: The column that says whose a row is: an investor is kept to its parties' rows.
        filters: What each filter compares.
        named: Those of the filters whose values are names of an enum.
        bounds: Further conditions by the name of the parameter they have.
    """

    def __init__(
        self,
        query: sa.Select[Any],
        key: Sequence[sa.ColumnElement[Any]],
        filters: Mapping[str, sa.ColumnElement[Any]],
        *,
        party: sa.ColumnElement[str] | None = None,
        named: Collection[str] = (),
        bounds: Mapping[str, sa.ColumnElement[bool]] | None = None,
    ) -> None:
        self._query = query
        self._key = key
        self._names = tuple(column.name for column in key)
        self._is_of_parties = party is not None
        self._filters = filters if party is None else {**filters, _REACH: party}
        self._named = frozenset(named)
        self._bounds = bounds or {}
        self._build = lru_cache(_SHAPES_MAX)(self._build_read)

    async def fetch_page(
        self, source: Source, request: Message, given: Mapping[str, Iterable[Any]], **values: Any
    ) -> Cut[Any]:
        """The page of the list that a request asks for.

        Args:
            given: The values of the filters; a filter without any lets everything through.
            values: Those of `bounds`, and of the query's own parameters. None: there is no such bound.
        """
        page = Page.of(request)
        rows = await self.fetch_beside(source, page, given, descending=is_descending(request), **values)
        return page.cut(rows, self.key_of)

    async def fetch_beside(
        self, source: Source, page: Page, given: Mapping[str, Iterable[Any]], *, descending: bool, **values: Any
    ) -> Sequence[Any]:
        """The rows of the page, and one more, to know if the list ends. Arguments as those of `fetch_page`."""
        wanted = {name: list(each) for name, each in given.items()}
        several = {name: each for name, each in wanted.items() if each}
        principal = current_principal()
        if self._is_of_parties and principal.confined:
            several[_REACH] = sorted(principal.parties)  # of none, the list has no rows
        filters = [
            (name, tuple(sorted(each)) if name in self._named else len(each) == 1) for name, each in several.items()
        ]
        bounds = {name: value for name, value in values.items() if value is not None}
        filters += [(name, True) for name in bounds if name in self._bounds]
        if page.beside is not None:
            check_key(self._key, page.beside)
        shape = _Shape(tuple(filters), page.size, page.beside is not None, descending is not page.backward)
        arguments: dict[str, Any] = {name: each[0] if len(each) == 1 else each for name, each in several.items()}
        arguments |= bounds | {f"beside_{place}": value for place, value in enumerate(page.beside or ())}
        return await fetch_rows(source, self._build(shape), **arguments)

    def key_of(self, row: Any) -> Key:
        return tuple(getattr(row, name) for name in self._names)

    def _build_read(self, shape: _Shape) -> Read:
        query = self._query.where(*(self._build_condition(*each) for each in shape.filters))
        if shape.beside:
            left = sa.tuple_(*self._key)
            right = sa.tuple_(*(sa.bindparam(f"beside_{n}", type_=c.type) for n, c in enumerate(self._key)))
            query = query.where(left < right if shape.downwards else left > right)
        ordered = query.order_by(*(c.desc() if shape.downwards else c.asc() for c in self._key))
        return Read(ordered.limit(sa.literal_column(str(shape.size + 1))))

    def _build_condition(self, name: str, values: bool | tuple[str, ...]) -> sa.ColumnElement[bool]:
        if name in self._bounds:
            return self._bounds[name]
        column = self._filters[name]
        if isinstance(values, tuple):
            return column.in_(values)
        if values:
            return column == sa.bindparam(name, type_=column.type)
        return column == sa.any_(sa.bindparam(name, type_=sa.ARRAY(column.type)))


def time_bounds(column: sa.ColumnElement[Any]) -> dict[str, sa.ColumnElement[bool]]:
    """The bounds of a list by time, `from_time` and `to_time`: from the first instant on, and before the second."""
    return {
        "from_time": column >= sa.bindparam("from_time", type_=column.type),
        "to_time": column < sa.bindparam("to_time", type_=column.type),
    }


def read_time_bounds(request: Message) -> dict[str, Any]:
    """The values of `time_bounds`."""
    first, last = time_range(request)
    return {"from_time": first, "to_time": last}
