"""What the database's triggers were told is what the code says now: the moves of a status, and how long rows stay."""

from __future__ import annotations

import importlib
from enum import Enum
from typing import Any

import asyncpg
import pytest

from deploy.topology import SERVICE_NAMES
from services.chassis.data.housekeeping import FORGOTTEN_AFTER_DAYS, HANDLED_REQUESTS_DAYS
from services.compliance.domain.api_keys import API_KEY_MOVES
from services.compliance.domain.checks import CHECK_MOVES
from services.distributions.domain import states
from services.escrow.domain.account import MOVES as ESCROW_ACCOUNT_MOVES
from services.transactions.domain.bank_accounts import BANK_ACCOUNT_MOVES
from services.transactions.domain.exceptions import EXCEPTION_MOVES
from services.transactions.domain.states import MOVES as TRANSACTION_MOVES
from services.transactions.domain.sweeps import SWEEP_MOVES

# The tables of moves that the code goes by, of what is stored with a status of its own.
MOVES: dict[str, dict[str, Any]] = {
    "transactions": {
        "bank_accounts": BANK_ACCOUNT_MOVES,
        "payment_exceptions": EXCEPTION_MOVES,
        "sweeps": SWEEP_MOVES,
        "transactions": TRANSACTION_MOVES,
    },
    "escrow": {"escrow_accounts": ESCROW_ACCOUNT_MOVES},
    "distributions": {
        "offerings": states.OFFERING_MOVES,
        "investments": states.INVESTMENT_MOVES,
        "distributions": states.DISTRIBUTION_MOVES,
        "allocations": states.ALLOCATION_MOVES,
        "payouts": states.PAYOUT_MOVES,
    },
    "compliance": {"api_keys": API_KEY_MOVES, "compliance_checks": CHECK_MOVES},
}
# What no table of moves is needed for: each of its functions leads to one status, and the trigger holds them alone.
MOVED_BY_FUNCTIONS = {"transactions": {"webhooks"}}
FORGOTTEN = {name: (column, str(days)) for name, (column, days) in FORGOTTEN_AFTER_DAYS.items()}
MORE_FORGOTTEN = {"escrow": {"refused_postings": ("created_at", str(HANDLED_REQUESTS_DAYS))}}


async def list_arguments(owner_url: str, trigger: str) -> dict[str, tuple[str, ...]]:
    """What each table's trigger of that name was told."""
    connection = await asyncpg.connect(owner_url.replace("+asyncpg", ""))
    try:
        rows = await connection.fetch(
            "SELECT tgrelid::regclass::text AS name, tgargs FROM pg_trigger WHERE tgname = $1", trigger
        )
    finally:
        await connection.close()
    return {row["name"]: tuple(row["tgargs"].decode().split("\0")[:-1]) for row in rows}


@pytest.mark.parametrize("service", MOVES)
async def test_the_database_allows_the_moves_the_domain_allows(migrated, service):
    stored = await list_arguments((await migrated(service)).owner_url, "refuse_move")
    assert stored.keys() - MOVED_BY_FUNCTIONS.get(service, set()) == {*MOVES[service], "approvals"}
    tables = importlib.import_module(f"services.{service}.tables")
    for name, moves in MOVES[service].items():
        table = tables.metadata.tables[name]
        known = next(c for c in table.constraints if c.name in (f"{name}_status", "status_known")).sqltext.text
        assert {move for move in stored[name] if not move.startswith(">")} == spell(moves, known), name


def spell(moves: dict[Enum, frozenset[Enum]], known: str) -> set[str]:
    """The moves between statuses that are stored."""
    return {
        f"{before.value}>{after.value}"
        for before, afters in moves.items()
        for after in afters
        if f"'{before.value}'" in known and f"'{after.value}'" in known
    }


@pytest.mark.parametrize("service", SERVICE_NAMES)
async def test_the_database_keeps_rows_as_long_as_housekeeping_does(migrated, service):
    stored = await list_arguments((await migrated(service)).owner_url, "refuse_early")
    assert stored == FORGOTTEN | MORE_FORGOTTEN.get(service, {})
