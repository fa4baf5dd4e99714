"""Prints a bearer token for the local instance, and nothing else: `python -m deploy.local.token --role admin`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from deploy.local.identity import LIFETIME_SECONDS, ORGANIZATION, SUBJECTS, Identity
from deploy.local.places import default_data_dir


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.local.token", description=__doc__)
    parser.add_argument("--role", choices=sorted(SUBJECTS), default="admin")
    parser.add_argument("--sub", default="", help="who it is; by default the demo's person of that role")
    parser.add_argument("--org", default=ORGANIZATION, help="the organization (default: %(default)s)")
    parser.add_argument("--lifetime", type=int, default=LIFETIME_SECONDS, help="seconds (default: %(default)s)")
    parser.add_argument("--data-dir", type=Path, default=default_data_dir(), help="the instance (default: %(default)s)")
    given = parser.parse_args(arguments)
    identity = Identity(given.data_dir)
    if not identity.jwks_file.exists():
        print(f"There is no instance in {given.data_dir} yet: start one with `make run`.", file=sys.stderr)
        return 1
    print(identity.issue_token(given.role, given.sub or None, given.org or ORGANIZATION, given.lifetime))
    return 0


if __name__ == "__main__":
    sys.exit(main())
