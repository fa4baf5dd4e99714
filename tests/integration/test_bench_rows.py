"""What `make bench` measures on is written past the services: tables change often, and it runs seldom."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import asyncpg
import pytest
import sqlalchemy as sa

from services.chassis.data.migrate import engine_of
from services.chassis.data.seals import bind_seals, is_row_sealed, list_sealed_tables
from services.distributions.tables import metadata as distributions_tables
from services.escrow.tables import metadata as escrow_tables
from services.transactions.tables import metadata as transactions_tables
from tests.performance import load
from tests.support.databases import connect
from tests.support.seals import SEALS

SCALE = load.SPREAD


async def load_book(connection: asyncpg.Connection) -> None:
    await load.load_book(connection, SEALS, SCALE)


async def load_transactions(connection: asyncpg.Connection) -> None:
    await load.load_transactions(connection, SCALE)


@pytest.mark.parametrize(
    ("service", "load_rows", "metadata", "loaded"),
    [
        ("escrow", load_book, escrow_tables, {"escrow_accounts": load.SPREAD + 1, "journal_entries": 2 * SCALE}),
        ("transactions", load_transactions, transactions_tables, {"transactions": SCALE}),
        (
            "distributions",
            load.load_offerings,
            distributions_tables,
            {"offerings": load.OFFERINGS, "investments": load.OFFERINGS * load.INVESTORS},
        ),
    ],
    ids=["escrow", "transactions", "distributions"],
)
async def test_todays_tables_take_what_the_benchmark_loads_and_the_service_believes_it(
    service: str,
    load_rows: Callable[[asyncpg.Connection], Awaitable[None]],
    metadata: sa.MetaData,
    loaded: dict[str, int],
    service_urls: Callable[[str], Awaitable[SimpleNamespace]],
) -> None:
    urls = await service_urls(service)
    async with connect(urls.admin_url) as admin:
        await load_rows(admin)
        found = {table: await admin.fetchval(f"SELECT count(*) FROM {table}") for table in loaded}
    await load.seal_tables(urls.admin_url, SEALS, metadata)

    assert found == loaded
    engine = engine_of(urls.admin_url, {})
    async with engine.connect() as tx:
        bind_seals(tx, SEALS)
        for table in list_sealed_tables(metadata):
            rows = (await tx.execute(sa.select(table))).all()
            assert all(is_row_sealed(tx, table, row) for row in rows), table.name
    await engine.dispose()
