"""Where an instance keeps its data: DATA_DIR, by default `.run/` in the project."""

from __future__ import annotations

import os
from pathlib import Path

from deploy.local.programs import ROOT


def default_data_dir() -> Path:
    return resolve_folder(os.environ.get("DATA_DIR") or str(ROOT / ".run"))


def explain_absent(data_dir: Path) -> str:
    """For somebody who asks an instance for something, where none was ever started."""
    return (
        f"There is no instance of yours in {data_dir}: start one with `make run`, "
        "or name the folder of another with DATA_DIR=."
    )


def resolve_folder(named: str) -> Path:
    """The folder that a person named: not every shell expands the ~ in DATA_DIR=~/realco."""
    return Path(named).expanduser().resolve()
