"""Where an instance keeps its things: DATA_DIR, by default `.run/` in the project."""

from __future__ import annotations

import os
from pathlib import Path

from deploy.local.programs import ROOT


def default_data_dir() -> Path:
    return Path(os.environ.get("DATA_DIR") or ROOT / ".run").resolve()
