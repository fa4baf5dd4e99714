"""What a PaymentIntent says: whose it is, how it stands, and how much of its money is still there.

Source: docs.stripe.com/payments/paymentintents/lifecycle, docs.stripe.com/payments/ach-direct-debit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

from services.chassis.values.money import Money
from services.chassis.values.text import clean_text, read_text
from services.transactions.domain.payments import Payment, PaymentStatus
from services.transactions.providers.protocols import NOT_READ, TEXT_CHARACTERS_MAX, OutcomeUnknown
from services.transactions.providers.stripe.disputes import OVER, sum_outstanding
from services.transactions.providers.stripe.fees import sum_fees

METHOD: Final = "us_bank_account"
# What of an intent says that its money, or a part, goes to another account at Stripe. We order nothing of the kind.
_PAYS_OTHERS: Final = ("transfer_data", "on_behalf_of", "application", "application_fee_amount")
# What of the metadata is ours.
_WORDS: Final = frozenset({"proof", "presentment"})
# Payers are sent there: over TLS, but for a stand-in on this machine.
ACTION_URL = re.compile(r"(https://|http://127\.0\.0\.1:)[\x21-\x7e]{1,2000}")
_NETWORK_CODE = re.compile(r"R[0-9]{2}")
# A dispute of an ACH debit is the bank's return of it, lost from the start and final; of one that is neither lost nor
# over, the money is gone as well. Source: docs.stripe.com/payments/ach-direct-debit#disputed-payments.
_LOST: Final = "lost"
# What Stripe calls the returns that it does not give the bank's own code of, for the commonest code that it means; of
# what it does not explain, a code that a person looks at. Source: docs.stripe.com/declines/network-codes.
_RETURN_CODES: Mapping[str, str] = MappingProxyType(
    {
        "insufficient_funds": "R01",
        "account_closed": "R02",
        "bank_account_closed": "R02",
        "no_account": "R03",
        "invalid_account_number": "R04",
        "bank_account_invalid_details": "R03",
        "incorrect_account_details": "R03",
        "debit_not_authorized": "R10",
        "customer_initiated": "R10",
        "recipient_deceased": "R15",
        "bank_account_frozen": "R16",
        "bank_account_restricted": "R20",
    }
)
_UNEXPLAINED: Final = "R17"


def spell_proved(
    reference: str, presentment: int | str, amount_minor: int, currency: str, payment_method_id: str
) -> str:
    """What of an order the proof is over. Stripe's id of the bank account stands for all of its number."""
    return "|".join(("stripe", reference, str(presentment), str(amount_minor), currency, payment_method_id))


def find_method(intent: Mapping[str, Any]) -> Mapping[str, Any]:
    """The bank account that it draws from; Stripe takes it out of an intent that has failed.

    Raises: KeyError, TypeError.
    """
    found: Mapping[str, Any] = intent.get("payment_method") or intent["last_payment_error"]["payment_method"]
    return found


def is_open(intent: Mapping[str, Any]) -> bool:
    """Whether it could be confirmed still, by its holder or by whoever has our key at Stripe."""
    waits = intent.get("status") in ("requires_action", "requires_confirmation")
    # What was refused when it was ordered waits for nothing; what came back could be tried once more.
    return waits or (intent.get("status") == "requires_payment_method" and bool(intent.get("latest_charge")))


def is_of_ours(found: Mapping[str, Any]) -> bool:
    """Whether it bears words of ours, whoever wrote them."""
    return not _WORDS.isdisjoint(found.get("metadata") or {})


def has_reached_a_bank(intent: Mapping[str, Any]) -> bool:
    return bool(intent.get("latest_charge"))


def read_payment(
    intent: Mapping[str, Any],
    disputes: Sequence[Mapping[str, Any]],
    is_ours: Callable[[Mapping[str, Any]], bool],
    charges: Sequence[Mapping[str, Any]] = (),
) -> Payment:
    """The payment; of one that we did not order so, with no reference.

    Raises: OutcomeUnknown: it is not what Stripe calls an intent.
    """
    ours = is_ours(intent)
    try:
        status, code, seconds = _read_state(intent, disputes)
        return Payment(
            payment_id=read_text(intent["id"], TEXT_CHARACTERS_MAX),
            reference=read_text(intent["metadata"]["reference"], TEXT_CHARACTERS_MAX) if ours else "",
            status=status,
            amount=read_amount(intent),
            is_inbound=True,
            presentment=int(intent["metadata"]["presentment"]) if ours else 0,
            changed_at=None if seconds is None else datetime.fromtimestamp(seconds, UTC),
            return_code=code,
            reason=clean_text(code, TEXT_CHARACTERS_MAX),
            gone_minor=_sum_gone(intent, disputes),
            is_drawn_again=status is not PaymentStatus.RETURNED and _has_failed_before(intent, charges),
            is_misused=not ours and is_of_ours(intent),
            payer_action_url=_read_action_url(intent),
            fee_minor=sum_fees(intent["currency"].upper(), intent.get("latest_charge") or {}, disputes),
        )
    except NOT_READ:
        raise OutcomeUnknown("the provider's answer is not a payment") from None


