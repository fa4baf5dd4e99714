"""Each service's migrations make exactly what its tables.py and rights.py state, on a throw-away PostgreSQL.

Its functions and triggers are what the migrations say: a database that has others is found by the same check.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from deploy.local.postgres import Postgres
from deploy.local.processes import migration_command
from deploy.topology import SERVICE_NAMES

ROOT = Path(__file__).parents[2]


def main() -> int:
    failed = 0
    with tempfile.TemporaryDirectory(prefix="realco-drift-") as folder, Postgres(Path(folder)) as cluster:
        for service in SERVICE_NAMES:
            environment = os.environ | {"MIGRATION_DATABASE_URL": cluster.create_database(service).owner_url}
            for options in ([], ["--check"]):
                command = [*migration_command(service), *options]
                failed |= subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    if not failed:
        print("migrations: they make what tables.py and rights.py state, in all services")
    return failed


if __name__ == "__main__":
    sys.exit(main())
