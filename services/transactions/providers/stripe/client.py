"""Stripe's own client. What it cannot answer for certain is OutcomeUnknown.

It asks once: whether to ask again is for the job that orders, which looks the payment up first.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Mapping
from typing import Any, Final

import stripe
from stripe import StripeClient, StripeError

from services.chassis.process.telemetry import log
from services.transactions.providers.protocols import Declined, OutcomeUnknown
from services.transactions.providers.stripe.keys import is_live

LIST_LIMIT: Final = 100  # as many as Stripe answers with at once
_API_URL: Final = "https://api.stripe.com"
# What is wrong with the order itself, and stays wrong.
_BAD_DATA = re.compile("(routing|account)_number_.*|.*_invalid|parameter_.*|amount_too_.*")


class Refused(OutcomeUnknown):
    """Stripe refuses the call. Of an order, and of nothing else, that says that nothing was done."""

    def __init__(self, error: StripeError) -> None:
        super().__init__(f"the provider refuses the call: {error.code}")
        self.error = error


class NotThere(Refused):
    """What was asked for is not there."""


class StripeApi:
    """
    Args:
        base_url: Of a stand-in; empty for Stripe itself.
        timeout_seconds: Of one answer.
    """

    def __init__(self, api_key: str, base_url: str, timeout_seconds: float) -> None:
        # Whatever key it is asked with, events of another mode, or of another place, have other ids.
        self.is_live = is_live(api_key)
        self.mode = f"{base_url or _API_URL} {'live' if self.is_live else 'test'}"
        self._http = stripe.HTTPXClient(timeout=timeout_seconds)
        self.v1: Any = StripeClient(
            api_key, base_addresses={"api": base_url or _API_URL}, http_client=self._http, max_network_retries=0
        ).v1

    async def close(self) -> None:
        await self._http.close_async()  # type: ignore[no-untyped-call]  # Stripe's own has no types

    async def call(self, asked: Awaitable[stripe.StripeObject]) -> dict[str, Any]:
        """What Stripe answers. Whatever goes wrong on the way is OutcomeUnknown.

        Raises:
            OutcomeUnknown; as NotThere or Refused where Stripe says so
        """
        try:
            answer = await asked
        except stripe.IdempotencyError:
            raise OutcomeUnknown("another order has its key") from None
        except (stripe.AuthenticationError, stripe.PermissionError) as error:
            log.error("provider_refuses_us", provider="stripe", cause=type(error).__name__)
            raise OutcomeUnknown("the provider refuses our key") from None
        except stripe.InvalidRequestError as error:
            raise (NotThere(error) if error.http_status == 404 else Refused(error)) from None
        except stripe.CardError as error:  # what Stripe calls any payment that is refused
            raise Refused(error) from None
        except StripeError as error:
            seconds = 30 if isinstance(error, stripe.RateLimitError) else 0
            raise OutcomeUnknown(
                f"the provider answered {error.http_status or type(error).__name__}", retry_after_seconds=seconds
            ) from None
        if not isinstance(answer, stripe.StripeObject):
            raise OutcomeUnknown("the provider's answer is not one")
        return answer.to_dict()


def read_list(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Raises OutcomeUnknown."""
    found = answer.get("data")
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise OutcomeUnknown("the provider's answer is no list")
    return found


def read_whole_list(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Raises OutcomeUnknown: it is no list, or there is more of it: what is left out may say the contrary."""
    if answer.get("has_more") not in (None, False):
        raise OutcomeUnknown("the provider's answer is not the whole list")
    return read_list(answer)


async def list_disputes(api: StripeApi, charge: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Raises OutcomeUnknown: Stripe says that the charge is disputed, and tells of no dispute."""
    if not charge.get("disputed"):
        return []
    asked: Any = {"charge": charge["id"], "limit": LIST_LIMIT}
    found = read_whole_list(await api.call(api.v1.disputes.list_async(asked)))
    if not found:
        raise OutcomeUnknown("the provider tells of no dispute of what it says is disputed")
    return found


def build_declined(error: StripeError) -> Declined:
    """Stripe's words are not for our customers: only its code is taken, and only if it looks like one."""
    body: Any = error.error
    code = next((each for each in (getattr(body, "decline_code", None), error.code) if isinstance(each, str)), "")
    if isinstance(error, stripe.InvalidRequestError) and _BAD_DATA.fullmatch(code):
        return Declined("INVALID_PAYMENT_DATA", "The bank does not accept the payment's data.", retryable=False)
    if not re.fullmatch("[A-Za-z0-9_]{1,64}", code):
        return Declined("DECLINED_BY_PROVIDER", "The bank declined the payment.", retryable=False)
    message = f"The bank declined the payment ({code})."
    return Declined("DECLINED_BY_PROVIDER", message, retryable=False, metadata={"provider_code": code})
