"""A database's URL, read in one way by SQLAlchemy's engines and by raw asyncpg: as libpq and its tools read it.

So `sslmode=verify-full&sslrootcert=…`, several hosts and `target_session_attrs` mean the same here as they do in psql.
"""

from __future__ import annotations

import os
import re
import socket
from typing import Any

import asyncpg

# PostgreSQL's own names come first, since it does not name their schema; no temporary table takes another's place.
SEARCH_PATH = "public, pg_temp"
# How long a server may leave what we sent unacknowledged, and an idle connection be without a sign of life.
_SILENCE_SECONDS_MAX = 10
_PROBE_SECONDS = 3


def dsn_of(url: str) -> str:
    """The URL for asyncpg, whatever driver it names: `postgresql+asyncpg://…` -> `postgresql://…`."""
    return re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql://", url)


async def connect(*arguments: Any, **options: Any) -> asyncpg.Connection:
    """asyncpg's own, on a connection that the system gives up when the server's machine falls silent."""
    connection = await asyncpg.connect(*arguments, **options)
    below = connection._transport.get_extra_info("socket")
    if below is not None and below.family in (socket.AF_INET, socket.AF_INET6):
        _limit_silence(below.fileno())
    return connection


def _limit_silence(descriptor: int) -> None:
    # A second descriptor of the same connection: the event loop lets nobody set anything on its own.
    with socket.socket(fileno=os.dup(descriptor)) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        limits = {
            "TCP_USER_TIMEOUT": _SILENCE_SECONDS_MAX * 1000,
            "TCP_KEEPIDLE": _PROBE_SECONDS,
            "TCP_KEEPINTVL": _PROBE_SECONDS,
            "TCP_KEEPCNT": _SILENCE_SECONDS_MAX // _PROBE_SECONDS,
        }
        for name, limit in limits.items():
            if (option := getattr(socket, name, None)) is not None:  # not every system has each
                same.setsockopt(socket.IPPROTO_TCP, option, limit)
