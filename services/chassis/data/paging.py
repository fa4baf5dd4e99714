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
from typing import Any, TypeVar

import orjson
import sqlalchemy as sa
from google.protobuf.message import Message

from services.chassis.calls.auth import principal_or_none
from services.chassis.values.errors import DomainError, Kind

Row = TypeVar("Row")
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


@dataclass(frozen=True)
class Page:
    """One page of a list: `page = Page.of(request)`, `page.of_query(select, columns)`, `page.cut(rows, key)`."""

    size: int
    after: Key | None  # the key of the last row of the page before
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
        return cls(size, _read(token, digest) if token else None, digest)

    def of_query(
        self, query: sa.Select[Any], columns: Sequence[sa.ColumnElement[Any]], *, descending: bool = True
    ) -> sa.Select[Any]:
        """The query with this page's keyset condition and order, and one row more than the page, to know if it ends.

        Args:
            columns: The key, most significant first, unique as a whole: `(created_at, id)`.
        """
        if self.after is not None:
            query = query.where(keyset(columns, self.after, descending=descending))
        return query.order_by(*(c.desc() if descending else c.asc() for c in columns)).limit(self.size + 1)

    def cut(self, rows: Sequence[Row], key: Callable[[Row], Key]) -> tuple[Sequence[Row], str]:
        """The rows of this page, and the token of the next: empty after the last page."""
        if len(rows) <= self.size:
            return rows, ""
        return rows[: self.size], _write(key(rows[self.size - 1]), self.digest)


def keyset(columns: Sequence[sa.ColumnElement[Any]], after: Key, *, descending: bool = True) -> sa.ColumnElement[bool]:
    """`(created_at, id) < (…)`: one comparison of rows, which one index answers."""
    if len(columns) != len(after) or any(not _fits(c, value) for c, value in zip(columns, after, strict=True)):
        raise PageTokenInvalid("is not one of this list")
    left = sa.tuple_(*columns)
    right = sa.tuple_(*(sa.literal(value, column.type) for column, value in zip(columns, after, strict=True)))
    return left < right if descending else left > right


def _fits(column: sa.ColumnElement[Any], value: object) -> bool:
    if type(value) is not column.type.python_type:
        return False
    return not isinstance(value, int) or abs(value) < (2**63 if isinstance(column.type, sa.BigInteger) else 2**31)


def _digest(request: Message) -> str:
    filters = type(request)()
    filters.CopyFrom(request)
    filters.ClearField("page_size")
    filters.ClearField("page_token")
    principal = principal_or_none()
    name = f"{request.DESCRIPTOR.full_name}\0{principal.org_id if principal else ''}\0"
    return sha256(name.encode() + filters.SerializeToString(deterministic=True)).hexdigest()[:24]


def _write(key: Key, digest: str) -> str:
    parts = [["t", part.isoformat()] if isinstance(part, datetime) else ["v", part] for part in key]
    return urlsafe_b64encode(orjson.dumps([digest, parts])).decode().rstrip("=")


def _read(token: str, digest: str) -> Key:
    try:
        if len(token) > _TOKEN_CHARACTERS_MAX:
            raise ValueError("too long")
        found, parts = orjson.loads(urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4)))
        if found != digest:
            raise ValueError("of another query")
        return tuple(_part(kind, value) for kind, value in parts)
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
