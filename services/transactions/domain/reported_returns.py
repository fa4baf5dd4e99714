"""What people report of a wire, a check or a transfer: it came back, it had never come, or it was not sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from services.chassis.values.errors import InvalidField
from services.chassis.values.explanation import HOUSE_RULE, Explanation
from services.chassis.values.failure import Failure
from services.chassis.values.refusals import IllegalStatusChange
from services.chassis.values.text import quote
from services.transactions.domain.decisions import check_confirmed_by_a_person, check_reference, is_same_reference
from services.transactions.domain.states import ARRIVED, Status
from services.transactions.domain.transaction import Transaction


@dataclass(frozen=True, slots=True)
class ReturnKind:
    """One kind of `Transaction.ReturnKind`.

    Args:
        payment_method: Of which rail it is; none of any.
        after: In which statuses a transaction is before.
        to: What it is then.
        message: What became of the transaction.
        is_of_the_bank: Whether the bank did it, and so has a reference for it; else persons did, or failed to.
        keeps_reference: Whether a statement may show it under the reference by which it was confirmed.
    """

    name: str
    payment_method: str | None
    message: str
    after: frozenset[Status] = ARRIVED
    to: Status = Status.RETURNED
    is_of_the_bank: bool = True
    keeps_reference: bool = False


RETURN_KINDS: Mapping[str, ReturnKind] = MappingProxyType(
    {
        each.name: each
        for each in (
            # A check comes back under its number.
            ReturnKind("CHECK_RETURNED", "CHECK", "The check came back.", keeps_reference=True),
            ReturnKind("WIRE_RETURNED", "WIRE", "The wire came back."),
            ReturnKind("CONFIRMED_IN_ERROR", None, "It was confirmed in error.", is_of_the_bank=False),
            ReturnKind(
                "NOT_SENT",
                None,
                "It was not sent.",
                after=frozenset({Status.PENDING_SETTLEMENT}),
                to=Status.FAILED,
                is_of_the_bank=False,
            ),
        )
    }
)


def check_may_record_return(transaction: Transaction) -> None:
    """Whether anything can be reported of it. Raises PaymentMethodNotSupported, IllegalStatusChange."""
    check_confirmed_by_a_person(transaction)
    waits_to_be_sent = transaction.status is Status.PENDING_SETTLEMENT and not transaction.is_inbound
    if transaction.status not in ARRIVED and not waits_to_be_sent:
        raise IllegalStatusChange(transaction.status, Status.RETURNED)


def build_reported_failure(transaction: Transaction, kind: ReturnKind, bank_reference: str | None) -> Failure:
    """Why it is RETURNED or FAILED.

    Raises:
        IllegalStatusChange: of another kind, perhaps.
        InvalidField: no bank does that with it, or the bank's reference of what it did is missing.
    """
    if transaction.status not in kind.after:
        raise IllegalStatusChange(transaction.status, kind.to)
    faults = {}
    if kind.payment_method not in (None, transaction.payment_method):
        faults["kind"] = f"is nothing that a bank does with what goes by {transaction.payment_method}"
    if kind.is_of_the_bank != bool(bank_reference):
        faults["bank_reference"] = "must be set for what the bank did, and only then"
    if faults:
        raise InvalidField("The request is not valid.", fields=faults)
    check_reference(bank_reference or "")
    if bank_reference:
        return Failure(kind.name, kind.message, metadata={"bank_reference": bank_reference})
    return Failure(kind.name, kind.message)


def explain_reference(bank_reference: str, confirmed_by: str | None) -> list[Explanation]:
    """Which line of the statement says so: whoever decides looks it up.

    Args:
        confirmed_by: The reference that confirmed the payment, which is said to have come back.
    """
    if not bank_reference:
        return []
    shown = f"The custodian's statement is said to show it as {quote(bank_reference)}"
    statement = f"{shown}: look whether it is that, and no other."
    if is_same_reference(bank_reference, confirmed_by):
        statement += " It is the reference that confirmed the payment: look for a second line with it."
    return [Explanation(statement, "BANK_REFERENCE", (("bank reference", bank_reference),), HOUSE_RULE)]
