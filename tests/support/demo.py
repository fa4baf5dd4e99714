"""Runs `python -m demo` as people do: in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECONDS_MAX = 280.0


def run_demo(*arguments: str, seconds: float = SECONDS_MAX) -> subprocess.CompletedProcess[str]:
    """Its exit status and its whole output."""
    command = [sys.executable, "-m", "demo", *arguments]
    try:
        return subprocess.run(
            command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds
        )
    except subprocess.TimeoutExpired as expired:
        output = expired.stdout.decode() if isinstance(expired.stdout, bytes) else str(expired.stdout)
        return subprocess.CompletedProcess(command, 124, f"{output}\nkilled after {seconds:g} s")
