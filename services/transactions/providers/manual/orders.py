"""Nothing is sent: the payment waits until a person confirms it."""

from __future__ import annotations

from services.transactions.domain.payments import Payment, PaymentStatus
from services.transactions.providers.protocols import PaymentOrder


class ManualOrders:
    async def submit(self, order: PaymentOrder) -> Payment:
        return Payment(
            payment_id=order.key,
            reference=order.reference,
            status=PaymentStatus.PENDING,
            amount=order.amount,
            is_inbound=order.is_inbound,
            presentment=order.presentment,
            changed_at=None,
        )
