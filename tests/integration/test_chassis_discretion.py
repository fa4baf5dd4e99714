"""What goes wrong with people's data is logged without their data, by us and by PostgreSQL."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import asyncpg
import pytest
import sqlalchemy as sa

from deploy.local.postgres import Postgres
from services.chassis.data.database import Database
from services.chassis.process.jobs import Job, run_jobs
from services.chassis.process.telemetry import log
from services.chassis.values.errors import BootError
from tests.support import chassis

SECRET = "sentinel-4711-of-a-person"

STATEMENTS = {
    "a unique violation": (f"INSERT INTO notes VALUES ('org_1', '{SECRET}'), ('org_1', '{SECRET}')", {}),
    "a check violation": (f"UPDATE words SET word = '{SECRET}'", {}),
    "a cast error": ("SELECT CAST(CAST(:word AS text) AS integer)", {"word": SECRET}),
    "a value of another type": ("SELECT CAST(:word AS integer)", {"word": SECRET}),
    "a parameter that cannot be sent": ("SELECT CAST(:word AS text)", {"word": f"{SECRET}\ud800"}),
    "a wall between organizations": (f"INSERT INTO notes VALUES ('org_2', '{SECRET}')", {}),
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with Postgres(tmp_path_factory.mktemp("discreet")) as cluster:
        yield cluster


@pytest.fixture
async def urls(cluster: Postgres) -> SimpleNamespace:
    urls = await chassis.create(cluster)
    async with chassis.as_superuser(urls) as admin:
        await admin.execute(
            "CREATE TABLE words (word text CHECK (length(word) < 5));"
            "INSERT INTO words VALUES ('x');"
            f"GRANT SELECT, UPDATE ON words TO {urls.name.removeprefix('realco_')}_app"
        )
    return urls


@pytest.fixture
def logged(request: pytest.FixtureRequest) -> Callable[[], str]:
    """Everything that was logged in the test, as conftest.py has it configured: like a service."""
    captured = request.config.pluginmanager.getplugin("capturemanager")
    captured.read_global_capture()
    return lambda: "".join(captured.read_global_capture())


async def fail(database: Database, what: str) -> None:
    statement, values = STATEMENTS[what]
    async with database.begin("org_1") as tx:
        await tx.execute(sa.text(statement), values)


@pytest.mark.parametrize("what", STATEMENTS)
async def test_a_job_that_fails_tells_what_failed_and_not_on_which_values(urls, cluster, logged, what):
    stop = asyncio.Event()

    async def run() -> int:
        stop.set()
        await fail(database, what)
        return 0

    async with chassis.opened(urls) as database:
        await run_jobs([Job("failing", run, 60)], stop, asyncio.Event(), {}, chassis.find_no_work)
    text = logged()
    [line] = [json.loads(line) for line in text.splitlines() if "job_failed" in line]
    assert "in fail" in line["exception"]  # where it happened is told
    assert line["error"] in line["exception"]
    assert SECRET not in text
    assert SECRET not in (cluster.data_dir / "logs" / "postgres.log").read_text()


async def test_an_error_of_the_driver_names_the_constraint(urls, logged):
    connection = await asyncpg.connect(urls.admin_url.replace("+asyncpg", ""))
    try:
        await connection.execute(STATEMENTS["a unique violation"][0])
    except asyncpg.UniqueViolationError as error:
        log.error("failed", exc_info=error)
    await connection.close()
    text = logged()
    assert SECRET not in text
    assert "UniqueViolationError sqlstate=23505 table_name=notes constraint_name=notes_pkey" in text


async def test_what_asyncio_says_of_a_task_nobody_waited_for_is_as_discreet(urls, logged):
    async with chassis.opened(urls) as database:
        task = asyncio.create_task(fail(database, "a cast error"))
        await asyncio.wait([task])
        loop = asyncio.get_running_loop()
        loop.call_exception_handler(
            {"message": "Task exception was never retrieved", "exception": task.exception(), "task": task}
        )
    text = logged()
    assert "Task exception was never retrieved" in text
    assert SECRET not in text


async def test_what_our_own_errors_say_is_kept(logged):
    try:
        try:
            raise OSError("no route to host")
        except OSError as cause:
            raise BootError("PostgreSQL is not there") from cause
    except BootError as error:
        log.error("failed", exc_info=error)
    text = logged()
    assert "no route to host" in text
    assert "PostgreSQL is not there" in text


async def test_a_group_of_failures_is_as_discreet(urls, logged):
    async with chassis.opened(urls) as database:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fail(database, "a unique violation"))
        except* Exception as failures:
            log.error("failed", exc_info=failures)
    text = logged()
    assert "sqlstate=23505" in text
    assert SECRET not in text


def test_the_last_resort_is_the_same_everywhere():
    """Whoever renders an exception for a log does it by the one function."""
    root = Path(__file__).parents[2]
    files = [path for folder in ("services", "gateway") for path in (root / folder).rglob("*.py")]
    found = [path.name for path in files if "format_exc" in path.read_text() and path.name != "tracebacks.py"]
    assert found == ["telemetry.py"]
