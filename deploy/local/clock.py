"""The only writer of the test clock: moves the business time of a local instance, and of nothing else.

- The file says how far business time is from system time; every process of the instance reads it, none writes it.
- It is replaced in one step: nobody reads half of it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from math import ceil
from pathlib import Path

from deploy.local.identity import Identity
from deploy.local.places import default_data_dir, explain_absent, resolve_folder
from deploy.secrets import write_private


def clock_file(data_dir: Path) -> Path:
    return Path(data_dir).resolve() / "clock.json"


def business_time(data_dir: Path) -> datetime:
    file = clock_file(data_dir)
    offset_seconds = json.loads(file.read_text())["offset_seconds"] if file.exists() else 0
    return datetime.now(UTC) + timedelta(seconds=offset_seconds)


def set_clock(data_dir: Path, moment: datetime) -> None:
    """From now on business time runs from that moment. Raises: ValueError without a time zone."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} names no time zone: end it with Z for UTC")
    offset_seconds = ceil((moment - datetime.now(UTC)).total_seconds())  # rounded up: never before the moment
    write_private(clock_file(data_dir), json.dumps({"offset_seconds": offset_seconds}))


def reset_clock(data_dir: Path) -> None:
    """Business time is system time again."""
    clock_file(data_dir).unlink(missing_ok=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.local.clock", description=__doc__)
    parser.add_argument("--data-dir", type=resolve_folder, default=default_data_dir(), help="default: %(default)s")
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("show", help="print the business time")
    actions.add_parser("set", help="move it").add_argument("moment", help="such as 2025-01-01T15:00:00Z")
    actions.add_parser("reset", help="back to the system's time")
    given = parser.parse_args(arguments)
    if not os.access(Identity(given.data_dir).jwks_file, os.R_OK):
        print(explain_absent(given.data_dir), file=sys.stderr)
        return 1
    if given.action == "set":
        try:
            set_clock(given.data_dir, datetime.fromisoformat(given.moment))
        except ValueError as error:
            parser.error(str(error))
    elif given.action == "reset":
        reset_clock(given.data_dir)
    print(business_time(given.data_dir).isoformat(timespec="seconds").replace("+00:00", "Z"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
