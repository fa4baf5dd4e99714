"""The demo undisturbed: it prints what the README shows, and its instance answers as before after a restart."""

from __future__ import annotations

import io
import random
import re
import tempfile
from pathlib import Path

from demo.__main__ import open_run, perform_story
from demo.narrator import Narrator
from tests.support.read_model import list_differences, read_rest

README = Path(__file__).parents[2] / "README.md"


def find_faults() -> list[str]:
    """What the README does not show as it is printed, and what is otherwise after a second start.

    The reader stays signed in and knows one address: the issuer's key and the ports are the same ones.
    """
    printed = io.StringIO()
    narrator = Narrator(printed)
    with (
        tempfile.TemporaryDirectory(prefix="realco-restart-") as folder,
        open_run(Path(folder), narrator) as run,
    ):
        if not perform_story(run, (), random.randrange(1_000_000), narrator):
            return [f"the demo does not tie out:\n{printed.getvalue()}"]
        before = read_rest(run.auditor)
        run.instance.stop()
        left = [f"still running: {process}" for process in run.instance.list_leftovers()]
        run.instance.start()
        return _find_stale_steps(printed.getvalue()) + left + list_differences(before, read_rest(run.auditor))


def _find_stale_steps(printed: str) -> list[str]:
    """The steps in the README that the demo prints otherwise, but for what is another each time."""
    readme = README.read_text(encoding="utf-8")
    [shown] = (
        block for block in re.findall(r"^```\n(.*?)^```", readme, re.M | re.S) if "a throw-away instance" in block
    )
    steps = [_spell(step) for step in re.split(r"✓|\n\n", shown)]
    return [f"not printed, but in the README: {step}" for step in steps if step not in _spell(printed)]


def _spell(text: str) -> str:
    """On one line, without the port, the hash and the times of a run."""
    of_a_run = r"127\.0\.0\.1:\d+|[0-9a-f]{12}…|\d\d:\d\d UTC|\([\d.]+ s\)|\(\d+ s, \d+ requests repeated\)"
    return " ".join(re.sub(of_a_run, "", text).split())
