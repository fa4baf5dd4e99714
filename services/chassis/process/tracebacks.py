"""Exceptions as text for logs: where they come from and what they are, without the values of rows.

PostgreSQL repeats in its errors what it was given ("Key (email)=(…) already exists", "invalid input syntax: …"). Of an
error of the database, and of whatever caused it, only the type, the state and the names of the schema are told.
"""

from __future__ import annotations

import traceback
from types import TracebackType
from typing import Any

_OF_DATABASES = frozenset({"asyncpg", "sqlalchemy"})
_NAMES = ("table_name", "column_name", "constraint_name", "data_type_name")

ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def format_exception(exc_info: ExceptionInfo) -> str:
    """The last line is the exception itself, those before it what led there."""
    return "".join(_lines(exc_info[1], silent=False)).rstrip("\n")


def describe(error: BaseException) -> str:
    """An exception in one line."""
    return _describe(error, silent=_is_of_a_database(error))


def _lines(error: BaseException, *, silent: bool) -> list[str]:
    silent = silent or _is_of_a_database(error)
    lines: list[str] = []
    if error.__cause__ is not None:
        lines += [*_lines(error.__cause__, silent=silent), "\nThis caused:\n"]
    elif error.__context__ is not None and not error.__suppress_context__:
        lines += [*_lines(error.__context__, silent=silent), "\nWhile it was handled:\n"]
    lines += [*traceback.format_tb(error.__traceback__), f"{_describe(error, silent=silent)}\n"]
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            lines += ["\nOf the group:\n", *_lines(inner, silent=silent)]
    return lines


def _describe(error: BaseException, *, silent: bool) -> str:
    if not silent:
        return "".join(traceback.format_exception_only(error)).rstrip("\n")
    origin: Any = getattr(error, "orig", None) or error
    told = getattr(origin, "__cause__", None) or origin  # the driver's own, below SQLAlchemy's
    said = [f"sqlstate={state}"] if (state := getattr(origin, "sqlstate", None)) else []
    said += [f"{name}={value}" for name in _NAMES if (value := getattr(told, name, None))]
    return " ".join([f"{type(error).__module__}.{type(error).__qualname__}", *said])


def _is_of_a_database(error: BaseException) -> bool:
    return type(error).__module__.split(".")[0] in _OF_DATABASES
