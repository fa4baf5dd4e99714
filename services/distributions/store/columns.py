"""Values inside a row that are not single columns: explanations, terms."""

from __future__ import annotations

from typing import Any

from services.chassis.values.explanation import Explanation
from services.distributions.domain.terms import Terms, build_terms, list_tiers


def write_explanation(explanation: Explanation) -> dict[str, Any]:
    return {
        "statement": explanation.statement,
        "rule": explanation.rule,
        "operands": [list(operand) for operand in explanation.operands],
        "source": explanation.source,
    }


def read_explanation(value: dict[str, Any]) -> Explanation:
    operands = tuple((name, text) for name, text in value["operands"])
    return Explanation(value["statement"], value["rule"], operands, value["source"])


def write_terms(terms: Terms) -> list[list[Any]]:
    return [[kind, parameters] for kind, parameters in list_tiers(terms)]


def read_terms(value: list[list[Any]]) -> Terms:
    return build_terms([(kind, parameters) for kind, parameters in value])
