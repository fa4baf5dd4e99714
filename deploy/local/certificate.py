"""Issues a certificate for a process of your own and prints its folder: `python -m deploy.local.certificate NAME`."""

from __future__ import annotations

import argparse
import os
import re
import sys

from deploy.local.identity import Identity
from deploy.local.places import default_data_dir, explain_absent, resolve_folder

# As grants name a service; it becomes a part of a DNS name.
_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.local.certificate", description=__doc__)
    parser.add_argument("name", help="whose it is, such as reporting")
    parser.add_argument("--data-dir", type=resolve_folder, default=default_data_dir(), help="default: %(default)s")
    given = parser.parse_args(arguments)
    if not _NAME.fullmatch(given.name):
        parser.error(f"a name is lower-case letters, digits and hyphens, not {given.name!r}")
    identity = Identity(given.data_dir)
    if not os.access(identity.ca_file, os.R_OK):
        print(explain_absent(given.data_dir), file=sys.stderr)
        return 1
    print(identity.write_certificate(given.name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
