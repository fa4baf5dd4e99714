"""A provider's name stands in the table of rails and in the provider's own package, and nowhere else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import services.transactions
from services.transactions.domain.rails import PROVIDERS, RAILS
from services.transactions.tables import metadata
from tests.support.sources import parse

ROOT = Path(services.transactions.__path__[0])
NAMES = re.compile(rf"\b({'|'.join(PROVIDERS)})\b", re.IGNORECASE)


def texts_of(tree: ast.AST) -> Iterator[str]:
    """Every string of a module but its docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, documented)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in docstrings:
            yield node.value


def test_no_text_names_a_provider_outside_of_its_package_and_the_table():
    allowed = {ROOT / "domain" / "rails.py", *(ROOT / "providers").glob("*/*.py")}
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        if path not in allowed:
            texts = texts_of(parse(path))
            found += [f"{path.relative_to(ROOT)}: {text}" for text in texts if NAMES.search(text)]
    assert found == []


def test_what_runs_the_service_knows_no_provider_of_others():
    """The sandbox is ours: whoever starts it says where it is. `manual` is a word of English; a table has its name."""
    tables = re.compile("|".join(sorted(metadata.tables, key=len, reverse=True)))
    others = re.compile(rf"({'|'.join(set(PROVIDERS) - {'sandbox', 'manual', 'ach_file'})})", re.IGNORECASE)
    house = ROOT.parents[1]
    found = []
    for folder in (house / "deploy", house / "tests" / "support"):
        for path in sorted(folder.rglob("*.py")):
            texts = texts_of(parse(path))
            found += [f"{path.relative_to(house)}: {text}" for text in texts if others.search(tables.sub("", text))]
    assert found == [], "ask ProviderSettings, PROVIDERS or the registry"


def test_every_provider_has_a_package_and_every_package_a_row():
    packages = {path.parent.name for path in (ROOT / "providers").glob("*/__init__.py")}
    assert packages == set(PROVIDERS)
    assert {rail.provider for rail in RAILS.values()} <= {None, *PROVIDERS}
