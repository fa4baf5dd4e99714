"""Orders and look-ups over HTTP: with deadlines, without redirects, and with a limit on what is read.

An answer counts only if it is about our payment, with our amount; anything else leaves the outcome unknown.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

import httpx
import orjson

from services.chassis.values.money import Money
from services.chassis.values.text import clean_text, read_text
from services.chassis.values.times import read_time
from services.transactions.domain.payments import FormerLife, Payment, PaymentStatus
from services.transactions.providers.protocols import (
    TEXT_CHARACTERS_MAX,
    Declined,
    OutcomeUnknown,
    PaymentOrder,
    check_as_ordered,
)

ANSWER_BYTES_MAX = 256 * 1024
_RETRY_AFTER_SECONDS_MAX = 3600
_LIST_LIMIT = 100


class SandboxBank:
    def __init__(self, base_url: str, *, timeout_seconds: float = 4) -> None:
        self._timeout_seconds = timeout_seconds  # of a whole call, so that an answer in drops ends, too
        self._client = httpx.AsyncClient(
            base_url=base_url,
            timeout=httpx.Timeout(timeout_seconds, connect=min(2, timeout_seconds)),
            follow_redirects=False,  # a redirect would decide to whom we send account numbers
            trust_env=False,
            # Each that waits to be used again is polled whenever a request begins or ends.
            limits=httpx.Limits(max_connections=32, max_keepalive_connections=6),
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def submit(self, order: PaymentOrder) -> Payment:
        body: dict[str, object] = {
            "direction": "debit" if order.is_inbound else "credit",
            "amount_minor": order.amount.amount_minor,
            "currency": order.amount.currency,
            "method": "ach",
            "routing_number": order.routing_number,
            "account_number": order.account_number,
            "account_holder_name": order.account_holder_name,
            "reference": order.reference,
            "presentment": order.presentment,
            "description": order.description,
        }
        status, answer, retry_after = await self._call("POST", "/v1/payments", body, {"Idempotency-Key": order.key})
        if status in (400, 422):
            raise _build_declined(status, answer)
        if status not in (200, 201):
            raise OutcomeUnknown(f"the provider answered {status}", retry_after_seconds=retry_after)
        payment = _read_payment(answer)
        check_as_ordered(payment, order)
        return payment

    async def list_payments(
        self, reference: str, refunded_payment_id: str = "", former_life: FormerLife | None = None
    ) -> list[Payment]:
        query = {"reference": reference, "limit": str(_LIST_LIMIT)}
        status, answer, retry_after = await self._call("GET", "/v1/payments", query=query)
        if status != 200 or not isinstance(answer, dict) or not isinstance(answer.get("data"), list):
            raise OutcomeUnknown(f"the provider answered {status}", retry_after_seconds=retry_after)
        return [payment for payment in map(_read_payment, answer["data"]) if payment.reference == reference]

    async def get_payment(self, payment_id: str) -> Payment | None:
        if not payment_id.isascii() or not payment_id.replace("_", "").isalnum():
            return None  # the id came from outside: it must not be able to name another path
        status, answer, retry_after = await self._call("GET", f"/v1/payments/{payment_id}")
        if status == 404:
            return None
        if status != 200:
            raise OutcomeUnknown(f"the provider answered {status}", retry_after_seconds=retry_after)
        payment = _read_payment(answer)
        if payment.payment_id != payment_id:
            raise OutcomeUnknown("the provider answered about another payment")
        return payment

    async def _call(
        self,
        method: str,
        path: str,
        body: dict[str, object] | None = None,
        headers: dict[str, str] | None = None,
        *,
        query: dict[str, str] | None = None,
    ) -> tuple[int, Any, int]:
        """(status, JSON or None, Retry-After in seconds). Whatever goes wrong on the way is OutcomeUnknown."""
        raw = b""
        try:
            async with (
                asyncio.timeout(self._timeout_seconds),
                self._client.stream(method, path, json=body, headers=headers, params=query) as response,
            ):
                async for chunk in response.aiter_bytes():
                    raw += chunk
                    if len(raw) > ANSWER_BYTES_MAX:
                        raise OutcomeUnknown("the provider's answer is too long")
        except (httpx.HTTPError, TimeoutError) as error:
            raise OutcomeUnknown(f"the provider cannot be reached: {type(error).__name__}") from None
        try:
            answer = orjson.loads(raw)
        except orjson.JSONDecodeError:
            answer = None
        return response.status_code, answer, _read_seconds(response.headers.get("Retry-After", ""))


def _build_declined(status: int, answer: Any) -> Declined:
    """The bank's words are not for our customers: only its code is taken, and only if it looks like one."""
    if status == 400:
        return Declined("INVALID_PAYMENT_DATA", "The bank does not accept the payment's data.", retryable=False)
    code = answer.get("code") if isinstance(answer, dict) else None
    known = isinstance(code, str) and re.fullmatch("[A-Za-z0-9_]{1,64}", code)
    message = f"The bank declined the payment ({code})." if known else "The bank declined the payment."
    return Declined("DECLINED_BY_PROVIDER", message, retryable=True)


def _read_payment(answer: Any) -> Payment:
    try:
        amount = Money(answer["amount_minor"], answer["currency"])
        return Payment(
            payment_id=read_text(answer["id"], TEXT_CHARACTERS_MAX),
            reference=read_text(answer["reference"], TEXT_CHARACTERS_MAX),
            status=PaymentStatus(answer["status"]),
            amount=amount,
            is_inbound={"debit": True, "credit": False}[answer["direction"]],
            presentment=int(answer["presentment"]),
            changed_at=read_time(answer["updated_at"]),
            return_code=read_text(answer.get("return_code") or "", TEXT_CHARACTERS_MAX, empty=True),
            reason=clean_text(answer.get("failure_reason"), TEXT_CHARACTERS_MAX),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise OutcomeUnknown("the provider's answer is not a payment") from None


def _read_seconds(header: str) -> int:
    return min(int(header[:6]), _RETRY_AFTER_SECONDS_MAX) if header.isascii() and header.isdigit() else 0
