"""The page about exceptions says of every kind what its table says, and the contract knows no other kind."""

from __future__ import annotations

import re
from pathlib import Path

from realco.transactions.v1.exceptions_pb2 import PaymentException

from services.transactions.domain.exceptions import KINDS, About, ExceptionKind, Severity

PAGE = (Path(__file__).parents[2] / "docs" / "exceptions.md").read_text(encoding="utf-8")


def test_the_page_has_each_kind_with_what_it_means_and_what_to_do():
    rows = re.findall(r"^\| `([A-Z_]+)` \| (\w+) \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE)
    assert rows == [(kind.value, each.severity.value, each.meaning, each.remedy) for kind, each in KINDS.items()]


def test_a_kind_is_a_row_of_the_table_and_a_value_of_the_contract():
    assert [*KINDS] == [*ExceptionKind]
    assert {*PaymentException.Kind.keys()[1:]} == {kind.value for kind in ExceptionKind}
    assert PaymentException.Severity.keys()[1:] == [severity.value for severity in Severity]


def test_what_tells_one_exception_from_another_is_a_part_of_what_it_is_about():
    assert {name for each in KINDS.values() for name in each.one_for_each} <= set(About.__dataclass_fields__)
