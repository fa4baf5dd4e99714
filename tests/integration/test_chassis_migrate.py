"""The database is what tables.py says, or the difference is named."""

from __future__ import annotations

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from services.chassis.data import migrate
from tests.support import chassis


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (None, []),
        ("ALTER TABLE notes ADD COLUMN extra text", ["remove_column"]),
        ("ALTER TABLE notes DROP COLUMN size", ["add_column", "CHECK notes_size"]),
        ("ALTER TABLE notes ALTER COLUMN size TYPE bigint", ["modify_type"]),
        ("ALTER TABLE notes ALTER COLUMN body DROP NOT NULL", ["modify_nullable"]),
        ("ALTER TABLE notes ALTER COLUMN body SET DEFAULT 'other'", ["default of notes.body"]),
        ("ALTER TABLE notes DROP CONSTRAINT notes_size", ["CHECK notes_size of notes is not in the database"]),
        ("ALTER TABLE notes ADD CONSTRAINT more CHECK (size < 9)", ["CHECK more of notes is not in tables.py"]),
        ("DROP INDEX outbox_unpublished", ["add_index"]),
        ("CREATE TABLE stray (id int)", ["remove_table"]),
        ("DROP TABLE facts", ["add_table"]),
    ],
)
async def test_every_difference_between_code_and_database_is_named(postgres, change, found):
    urls = await chassis.create(postgres)
    if change is not None:
        async with chassis.as_superuser(urls) as admin:
            await admin.execute(change)
    engine = create_async_engine(urls.owner_url)
    async with engine.connect() as connection:
        differences = await connection.run_sync(migrate.differences, chassis.metadata)
    await engine.dispose()
    assert len(differences) == len(found), differences
    for difference, part in zip(sorted(differences), sorted(found), strict=True):
        assert part in difference


async def test_a_partition_is_part_of_its_table(postgres):
    urls = await chassis.create(postgres)
    async with chassis.as_superuser(urls) as admin:
        await admin.execute(
            "ALTER TABLE facts RENAME TO old_facts;"
            "CREATE TABLE facts (org_id text NOT NULL, fact_id text NOT NULL, PRIMARY KEY (org_id, fact_id))"
            " PARTITION BY LIST (org_id);"
            "CREATE TABLE facts_1 PARTITION OF facts FOR VALUES IN ('org_1'); DROP TABLE old_facts"
        )
    engine = create_async_engine(urls.owner_url)
    async with engine.connect() as connection:
        assert await connection.run_sync(migrate.differences, chassis.metadata) == []
    await engine.dispose()
