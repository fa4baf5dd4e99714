"""What a process of ours imports stays as long as the process: it costs each of their starts."""

from __future__ import annotations

import subprocess
import sys

from deploy.local.programs import ROOT


def run(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


def test_whoever_imports_from_the_services_looks_for_garbage_seldom_and_not_at_the_end() -> None:
    # What was registered first is called last.
    tell = "import atexit, gc; atexit.register(lambda: print(gc.get_threshold()[0], gc.get_freeze_count() > 0))"
    assert run(f"{tell}; import services") == "20000 True\n"


def test_who_works_with_a_database_loads_nothing_that_migrations_alone_need() -> None:
    loaded = run("import sys, services.chassis.data.database as _; print(*sys.modules)").split()
    assert {"alembic", "sqlalchemy.orm"} & set(loaded) == set()
