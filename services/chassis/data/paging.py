"""Lists by keyset: a page begins after the last row of the page before, so none is skipped or repeated by new rows.

A page token is opaque: the key of the last row, and a digest of the query it belongs to. With other filters, another
RPC or another organization it is refused. It grants nothing: the rows still come through row level security.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Generic, NamedTuple, TypeVar

import orjson
import sqlalchemy as sa
from google.protobuf.message import Message
from realco.type.v1.sort_pb2 import Sort

from services.chassis.calls.auth import principal_or_none
from services.chassis.calls.wire import copy_without, from_timestamp
from services.chassis.data.sql import Row
from services.chassis.data.transaction import Tx
from services.chassis.values.errors import DomainError, Kind

R = TypeVar("R")
Key = tuple[datetime | int | str, ...]

PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 1000
_TOKEN_CHARACTERS_MAX = 1024


class PageTokenInvalid(DomainError):
    """The token is damaged, or of another query."""

    kind = Kind.INVALID_ARGUMENT
    reason = "PAGE_TOKEN_INVALID"

    def __init__(self, fault: str) -> None:
        """`fault` completes "page_token …"."""
        super().__init__(f"The page_token {fault}.", fields={"page_token": fault})


class Cut(NamedTuple, Generic[R]):
    """The rows of a page, and the tokens of its neighbours; empty where there is none."""

    rows: Sequence[R]
    next_page_token: str
    previous_page_token: str


@dataclass(frozen=True)
class Page:
    """One page of a list: `page = Page.of(request)`, `page.of_query(select, columns)`, `page.cut(rows, key)`.

    That is what `read_page` does; by itself it serves lists that read something in between.
    """

    size: int
    beside: Key | None  # the key of the neighbouring row of the page that the token came with
    backward: bool  # whether this page lies before that row, not after it
    digest: str

    @classmethod
    def of(cls, request: Message) -> Page:
        """The page a request with `page_size` and `page_token` asks for; all its other fields are filters.

        Raises:
            PageTokenInvalid: the token is not one we gave for these filters.
        """
        asked: int = getattr(request, "page_size")  # noqa: B009
        token: str = getattr(request, "page_token")  # noqa: B009
        digest = _digest(request)
        size = min(asked, PAGE_SIZE_MAX) if asked > 0 else PAGE_SIZE_DEFAULT
        if not token:
            return cls(size, None, False, digest)
        backward, key = _read(token, digest)
        return cls(size, key, backward, digest)

    def of_query(
        self, query: sa.Select[Any], columns: Sequence[sa.ColumnElement[Any]], *, descending: bool = True
    ) -> sa.Select[Any]:
        """The query with this page's keyset condition and order, and one row more than the page, to know if it ends.

        Args:
            columns: The key, most significant first, unique as a whole: `(created_at, id)`.
            descending: The order of the list. A page that lies before its token is read the other way round.
        """
        downwards = descending is not self.backward
        if self.beside is not None:
            query = query.where(keyset(columns, self.beside, descending=downwards))
        return query.order_by(*(c.desc() if downwards else c.asc() for c in columns)).limit(self.size + 1)

    def cut(self, found: Sequence[R], key: Callable[[R], Key], *, more: bool = False) -> Cut[R]:
        """The rows of this page in the order of the list, and the tokens of the pages beside it.

        Args:
            more: True where there are more rows than were found; one row more than the page says so, too.
        """
        rows, more = found[: self.size], more or len(found) > self.size
        if self.backward:
            rows = rows[::-1]
        if not rows:
            return Cut(rows, "", "")
        has_next, has_previous = (True, more) if self.backward else (more, self.beside is not None)
        return Cut(
            rows,
            _write(key(rows[-1]), self.digest, backward=False) if has_next else "",
            _write(key(rows[0]), self.digest, backward=True) if has_previous else "",
        )

    def cut_within(self, found: Sequence[R], key: Callable[[R], Key], bound: Key | None) -> Cut[R]:
        """As `cut`, of rows that are known up to a key alone: the list goes on from there, also where none was found.

        Args:
            bound: That key; None: they are known to the end of the list.
        """
        if bound is None or len(found) > self.size:
            return self.cut(found, key, more=bound is not None)
        rows = found[::-1] if self.backward else found
        first, last = (key(rows[0]), key(rows[-1])) if rows else (bound, bound)
        has_previous = self.backward or self.beside is not None
        previous, following = (bound, last) if self.backward else (first, bound)
        return Cut(
            rows,
            _write(following, self.digest, backward=False),
            _write(previous, self.digest, backward=True) if has_previous else "",
        )

    def key_of(self, token: str) -> Key:
        """Where a page ended whose token this is, of the same list.

        Raises: PageTokenInvalid.
        """
        return _read(token, self.digest)[1]


async def read_page(
    tx: Tx,
    request: Message,
    query: sa.Select[Any],
    columns: Sequence[sa.ColumnElement[Any]],
    *,
    descending: bool = True,
) -> Cut[Row]:
    """The page of the query that a request asks for.

    Args:
        query: What reads the whole list, its key among what it selects.
        columns: The key, most significant first, unique as a whole.
        descending: The order of the list.
    """
    page = Page.of(request)
    found = (await tx.execute(page.of_query(query, columns, descending=descending))).all()
    return page.cut(found, lambda row: tuple(getattr(row, column.name) for column in columns))


async def read_list(
    tx: Tx,
    request: Message,
    query: sa.Select[Any],
    time: sa.ColumnElement[datetime],
    *key: sa.ColumnElement[str],
) -> Cut[Row]:
    """The page of a list with `from_time`, `to_time` and `order`: sorted, and cut, by the time that it is about.

    Args:
        query: What reads the whole list, `time` and `key` among what it selects.
        key: What tells rows of one instant apart.
    """
    query = query.where(*within(time, time_range(request)))
    return await read_page(tx, request, query, (time, *key), descending=is_descending(request))


def one_of(column: sa.ColumnElement[str], values: Sequence[str]) -> list[sa.ColumnElement[bool]]:
    """The condition of a filter, which means any of its values, if it has some: for `where(*one_of(…))`."""
    return [column.in_(list(values))] if values else []


def time_range(request: Message) -> tuple[datetime | None, datetime | None]:
    """The half-open range of `from_time` and `to_time`: from the first instant on, and before the second.

    That it does not end before it begins was checked with the request.
    """
    first, last = (
        from_timestamp(getattr(request, name), name) if request.HasField(name) else None
        for name in ("from_time", "to_time")
    )
    return first, last


def within(
    column: sa.ColumnElement[datetime], between: tuple[datetime | None, datetime | None]
) -> list[sa.ColumnElement[bool]]:
    """The conditions of a time range on a column, for `where(*within(…))`."""
    first, last = between
    found = [column >= first] if first is not None else []
    return [*found, column < last] if last is not None else found


def is_descending(request: Message) -> bool:
    """Whether a list with a field `order` goes from the newest to the oldest, which is what it does unless asked."""
    return bool(getattr(request, "order") != Sort.OLDEST_FIRST)  # noqa: B009


def keyset(columns: Sequence[sa.ColumnElement[Any]], after: Key, *, descending: bool = True) -> sa.ColumnElement[bool]:
    """`(created_at, id) < (…)`: one comparison of rows, which one index answers."""
    check_key(columns, after)
    left = sa.tuple_(*columns)
    right = sa.tuple_(*(sa.literal(value, column.type) for column, value in zip(columns, after, strict=True)))
    return left < right if descending else left > right


def check_key(columns: Sequence[sa.ColumnElement[Any]], after: Key) -> None:
    """Raises: PageTokenInvalid: the values are not of these columns."""
    if len(columns) != len(after) or any(not _fits(c, value) for c, value in zip(columns, after, strict=True)):
        raise PageTokenInvalid("is not one of this list")


def _fits(column: sa.ColumnElement[Any], value: object) -> bool:
    if type(value) is not column.type.python_type:
        return False
    return not isinstance(value, int) or abs(value) < (2**63 if isinstance(column.type, sa.BigInteger) else 2**31)


def _digest(request: Message) -> str:
    filters = copy_without(request, "page_size", "page_token")
    principal = principal_or_none()
    name = f"{request.DESCRIPTOR.full_name}\0{principal.org_id if principal else ''}\0"
    return sha256(name.encode() + filters.SerializeToString(deterministic=True)).hexdigest()[:24]


def _write(key: Key, digest: str, *, backward: bool) -> str:
    parts = [["t", part.isoformat()] if isinstance(part, datetime) else ["v", part] for part in key]
    return urlsafe_b64encode(orjson.dumps([digest, backward, parts])).decode().rstrip("=")


def _read(token: str, digest: str) -> tuple[bool, Key]:
    try:
        if len(token) > _TOKEN_CHARACTERS_MAX:
            raise ValueError("too long")
        found, backward, parts = orjson.loads(urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4)))
        if found != digest or not isinstance(backward, bool):
            raise ValueError("of another query")
        return backward, tuple(_part(kind, value) for kind, value in parts)
    except (ValueError, TypeError, OverflowError):
        raise PageTokenInvalid("is damaged or belongs to another query") from None


def _part(kind: str, value: Any) -> datetime | int | str:
    """One value of the key, of those PostgreSQL can hold: nothing keeps a caller from writing a token of its own."""
    if kind == "t":
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            raise ValueError("a time without a zone")
        return moment.astimezone(UTC)
    if isinstance(value, str) and "\0" in value:
        raise ValueError("a text with NUL")
    return value  # its type is compared with the column's by `keyset`
