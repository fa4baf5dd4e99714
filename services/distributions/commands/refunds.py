"""Contributions that go back: what is owed, whether it may go yet, and when it is done.

What is owed is a sum of facts that does not depend on the order in which they arrive: all that was contributed, less
what a closing took, less the refunds that are under way or paid. So an event that is late cannot cause a second refund.
A refund that failed waits for a person: nothing is sent to the same account again by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from realco.distributions.v1 import events_pb2 as events
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import current_principal
from services.chassis.data.outbox import enqueue
from services.distributions import messages
from services.distributions.store import investments as investments_store
from services.distributions.store import payouts as payouts_store
from services.distributions.store import rows, sagas
from services.distributions.tables import offerings, payouts

_LIVE = ("PENDING", "RECONFIRM_REQUIRED")


async def ask_for_all(tx: AsyncConnection, offering_id: str, now: datetime) -> None:
    """Notes that the caller wants every contribution of the offering to go back."""
    await investments_store.ask_refunds(tx, offering_id, current_principal().person, now)


async def advance(
    tx: AsyncConnection,
    offering: rows.Row,
    now: datetime,
    *,
    investment_ids: Sequence[str] | None = None,
    again: bool = False,
) -> None:
    """Pays the refunds that are due, cancels the investments that are settled, and ends a refunded raise.

    Args:
        offering: Its row, locked by the caller.
        investment_ids: Only these; None is all of the offering.
        again: A person asks: refunds that failed are tried again.
    """
    due: dict[str, list[rows.Row]] = {}
    settled: list[str] = []
    for position in await payouts_store.refund_positions(tx, offering.offering_id, investment_ids):
        if position.open_count:
            continue
        if owed_minor(position) > 0:
            if _may_go(position, again):
                person = position.refund_requested_by or current_principal().subject
                due.setdefault(person, []).append(position)
        elif position.refund_requested_by is not None and position.status in _LIVE:
            settled.append(position.investment_id)
    for person, positions in sorted(due.items()):
        await _pay(tx, offering, person, positions, now)
    await _cancel(tx, offering, settled, now)


async def failed(tx: AsyncConnection, investment: rows.Row) -> bool:
    """True if the last attempt to send money of the investment back failed or was returned."""
    found = await payouts_store.refund_positions(tx, investment.offering_id, [investment.investment_id])
    return any(position.last_status in ("FAILED", "RETURNED") for position in found)


def owed_minor(position: rows.Row) -> int:
    """What of an investment's money is to go back and is not on its way."""
    contributed = position.funded_minor + position.refunded_minor
    return int(contributed - position.released_minor - position.paid_minor)


def _may_go(position: rows.Row, again: bool) -> bool:
    # Money that arrived after the closing, or after the investor withdrew, goes back without being asked for.
    wanted = position.refund_requested_by is not None or position.status not in _LIVE
    cleared = position.completed_minor >= position.funded_minor + position.refunded_minor
    return wanted and cleared and (again or position.last_status in (None, "COMPLETED"))


async def _pay(
    tx: AsyncConnection, offering: rows.Row, person: str, positions: Sequence[rows.Row], now: datetime
) -> None:
    saga = await sagas.begin(tx, "REFUND", offering.offering_id, "PAY", person, now)
    await investments_store.forget_failures(tx, [position.investment_id for position in positions])
    await rows.insert_many(
        tx,
        payouts,
        [
            {
                "request_key": _key(position.investment_id, (position.last_attempt or 0) + 1),
                "saga_id": saga.saga_id,
                "type": "REFUND",
                "offering_id": offering.offering_id,
                "investment_id": position.investment_id,
                "escrow_account_id": offering.escrow_account_id,
                "party_id": position.party_id,
                "currency": position.currency,
                "amount_minor": owed_minor(position),
                "attempt": (position.last_attempt or 0) + 1,
                "status": "REQUESTED",
                "created_at": now,
                "updated_at": now,
            }
            for position in positions
        ],
    )


def _key(investment_id: str, attempt: int) -> str:
    return f"refund:{investment_id}" if attempt == 1 else f"refund:{investment_id}:{attempt}"


async def _cancel(tx: AsyncConnection, offering: rows.Row, investment_ids: Sequence[str], now: datetime) -> None:
    withdrawn_minor = 0
    for row in await investments_store.cancel(tx, investment_ids, now) if investment_ids else ():
        withdrawn_minor += row.amount_minor
        await enqueue(tx, events.InvestmentCancelled(investment=messages.investment(row)), now=now)
    over = offering.status == "REFUNDING" and not await investments_store.any_left(tx, offering.offering_id)
    if not withdrawn_minor and not over:
        return
    after = await rows.save(
        tx,
        offerings,
        offering.offering_id,
        committed_minor=offerings.c.committed_minor - withdrawn_minor,
        updated_at=now,
        **({"status": "REFUNDED"} if over else {}),
    )
    if over:
        await enqueue(tx, events.OfferingRefunded(offering=messages.offering(after)), now=now)
