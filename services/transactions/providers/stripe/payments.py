"""ACH debits by Stripe: one PaymentIntent an attempt, ordered, found and asked for with Stripe's own client.

An answer counts only if it is about our payment, with our amount; anything else leaves the outcome unknown. Where
Stripe has not seen the bank account before, its holder confirms it on Stripe's page; later payments from it use what
was confirmed. Source: docs.stripe.com/payments/ach-direct-debit.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, TypeVar

import stripe
from stripe import StripeClient, StripeError

from services.chassis.process.telemetry import log
from services.chassis.values.money import Money
from services.chassis.values.text import clean_text, read_text
from services.transactions.domain.payments import Payment, PaymentStatus, find_difference
from services.transactions.providers.protocols import TEXT_CHARACTERS_MAX, Declined, OutcomeUnknown, PaymentOrder

R = TypeVar("R")

_INTENT_ID = re.compile(r"pi_[A-Za-z0-9]{1,200}")
_NETWORK_CODE = re.compile(r"R[0-9]{2}")
# Payers are sent there: over TLS, but for a stand-in on this machine.
_ACTION_URL = re.compile(r"(https://|http://127\.0\.0\.1:)[\x21-\x7e]{1,2000}")
_EXPANDED: Final = ["latest_charge.balance_transaction"]
_LIST_LIMIT: Final = 100
_API_URL: Final = "https://api.stripe.com"
_METHOD: Final = "us_bank_account"

# What Stripe calls the returns that it does not give the bank's own code of, for the commonest code that it means.
# Source: docs.stripe.com/declines/network-codes.
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
        "recipient_deceased": "R15",
        "bank_account_frozen": "R16",
        "bank_account_restricted": "R20",
    }
)
# What is wrong with the order itself, and stays wrong.
_BAD_DATA = re.compile("(routing|account)_number_.*|.*_invalid|parameter_.*|amount_too_.*")
# A dispute of an ACH debit is the bank's return of it, lost from the start and final.
# Source: docs.stripe.com/payments/ach-direct-debit#disputed-payments.
_LOST = "lost"


class StripePayments:
    """
    Args:
        base_url: Of a stand-in; empty for Stripe itself.
        timeout_seconds: Of a whole call.
    """

    def __init__(self, api_key: str, base_url: str, *, timeout_seconds: float = 10) -> None:
        self._timeout_seconds = timeout_seconds
        self._http = stripe.HTTPXClient(timeout=timeout_seconds)
        # Whether to ask again is for the job that orders: it looks the payment up first.
        self._client = StripeClient(
            api_key, base_addresses={"api": base_url or _API_URL}, http_client=self._http, max_network_retries=0
        )

    async def close(self) -> None:
        await self._http.close_async()  # type: ignore[no-untyped-call]  # Stripe's own has no types

    async def submit(self, order: PaymentOrder) -> Payment:
        if not order.is_inbound:
            raise Declined("PAYMENT_METHOD_NOT_SUPPORTED", "Stripe pays nothing out here.", retryable=False)
        params: Any = {
            "amount": order.amount.amount_minor,
            "currency": order.amount.currency.lower(),
            "confirm": True,
            "payment_method_types": [_METHOD],
            "description": order.description,
            "metadata": {
                "reference": order.reference,
                "presentment": str(order.presentment),
                "bank_account_id": order.bank_account_id,
            },
            "expand": _EXPANDED,
            **(await self._find_confirmed(order) or await self._introduce(order)),
        }
        intent = await self._call(self._client.v1.payment_intents.create_async(params, _under(order.key)))
        payment = _read_payment(intent, dispute=None)
        if payment is None:
            raise OutcomeUnknown("the provider's answer is not a payment of ours")
        wrong = find_difference(
            payment, reference=order.reference, amount=order.amount, is_inbound=True, presentment=order.presentment
        )
        if wrong:
            raise OutcomeUnknown(f"the provider's answer differs in {wrong}")
        return payment

    async def list_payments(self, reference: str) -> list[Payment]:
        """Those that reached a bank, or may: what was refused when it was ordered is none.

        Stripe finds a payment a minute after it was made; until then the same key answers with it.
        """
        found = await self._search(f"metadata['reference']:'{reference}'")
        payments = [_read_payment(each, dispute=None) for each in found if not _is_refused(each)]
        return [each for each in payments if each is not None and each.reference == reference]

    async def get_payment(self, payment_id: str) -> Payment | None:
        if not _INTENT_ID.fullmatch(payment_id):
            return None  # the id came from outside: it must not be able to name another path
        intents = self._client.v1.payment_intents
        try:
            intent = await self._call(intents.retrieve_async(payment_id, {"expand": _EXPANDED}))
        except _NotThere:
            return None
        charge = intent.get("latest_charge")
        dispute = None
        if isinstance(charge, dict) and charge.get("disputed"):
            params: Any = {"charge": charge["id"], "limit": 1}
            dispute = next(iter((await self._call(self._client.v1.disputes.list_async(params)))["data"]), None)
        return _read_payment(intent, dispute)

    async def _find_confirmed(self, order: PaymentOrder) -> dict[str, Any] | None:
        """The bank account as its holder confirmed it for an earlier payment; None where there was none."""
        if not order.bank_account_id:
            return None
        found = await self._search(f"metadata['bank_account_id']:'{order.bank_account_id}' AND status:'succeeded'")
        for intent in found:
            method = intent.get("payment_method")
            if not isinstance(method, dict) or not intent.get("customer"):
                continue
            account = method.get(_METHOD) or {}
            # Whoever may write metadata at Stripe must not have another account drawn from.
            theirs = account.get("routing_number"), account.get("last4")
            if theirs == (order.routing_number, order.account_number[-4:]):
                return {"customer": intent["customer"], "payment_method": method["id"], "off_session": True}
        return None

    async def _introduce(self, order: PaymentOrder) -> dict[str, Any]:
        """A bank account that Stripe has not seen: it asks the holder to confirm it."""
        customer: Any = {"name": order.account_holder_name, "metadata": {"party_id": order.party_id}}
        made = await self._call(self._client.v1.customers.create_async(customer, _under(f"{order.key}:customer")))
        account = {
            "routing_number": order.routing_number,
            "account_number": order.account_number,
            # The rules of a consumer's debit protect the payer the longest.
            "account_holder_type": "individual",
        }
        holder = {"name": order.account_holder_name}
        return {
            "customer": made["id"],
            "payment_method_data": {"type": _METHOD, _METHOD: account, "billing_details": holder},
            "setup_future_usage": "off_session",
            "mandate_data": {"customer_acceptance": {"type": "offline", "offline": {}}},
        }

    async def _search(self, query: str) -> list[dict[str, Any]]:
        """Newest first."""
        params: Any = {
            "query": query,
            "limit": _LIST_LIMIT,
            "expand": ["data.latest_charge.balance_transaction", "data.payment_method"],
        }
        answer = await self._call(self._client.v1.payment_intents.search_async(params))
        found: list[dict[str, Any]] = answer["data"]
        return sorted(found, key=lambda each: -each["created"])

    async def _call(self, asked: Awaitable[stripe.StripeObject]) -> dict[str, Any]:
        """What Stripe answers. Whatever goes wrong on the way is OutcomeUnknown.

        Raises:
            Declined, OutcomeUnknown, _NotThere
        """
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return (await asked).to_dict()
        except stripe.IdempotencyError:
            raise OutcomeUnknown("another order has its key") from None
        except (stripe.AuthenticationError, stripe.PermissionError) as error:
            log.error("provider_refuses_us", provider="stripe", cause=type(error).__name__)
            raise OutcomeUnknown("the provider refuses our key") from None
        except stripe.InvalidRequestError as error:
            if error.http_status == 404:
                raise _NotThere("the provider has none") from None
            raise _build_declined(error) from None
        except stripe.CardError as error:  # what Stripe calls any payment that is refused
            raise _build_declined(error) from None
        except StripeError as error:
            seconds = 30 if isinstance(error, stripe.RateLimitError) else 0
            raise OutcomeUnknown(
                f"the provider answered {error.http_status or type(error).__name__}", retry_after_seconds=seconds
            ) from None
        except TimeoutError:
            raise OutcomeUnknown("the provider does not answer") from None
        except (ValueError, TypeError, AttributeError, KeyError):  # no JSON, or none of an object of Stripe's
            raise OutcomeUnknown("the provider's answer is not one") from None


class _NotThere(OutcomeUnknown):
    """What was asked for is not there."""


def _under(key: str) -> Any:
    return {"idempotency_key": key}


def _build_declined(error: StripeError) -> Declined:
    """Stripe's words are not for our customers: only its code is taken, and only if it looks like one."""
    body: Any = error.error
    code = next((each for each in (getattr(body, "decline_code", None), error.code) if isinstance(each, str)), "")
    if isinstance(error, stripe.InvalidRequestError) and _BAD_DATA.fullmatch(code):
        return Declined("INVALID_PAYMENT_DATA", "The bank does not accept the payment's data.", retryable=False)
    known = re.fullmatch("[A-Za-z0-9_]{1,64}", code)
    message = f"The bank declined the payment ({code})." if known else "The bank declined the payment."
    return Declined("DECLINED_BY_PROVIDER", message, retryable=False)


