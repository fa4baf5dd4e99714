"""`make demo`: the main job from end to end, with nobody disturbing it."""

from __future__ import annotations

import pytest

from tests.support.demo import run_demo

pytestmark = pytest.mark.xdist_group("instance")


def test_the_demo_ties_out() -> None:
    done = run_demo()
    assert done.returncode == 0, done.stdout
    assert "everything ties out" in done.stdout
    for told in (
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
    ):
        assert told in done.stdout, f"{told} is not told in:\n{done.stdout}"
