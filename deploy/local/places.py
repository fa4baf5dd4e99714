"""Where an instance keeps its things: DATA_DIR, by default `.run/` in the project."""

from __future__ import annotations

import os
from pathlib import Path

from deploy.local.programs import ROOT


def default_data_dir() -> Path:
    return folder(os.environ.get("DATA_DIR") or str(ROOT / ".run"))


def folder(named: str) -> Path:
    """A folder as people name it: not every shell replaces the ~ of DATA_DIR=~/realco."""
    return Path(named).expanduser().resolve()
