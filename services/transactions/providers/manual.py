"""The provider of wires and checks: a person at the bank. Nothing is sent; finance confirms what arrived."""

from __future__ import annotations

from services.transactions.domain.errors import WebhookSignatureInvalid
from services.transactions.domain.payments import Payment, PaymentStatus
from services.transactions.providers.base import PaymentOrder, ProviderEvent


class ManualProvider:
    name = "manual"

    async def submit(self, order: PaymentOrder) -> Payment:
        return Payment(
            payment_id=order.key,
            reference=order.reference,
            status=PaymentStatus.PENDING,
            amount=order.amount,
            is_debit=order.is_debit,
            presentment=order.presentment,
            changed_at=None,
        )

    async def look_up(self, reference: str) -> list[Payment]:
        return []

    async def get(self, payment_id: str) -> Payment | None:
        return None

    def read_webhook(self, body: bytes, signature: str) -> ProviderEvent:
        raise WebhookSignatureInvalid("The signature is not acceptable.")
