"""What a payment provider does for us, whoever it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from services.chassis.values.money import Money
from services.transactions.domain.payments import Payment

EVENT_TEXT_MAX = 255  # of an event's id, its type and a payment's id, in characters


@dataclass(frozen=True, slots=True)
class PaymentOrder:
    """One attempt at one transaction. `key` makes it happen at most once; `reference` finds it again."""

    key: str
    reference: str
    amount: Money
    is_debit: bool
    presentment: int
    routing_number: str
    account_number: str
    account_holder_name: str
    description: str

    def __repr__(self) -> str:
        return f"PaymentOrder(key={self.key!r})"  # the rest is people's data


@dataclass(frozen=True, slots=True)
class ProviderEvent:
    """What a genuine webhook says: which event, and the payment it is about (empty where that means nothing to us)."""

    event_id: str
    event_type: str
    payment_id: str = ""


class Declined(Exception):
    """The provider's definite no: nothing was done, nothing will be."""

    def __init__(self, code: str, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.code, self.message, self.retryable = code, message, retryable


class OutcomeUnknown(Exception):
    """The provider may or may not have done it, or cannot be asked just now. Never a reason to call it failed."""

    def __init__(self, message: str, *, retry_after_seconds: int = 0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class PaymentProvider(Protocol):
    """Submits orders, says how they stand, and proves the webhooks it sent."""

    @property
    def name(self) -> str: ...

    async def submit(self, order: PaymentOrder) -> Payment:
        """Asks for the payment. The same key again is the same payment.

        Raises:
            Declined: it will not happen.
            OutcomeUnknown: look it up.
        """
        ...

    async def look_up(self, reference: str) -> list[Payment]:
        """Every payment made under our reference, newest first. Raises OutcomeUnknown."""
        ...

    async def get(self, payment_id: str) -> Payment | None:
        """The payment as it is now; None if there is none. Raises OutcomeUnknown."""
        ...

    def read_webhook(self, body: bytes, signature: str) -> ProviderEvent:
        """The event in a webhook, once its signature over the raw bytes is proved.

        Raises:
            WebhookSignatureInvalid: it is not genuine, or too old, or from the future.
        """
        ...
