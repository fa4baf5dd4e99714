"""Payouts of staff that came to nothing, and are paid by another one instead: what came to nothing is paid once."""

from __future__ import annotations

from typing import Final

from services.chassis.values.errors import InvalidField
from services.chassis.values.explanation import HOUSE_RULE, Explanation
from services.chassis.values.money import Money
from services.chassis.values.refusals import IllegalStatusChange
from services.transactions.domain.refusals import TransactionNotFound
from services.transactions.domain.returns import spell_end
from services.transactions.domain.states import ENDED, Status
from services.transactions.domain.transaction import Transaction
from services.transactions.domain.types import TYPES

_FIELD: Final = "replaced_transaction_id"


def check_may_replace(
    former: Transaction | None,
    amount: Money,
    *,
    type_: str,
    party_id: str,
    escrow_account_id: str,
    to_escrow_account_id: str | None,
) -> str:
    """Whether a new payout may be paid instead of this one.

    Returns: The first one that came to nothing, which the new one stands for as well.

    Raises: TransactionNotFound, IllegalStatusChange, InvalidField.
    """
    if former is None:
        raise TransactionNotFound(_FIELD)
    if not TYPES[former.type].is_for_staff:
        fault = "must be a payout that staff orders: what else is owed is sent again by its own call"
        raise InvalidField("No other transaction is paid instead of that one.", fields={_FIELD: fault})
    wanted = (type_, party_id, escrow_account_id, to_escrow_account_id)
    if wanted != (former.type, former.party_id, former.escrow_account_id, former.to_escrow_account_id):
        fault = "must be of the same type, party and escrow accounts"
        raise InvalidField("What is paid instead of a payout pays the same.", fields={_FIELD: fault})
    if former.came_back_by_reversal:
        fault = "was taken back from who was paid: nothing is owed by it, and the debit may come back"
        raise InvalidField("What was taken back is paid by another order, if at all.", fields={_FIELD: fault})
    if former.status not in ENDED:
        raise IllegalStatusChange(former.status, Status.FAILED)
    if amount != former.amount:
        # A part of it would leave the rest to nobody, and a cent would pass for all.
        other = {"amount": f"must be {former.amount}"}
        raise InvalidField("What is paid instead of a payout is as much as that was.", fields=other)
    return former.replaced_transaction_id or former.transaction_id


def explain_replacement(former: Transaction | None) -> list[Explanation]:
    """What whoever approves has to know of the payout that came to nothing; none where it replaces none."""
    if former is None:
        return []
    which = f"{former.transaction_id}, {former.amount}, which is {former.status}"
    statement = f"It is paid instead of {which}: {spell_end(former.failure)}"
    operands = (("transaction", former.transaction_id), ("status", former.status))
    return [Explanation(f"{statement.rstrip('.')}.", "PAID_INSTEAD", operands, HOUSE_RULE)]
