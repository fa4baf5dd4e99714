"""The closing of an offering: all subscriptions released or none, investments active, proceeds asked for."""

from __future__ import annotations

from datetime import datetime

from realco.distributions.v1 import events_pb2 as events
from realco.escrow.v1 import escrow_pb2 as escrow
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import current_principal
from services.chassis.data.database import Database
from services.chassis.data.outbox import enqueue
from services.chassis.process.telemetry import log
from services.chassis.values.errors import DomainError
from services.distributions import messages
from services.distributions.commands import refunds
from services.distributions.domain.states import OFFERING_MOVES, OfferingStatus, move
from services.distributions.store import investments as investments_store
from services.distributions.store import payouts as payouts_store
from services.distributions.store import rows, sagas
from services.distributions.tables import offerings, payouts


async def begin(tx: AsyncConnection, offering: rows.Row, bank_account_id: str, now: datetime) -> rows.Row:
    """Fixes what is released of whom, and leaves the rest to the saga. The gates are open; the caller has the lock."""
    await investments_store.take_for_release(tx, offering.offering_id, now)
    await sagas.begin(tx, "CLOSING", offering.offering_id, "RELEASE", current_principal().person, now)
    return await rows.save(
        tx,
        offerings,
        offering.offering_id,
        status=OfferingStatus.CLOSING.value,
        closing_attempt=offering.closing_attempt + 1,
        proceeds_bank_account_id=bank_account_id,
        updated_at=now,
    )


async def release_request(tx: AsyncConnection, offering_id: str) -> escrow.ReleaseSubscriptionsRequest:
    """What escrow is asked: the same request every time, because the closing fixed it."""
    offering = await rows.find(tx, offerings, offering_id)
    assert offering is not None
    released = await investments_store.released_by_investor(tx, offering_id)
    return escrow.ReleaseSubscriptionsRequest(
        idempotency_key=_key(offering_id, offering.closing_attempt),
        escrow_account_id=offering.escrow_account_id,
        offering_id=offering_id,
        subscriptions=[
            escrow.PartyAmount(party_id=party_id, amount={"currency_code": offering.currency, "amount_minor": amount})
            for party_id, amount in released.items()
        ],
    )


def _key(offering_id: str, attempt: int) -> str:
    return f"close:{offering_id}" if attempt == 1 else f"close:{offering_id}:{attempt}"


async def released(database: Database, saga: rows.Row, now: datetime) -> None:
    """Escrow released every subscription: the investments are active from today, and the proceeds are due."""
    async with database.begin() as tx:
        await sagas.record(tx, saga, "PAY", now)
        offering = await _moved(tx, saga.subject_id, OfferingStatus.CLOSED, now, closing_date=now.date())
        active = await investments_store.activate(tx, offering.offering_id, now.date(), now)
        for row in active:
            await enqueue(tx, events.InvestmentActivated(investment=messages.investment(row)), now=now)
        await _request_proceeds(
            tx,
            offering,
            saga.saga_id,
            offering.proceeds_bank_account_id,
            sum(row.released_minor for row in active),
            now,
        )
        # Commitments that nothing was paid on have missed the closing.
        await refunds.ask_for_all(tx, offering.offering_id, now)
        await refunds.advance(tx, offering, now)
        after = await rows.find(tx, offerings, offering.offering_id)
        assert after is not None
        await enqueue(tx, events.OfferingClosed(offering=messages.offering(after)), now=now)


async def release_refused(database: Database, saga: rows.Row, refusal: DomainError, now: datetime) -> None:
    """Escrow refused, so no money moved: the offering is open again."""
    log.warning("closing_refused", offering_id=saga.subject_id, reason=refusal.reason)
    async with database.begin() as tx:
        await sagas.record(tx, saga, "DONE", now)
        offering = await _moved(tx, saga.subject_id, OfferingStatus.OPEN, now)
        await investments_store.undo_release(tx, offering.offering_id, now)
        await enqueue(tx, events.OfferingUpdated(offering=messages.offering(offering)), now=now)


async def _moved(
    tx: AsyncConnection, offering_id: str, to: OfferingStatus, now: datetime, **changes: object
) -> rows.Row:
    offering = await rows.find(tx, offerings, offering_id, lock=True)
    assert offering is not None
    status = move(OFFERING_MOVES, OfferingStatus(offering.status), to).value
    return await rows.save(tx, offerings, offering_id, status=status, updated_at=now, **changes)


async def proceeds_failed(tx: AsyncConnection, offering: rows.Row) -> bool:
    """True if the last attempt to pay the proceeds was refused, rejected or came back."""
    last = await payouts_store.last_proceeds(tx, offering.offering_id)
    return last is not None and last.status in ("FAILED", "RETURNED")


async def pay_proceeds_again(tx: AsyncConnection, offering: rows.Row, bank_account_id: str, now: datetime) -> rows.Row:
    """A new attempt, on behalf of whoever asks for it now."""
    last = await payouts_store.last_proceeds(tx, offering.offering_id)
    assert last is not None
    saga = await sagas.begin(tx, "CLOSING", offering.offering_id, "PAY", current_principal().person, now)
    bank_account_id = bank_account_id or offering.proceeds_bank_account_id
    await _request_proceeds(
        tx, offering, saga.saga_id, bank_account_id, last.amount_minor, now, attempt=last.attempt + 1
    )
    return await rows.save(
        tx,
        offerings,
        offering.offering_id,
        proceeds_bank_account_id=bank_account_id,
        proceeds_failure="",
        updated_at=now,
    )


async def _request_proceeds(
    tx: AsyncConnection,
    offering: rows.Row,
    saga_id: str,
    bank_account_id: str,
    amount_minor: int,
    now: datetime,
    *,
    attempt: int = 1,
) -> None:
    key = f"close:{offering.offering_id}:proceeds"
    await rows.insert_many(
        tx,
        payouts,
        [
            {
                "request_key": key if attempt == 1 else f"{key}:{attempt}",
                "saga_id": saga_id,
                "type": "ESCROW_WITHDRAWAL",
                "offering_id": offering.offering_id,
                "escrow_account_id": offering.escrow_account_id,
                "party_id": offering.sponsor_party_id,
                "bank_account_id": bank_account_id,
                "currency": offering.currency,
                "amount_minor": amount_minor,
                "attempt": attempt,
                "status": "REQUESTED",
                "created_at": now,
                "updated_at": now,
            }
        ],
    )
