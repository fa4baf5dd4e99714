"""What an error of PostgreSQL means: to be tried again, to be waited for, or to be mended.

They are the driver's own, as it raises them."""

from __future__ import annotations

import asyncpg

from services.chassis.data.pool import PoolExhausted

LOCK_NOT_AVAILABLE = "55P03"
_OUT_OF_RANGE = "22003"
_OUT_OF_ROOM = "53200"
_RETRY_WHOLE = frozenset({"40001", "40P01", LOCK_NOT_AVAILABLE})


def sqlstate(error: BaseException | None) -> str:
    """PostgreSQL's five-letter code of an error; empty where there is none."""
    return str(getattr(error, "sqlstate", None) or "")


def is_too_large(error: BaseException) -> bool:
    """True where a sum or a count is more than a number of PostgreSQL can say."""
    return sqlstate(error) == _OUT_OF_RANGE


def is_out_of_room(error: BaseException) -> bool:
    """True where PostgreSQL has no memory left for what all its sessions share: locks, above all."""
    return sqlstate(error) == _OUT_OF_ROOM


def is_contention(error: BaseException) -> bool:
    """True where the transaction lost against another, or a migration, and the whole of it may simply be run again."""
    return sqlstate(error) in _RETRY_WHOLE or isinstance(error, asyncpg.InvalidCachedStatementError)


def names_row_of(error: BaseException, table: str) -> bool:
    """True where PostgreSQL says at which row of the table it stood: whoever waited for another transaction waited for
    that row, and not for the table or a name."""
    return table in str(getattr(error, "context", None) or "")


def is_away(error: BaseException) -> bool:
    """True where the database cannot be reached or cannot serve just now: nothing is wrong with the work itself."""
    state = sqlstate(error)
    # 08 connection, 28 our password is not taken, 53 out of resources, 57P0x shutting down or starting, 25P03 idle too
    # long, 25P04 open too long.
    if state.startswith(("08", "28", "53", "57P", "58")) or state in ("25P03", "25P04", "25006"):
        return True
    return isinstance(
        error,
        PoolExhausted
        | OSError
        | TimeoutError
        | asyncpg.InterfaceError
        | asyncpg.InternalClientError  # an answer cut off in the middle
        | asyncpg.PostgresConnectionError,
    )


def is_unreadable(error: BaseException) -> bool:
    """True where the database gave a value that no program can read: a time out of all years, JSON that is too deep."""
    is_unread = isinstance(error, ValueError | OverflowError | RecursionError)
    return is_unread and not isinstance(error, asyncpg.InterfaceError)


# Of tables, columns, functions, types and schemas.
_UNDEFINED = frozenset({"42P01", "42703", "42883", "42704", "3F000"})


def is_unprepared(error: BaseException) -> bool:
    """True where the database lacks what our statement names: its schema or a setting is wrong, whatever the data."""
    return sqlstate(error) in _UNDEFINED


def is_transient(error: BaseException) -> bool:
    """True where trying again later may succeed without a change of code or data."""
    return is_contention(error) or is_away(error)
