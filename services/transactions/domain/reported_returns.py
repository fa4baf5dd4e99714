"""What people report of a wire or check that they confirmed: it came back, or it had never come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from services.chassis.values.errors import InvalidField
from services.chassis.values.failure import Failure
from services.chassis.values.refusals import IllegalStatusChange
from services.transactions.domain.decisions import check_confirmed_by_a_person
from services.transactions.domain.states import ARRIVED, Status
from services.transactions.domain.transaction import Transaction


@dataclass(frozen=True, slots=True)
class ReturnKind:
    """One kind of `Transaction.ReturnKind`.

    Args:
        payment_method: Of which rail it is; none of any.
        message: What became of the transaction.
        is_of_the_bank: Whether the bank did it, and so has a reference for it; else a person had confirmed it wrongly.
    """

    name: str
    payment_method: str | None
    message: str
    is_of_the_bank: bool = True


RETURN_KINDS: Mapping[str, ReturnKind] = MappingProxyType(
    {
        each.name: each
        for each in (
            ReturnKind("CHECK_RETURNED", "CHECK", "The bank returned the check."),
            ReturnKind("WIRE_RETURNED", "WIRE", "The bank took the wire back."),
            ReturnKind("CONFIRMED_IN_ERROR", None, "It was confirmed in error.", is_of_the_bank=False),
        )
    }
)


def check_may_record_return(transaction: Transaction) -> None:
    """Raises PaymentMethodNotSupported, IllegalStatusChange."""
    check_confirmed_by_a_person(transaction)
    if transaction.status not in ARRIVED:
        raise IllegalStatusChange(transaction.status, Status.RETURNED)


def build_reported_failure(transaction: Transaction, kind: ReturnKind, bank_reference: str | None) -> Failure:
    """Why it is RETURNED.

    Raises:
        InvalidField: no bank does that with it, or the bank's reference of what it did is missing.
    """
    faults = {}
    if kind.payment_method not in (None, transaction.payment_method):
        faults["kind"] = f"is nothing that a bank does with a {transaction.payment_method}"
    if kind.is_of_the_bank != bool(bank_reference):
        faults["bank_reference"] = "must be set for what the bank did, and only then"
    if faults:
        raise InvalidField("The request is not valid.", fields=faults)
    if bank_reference:
        return Failure(kind.name, kind.message, metadata={"bank_reference": bank_reference})
    return Failure(kind.name, kind.message)
