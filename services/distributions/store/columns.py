"""Terms inside a row."""

from __future__ import annotations

from typing import Any

from services.distributions.domain.terms import Terms, build_terms, list_tiers


def write_terms(terms: Terms) -> list[list[Any]]:
    return [[kind, parameters] for kind, parameters in list_tiers(terms)]


def read_terms(value: list[list[Any]]) -> Terms:
    return build_terms([(kind, parameters) for kind, parameters in value])
