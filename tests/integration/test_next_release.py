"""A later release changes the tables: it is played here, by a copy of the code with one more column and migration."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import sqlalchemy as sa

from deploy.local.processes import migration_command
from services.chassis.calls.auth import acting_as
from services.chassis.data.database import Database
from services.chassis.data.reach import is_mine
from services.chassis.data.seals import check_rows, seal_of, sealed
from services.compliance.tables import transaction_limits
from tests.support import chassis

ROOT = Path(__file__).parents[2]
STEP = """

def add_hint(op: Op) -> None:
    op.add_column("approvals", sa.Column("hint", sa.Text()))
"""
MIGRATION = """
from alembic import op

from services.chassis.data.migrations import close
from services.chassis.data.steps import add_hint
from services.compliance.rights import RIGHTS

revision = "0002"
down_revision = "0001"
compatible_with = "0001"


def upgrade() -> None:
    add_hint(op)
    close(op, "compliance", RIGHTS)
"""


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of the next release."""
    folder = tmp_path_factory.mktemp("release")
    shutil.copytree(ROOT / "services", folder / "services", ignore=shutil.ignore_patterns("__pycache__"))
    data = folder / "services/chassis/data"
    note = '    sa.Column("note", sa.Text),\n'
    stated = (data / "tables.py").read_text()
    assert stated.count(note) == 1
    (data / "tables.py").write_text(stated.replace(note, note + '    sa.Column("hint", sa.Text),\n'))
    (data / "steps.py").write_text((data / "steps.py").read_text() + STEP)
    (folder / "services/compliance/migrations/versions/0002_hint.py").write_text(MIGRATION)
    return folder


def run(release: Path, command: list[str], owner_url: str) -> str:
    environment = os.environ | {"MIGRATION_DATABASE_URL": owner_url}
    done = subprocess.run(command, cwd=release, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("before", ["a new database", "a database of the release before"])
async def test_a_column_of_the_chassis_reaches_new_databases_and_old_ones(release, postgres, service_urls, before):
    new = before == "a new database"
    urls = postgres.create_database(chassis.fresh_name()) if new else await service_urls("compliance")
    command = migration_command("compliance")
    run(release, command, urls.owner_url)
    assert run(release, [*command, "--check"], urls.owner_url) == ""


# The table of the next release: nothing that is in it can be sealed again.
NEXT_LIMITS = transaction_limits.to_metadata(sa.MetaData())
NEXT_LIMITS.append_column(sa.Column("note", sa.Text))
NEXT_LIMITS.info = sealed(*transaction_limits.info["sealed"][0], later=[("note",)])


async def write_limit(database: Database, table: sa.Table, day: int, **more: object) -> None:
    values = {
        "org_id": "org_1",
        "limit_type": "DAILY_DEPOSIT",
        "currency": "USD",
        "set_at": chassis.NOW.replace(day=day),
        "amount_minor": 5,
        "set_by": "ann",
        **more,
    }
    async with database.begin("org_1") as tx:
        await tx.execute(sa.insert(table).values(**values, seal=seal_of(tx, table, values)))


async def read_days(database: Database, table: sa.Table) -> list[int]:
    query = sa.select(table).where(is_mine(table))
    with acting_as(chassis.ADMIN):
        async with database.begin() as tx:
            return sorted(row.set_at.day for row in check_rows(tx, table, await tx.execute(query)))


async def test_two_releases_read_the_rows_of_each_other_while_nothing_is_in_the_column_that_one_adds(service_urls):
    urls = await service_urls("compliance")
    async with chassis.opened(urls) as database, chassis.as_superuser(urls) as admin:
        await write_limit(database, transaction_limits, 1)
        await admin.execute("ALTER TABLE transaction_limits ADD COLUMN note text")
        await write_limit(database, transaction_limits, 2)
        await write_limit(database, NEXT_LIMITS, 3, note=None)
        assert await read_days(database, NEXT_LIMITS) == await read_days(database, transaction_limits) == [1, 2, 3]
        await write_limit(database, NEXT_LIMITS, 4, note="a release later")
        assert await read_days(database, NEXT_LIMITS) == [1, 2, 3, 4]
