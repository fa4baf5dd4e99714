"""Why a figure, a date or a decision is what it is: one sentence, the values that went into it, and the rule."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Explanation:
    """What `realco.type.v1.Explanation` says, for domains that know no protobuf.

    Args:
        statement: One sentence for a person, with the result.
        rule: The rule's stable name: `DAILY_DEPOSIT`.
        operands: (name, value) in the order of the rule, both for a person to read.
        source: A statute, a rule of NACHA, an agreement, the house; empty for the organization's own setting.
    """

    statement: str
    rule: str
    operands: tuple[tuple[str, str], ...] = ()
    source: str = ""
