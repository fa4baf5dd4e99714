"""What a transfer does in the escrow account that it goes to, for whoever decides on it: the effects of an approval are
of the account that it leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from services.chassis.values.accounts import takes_money
from services.chassis.values.approval import Effect
from services.chassis.values.explanation import HOUSE_RULE, Explanation, spell_gate
from services.chassis.values.money import Money
from services.chassis.values.text import quote
from services.transactions.domain.transaction import Transaction
from services.transactions.domain.types import TYPES

TRANSFER_TO: Final = "TRANSFER_TO"


def explain_arrival(row: Transaction, name: str, status: str) -> Explanation:
    """Where a transfer goes to, and what it is put on there.

    Args:
        status: Of the escrow account that it goes to.
    """
    kind = TYPES[row.type].source if takes_money(status) else "UNAPPLIED of the sponsor"
    return _explain(row, f"{row.amount} goes to {kind} of {_spell_account(row, name, status)}.", status)


def explain_taking_back(row: Transaction, name: str, status: str, effects: Sequence[Effect]) -> Explanation:
    """What is taken from the escrow account that a transfer came to, which it had not come to.

    Args:
        status: Of that account.
        effects: What that does to its ledger accounts.
    """
    grown: dict[str, int] = {}
    for each in effects:
        grown[each.kind] = grown.get(each.kind, 0) + each.after.amount_minor - each.before.amount_minor
    owed = grown.pop("RETURNS_RECEIVABLE", 0)
    cash = [each for each in effects if each.kind == "CASH"]
    missing = sum(min(0, each.before.amount_minor) - min(0, each.after.amount_minor) for each in cash)
    taken = ", ".join(f"{_spell(row, -minor)} from {kind}" for kind, minor in grown.items() if minor < 0)
    statement = f"{row.amount} would be TAKEN from {_spell_account(row, name, status)}: {taken or 'nothing is there'}."
    if owed > 0:
        statement += f" {_spell(row, owed)} of it was spent there, and {row.party_id} would owe it."
    if missing > 0:
        statement += f" {_spell(row, missing)} of cash would be missing there."
    figures = tuple((_spell_ledger_account(each), f"{each.before}, then {each.after}") for each in effects)
    return _explain(row, statement, status, figures)


def _explain(row: Transaction, statement: str, status: str, more: tuple[tuple[str, str], ...] = ()) -> Explanation:
    operands = (spell_gate(status != "CLOSED"), ("escrow account", row.to_escrow_account_id or ""), ("status", status))
    return Explanation(statement, TRANSFER_TO, (*operands, *more), HOUSE_RULE)


def _spell_account(row: Transaction, name: str, status: str) -> str:
    return f"{quote(name)} ({row.to_escrow_account_id}), which is {status}"


def _spell_ledger_account(effect: Effect) -> str:
    return f"{effect.kind} of {effect.party_id}" if effect.party_id else effect.kind


def _spell(row: Transaction, minor: int) -> Money:
    return Money(minor, row.amount.currency)
