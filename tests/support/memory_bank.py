"""A bank in memory, for the services that a test runs without one."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime

from services.transactions.domain.payments import FormerLife, Payment, PaymentStatus
from services.transactions.domain.webhooks import ProviderEvent
from services.transactions.providers.protocols import Declined, OutcomeUnknown, PaymentOrder


def unknown() -> OutcomeUnknown:
    return OutcomeUnknown("the line went dead")


class MemoryBank:
    """A bank in memory: one payment a key, forgetting nothing. `fail` breaks the next answers after their effect."""

    def __init__(self) -> None:
        self.payments: dict[str, Payment] = {}
        self.keys: Counter[str] = Counter()
        self.by_key: dict[str, str] = {}
        self.after_effect: list[BaseException] = []  # raised once the payment is made
        self.before_effect: list[BaseException] = []
        self.orders: list[PaymentOrder] = []
        self.look_ups = 0
        self.silent: set[str] = set()  # the payments it does not speak of

    async def submit(self, order: PaymentOrder) -> Payment:
        self.orders.append(order)
        self.keys[order.key] += 1
        if self.before_effect:
            raise self.before_effect.pop(0)
        if order.account_number.endswith("93"):
            raise Declined("DECLINED_BY_PROVIDER", "The bank declined the payment (declined).", retryable=True)
        if order.key not in self.by_key:
            payment_id = f"pay_{len(self.payments) + 1}_{order.reference[-6:]}"
            self.by_key[order.key] = payment_id
            self.payments[payment_id] = Payment(
                payment_id,
                order.reference,
                PaymentStatus.PENDING,
                order.amount,
                order.is_inbound,
                order.presentment,
                changed_at=None,
            )
        if self.after_effect:
            raise self.after_effect.pop(0)
        return self.payments[self.by_key[order.key]]

    async def list_payments(
        self, reference: str, refunded_payment_id: str = "", former_life: FormerLife | None = None
    ) -> list[Payment]:
        self.look_ups += 1
        return [payment for payment in reversed(self.payments.values()) if payment.reference == reference]

    async def get_payment(self, payment_id: str) -> Payment | None:
        if payment_id in self.silent:
            raise unknown()
        return self.payments.get(payment_id)

    async def cancel_payment(self, payment_id: str) -> None:
        self.payments[payment_id] = replace(self.payments[payment_id], status=PaymentStatus.CANCELLED)

    async def read_webhook(self, body: bytes, proof: str) -> ProviderEvent:
        event_id, event_type, payment_id = body.decode().split()
        return ProviderEvent(event_id, event_type, payment_id)

    def report(self, transaction_id: str, status: PaymentStatus, code: str = "", at: datetime | None = None) -> str:
        """Moves the newest payment of a transaction; its id."""
        [payment, *_] = [each for each in reversed(self.payments.values()) if each.reference == transaction_id]
        self.payments[payment.payment_id] = replace(payment, status=status, return_code=code, changed_at=at)
        return payment.payment_id
