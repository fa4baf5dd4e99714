"""A later release changes the tables: it is played here, by a copy of the code with one more column and migration."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.local.processes import migration_command
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
