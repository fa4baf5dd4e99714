"""Statements of requests that name no organization: row level security keeps them to one, but no key serves them."""

from __future__ import annotations

import importlib
import re
from typing import Any

from sqlalchemy import Connection, TextClause, event
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from deploy.topology import SERVICE_NAMES
from services.chassis.data.database import Database

_OF_ROWS = re.compile(r"\s*(?:SELECT|UPDATE|DELETE|WITH)\b.*?\b(?:FROM|UPDATE) (\w+)", re.DOTALL)
_NAMES_ORGANIZATION = re.compile(r"\borg_id\)? (?:=|IN)|\borg_id, .*?\) IN", re.DOTALL)
_TABLES = {
    table.name
    for service in SERVICE_NAMES
    for table in importlib.import_module(f"services.{service}.tables").metadata.sorted_tables
    if "org_id" in table.c
}


def collect_unnamed() -> list[str]:
    """A list that grows by each statement that was built from our tables; text is what tests themselves ask."""
    found: list[str] = []

    def look(connection: Connection, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if connection.info.get("is_of_one") and context.compiled is not None:
            rows = _OF_ROWS.match(statement)
            is_text = isinstance(context.compiled.statement, TextClause)
            if rows and not is_text and rows[1] in _TABLES and not _NAMES_ORGANIZATION.search(statement):
                found.append(statement)

    async def open_noted(self: Database, pool: AsyncEngine, begin: str) -> AsyncConnection:
        connection = await opened(self, pool, begin)
        connection.info["is_of_one"] = "'app.org_id', ''" not in begin
        return connection

    opened, Database._open = Database._open, open_noted
    event.listen(Engine, "before_cursor_execute", look)
    return found
