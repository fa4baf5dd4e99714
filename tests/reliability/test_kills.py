"""`make demo`, the main job from end to end, with kill -9 of each kind of process at some moment of it: it ends the
same, with the same books.

All are killed in one run, each once; a kill that did not happen fails the run. `make chaos` kills at many more moments.
"""

from __future__ import annotations

from itertools import chain

from deploy.topology import PROCESS_NAMES
from tests.support.demo import run_demo

PRINTED = (
    "TRANSACTION_LIMIT_EXCEEDED",
    "CLOSING_GATES_NOT_MET",
    "MAKER_IS_CHECKER",
    "R01",
    "R03",
    "inv-001 121,000.00, inv-002 67,222.21, inv-003 53,777.79, sponsor-oak 18,000.00",
    "Trial balance",
    "Escrow ledger",
    "Waterfall by tier",
    "Payouts",
    "Events seen by the NATS subscriber",
    "everything ties out",
)


def test_the_demo_outlives_the_sudden_death_of_each_kind_of_process() -> None:
    done = run_demo(*chain(*(("--kill", process) for process in PROCESS_NAMES)))
    assert done.returncode == 0, done.stdout
    for line in (*PRINTED, *(f"kill -9: {process} " for process in PROCESS_NAMES)):
        assert line in done.stdout, f"{line} is not in:\n{done.stdout}"
