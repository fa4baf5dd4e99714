"""A release can be taken back without its migrations: older code serves on the schema it left, or says why not."""

from __future__ import annotations

import pytest

from services.chassis.data import migrate
from services.chassis.data.database import Database
from services.chassis.data.schema import FoundSchema, find_schema, known_schema
from services.chassis.runtime.boot import boot_check
from services.chassis.values.errors import BootError
from tests.support import chassis
from tests.support.databases import WITH_TEST_CLOCK
from tests.support.seals import SEALS


@pytest.fixture
async def urls(service_urls):
    return await service_urls("escrow")


async def found_in(urls) -> FoundSchema:
    database = Database(urls.app_url, urls.worker_url, "escrow", SEALS)
    async with database.begin_for_all() as tx:
        found = await find_schema(tx)
    await database.dispose()
    return found


async def make_newer(urls, compatible_with: str) -> None:
    """As the migrations of a newer release leave the database."""
    async with chassis.as_superuser(urls) as admin:
        await admin.execute(
            "UPDATE alembic_version SET version_num = '9999';"
            f"COMMENT ON TABLE alembic_version IS 'compatible_with: {compatible_with}'"
        )


async def test_the_migrator_notes_which_code_the_schema_is_compatible_with(migrated):
    known = known_schema("escrow")
    assert await found_in(await migrated("escrow")) == FoundSchema(known.head, known.compatible_with)


@pytest.mark.usefixtures("durable")
async def test_older_code_starts_on_a_newer_schema_that_is_compatible_with_it(urls):
    await make_newer(urls, known_schema("escrow").head)
    database = Database(urls.app_url, urls.worker_url, "escrow", SEALS)
    await boot_check(database, WITH_TEST_CLOCK)
    await database.dispose()


@pytest.mark.usefixtures("durable")
async def test_older_code_refuses_a_newer_schema_that_is_not(urls):
    await make_newer(urls, "9998")
    database = Database(urls.app_url, urls.worker_url, "escrow", SEALS)
    with pytest.raises(BootError, match=r"at 9999, ahead of this code, .* needs code of 9998 or later"):
        await boot_check(database, WITH_TEST_CLOCK)
    await database.dispose()


@pytest.mark.usefixtures("durable")
async def test_code_refuses_a_schema_it_is_ahead_of(postgres):
    empty = postgres.create_database(chassis.fresh_name())
    database = Database(empty.app_url, empty.worker_url, "escrow", SEALS)
    with pytest.raises(BootError, match="the database has no schema yet; run: "):
        await boot_check(database, WITH_TEST_CLOCK)
    await database.dispose()


async def test_an_older_migrator_leaves_a_newer_schema_as_it_is(urls):
    head = known_schema("escrow").head
    await make_newer(urls, head)
    await migrate.upgrade(urls.owner_url, "escrow")
    assert await found_in(urls) == FoundSchema("9999", head)
    await make_newer(urls, "9998")
    with pytest.raises(BootError, match="ahead of this code"):
        await migrate.upgrade(urls.owner_url, "escrow")
