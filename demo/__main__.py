"""Plays the story and judges the books: `python -m demo`; exit status 0 only if everything ties out.

With `--kill escrow` that process is killed (SIGKILL) once, at a random moment that `--seed` repeats; the story must
end the same. `--kill` may be given several times, for one process too.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from demo import cast
from demo.books import at_rest, read_books
from demo.checks import all_checks
from demo.client import Refusal, Unanswered, Unexpected
from demo.killer import Killer, KillMissed
from demo.narrator import Narrator
from demo.stage import EndedOtherwise, Stage
from demo.story import STEPS
from demo.subscriber import Subscriber
from demo.tables import all_tables, verdicts
from demo.waiting import WaitedInVain
from deploy.local.instance import Instance
from deploy.local.programs import CannotStart
from deploy.local.progress import show_what_can_be_shown
from deploy.topology import PROCESS_NAMES

_STUCK = (CannotStart, ConnectionError, EndedOtherwise, KillMissed, Refusal, Unanswered, Unexpected, WaitedInVain)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument(
        "--kill", action="append", choices=PROCESS_NAMES, default=[], help="kill it once at some moment"
    )
    parser.add_argument("--seed", type=int, help="repeats the moments of the kills")
    given = parser.parse_args(arguments)
    seed = random.randrange(1_000_000) if given.seed is None else given.seed  # noqa: S311  # no secret
    show_what_can_be_shown(sys.stdout)
    narrator = Narrator(sys.stdout)
    folder = Path(tempfile.mkdtemp(prefix="realco-demo-"))
    for number in (signal.SIGTERM, signal.SIGHUP):  # as a Ctrl-C: nothing is left running, and no folder either
        signal.signal(number, signal.default_int_handler)
    try:
        passed = perform(folder, given.kill, seed, narrator)
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


def perform(folder: Path, kills: Sequence[str], seed: int, narrator: Narrator) -> bool:
    """The whole play on an instance in that folder. Whether everything ties out."""
    began = time.monotonic()
    instance = Instance(folder)
    instance.set_clock(cast.OPENING)
    with narrator.step("a throw-away instance starts") as outcome:
        instance.start()
        outcome.words = f"gateway on {instance.base_url}"
    killer = Killer(instance, kills, len(STEPS), seed, narrator.say)
    if kills:
        narrator.say(f"  kills: {', '.join(kills)}; seed {seed}")
    stage, subscriber = Stage(instance), Subscriber(instance.nats_url())
    try:
        subscriber.start()
        play(stage, killer, narrator)
        killer.finish()
        at_rest(stage)
        books = read_books(stage, subscriber)
    finally:
        subscriber.stop()
        stage.close()
        instance.stop()
    checks = all_checks(books)
    for table in [*all_tables(books), verdicts(checks)]:
        narrator.show(table)
    failed = [check for check in checks if not check.passed]
    seconds = f"{time.monotonic() - began:.0f} s, {stage.repeats} requests repeated"
    if failed:
        narrator.say(
            f"\n{len(failed)} checks failed: {'; '.join(check.sentence for check in failed)} ({seconds})", "red"
        )
    else:
        narrator.say(f"\neverything ties out ({seconds})", "bold green")
    return not failed


def play(stage: Stage, killer: Killer, narrator: Narrator) -> None:
    for number, step in enumerate(STEPS):
        killer.step_begins(number, step.title)
        with narrator.step(step.title) as outcome:
            outcome.words = step.play(stage)
            outcome.day = stage.today


if __name__ == "__main__":
    sys.exit(main())
