"""When the demo kills is drawn from a seed, and a kill that did not happen is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.killer import Killer, KillMissed
from deploy.local.instance import Instance
from deploy.topology import PROCESS_NAMES

STEPS = 24


def killer(folder: Path, seed: int) -> Killer:
    return Killer(Instance(folder), PROCESS_NAMES, STEPS, seed, print)


def test_the_same_seed_kills_at_the_same_moments(tmp_path: Path) -> None:
    assert killer(tmp_path, 7).plan == killer(tmp_path, 7).plan
    assert killer(tmp_path, 7).plan != killer(tmp_path, 8).plan


def test_kills_are_spread_over_the_story_and_none_comes_too_late(tmp_path: Path) -> None:
    steps = {kill.step for seed in range(100) for kill in killer(tmp_path, seed).plan}
    assert steps == set(range(STEPS - 1))


def test_a_kill_that_did_not_happen_is_told(tmp_path: Path) -> None:
    with pytest.raises(KillMissed, match="escrow was not killed"):
        killer(tmp_path, 1).finish()
