"""What a SetupIntent says: whose it is, and how the verification of a bank account stands.

Source: docs.stripe.com/payments/setupintents/lifecycle, docs.stripe.com/payments/ach-direct-debit/set-up-payment,
docs.stripe.com/api/mandates/object.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from services.chassis.values.failure import Failure
from services.chassis.values.text import read_text
from services.transactions.domain.verifications import ProviderVerification, VerificationStatus
from services.transactions.providers.protocols import NOT_READ, TEXT_CHARACTERS_MAX, OutcomeUnknown
from services.transactions.providers.stripe.states import ACTION_URL, METHOD

S = VerificationStatus

# What of the metadata is ours.
_WORDS: Final = frozenset({"proof", "method"})
# Source: docs.stripe.com/payments/ach-direct-debit/set-up-payment: verification by micro-deposits times out.
_LASTS: Final = timedelta(days=10)
_CODE = re.compile(r"[a-z0-9_]{1,64}")


def spell_setup_proved(reference: str, customer_id: str, method_id: str) -> str:
    """What of a verification the proof is over. Stripe's id of the bank account stands for all of its number."""
    return "|".join(("stripe setup", reference, customer_id, method_id))


def find_setup_method(setup: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The bank account that is verified; None where Stripe does not say any more: it takes it out once it has failed.

    Raises: KeyError, TypeError, AttributeError.
    """
    found: Any = setup["payment_method"] or (setup["last_setup_error"] or {}).get("payment_method")
    return None if found is None else {"id": found["id"], "customer": found["customer"], METHOD: found[METHOD]}


def read_setup(setup: Mapping[str, Any], is_ours: Callable[[Mapping[str, Any]], bool]) -> ProviderVerification:
    """The verification; of one that we did not ask for so, with no reference.

    Raises: OutcomeUnknown: it is not what Stripe calls a setup.
    """
    try:
        ours = is_ours(setup)
        words = setup.get("metadata") or {}
        status, failure = _read_state(setup)
        method = find_setup_method(setup)
        return ProviderVerification(
            provider_reference=read_text(setup["id"], TEXT_CHARACTERS_MAX),
            reference=read_text(words["reference"], TEXT_CHARACTERS_MAX) if ours else "",
            status=status,
            account=None if method is None else (method[METHOD]["routing_number"], method[METHOD]["last4"]),
            action_url=_read_page(setup) if status is S.WAITING else "",
            expires_at=datetime.fromtimestamp(setup["created"], UTC) + _LASTS if status is S.WAITING else None,
            failure=failure,
            is_misused=not ours and not _WORDS.isdisjoint(words),
        )
    except NOT_READ:
        raise OutcomeUnknown("the provider's answer is not a setup") from None


def _read_state(setup: Mapping[str, Any]) -> tuple[VerificationStatus, Failure | None]:
    """Raises: LookupError, ValueError, TypeError, AttributeError."""
    match setup["status"]:
        case "succeeded":
            return _read_mandate(setup["mandate"])
        case "requires_action" | "requires_confirmation" | "processing":
            return S.WAITING, None
        case "requires_payment_method":
            return S.FAILED, _build_failure((setup["last_setup_error"] or {}).get("code"))
        case "canceled":
            return S.FAILED, _build_failure("canceled")
        case status:
            raise ValueError(status)


def _read_mandate(mandate: Mapping[str, Any]) -> tuple[VerificationStatus, Failure | None]:
    match mandate["status"]:
        case "active":
            return S.VERIFIED, None
        case "pending":
            return S.WAITING, None
        case "inactive":
            message = "Its holder, or the bank, has ended the mandate by which money was drawn."
            return S.FAILED, Failure("MANDATE_ENDED", message, retryable=False)
        case status:
            raise ValueError(status)


def _build_failure(code: object) -> Failure:
    """Stripe's words are not for our customers: only its code is taken, and only if it looks like one."""
    if isinstance(code, str) and _CODE.fullmatch(code):
        message = f"The bank account was not verified ({code})."
        return Failure("DECLINED_BY_PROVIDER", message, retryable=False, metadata={"provider_code": code})
    return Failure("DECLINED_BY_PROVIDER", "The bank account was not verified.", retryable=False)


def _read_page(setup: Mapping[str, Any]) -> str:
    """Stripe's page on which the holder types the code; empty where there is none."""
    action = (setup["next_action"] or {}).get("verify_with_microdeposits") or {}
    url = str(action.get("hosted_verification_url"))
    return url if ACTION_URL.fullmatch(url) else ""
