"""What a transfer and an authorization of Plaid say: whose it is, how it stands, and why it is not made.

Source: plaid.com/docs/api/products/transfer, plaid.com/docs/transfer/reconciling-transfers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from services.chassis.values.money import Money
from services.chassis.values.text import read_text
from services.transactions.domain.payments import Payment, PaymentStatus
from services.transactions.providers.protocols import NOT_READ, TEXT_CHARACTERS_MAX, Declined, OutcomeUnknown

CURRENCY: Final = "USD"
_DIGITS: Final = 2
_AMOUNT = re.compile(r"([0-9]{1,15})\.([0-9]{2})")
_CODE = re.compile(r"[A-Za-z0-9_]{1,64}")
_NETWORK_CODE = re.compile(r"R[0-9]{2}")
_UNEXPLAINED: Final = "R17"  # a person looks at it
# It would come back as R01, which is presented again on a later day.
_INSUFFICIENT_FUNDS: Final = "NSF"
_STATUSES: Mapping[str, PaymentStatus] = MappingProxyType(
    {
        "pending": PaymentStatus.PENDING,
        "posted": PaymentStatus.PENDING,
        "settled": PaymentStatus.SETTLED,
        "funds_available": PaymentStatus.SETTLED,
        "cancelled": PaymentStatus.CANCELLED,
        "failed": PaymentStatus.FAILED,
        "returned": PaymentStatus.RETURNED,
    }
)
# What of the metadata is ours.
_WORDS: Final = frozenset({"proof", "presentment"})
# Of a refund: its money is not on its way back, or not any more.
_REFUND_OVER: Final = frozenset({"cancelled", "failed", "returned"})


def spell_amount(amount: Money) -> str:
    """As Plaid takes it: `10.00`."""
    units, rest = divmod(amount.amount_minor, 10**_DIGITS)
    return f"{units}.{rest:0{_DIGITS}d}"


def read_amount(text: object) -> int:
    """In minor units, exactly. Raises: ValueError."""
    found = _AMOUNT.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError("no amount with two digits of precision")
    return int(found[1] + found[2])


def spell_proved(
    authorization_id: str, reference: str, presentment: int | str, *, is_inbound: bool, amount: Money, account_id: str
) -> str:
    """What of an order the proof is over. Plaid's id of the bank account stands for all of its number, and that of the
    authorization for this one transfer: what is copied to another one proves nothing there."""
    told = ("debit" if is_inbound else "credit", str(amount.amount_minor), amount.currency)
    return "|".join(("plaid", authorization_id, reference, str(presentment), *told, account_id))


def read_payment(transfer: Mapping[str, Any], is_proof: Callable[[str, str], bool]) -> Payment:
    """The payment; of one that we did not order so, with no reference.

    Args:
        is_proof: Whether a code is our proof of a text.

    Raises:
        OutcomeUnknown: it is not what Plaid calls a transfer.
    """
    try:
        is_inbound = {"debit": True, "credit": False}[transfer["type"]]
        amount = Money(read_amount(transfer["amount"]), str(transfer["iso_currency_code"]))
        reference, presentment = _read_ours(transfer, amount, is_proof, is_inbound=is_inbound)
        status = _STATUSES[transfer["status"]]
        code = _read_return_code(transfer) if status is PaymentStatus.RETURNED else ""
        return Payment(
            payment_id=read_text(transfer["id"], TEXT_CHARACTERS_MAX),
            reference=reference,
            status=status,
            amount=amount,
            is_inbound=is_inbound,
            presentment=presentment,
            changed_at=None,  # it does not say: only its events do
            return_code=code,
            reason=code,
            gone_minor=_sum_refunds(transfer),
            is_misused=not reference and not _WORDS.isdisjoint(transfer.get("metadata") or {}),
        )
    except NOT_READ:
        raise OutcomeUnknown("the provider's answer is not a payment") from None


def _read_ours(
    transfer: Mapping[str, Any], amount: Money, is_proof: Callable[[str, str], bool], *, is_inbound: bool
) -> tuple[str, int]:
    """(our reference, the presentment) of a transfer that is as we ordered it; else nothing."""
    told = transfer.get("metadata") or {}
    try:
        reference = read_text(told["reference"], TEXT_CHARACTERS_MAX)
        proved = spell_proved(
            str(transfer["authorization_id"]),
            reference,
            told["presentment"],
            is_inbound=is_inbound,
            amount=amount,
            account_id=str(transfer["account_id"]),
        )
        if is_proof(str(told["proof"]), proved):
            return reference, int(told["presentment"])
    except (KeyError, TypeError, ValueError):
        pass
    return "", 0


def _read_return_code(transfer: Mapping[str, Any]) -> str:
    """By its name, and by the one it had before. Source: plaid.com/docs/api/products/transfer, failure_reason."""
    reason = transfer.get("failure_reason") or {}
    code = reason.get("failure_code") or reason.get("ach_return_code")
    return code if isinstance(code, str) and _NETWORK_CODE.fullmatch(code) else _UNEXPLAINED


def _sum_refunds(transfer: Mapping[str, Any]) -> int:
    """What is paid back at Plaid, of which the book knows nothing."""
    refunds = transfer.get("refunds") or []
    return sum(read_amount(each["amount"]) for each in refunds if each["status"] not in _REFUND_OVER)


def check_decision(authorization: Mapping[str, Any]) -> None:
    """Whether a transfer may be made of an authorization.

    One that Plaid could not check is taken: it can ask the bank about no account that was typed by hand, and of each it
    says so (MIGRATED_ACCOUNT_ITEM).

    Raises:
        Declined: with Plaid's code, in our words.
        OutcomeUnknown: it says neither.
    """
    rationale = authorization.get("decision_rationale") or {}
    code = str(rationale.get("code") or "")
    match authorization.get("decision"):
        case "approved":
            return
        case "declined":
            raise build_declined(code, retryable=code == _INSUFFICIENT_FUNDS)
        case "user_action_required":
            message = "The bank account has to be confirmed anew by its holder: add it again, or use another one."
            raise Declined("DECLINED_BY_PROVIDER", message, retryable=False)
    raise OutcomeUnknown("the provider's answer is no decision")


def build_declined(code: str, *, retryable: bool = False) -> Declined:
    """Plaid's words are not for our customers: only its code is taken, and only if it looks like one."""
    if not _CODE.fullmatch(code):
        return Declined("DECLINED_BY_PROVIDER", "The bank declined the payment.", retryable=retryable)
    message = f"The bank declined the payment ({code})."
    return Declined("DECLINED_BY_PROVIDER", message, retryable=retryable, metadata={"provider_code": code})


def build_refused(code: str) -> Declined:
    """What becomes of an order that Plaid refuses: it is wrong and stays so, or is against a limit."""
    if code.startswith("INVALID_"):
        return Declined("INVALID_PAYMENT_DATA", "The bank does not accept the payment's data.", retryable=False)
    return build_declined(code)
