"""An instance that was told to stop starts again on its data, and answers as before."""

from __future__ import annotations

import io
import random
import tempfile
from pathlib import Path

from demo.__main__ import open_run, perform_story
from demo.narrator import Narrator
from tests.support.read_model import list_differences, read_rest


def find_faults() -> list[str]:
    """What is otherwise after a second start, once the demo was played on the first.

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
        return left + list_differences(before, read_rest(run.auditor))
