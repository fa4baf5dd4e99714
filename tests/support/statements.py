"""Statements of requests that name no organization: row level security keeps them to one, but no key serves them."""

from __future__ import annotations

import importlib
import re
from typing import Any

import pytest
from sqlalchemy import TextClause

from deploy.topology import SERVICE_NAMES
from services.chassis.data.database import Database
from services.chassis.data.pool import Pool
from services.chassis.data.sql import Compiled, Result
from services.chassis.data.transaction import Tx

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

    async def send_noted(self: Tx, compiled: Compiled, text: str, arguments: Any) -> Result:
        if self.info["is_of_one"] and not isinstance(compiled.statement, TextClause):
            rows = _OF_ROWS.match(text)
            if rows and rows[1] in _TABLES and not _NAMES_ORGANIZATION.search(text):
                found.append(text)
        return await sent(self, compiled, text, arguments)

    async def open_noted(self: Database, pool: Pool, begin: str) -> Tx:
        tx = await opened(self, pool, begin)
        tx.info["is_of_one"] = "'app.org_id', ''" not in begin
        return tx

    opened, Database._open = Database._open, open_noted
    sent, Tx._send = Tx._send, send_noted
    return found


def list_sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list that grows by each statement that a transaction sends, until the test is over."""
    found: list[str] = []
    send = Tx._send

    async def send_noted(self: Tx, compiled: Compiled, text: str, arguments: Any) -> Result:
        found.append(text)
        return await send(self, compiled, text, arguments)

    monkeypatch.setattr(Tx, "_send", send_noted)
    return found
