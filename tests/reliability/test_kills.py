"""kill -9 of each kind of process at some moment of the demo: it ends the same, with the same books.

Several kinds are killed in one run, each once; a kill that did not happen fails the run. `make chaos` kills at many
more moments.
"""

from __future__ import annotations

from itertools import chain

import pytest

from deploy.local.instance import PROCESSES
from tests.support.demo import run_demo

pytestmark = pytest.mark.xdist_group("instance")

TOGETHER = (
    ("postgres", "gateway", "compliance"),
    ("nats", "transactions", "bank"),
    ("escrow", "distributions"),
)


def test_every_kind_of_process_is_killed() -> None:
    assert sorted(chain(*TOGETHER)) == sorted(PROCESSES)


@pytest.mark.parametrize("processes", TOGETHER, ids="+".join)
def test_the_demo_outlives_the_sudden_death_of(processes: tuple[str, ...]) -> None:
    done = run_demo(*chain(*(("--kill", process) for process in processes)))
    assert done.returncode == 0, done.stdout
    assert "everything ties out" in done.stdout
    for process in processes:
        assert f"kill -9: {process} " in done.stdout, done.stdout
