"""What a page says on which a card is entered: whose it is, how it stands, and whether what was paid there is disputed.

Source: docs.stripe.com/api/checkout/sessions/object, docs.stripe.com/api/disputes/object.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

from services.chassis.values.money import Money
from services.chassis.values.text import read_text
from services.transactions.domain.disputes import Dispute, DisputeStatus
from services.transactions.domain.payments import Card, Payment, PaymentStatus
from services.transactions.providers.protocols import NOT_READ, TEXT_CHARACTERS_MAX, OutcomeUnknown
from services.transactions.providers.stripe.disputes import OVER, PREVENTED, sum_outstanding
from services.transactions.providers.stripe.fees import sum_fees
from services.transactions.providers.stripe.states import ACTION_URL, is_of_ours, read_amount

_BRAND, _LAST4 = re.compile(r"[a-z0-9_]{1,40}"), re.compile(r"[0-9]{4}")
# What Stripe says in a word: why a card was declined, a refund failed, or a payment is disputed.
WORD: Final = re.compile(r"[a-z0-9_]{1,64}")
# An inquiry takes no money yet, and is answered as a dispute is. An appeal is of what is lost: its money is gone until
# it is won. What is over without loss is WON once its money is back, and not before (`_read_status`).
# Source: docs.stripe.com/api/disputes/object#dispute_object-status.
_DISPUTES: Final[Mapping[str, DisputeStatus]] = MappingProxyType(
    {
        "warning_needs_response": DisputeStatus.NEEDS_RESPONSE,
        "warning_under_review": DisputeStatus.UNDER_REVIEW,
        "needs_response": DisputeStatus.NEEDS_RESPONSE,
        "under_review": DisputeStatus.UNDER_REVIEW,
        "lost": DisputeStatus.LOST,
        "appeal_needs_response": DisputeStatus.LOST,
        "appeal_under_review": DisputeStatus.LOST,
        **dict.fromkeys(OVER, DisputeStatus.WON),
    }
)
# Of several disputes of one payment, the one to look at.
_WEIGHTS: Final[Mapping[DisputeStatus, int]] = MappingProxyType(
    {
        DisputeStatus.WON: 0,
        DisputeStatus.LOST: 1,
        DisputeStatus.MONEY_AWAITED: 2,
        DisputeStatus.UNDER_REVIEW: 3,
        DisputeStatus.NEEDS_RESPONSE: 4,
    }
)


def spell_proved(reference: str, presentment: int | str, amount_minor: int, currency: str, customer_id: str) -> str:
    """What of an order the proof is over."""
    return "|".join(("stripe card", reference, str(presentment), str(amount_minor), currency, customer_id))


def find_intent(session: Mapping[str, Any]) -> Mapping[str, Any]:
    """What was paid on the page, or tried; empty while nobody has tried."""
    return session.get("payment_intent") or {}


def read_card_payment(
    session: Mapping[str, Any],
    disputes: Sequence[Mapping[str, Any]],
    is_ours: Callable[[Mapping[str, Any]], bool],
    *,
    given_back_minor: int = 0,
) -> Payment:
    """The payment; of one that we did not order so, with no reference.

    Args:
        given_back_minor: What of it we gave back.

    Raises: OutcomeUnknown: it is not what Stripe calls a session.
    """
    ours = is_ours(session)
    try:
        intent = find_intent(session)
        dispute, lost_minor = _read_disputes(disputes, session["currency"].upper())
        amount = Money(session["amount_total"], session["currency"].upper())
        if intent.get("status") == "succeeded":
            amount = read_amount(intent)
        status, declined, seconds = _read_state(session, intent)
        if status is PaymentStatus.SETTLED and lost_minor == amount.amount_minor:
            status, lost_minor = PaymentStatus.RETURNED, 0
        charge = intent.get("latest_charge") or {}
        return Payment(
            payment_id=read_text(session["id"], TEXT_CHARACTERS_MAX),
            reference=read_text(session["metadata"]["reference"], TEXT_CHARACTERS_MAX) if ours else "",
            status=status,
            amount=amount,
            is_inbound=True,
            presentment=int(session["metadata"]["presentment"]) if ours else 0,
            changed_at=None if seconds is None else datetime.fromtimestamp(seconds, UTC),
            decline_code=declined,
            reason=f"the card was declined: {declined.replace('_', ' ')}" if declined else "",
            gone_minor=max(0, int(charge.get("amount_refunded") or 0) - given_back_minor) + lost_minor,
            is_misused=not ours and is_of_ours(session),
            payer_action_url=_read_page(session),
            dispute=dispute,
            card=_read_card(charge),
            fee_minor=sum_fees(amount.currency, charge, disputes),
        )
    except NOT_READ:
        raise OutcomeUnknown("the provider's answer is not a payment") from None


def _read_state(session: Mapping[str, Any], intent: Mapping[str, Any]) -> tuple[PaymentStatus, str, int | None]:
    """How it stands, the decline code where a card was refused, and since when (Unix time), as far as said."""
    match session["status"], intent.get("status"):
        case "open", _:
            return PaymentStatus.PENDING, "", None
        case "complete", "succeeded":
            moved = intent["latest_charge"].get("balance_transaction") or {}
            return PaymentStatus.SETTLED, "", moved.get("available_on")
        case "complete", "processing":
            return PaymentStatus.PENDING, "", None
        case "expired", None:
            return PaymentStatus.CANCELLED, "", session.get("expires_at")
        case "expired", "requires_payment_method" | "canceled":
            if why := _find_decline(intent):
                return PaymentStatus.FAILED, why, None
            return PaymentStatus.CANCELLED, "", session.get("expires_at")
        case status:
            raise ValueError(status)


def _find_decline(intent: Mapping[str, Any]) -> str:
    """Why the last card was refused, by its bank or by Stripe; empty where none was tried.

    Source: docs.stripe.com/declines/codes.
    """
    error, charge = intent.get("last_payment_error") or {}, intent.get("latest_charge") or {}
    outcome = charge.get("outcome") or {}
    said = (error.get("decline_code"), outcome.get("reason"), error.get("code"), charge.get("failure_code"))
    return next((each for each in said if isinstance(each, str) and WORD.fullmatch(each)), "")


def _read_disputes(disputes: Sequence[Mapping[str, Any]], currency: str) -> tuple[Dispute | None, int]:
    """The one to look at, which is open, or lost, or else the newest; and how much is lost by all of them."""
    if not disputes:
        return None, 0
    read = [(_read_dispute(each, currency), each) for each in disputes]
    lost_minor = sum(_sum_lost(each, currency) for one, each in read if one.status is DisputeStatus.LOST)
    dispute, _ = max(read, key=lambda one: (_WEIGHTS[one[0].status], int(one[1]["created"])))
    return dispute, lost_minor


def _sum_lost(dispute: Mapping[str, Any], currency: str) -> int:
    return sum_outstanding(dispute, currency) if dispute["status"] == PREVENTED else int(dispute["amount"])


def _read_status(dispute: Mapping[str, Any], currency: str) -> DisputeStatus:
    """What is prevented was credited to who holds the card, and is lost; of what is won the money is to come back."""
    status = _DISPUTES[dispute["status"]]
    if status is not DisputeStatus.WON or not sum_outstanding(dispute, currency):
        return status
    return DisputeStatus.LOST if dispute["status"] == PREVENTED else DisputeStatus.MONEY_AWAITED


def _read_dispute(dispute: Mapping[str, Any], currency: str) -> Dispute:
    status, reason = _read_status(dispute, currency), str(dispute.get("reason") or "")
    due = (dispute.get("evidence_details") or {}).get("due_by")
    return Dispute(
        reference=read_text(dispute["id"], TEXT_CHARACTERS_MAX),
        status=status,
        reason=reason if WORD.fullmatch(reason) else "",
        due_at=None if due is None else datetime.fromtimestamp(due, UTC),
    )


def _read_card(charge: Mapping[str, Any]) -> Card | None:
    found = (charge.get("payment_method_details") or {}).get("card") or {}
    brand, last4 = str(found.get("brand") or "unknown"), str(found.get("last4"))
    return Card(brand, last4) if _BRAND.fullmatch(brand) and _LAST4.fullmatch(last4) else None


def _read_page(session: Mapping[str, Any]) -> str:
    """On which the payer enters the card; empty where nobody pays there any more."""
    url = str(session.get("url"))
    return url if session["status"] == "open" and ACTION_URL.fullmatch(url) else ""
