"""The gates of a closing, from what this service knows and what it asked the others before any transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from realco.distributions.v1 import offerings_pb2 as pb
from realco.escrow.v1 import escrow_pb2 as escrow
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.data.database import Database
from services.chassis.values.errors import DomainError
from services.distributions.clients import Escrow, Peers
from services.distributions.domain import closing
from services.distributions.errors import OfferingNotFound
from services.distributions.store import investments as investments_store
from services.distributions.store import rows
from services.distributions.tables import offerings

_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_FOR_NOW = datetime.max.replace(tzinfo=UTC)
_LIVE = ("PENDING", "RECONFIRM_REQUIRED")


@dataclass(frozen=True, slots=True)
class Seen:
    """What the other services said."""

    escrow_status: str | None
    escrow_balanced: bool | None
    cleared: Mapping[str, bool]  # by investor


async def look(database: Database, peers: Peers, offering_id: str) -> Seen:
    """Asks escrow and compliance. What they definitely do not know stays unknown, which shuts a gate.

    Raises:
        OfferingNotFound: there is no such offering.
        PeerUnavailable: one of them does not answer.
    """
    async with database.begin() as tx:
        row = await rows.find(tx, offerings, offering_id)
        if row is None:
            raise OfferingNotFound("No such offering.")
        investors = sorted({live.party_id for live in await _live(tx, offering_id)})
    status, balanced = await _look_at_escrow(peers.escrow, row.escrow_account_id)
    clearances = await peers.compliance.batch_get_clearances(investors) if investors else []
    return Seen(status, balanced, {clearance.party_id: clearance.cleared for clearance in clearances})


async def _look_at_escrow(peer: Escrow, escrow_account_id: str) -> tuple[str | None, bool | None]:
    try:
        account = await peer.get_escrow_account(escrow_account_id)
        trial = await peer.get_trial_balance(escrow_account_id)
    except DomainError as refusal:
        if refusal.kind.transient:
            raise
        return None, None
    return escrow.EscrowAccount.Status.Name(account.status), trial.balanced


async def evaluate(tx: AsyncConnection, row: rows.Row, seen: Seen, now: datetime) -> tuple[closing.Gate, ...]:
    early = row.early_close_noticed_on
    facts = closing.ClosingFacts(
        exemption=closing.Exemption(row.exemption),
        target_minor=row.target_minor,
        disclosed_at=row.open_at,
        deadline=row.deadline_at,
        subscriptions=[_subscription(live, seen) for live in await _live(tx, row.offering_id)],
        escrow_status=seen.escrow_status,
        escrow_balanced=seen.escrow_balanced,
        early_close=closing.EarlyClose(row.deadline_at, early) if early is not None else None,
    )
    return closing.release_gates(facts, now)


async def require(tx: AsyncConnection, row: rows.Row, seen: Seen, now: datetime) -> None:
    """Raises: GatesShut, with every shut gate by name. The caller holds the offering's lock."""
    closing.require_open(await evaluate(tx, row, seen, now))


async def _live(tx: AsyncConnection, offering_id: str) -> list[rows.Row]:
    """The investments a closing is about: with money in, and not on their way back."""
    return [
        row
        for row in await investments_store.of_offering(tx, offering_id)
        if row.status in _LIVE
        and row.refund_requested_by is None
        and (row.funded_minor > 0 or row.status == "RECONFIRM_REQUIRED")
    ]


def _subscription(row: rows.Row, seen: Seen) -> closing.Subscription:
    cleared = seen.cleared.get(row.party_id, False)
    return closing.Subscription(
        party_id=row.party_id,
        funded_minor=row.funded_minor,
        compliance_passed=cleared,
        # Compliance says "cleared" only while its checks are fresh, and was asked a moment ago.
        compliance_fresh_until=_FOR_NOW if cleared else None,
        return_risk_until=_LONG_AGO if row.completed_minor - row.refunded_minor >= row.funded_minor else None,
        reconfirm_required=row.status == "RECONFIRM_REQUIRED",
    )


def message_of(offering_id: str, found: tuple[closing.Gate, ...]) -> pb.ClosingGates:
    return pb.ClosingGates(
        offering_id=offering_id,
        gates=[pb.ClosingGates.Gate(name=gate.name.value, passed=gate.passed, detail=gate.detail) for gate in found],
        all_passed=all(gate.passed for gate in found),
    )
