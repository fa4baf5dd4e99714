"""What people report of a wire, a check or a transfer: it came back, it had never come, or it was not sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from services.chassis.values.errors import InvalidField
from services.chassis.values.failure import Failure
from services.chassis.values.refusals import IllegalStatusChange
from services.transactions.domain.decisions import check_confirmed_by_a_person, check_reference
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
    """

    name: str
    payment_method: str | None
    message: str
    after: frozenset[Status] = ARRIVED
    to: Status = Status.RETURNED
    is_of_the_bank: bool = True


RETURN_KINDS: Mapping[str, ReturnKind] = MappingProxyType(
    {
        each.name: each
        for each in (
            ReturnKind("CHECK_RETURNED", "CHECK", "The check came back."),
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
