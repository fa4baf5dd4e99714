"""Keys can grow: the organization is in every key, so that organizations can live on different clusters."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from deploy.topology import SERVICE_NAMES

# Tables whose rows belong to no organization, each with why.
OF_NO_ORGANIZATION = {
    "incarnation": "which life of the database this is",
    "test_clock": "whether business time may be another than the database's own",
    "session_proofs": "whose sessions write in the database",
    "leaders": "which process does a job, for all organizations",
    "handled_positions": "how far a stream is handled, which has every organization's events",
    "dead_letters": "what was set aside may not even say whose it is",
    "seen_letters": "what a person did about those",
    "seen_restores": "who looked through what a restore has forgotten of all organizations",
    "passed_messages": "what nobody could look at does not say whose it is",
    "ledger_account_kinds": "the chart of accounts is the same in every organization",
    "default_limits": "what every organization begins with",
    "received_webhooks": "a webhook is stored before anybody knows whose it is",
    "vault_keys": "each value is bound to its organization, whichever key sealed it",
    "feed_cursors": "how far events and sweeps were read, which are of every organization",
    "provider_sweeps": "the whole of a sweep, of which organizations have parts",
}

# Numbers of an organization's accounts: they stand for it, and never leave the database (ADR 29).
NUMBERS = {"escrow_no", "account_no"}


def keys_of(table: sa.Table) -> Iterator[tuple[str, list[str]]]:
    """The primary, unique and foreign keys and unique indexes of a table, each with its columns."""
    for constraint in table.constraints:
        kind = type(constraint).__name__
        if isinstance(constraint, sa.PrimaryKeyConstraint | sa.UniqueConstraint):
            yield f"{table.name}: {kind}", [column.name for column in constraint.columns]
        elif isinstance(constraint, sa.ForeignKeyConstraint):
            to = constraint.referred_table.name
            if to not in OF_NO_ORGANIZATION:
                yield f"{table.name}: {kind} to {to}", list(constraint.column_keys)
    for index in table.indexes:
        if index.unique:
            yield f"{table.name}: {index.name}", [str(getattr(one, "name", one)) for one in index.expressions]


@pytest.mark.parametrize("service", SERVICE_NAMES)
def test_the_organization_is_in_every_key(service):
    tables = importlib.import_module(f"services.{service}.tables").metadata.sorted_tables
    wrong = [
        f"{name} ({', '.join(columns)})"
        for table in tables
        if table.name not in OF_NO_ORGANIZATION
        for name, columns in keys_of(table)
        if columns and "org_id" not in columns and columns[0] not in NUMBERS
    ]
    assert wrong == []
