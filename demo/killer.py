"""Kills processes of the instance with SIGKILL at random moments of the story: for `--kill`.

- The moment is a step of the story and a delay after the step began; both follow from the seed alone.
- A kill that cannot happen yet (the process is still down from an earlier kill) is tried again until it can; `finish`
  reports one that never happened.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil

from deploy.local.instance import Instance

_DELAY_SECONDS_MAX = 1.5
_UP_SECONDS_MAX = 30.0
_BACK_SECONDS_MAX = 60.0


@dataclass(frozen=True)
class Kill:
    """A kill that was planned."""

    process: str
    step: int
    delay_seconds: float
    with_children: bool  # of PostgreSQL: its backends at the same moment, too


class Killer:
    """Asked at the beginning of each step."""

    def __init__(
        self, instance: Instance, processes: Sequence[str], steps: int, seed: int, say: Callable[[str], None]
    ) -> None:
        self._instance = instance
        self._say = say
        dice = random.Random(seed)  # noqa: S311  # repeatable on purpose
        # Not in the last step: it might be over before the delay is.
        self.plan = [
            Kill(process, dice.randrange(steps - 1), dice.uniform(0, _DELAY_SECONDS_MAX), dice.random() < 0.5)
            for process in processes
        ]
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._killed: list[tuple[str, int]] = []
        self._failures: list[str] = []

    def begin_step(self, step: int, title: str) -> None:
        for kill in self.plan:
            if kill.step == step:
                thread = threading.Thread(target=self._carry_out, args=(kill, title), daemon=True)
                thread.start()
                self._threads.append(thread)

    def finish(self) -> None:
        """Waits until every kill has happened and everybody is back. Raises: KillMissed."""
        for thread in self._threads:
            thread.join()
        for process, pid in dict(self._killed).items():
            try:
                self._instance.wait_until_back(process, pid, _BACK_SECONDS_MAX)
            except TimeoutError as error:
                self._failures.append(str(error))
        missed = Counter(kill.process for kill in self.plan) - Counter(process for process, _ in self._killed)
        if missed or self._failures:
            raise KillMissed("; ".join([*self._failures, *(f"{process} was not killed" for process in missed)]))

    def _carry_out(self, kill: Kill, title: str) -> None:
        time.sleep(kill.delay_seconds)
        deadline = time.monotonic() + _UP_SECONDS_MAX
        while True:
            try:
                pid = self._kill(kill)
                break
            except (ProcessLookupError, psutil.NoSuchProcess) as error:
                if time.monotonic() > deadline:
                    self._failures.append(f"{kill.process} could not be killed: {error}")
                    return
                time.sleep(0.05)
        children = " and its backends" if kill.process == "postgres" and kill.with_children else ""
        self._say(f"  kill -9: {kill.process}{children} (process {pid}), {kill.delay_seconds:.2f} s into “{title}”")

    def _kill(self, kill: Kill) -> int:
        """The number it had. Raises: ProcessLookupError while it is down, or is still the one killed before."""
        whole = kill.process == "postgres" and kill.with_children
        with self._lock:
            if (kill.process, self._instance.read_pid(kill.process)) in self._killed:
                raise ProcessLookupError(f"{kill.process} was just killed")
            pid = self._instance.kill(kill.process, with_children=whole)
            self._killed.append((kill.process, pid))
            return pid


class KillMissed(Exception):
    """A kill did not happen, or the process did not come back: the run proved less than it was asked to."""
