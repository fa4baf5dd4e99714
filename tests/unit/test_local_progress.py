"""What the supervisor tells, and to whom."""

from __future__ import annotations

import io
import os
import subprocess
import sys

from deploy.local.progress import PlainProgress, make_progress, replace_unencodable, tell


def test_a_reader_who_has_gone_stops_nobody() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as out:
        tell(out, "into the void")
        PlainProgress(out).say("once more")


def test_a_program_whose_reader_has_gone_ends_as_it_would_have() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    program = "import sys; from deploy.local.progress import tell; tell(sys.stdout, 'stopped')"
    ended = subprocess.run([sys.executable, "-c", program], stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_what_an_old_encoding_cannot_show_ends_nothing() -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    replace_unencodable(out)
    tell(out, "✓ Grüße")
    assert out.buffer.getvalue() == "? Grüße\n".encode("latin-1")


def test_what_is_no_terminal_gets_lines_without_control_characters() -> None:
    out = io.StringIO()
    with make_progress(out, ["postgres"]) as progress:
        progress.started("postgres")
        progress.done("postgres", "as it should be")
    assert out.getvalue() == "postgres: as it should be (0.0 s)\n"
