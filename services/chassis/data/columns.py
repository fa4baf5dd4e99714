"""The columns that tables of all services have: a table says what each is called and whether it may be missing."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg


def text(name: str, *, key: bool = False, null: bool = False, default: str | None = None) -> sa.Column[str]:
    """A text. One that may be missing is NULL then, never empty."""
    return sa.Column(name, sa.Text, primary_key=key, nullable=null, server_default=default)


def minor(name: str) -> sa.Column[int]:
    """An amount in minor units, which begins with none."""
    return sa.Column(name, sa.BigInteger, nullable=False, server_default="0")


def json(name: str, *, null: bool = False) -> sa.Column[object]:
    """JSON: what it holds says whoever writes it."""
    return sa.Column(name, pg.JSONB(none_as_null=True), nullable=null)


def time(name: str, *, null: bool = False, default: str | None = None) -> sa.Column[object]:
    """A moment; its default is an expression of SQL."""
    server_default = None if default is None else sa.text(default)
    return sa.Column(name, sa.TIMESTAMP(timezone=True), nullable=null, server_default=server_default)


def seal() -> sa.Column[bytes]:
    """What the service seals the row with, in the transaction that writes it: seals.py."""
    return sa.Column("seal", pg.BYTEA)


def external() -> tuple[sa.Column[str], sa.Column[object]]:
    """The client's own id and facts."""
    return text("external_id", null=True), sa.Column("metadata", pg.JSONB, nullable=False, server_default="{}")
