"""No number of a bank account stands anywhere in clear, whatever the stories of the files before did with it.

They paid in, had it come back, presented it again, paid out to it, refused and retired it, and wrote it into bulk
files; this one has a payment in and one that will come back of its own, and then looks everywhere.
"""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import asyncpg

from demo.harness.bank import LATE_R10, ROUTING_NUMBER
from deploy.local.instance import Instance
from tests.e2e.organization import ACCOUNT_NUMBERS, Organization


def _list_files_with(numbers: set[str], folder: Path) -> set[Path]:
    """Those that have one of them, as it is or as base64 of a value of its own."""
    looked_for = [*numbers, *(base64.b64encode(number.encode()).decode() for number in numbers)]
    search = ["grep", "-rlF", "-f", "-", str(folder)]  # gigabytes, for all of them in one pass
    found = subprocess.run(search, input="\n".join(looked_for), capture_output=True, text=True, check=False)
    assert not found.stderr, "each file was read"
    return {Path(line) for line in found.stdout.splitlines()}


async def test_no_account_number_stands_in_tables_logs_of_changes_streams_or_logs(
    org: Organization, instance: Instance
) -> None:
    offering = org.make_closed_offering(500_00)
    org.fund_investment(org.open_offering(100_00), org.add_cleared_party(), 100_00, LATE_R10)
    connection = await asyncpg.connect(instance.database_url("transactions"))
    try:
        await connection.execute("CHECKPOINT")  # what is only in memory so far is in the files
    finally:
        await connection.close()
    assert offering["status"] == "CLOSED"
    assert len(ACCOUNT_NUMBERS) >= 2
    assert _list_files_with({ROUTING_NUMBER}, instance.data_dir / "postgres"), "what stands there is found"
    assert _list_files_with(ACCOUNT_NUMBERS, instance.data_dir) == set()
