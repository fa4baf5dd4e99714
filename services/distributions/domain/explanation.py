"""Why a figure is what it is: a sentence, the values that went into it, the rule and its source."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Explanation:
    statement: str
    rule: str
    operands: tuple[tuple[str, str], ...] = ()  # name and value, in the order of the rule
    source: str = ""
