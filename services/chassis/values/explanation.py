"""Why a figure, a date or a decision is what it is: one sentence, the values that went into it, and the rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from services.chassis.values.errors import DomainError
from services.chassis.values.money import Money


@dataclass(frozen=True, slots=True)
class Explanation:
    """What `realco.type.v1.Explanation` says, for domains that know no protobuf.

    Args:
        statement: One sentence for a person, with the result.
        rule: The rule's stable name: `DAILY_DEPOSIT`.
        operands: (name, value) in the order of the rule; what is no money is text for a person to read.
        source: A statute, a rule of NACHA, an agreement, the house; empty for the organization's own
            setting, and for a plain fact.
    """

    statement: str
    rule: str
    operands: tuple[tuple[str, str | Money], ...] = ()
    source: str = ""


# The source of what no law says.
HOUSE_RULE: Final = "house rule"


def spell_gate(is_open: bool) -> tuple[str, str]:
    """The operand of an explanation that says what a gate would say now: shut, it refuses what waits."""
    return "gate", "open" if is_open else "shut"


def explain_at_source(escrow_account_id: str, explanation: Explanation) -> Explanation:
    """What is true of an escrow account that money was transferred from, for whoever has it leave where it is now."""
    statement = f"Some of it was transferred from {escrow_account_id}, where: {explanation.statement}"
    return replace(explanation, statement=statement)


def explain_check(rule: str, statement: str, check: Callable[[], object]) -> Explanation:
    """A gate that a check keeps, in the words of its refusal where it is shut.

    Args:
        statement: What is said where it is open.
        check: Raises DomainError where it is shut.
    """
    try:
        check()
    except DomainError as refusal:
        return Explanation(refusal.message, rule, (spell_gate(False),), HOUSE_RULE)
    return Explanation(statement, rule, (spell_gate(True),), HOUSE_RULE)


def explain_outdated(differing: Sequence[str]) -> Explanation:
    """That what waits would do something else by now.

    Args:
        differing: In what.
    """
    statement = (
        f"It would do something else now than when it was asked for ({', '.join(differing)}): reject or cancel it, and"
        " ask again."
    )
    return Explanation(statement, "CONTENT_CURRENT", (spell_gate(False),), HOUSE_RULE)


def explain_summary(asked: str, now: str) -> Explanation | None:
    """That what waits would be called otherwise by now, if it would: it was renamed, before it had any money."""
    return None if asked == now else Explanation(f"By now it would be called: {now}", "SUMMARY_NOW")


def explain_refused(refusal: DomainError) -> Explanation:
    """That what waits would be refused now, and why."""
    return Explanation(f"It would be refused now: {refusal.message}", refusal.reason, (spell_gate(False),))


def write_explanation(explanation: Explanation) -> dict[str, Any]:
    """As a row keeps it."""
    return {
        "statement": explanation.statement,
        "rule": explanation.rule,
        "operands": [
            [name, asdict(value) if isinstance(value, Money) else value] for name, value in explanation.operands
        ],
        "source": explanation.source,
    }


def read_explanation(kept: dict[str, Any]) -> Explanation:
    operands = ((name, Money(**value) if isinstance(value, dict) else value) for name, value in kept["operands"])
    return Explanation(kept["statement"], kept["rule"], tuple(operands), kept["source"])
