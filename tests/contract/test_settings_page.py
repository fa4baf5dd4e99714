"""docs/operations.md tells an operator every setting of every process, with its default."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from pydantic import SecretStr
from pydantic_settings import BaseSettings

from gateway.settings import Settings as GatewaySettings
from services.chassis.process.settings import Settings
from services.compliance.settings import Settings as ComplianceSettings
from services.transactions.settings import Settings as TransactionsSettings
from tests.support.sources import parse

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text()
ROW = re.compile(r"^\| `([A-Z_]+)` \| [^|]+ \| ([^|]+) \| [^|]+ \|$", re.MULTILINE)
CLASSES = {
    "every process": Settings,
    "transactions": TransactionsSettings,
    "compliance": ComplianceSettings,
    "the gateway": GatewaySettings,
}


@cache
def list_required() -> set[str]:
    """The settings that some process requires when it starts."""
    trees = [parse(file) for file in (ROOT / "services").rglob("*.py") if "_pb2" not in file.name]
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    named = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "require"]
    texts = [node for call in named for argument in call.args for node in ast.walk(argument)]
    return {str(node.value) for node in texts if isinstance(node, ast.Constant)}


def spell_default(name: str, default: object) -> str:
    if name in list_required():
        return "required"
    given = default.get_secret_value() if isinstance(default, SecretStr) else default
    return "none" if given in (None, "", ()) else str(given).lower() if isinstance(given, bool) else str(given)


@pytest.mark.parametrize("whose", CLASSES)
def test_the_page_names_each_setting_and_its_default(whose: str) -> None:
    settings: type[BaseSettings] = CLASSES[whose]
    common = Settings.model_fields if settings is not Settings else {}
    wanted = {
        name.upper(): spell_default(name, field.default)
        for name, field in settings.model_fields.items()
        if name not in common
    }
    section = PAGE.partition(f"Settings of {whose}:\n")[2].lstrip().partition("\n\n")[0]
    assert dict(ROW.findall(section)) == wanted
