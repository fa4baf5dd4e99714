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
        ("ALTER TABLE notes ADD COLUMN extra text", ["column notes.extra text is not in tables.py"]),
        ("ALTER TABLE notes DROP COLUMN size", ["column notes.size", "notes_size of notes"]),
        ("ALTER TABLE notes ALTER COLUMN size TYPE bigint", ["notes.size bigint", "notes.size integer"]),
        ("ALTER TABLE notes ALTER COLUMN body DROP NOT NULL", ["notes.body text DEFAULT", "notes.body text NOT NULL"]),
        ("ALTER TABLE notes ALTER COLUMN body SET DEFAULT 'x'", ["DEFAULT 'new'::text is not in the", "DEFAULT 'x'"]),
        ("ALTER TABLE notes SET (fillfactor = 50)", ["table notes fillfactor=50", "table notes is"]),
        (
            "ALTER TABLE notes DROP CONSTRAINT notes_size, ADD CONSTRAINT notes_size CHECK (size >= -1)",
            ["notes CHECK ((size >= '-1'::integer)) is not in tables.py", "notes CHECK ((size >= 0)) is not in the"],
        ),
        ("ALTER TABLE notes ADD CONSTRAINT more UNIQUE (size)", ["constraint more of notes UNIQUE (size) is not in"]),
        (
            "DROP INDEX outbox_unpublished; CREATE INDEX outbox_unpublished ON outbox (id) WHERE proof IS NULL",
            ["(published_at IS NULL) is not in the database", "(proof IS NULL) is not in tables.py"],
        ),
        ("CREATE TABLE stray (id int)", ["column stray.id", "table stray"]),
        (
            "DROP TABLE facts",
            [
                "table facts",
                "column facts.org_id",
                "column facts.fact_id",
                "constraint facts_pkey of facts PRIMARY KEY",
            ],
        ),
    ],
)
async def test_every_difference_between_code_and_database_is_named(urls, change, found):
    if change is not None:
        async with chassis.as_superuser(urls) as admin:
            await admin.execute(change)
    engine = create_async_engine(urls.owner_url)
    async with engine.connect() as connection:
        differences = await connection.run_sync(migrate.differences, chassis.metadata)
    await engine.dispose()
    assert len(differences) == len(found), differences
    for part in found:
        assert [difference for difference in differences if part in difference], (part, differences)


async def test_a_partition_is_part_of_its_table(urls):
    async with chassis.as_superuser(urls) as admin:
        await admin.execute(
            "DROP TABLE facts;"
            "CREATE TABLE facts (org_id text NOT NULL, fact_id text NOT NULL, PRIMARY KEY (org_id, fact_id))"
            " PARTITION BY LIST (org_id);"
            "CREATE TABLE facts_1 PARTITION OF facts FOR VALUES IN ('org_1')"
        )
    engine = create_async_engine(urls.owner_url)
    async with engine.connect() as connection:
        assert await connection.run_sync(migrate.differences, chassis.metadata) == []
    await engine.dispose()
