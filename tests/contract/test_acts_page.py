"""The page that says what may be sent again knows every act, and says of each whether its key is required."""

from __future__ import annotations

import re
from pathlib import Path

from gateway import contracts
from services.chassis.spelling.descriptors import is_required

PAGE = Path(__file__).parents[2] / "docs" / "idempotency.md"


def test_the_page_says_of_every_act_whether_its_key_is_required():
    table = PAGE.read_text().partition("## What if it is done already?")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (optional|required) \|.*\|(.*)\|$", table, re.MULTILINE)
    said = {(act, key) for key, acts in rows for act in re.findall("`([A-Z][A-Za-z]+…?)`", acts)}
    for method in contracts.methods():
        field = method.input_type.fields_by_name.get("idempotency_key")
        if field is not None:
            key = "required" if is_required(field) else "optional"
            named = [(act, said_key) for act, said_key in said if re.fullmatch(act.replace("…", ".*"), method.name)]
            assert [said_key for _, said_key in named] == [key], method.name
    names = {method.name for method in contracts.methods()}
    assert [act for act, _ in said if not any(re.fullmatch(act.replace("…", ".+"), name) for name in names)] == []
