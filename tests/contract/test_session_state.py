"""Nothing lives in a session of PostgreSQL, so a pooler may give each transaction another one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.chassis.data.database import Database
from services.chassis.data.roles import SESSION_PROOF
from tests.support.seals import SEALS

ROOT = Path(__file__).parents[2]
SOURCES = [path for path in (ROOT / "services").rglob("*") if path.suffix in (".py", ".sql")]

SESSION_STATE = {
    "an advisory lock that outlasts its transaction": r"pg_(try_)?advisory_(lock|unlock)(_shared)?\(",
    "a setting that outlasts its transaction": r"set_config\([^)]*,\s*false\)|SET SESSION|\"SET (?!LOCAL|CON|OFF\b)",
    "a listener": r"\bLISTEN\s+\w|add_listener\(",
    "a temporary table": r"CREATE (LOCAL |GLOBAL )?TEMP",
    "a cursor that outlasts its transaction": r"WITH HOLD",
}


@pytest.mark.parametrize("what", SESSION_STATE)
def test_no_service_keeps(what):
    pattern = re.compile(SESSION_STATE[what], re.IGNORECASE | re.MULTILINE)
    assert len(SOURCES) > 100
    assert [str(path.relative_to(ROOT)) for path in SOURCES if pattern.search(path.read_text())] == []


def test_a_connection_begins_with_nothing_but_its_name_and_what_proves_whose_it_is():
    database = Database("postgresql://user@host/name", "postgresql://worker@host/name", "escrow", SEALS)
    assert database._session == {"application_name": "realco-escrow", SESSION_PROOF: SEALS.list_session_proofs()[0]}
