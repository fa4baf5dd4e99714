"""A database's URL, read in one way by SQLAlchemy's engines and by raw asyncpg: as libpq and its tools read it.

So `sslmode=verify-full&sslrootcert=…`, several hosts and `target_session_attrs` mean the same here as they do in psql.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine


def dsn_of(url: str) -> str:
    """The URL for asyncpg, whatever driver it names: `postgresql+asyncpg://…` -> `postgresql://…`."""
    return re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql://", url)


def engine_of(url: str, session: Mapping[str, str], *, connect_seconds: float = 60, **options: Any) -> AsyncEngine:
    """An engine whose connections asyncpg opens from the URL: SQLAlchemy's own reading of it knows no `sslmode`.

    Args:
        url: As `dsn_of` takes it.
        session: The settings each connection begins with.
        connect_seconds: How long opening a connection may take.
        options: Further ones of `create_async_engine`.
    """
    connect = partial(asyncpg.connect, dsn_of(url), server_settings=dict(session), timeout=connect_seconds)
    return create_async_engine(
        "postgresql+asyncpg://",
        # Statement parameters are people's data: they stay out of exceptions, and so out of logs.
        hide_parameters=True,
        connect_args={"async_creator_fn": connect, "prepared_statement_cache_size": 512},
        **options,
    )
