"""The long reliability run behind `make chaos`: demo after demo, each losing random processes at random moments; one
undisturbed, after which the instance is stopped and started again; and thousands of payments at once (creations.py).

- Everything random follows from `--seed`; the first demo that does not tie out ends the run with status 1 and the
  command that repeats it.
- A run counts a kill only if it happened.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from deploy.topology import PROCESS_NAMES
from tests.reliability.creations import run_creations, show_creations
from tests.reliability.restart import find_faults
from tests.support.demo import run_demo

_KILLS_MAX = 3


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="how long at least (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="repeats the run")
    parser.add_argument("--creations", type=int, default=10_000, help="payments at once (default: %(default)s)")
    given = parser.parse_args(arguments)
    seed = random.randrange(1_000_000) if given.seed is None else given.seed
    print(f"seed {seed}", flush=True)
    kills: Counter[str] = Counter()
    survived: Counter[str] = Counter()
    failed = ""
    for number, (processes, run_seed) in enumerate(_runs(seed, given.minutes), start=1):
        began = time.monotonic()
        options = [*(f"--kill={process}" for process in processes), f"--seed={run_seed}"]
        done = run_demo(*options)
        kills.update({process: done.stdout.count(f"kill -9: {process} ") for process in processes})
        words = "ties out" if done.returncode == 0 else f"FAILED ({done.returncode})"
        print(f"{number:4}  {' '.join(options)}: {words} ({time.monotonic() - began:.0f} s)", flush=True)
        if done.returncode != 0:
            failed = f"{done.stdout}\nTo repeat it: python -m demo {' '.join(options)}"
            break
        survived.update(processes)
    _show(kills, survived)
    if not failed and (faults := find_faults()):
        failed = "\n".join(["After a stop and a start:", *faults])
    print(failed or "An instance that is stopped and started again answers as before.", flush=True)
    if not failed and given.creations:
        found = run_creations(given.creations, seed)
        show_creations(found)
        failed = "\n".join(found.faults)
        print(failed or "Each payment was ordered and made once, and all say the same to the cent.")
    return 1 if failed else 0


def _runs(seed: int, minutes: float) -> Iterator[tuple[list[str], int]]:
    """What to kill and with which seed, run after run until the time is over; every kind has its turn."""
    dice = random.Random(seed)
    deadline = time.monotonic() + minutes * 60
    turns: list[str] = []
    while time.monotonic() < deadline:
        if len(turns) < _KILLS_MAX:
            turns += [process for process in dice.sample(PROCESS_NAMES, len(PROCESS_NAMES)) if process not in turns]
        number = dice.randint(1, _KILLS_MAX)
        processes, turns = turns[:number], turns[number:]
        yield processes, dice.randrange(1_000_000)


def _show(kills: Counter[str], survived: Counter[str]) -> None:
    table = Table(title="Chaos")
    table.add_column("process")
    table.add_column("kills", justify="right")
    table.add_column("runs that tied out", justify="right")
    for process in PROCESS_NAMES:
        table.add_row(process, str(kills[process]), str(survived[process]))
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
