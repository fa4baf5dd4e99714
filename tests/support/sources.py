"""The code as syntax trees, for tests of how it is written: a file is parsed once, however many ask for it."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path


@cache
def parse(path: Path) -> ast.Module:
    """Whoever reads the tree leaves it as it is."""
    return ast.parse(path.read_text(encoding="utf-8"))
