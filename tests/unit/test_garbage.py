"""What a process of ours imports stays as long as the process: it is not looked through for garbage."""

from __future__ import annotations

import subprocess
import sys

from deploy.local.programs import ROOT


def test_whoever_imports_from_the_services_looks_for_garbage_seldom_and_not_at_the_end() -> None:
    # What was registered first is called last.
    tell = "import atexit, gc; atexit.register(lambda: print(gc.get_threshold()[0], gc.get_freeze_count() > 0))"
    script = f"{tell}; import services"
    told = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout == "20000 True\n"
