"""Transactions as the transactions service tells escrow of them."""

from __future__ import annotations

from datetime import datetime

from realco.escrow.v1 import journal_pb2 as journal_pb
from realco.escrow.v1 import postings_pb2 as postings_pb
from realco.transactions.v1 import events_pb2 as transactions
from realco.transactions.v1.transactions_pb2 import Transaction

from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.calls.wire import to_timestamp
from services.chassis.data.transaction import Tx
from services.chassis.events.handling import Delivery
from services.chassis.values.ids import new_id
from services.escrow.domain.types import TYPES
from services.escrow.subscribers import SUBSCRIPTIONS
from services.transactions.domain.rails import RAILS
from services.transactions.domain.schedule import compute_return_risk_end
from tests.support.escrow import SPONSOR, Escrow
from tests.support.money import usd

EVENTS = {
    "SUBMITTED": transactions.TransactionSubmitted,
    "SETTLED": transactions.TransactionSettled,
    "COMPLETED": transactions.TransactionCompleted,
    "FAILED": transactions.TransactionFailed,
    "CANCELLED": transactions.TransactionCancelled,
    "RETURNED": transactions.TransactionReturned,
    "REVERSED": transactions.TransactionReversed,
    **dict.fromkeys(("UPDATED", "DISPUTED", "ANSWERED", "AWAITED", "WON"), transactions.TransactionUpdated),
}
# How the dispute of a card payment stands that these facts tell of.
DISPUTES = {
    "DISPUTED": Transaction.NEEDS_RESPONSE,
    "ANSWERED": Transaction.UNDER_REVIEW,
    "AWAITED": Transaction.MONEY_AWAITED,
    "WON": Transaction.WON,
}


class Payment:
    """A transaction as the transactions service would tell of it."""

    def __init__(self, account: str, kind: str, minor: int, *, party: str = "inv-001", method: str = "ACH") -> None:
        self.transaction = Transaction(
            transaction_id=new_id("txn"),
            type=kind,
            payment_method=method,
            amount=usd(minor),
            escrow_account_id=account,
            party_id=party,
            investment_id="inv_" + "0" * 26 if kind in ("ESCROW_DEPOSIT", "REFUND") else "",
            attempts=1,
            presentments=1,
        )
        self.version = 0
        self.happened_at: datetime | None = None  # None: now

    async def costs(self, escrow: Escrow, minor: int, *, fact: str = "UPDATED") -> None:
        """The provider says how much it has kept by now."""
        self.transaction.provider_fee.CopyFrom(usd(minor))
        await self.happens(escrow, fact)

    async def happens(self, escrow: Escrow, *facts: str) -> None:
        """Each fact reaches escrow's subscriber once, in a transaction of its own."""
        for fact in facts:
            with acting_as(service_principal("escrow", escrow.org_id)):
                async with escrow.database.begin() as tx:
                    await self.happens_in(tx, escrow, fact)

    async def happens_in(self, tx: Tx, escrow: Escrow, fact: str) -> None:
        kind = EVENTS[fact]
        if fact == "SETTLED":
            self._settle(escrow.clock.now())
        if fact in DISPUTES:
            self.transaction.status = Transaction.COMPLETED
            self.transaction.dispute_reference = "du_1"
            self.transaction.dispute_status = DISPUTES[fact]
        self.version += 1
        meta = {
            "occur_time": to_timestamp(self.happened_at or escrow.clock.now()),
            "aggregate_version": self.version,
        }
        with acting_as(service_principal("escrow", escrow.org_id, on_behalf_of="admin-1")):
            event, delivery = kind(transaction=self.transaction, meta=meta), Delivery(escrow.clock.now())
            await SUBSCRIPTIONS[0].handlers[kind](tx, event, delivery)

    def _settle(self, now: datetime) -> None:
        """The times that the transactions service gives money that arrived on this rail."""
        rail = RAILS[Transaction.PaymentMethod.Name(self.transaction.payment_method)]
        is_inbound = TYPES[Transaction.Type.Name(self.transaction.type)].is_inbound
        self.transaction.settle_time.CopyFrom(to_timestamp(now))
        end = compute_return_risk_end(now, rail, is_inbound=is_inbound)
        if end is not None:
            self.transaction.return_risk_end_time.CopyFrom(to_timestamp(end))

    async def submit(self, escrow: Escrow) -> journal_pb.PostingResult:
        """As the transactions service does before it asks a provider."""
        item = postings_pb.BatchBookPayoutsRequest.Item(
            idempotency_key=f"txn:{self.transaction.transaction_id}:{self.transaction.attempts}:submit",
            escrow_account_id=self.transaction.escrow_account_id,
            transaction_id=self.transaction.transaction_id,
            type=self.transaction.type,
            party_id=self.transaction.party_id,
            amount=self.transaction.amount,
        )
        answer = await escrow.call(
            "BatchBookPayouts", postings_pb.BatchBookPayoutsRequest(items=[item]), escrow.transactions
        )
        return answer.results[0]


def transfer(source: str, to: str, minor: int = 100) -> Payment:
    """Of the sponsor, from one escrow account to another."""
    payment = Payment(source, "TRANSFER", minor, party=SPONSOR, method="INTERNAL_TRANSFER")
    payment.transaction.to_escrow_account_id, payment.transaction.presentments = to, 0
    return payment
