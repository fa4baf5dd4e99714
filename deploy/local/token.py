"""Prints a bearer token for the local instance, and nothing else: `python -m deploy.local.token --role admin`."""

from __future__ import annotations

import argparse
import os
import sys

from deploy.local.identity import LIFETIME_SECONDS, ORGANIZATION, SUBJECTS, Identity
from deploy.local.places import default_data_dir, explain_absent, resolve_folder


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.local.token", description=__doc__)
    parser.add_argument("--role", choices=sorted(SUBJECTS), default="admin")
    parser.add_argument("--sub", default="", help="who it is; by default the demo's person of that role")
    parser.add_argument("--person", default="", help="whose account it is; by default nobody else has it")
    parser.add_argument("--org", default=ORGANIZATION, help="the organization (default: %(default)s)")
    parser.add_argument("--lifetime", type=int, default=LIFETIME_SECONDS, help="seconds (default: %(default)s)")
    parser.add_argument("--data-dir", type=resolve_folder, default=default_data_dir(), help="default: %(default)s")
    given = parser.parse_args(arguments)
    identity = Identity(given.data_dir)
    if not os.access(identity.jwks_file, os.R_OK):
        print(explain_absent(given.data_dir), file=sys.stderr)
        return 1
    org, person = given.org or ORGANIZATION, given.person or None
    print(identity.issue_token(given.role, given.sub or None, org, given.lifetime, person=person))
    return 0


if __name__ == "__main__":
    sys.exit(main())
