"""What the database itself refuses, whoever asks: moves that are no edges, edited history, other tenants' rows."""

from __future__ import annotations

from itertools import product

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from services.chassis.data import leases
from services.chassis.data.database import Database
from services.chassis.data.database_errors import sqlstate
from services.chassis.data.migrate import drift
from services.chassis.data.transaction import Tx
from services.chassis.runtime.boot import boot_check
from services.transactions.domain.states import MOVES, Status
from services.transactions.tables import transactions
from services.transactions.tables.webhooks import received_webhooks
from tests.support.databases import WITH_TEST_CLOCK
from tests.support.transactions import TransactionsHarness


@pytest.fixture
async def service(service_database) -> TransactionsHarness:
    return TransactionsHarness(await service_database("transactions"))


async def fails(database: Database, statement: str, org: str = "org-1", **values) -> str:
    """The SQLSTATE of a statement the app role may not have."""
    with pytest.raises(asyncpg.PostgresError) as refusal:
        async with database.begin(org) as tx:
            await tx.execute(sa.text(statement), values)
    return sqlstate(refusal.value)


async def test_of_169_pairs_exactly_the_edges_can_be_stored(service: TransactionsHarness) -> None:
    """Each pair is tried on a row that really is in the status before, brought there move by move."""
    with service.wire.cut(service.compliance):
        made = await service.deposit()
    verdicts = {}
    async with service.database.begin("org-1") as tx:
        for before, route in _routes().items():
            await tx.execute(sa.text("SAVEPOINT before"))
            for status in route:
                await tx.execute(_MOVE, {"after": status})
            for after in Status:
                verdicts[before, after] = await _verdict(tx, after)
            await tx.execute(sa.text("ROLLBACK TO SAVEPOINT before"))
    refused = {pair: "23514" for pair in product(Status, Status) if pair[1] not in MOVES[pair[0]]}
    assert verdicts == refused | {(before, after): "" for before in Status for after in MOVES[before]}
    assert (await service.get(made.transaction_id)).etag == made.etag


_MOVE = sa.text(
    "UPDATE transactions SET previous_status = status, status = :after, version = version + 1, settled_at = now(),"
    " next_attempt_at = now(), next_look_at = now()"
)


async def _verdict(tx: Tx, after: Status) -> str:
    """The SQLSTATE of a move, which is undone; empty if it could be stored."""
    await tx.execute(sa.text("SAVEPOINT attempt"))
    try:
        await tx.execute(_MOVE, {"after": after})
    except asyncpg.PostgresError as error:
        return sqlstate(error)
    finally:
        await tx.execute(sa.text("ROLLBACK TO SAVEPOINT attempt"))
    return ""


def _routes() -> dict[Status, list[Status]]:
    """How to get from INITIATED to each status."""
    routes: dict[Status, list[Status]] = {Status.INITIATED: []}
    frontier = [Status.INITIATED]
    while frontier:
        before = frontier.pop(0)
        for after in sorted(MOVES[before] - routes.keys()):
            routes[after] = [*routes[before], after]
            frontier.append(after)
    return routes


_JUMP = "INSERT INTO transaction_history SELECT org_id, transaction_id, 9, 'QUEUED', 'SETTLED', NULL, '', now() FROM "
_JUMP += "transactions"