def _is_refused(intent: Mapping[str, Any]) -> bool:
    """Whether Stripe refused it when it was ordered: no bank has seen it, and none will."""
    return intent.get("status") in ("requires_payment_method", "canceled") and not intent.get("latest_charge")


def _read_payment(intent: Mapping[str, Any], dispute: Mapping[str, Any] | None) -> Payment | None:
    """None for one that we did not order. Raises OutcomeUnknown."""
    metadata = intent.get("metadata")
    if not isinstance(metadata, dict) or "reference" not in metadata:
        return None
    try:
        status, code, seconds = _read_state(intent, dispute)
        return Payment(
            payment_id=read_text(intent["id"], TEXT_CHARACTERS_MAX),
            reference=read_text(metadata["reference"], TEXT_CHARACTERS_MAX),
            status=status,
            amount=Money(intent["amount"], intent["currency"].upper()),
            is_inbound=True,
            presentment=int(metadata["presentment"]),
            changed_at=None if seconds is None else datetime.fromtimestamp(seconds, UTC),
            return_code=code,
            reason=clean_text(code, TEXT_CHARACTERS_MAX),
            payer_action_url=_read_action_url(intent),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise OutcomeUnknown("the provider's answer is not a payment") from None


def _read_action_url(intent: Mapping[str, Any]) -> str:
    """Stripe's page on which the holder confirms the bank account; empty where nothing is left to confirm."""
    action = (intent.get("next_action") or {}).get("verify_with_microdeposits") or {}
    url = str(action.get("hosted_verification_url"))
    return url if intent["status"] == "requires_action" and _ACTION_URL.fullmatch(url) else ""


def _read_state(intent: Mapping[str, Any], dispute: Mapping[str, Any] | None) -> tuple[PaymentStatus, str, int | None]:
    """How it stands, the bank's code where it sent the money back, and when that was (Unix time), as far as it is said.

    Source: docs.stripe.com/payments/paymentintents/lifecycle.
    """
    charge = intent.get("latest_charge") or {}
    match intent["status"]:
        case "succeeded" if dispute is not None and dispute["status"] == _LOST:
            code = _find_code(dispute.get("network_reason_code"), dispute["reason"])
            return PaymentStatus.RETURNED, code, dispute["created"]
        case "succeeded":
            moved = charge.get("balance_transaction") or {}
            return PaymentStatus.SETTLED, "", moved.get("available_on")
        case "canceled":
            return PaymentStatus.CANCELLED, "", intent.get("canceled_at")
        case "requires_payment_method" if charge:  # a bank had it, and sent it back
            error, outcome = intent["last_payment_error"] or {}, charge.get("outcome") or {}
            network = error.get("network_decline_code") or outcome.get("network_decline_code")
            said = (error.get("decline_code"), error.get("code"), charge.get("failure_code"))
            return PaymentStatus.RETURNED, _find_code(network, *said), None
        case "requires_payment_method" if intent.get("last_payment_error"):
            return PaymentStatus.FAILED, "", None
        case "requires_payment_method" | "requires_confirmation" | "requires_action" | "processing":
            return PaymentStatus.PENDING, "", None
        case status:
            raise ValueError(status)


def _find_code(network: Any, *said: Any) -> str:
    """The bank's code; empty where Stripe's words are of none."""
    if isinstance(network, str) and _NETWORK_CODE.fullmatch(network):
        return network
    return next((_RETURN_CODES[each] for each in said if each in _RETURN_CODES), "")