def read_amount(intent: Mapping[str, Any]) -> Money:
    """What was drawn, or is to be; of what has succeeded any other amount that Stripe says of it, in its currency.

    Raises: KeyError, TypeError, ValueError, AttributeError
    """
    ordered, currency, others = int(intent["amount"]), intent["currency"], set[int]()
    if intent["status"] == "succeeded":
        charge = intent["latest_charge"]
        others = {int(intent["amount_received"]), int(charge["amount"]), int(charge["amount_captured"])} - {ordered}
        currency = charge["currency"]
    return Money(min(others, default=ordered), currency.upper())


def _has_failed_before(intent: Mapping[str, Any], charges: Sequence[Mapping[str, Any]]) -> bool:
    """Whether another charge of it has failed than its latest one, which may have done so since the intent was read."""
    latest = intent.get("latest_charge") or {}
    return any(each["status"] == "failed" and each["id"] != latest["id"] for each in charges)


def pays_others(intent: Mapping[str, Any]) -> bool:
    """Whether its money, or a part, goes to another account at Stripe."""
    charge = intent.get("latest_charge")
    found = [intent, charge] if isinstance(charge, Mapping) else [intent]
    return any(each.get(name) for each in found for name in _PAYS_OTHERS)


def _find_return(intent: Mapping[str, Any], disputes: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The dispute by which all of it was taken back. By one of another amount nothing has come back: a person looks."""
    whole = (each for each in disputes if each["status"] == _LOST and int(each["amount"]) == int(intent["amount"]))
    return next(whole, None) if intent["status"] == "succeeded" else None


def _sum_gone(intent: Mapping[str, Any], disputes: Sequence[Mapping[str, Any]]) -> int:
    """What was paid back at Stripe, or is withheld there, besides what came back: the book knows nothing of it."""
    charge, returned = intent.get("latest_charge") or {}, _find_return(intent, disputes)
    refunded = int(charge.get("amount_refunded") or 0) if isinstance(charge, dict) else 0
    currency = intent["currency"].upper()
    return refunded + sum(
        sum_outstanding(each, currency) if each["status"] in OVER else int(each["amount"])
        for each in disputes
        if each is not returned
    )


def _read_state(
    intent: Mapping[str, Any], disputes: Sequence[Mapping[str, Any]]
) -> tuple[PaymentStatus, str, int | None]:
    """How it stands, the bank's code where it sent the money back, and when that was (Unix time), as far as said."""
    charge = intent.get("latest_charge") or {}
    lost = _find_return(intent, disputes)
    match intent["status"]:
        case "succeeded" if lost is not None:
            return PaymentStatus.RETURNED, _find_code(lost.get("network_reason_code"), lost["reason"]), lost["created"]
        case "succeeded":
            moved = charge.get("balance_transaction") or {}
            return PaymentStatus.SETTLED, "", moved.get("available_on")
        case "requires_payment_method" | "canceled" if charge:  # a bank had it, and sent it back
            error, outcome = intent.get("last_payment_error") or {}, charge.get("outcome") or {}
            network = error.get("network_decline_code") or outcome.get("network_decline_code")
            said = (error.get("decline_code"), error.get("code"), charge.get("failure_code"))
            return PaymentStatus.RETURNED, _find_code(network, *said), None
        case "canceled":
            return PaymentStatus.CANCELLED, "", intent.get("canceled_at")
        case "requires_payment_method" if intent.get("last_payment_error"):
            return PaymentStatus.FAILED, "", None
        case "requires_payment_method" | "requires_confirmation" | "requires_action" | "processing":
            return PaymentStatus.PENDING, "", None
        case status:
            raise ValueError(status)


def _find_code(network: Any, *said: Any) -> str:
    """The bank's code."""
    if isinstance(network, str) and _NETWORK_CODE.fullmatch(network):
        return network
    return next((_RETURN_CODES[each] for each in said if each in _RETURN_CODES), _UNEXPLAINED)


def _read_action_url(intent: Mapping[str, Any]) -> str:
    """Stripe's page on which the holder confirms the bank account; empty where nothing is left to confirm."""
    action = (intent.get("next_action") or {}).get("verify_with_microdeposits") or {}
    url = str(action.get("hosted_verification_url"))
    return url if intent["status"] == "requires_action" and ACTION_URL.fullmatch(url) else ""
