"""Plays the story and judges the books: `python -m demo`; exit status 0 only if everything ties out.

With `--kill escrow` that process is killed (SIGKILL) once, at a random moment that `--seed` repeats; the story must
end the same. `--kill` may be given several times, also for the same process.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from demo import cast
from demo.books import read_books, wait_until_settled
from demo.checks import run_checks
from demo.harness import HarnessError
from demo.killer import Killer, KillMissed
from demo.narrator import Narrator
from demo.run import DemoRun
from demo.story import STEPS
from demo.subscriber import Subscriber
from demo.tables import build_tables, build_verdicts
from deploy.local.instance import Instance
from deploy.local.programs import CannotStart
from deploy.local.progress import replace_unencodable
from deploy.topology import PROCESS_NAMES

_STUCK = (CannotStart, ConnectionError, HarnessError, KillMissed)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument(
        "--kill", action="append", choices=PROCESS_NAMES, default=[], help="kill it once at a random moment"
    )
    parser.add_argument("--seed", type=int, help="repeats the moments of the kills")
    given = parser.parse_args(arguments)
    seed = random.randrange(1_000_000) if given.seed is None else given.seed  # noqa: S311  # no secret
    replace_unencodable(sys.stdout)
    narrator = Narrator(sys.stdout)
    folder = Path(tempfile.mkdtemp(prefix="realco-demo-"))
    for number in (signal.SIGTERM, signal.SIGHUP):  # like Ctrl-C: no process and no folder is left behind
        signal.signal(number, signal.default_int_handler)
    try:
        with open_run(folder, narrator) as run:
            passed = perform_story(run, given.kill, seed, narrator)
    except KeyboardInterrupt:
        shutil.rmtree(folder, ignore_errors=True)
        return 130
    except _STUCK as error:
        narrator.say(f"\n{error}", "bold red")
        passed = False
    if not passed:
        repeat = "".join(f" --kill {process}" for process in given.kill) + (f" --seed {seed}" if given.kill else "")
        narrator.say(f"The logs are kept in {folder}/logs. To repeat it: python -m demo{repeat}")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


@contextmanager
def open_run(folder: Path, narrator: Narrator) -> Iterator[DemoRun]:
    """An instance in that folder, which begins when the story does, and the story about to be played on it."""
    instance = Instance(folder)
    instance.set_clock(cast.OPENING)
    with narrator.tell_step("a throw-away instance starts") as outcome:
        instance.start()
        outcome.text = f"gateway on {instance.base_url}"
    run = DemoRun(instance)
    try:
        yield run
    finally:
        run.close()
        instance.stop()


def perform_story(run: DemoRun, kills: Sequence[str], seed: int, narrator: Narrator) -> bool:
    """Plays the whole story. Returns: whether everything ties out."""
    killer = Killer(run.instance, kills, len(STEPS), seed, narrator.say)
    if kills:
        narrator.say(f"  kills: {', '.join(kills)}; seed {seed}")
    subscriber = Subscriber(run.instance.nats_url())
    try:
        subscriber.start()
        play_steps(run, killer, narrator)
        killer.finish()
        wait_until_settled(run)
        books = read_books(run, subscriber)
    finally:
        subscriber.stop()
    checks = run_checks(books)
    for table in [*build_tables(books), build_verdicts(checks)]:
        narrator.show(table)
    failed = [check for check in checks if not check.passed]
    seconds = f"{narrator.seconds:.0f} s, {run.repeats} requests repeated"
    if failed:
        narrator.say(
            f"\n{len(failed)} checks failed: {'; '.join(check.sentence for check in failed)} ({seconds})", "red"
        )
    else:
        narrator.say(f"\neverything ties out ({seconds})", "bold green")
    return not failed


def play_steps(run: DemoRun, killer: Killer, narrator: Narrator) -> None:
    for number, step in enumerate(STEPS):
        killer.begin_step(number, step.title)
        with narrator.tell_step(step.title) as outcome:
            outcome.text = step.play(run)
            outcome.day = run.today


if __name__ == "__main__":
    sys.exit(main())