ILLEGAL = [
    ("UPDATE transactions SET status = 'COMPLETED', version = version + 1", "23514"),  # from where?
    ("UPDATE transactions SET status = 'PROCESSING', previous_status = 'QUEUED'", "42501"),  # the version stands still
    ("UPDATE transactions SET status = 'COMPLETED', previous_status = 'SETTLED', version = version + 1", "23514"),
    ("UPDATE transactions SET version = version + 2", "23514"),
    ("UPDATE transactions SET previous_status = 'QUEUED', version = version + 1", "23514"),
    ("UPDATE transactions SET amount_minor = amount_minor + 1", "42501"),
    ("UPDATE transactions SET party_id = 'inv-002'", "42501"),
    ("UPDATE transactions SET bank_account_id = NULL", "42501"),
    ("UPDATE transactions SET created_by = 'admin-2'", "42501"),
    ("UPDATE transactions SET presentments = 4, attempts = 4, version = version + 1", "23514"),
    ("UPDATE transactions SET confirmed_by = 'admin-2', version = version + 1", "23514"),  # by which reference?
    ("UPDATE transactions SET confirmed_by = created_by, bank_reference = 'FED-1', version = version + 1", "23514"),
    ("UPDATE transactions SET approved_by = created_by, version = version + 1", "23514"),
    ("UPDATE transactions SET org_id = 'org-2'", "42501"),
    ("UPDATE transaction_history SET actor = 'x'", "42501"),
    ("DELETE FROM transaction_history", "42501"),
    ("TRUNCATE transaction_history", "42501"),
    ("DELETE FROM bank_accounts", "42501"),
    ("UPDATE bank_accounts SET status = 'BLOCKED', version = version + 1", "23514"),  # a default is active
    ("ALTER TABLE transactions DISABLE TRIGGER ALL", "42501"),
    ("DROP TABLE transactions", "42501"),
    (_JUMP, "42501"),
]


async def test_the_app_role_cannot_store_what_must_not_be(service: TransactionsHarness) -> None:
    await service.deposit()
    assert [(statement, await fails(service.database, statement)) for statement, _ in ILLEGAL] == ILLEGAL


async def test_a_transaction_is_born_initiated(service: TransactionsHarness) -> None:
    await service.deposit()
    statement = (
        "INSERT INTO transactions (org_id, transaction_id, type, status, previous_status, version, payment_method,"
        " amount_minor, currency, escrow_account_id, party_id, provider, created_by, created_at, updated_at,"
        " settled_at) VALUES ('org-1', 'txn_x', 'DEPOSIT', :status, :before, :version, 'WIRE', 1, 'USD', 'e', 'p',"
        " 'manual', 'a', now(), now(), now())"
    )
    for status, before, version in [("SETTLED", "PENDING_SETTLEMENT", 1), ("INITIATED", None, 2), ("QUEUED", None, 1)]:
        state = await fails(service.database, statement, status=status, before=before, version=version)
        assert state in {"23514", "23503"}


async def test_another_tenant_sees_and_changes_nothing(service: TransactionsHarness) -> None:
    await service.deposit()
    tables = ["transactions", "transaction_history", "bank_accounts", "provider_payments", "handled_requests"]
    async with service.database.begin("org-2") as tx:
        for table in tables:
            assert await tx.scalar(sa.text(f"SELECT count(*) FROM {table}")) == 0
        assert await tx.scalars(sa.text("UPDATE transactions SET due_at = now() RETURNING org_id")) == []
    values = "SELECT 'org-1', 'key', 'x'::bytea, 'txn_x', NULL, now()"
    assert await fails(service.database, f"INSERT INTO payout_requests {values}", org="org-2") == "42501"


@pytest.mark.usefixtures("durable")
async def test_the_schema_is_what_the_tables_say_and_safe_to_serve_from(
    service_urls, service: TransactionsHarness
) -> None:
    urls = await service_urls("transactions")
    assert await drift(urls.owner_url, "transactions") == []
    await boot_check(service.database, WITH_TEST_CLOCK)


async def test_what_waits_is_not_read_to_find_what_is_due(service: TransactionsHarness) -> None:
    """A hundred thousand leases that run must not cost the jobs, every second, a look at each."""
    t = transactions.c
    r = received_webhooks.c
    for status, due_at in ((t.status == "PENDING_SETTLEMENT", t.due_at), (sa.true(), r.due_at)):
        statement = sa.select(due_at).where(status, leases.is_due(due_at)).order_by(due_at)
        text = statement.compile(dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True})
        async with service.database.begin_for_all() as tx:
            await tx.execute(sa.text("SET LOCAL enable_seqscan = off"))
            plan = list(await tx.scalars(sa.text(f"EXPLAIN {text}")))
        [condition] = [line for line in plan if "Index Cond" in line]
        assert "due_at <=" in condition
