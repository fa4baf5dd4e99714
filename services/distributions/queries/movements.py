"""What escrow moves by each decision of two persons: as the notary hears it from both, and as escrow asks about it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from realco.distributions.v1 import payout_orders_pb2 as pb

from services.chassis.approvals.notary import Witnessed
from services.chassis.data.database import Database
from services.chassis.data.transaction import Tx
from services.chassis.process.telemetry import log
from services.chassis.values.money import Money
from services.chassis.values.movement import Movement, MovementLine
from services.distributions.clients import Compliance
from services.distributions.domain.closing import sum_released, sum_releases
from services.distributions.domain.offering import Offering
from services.distributions.domain.refusals import MovementNotOrdered
from services.distributions.domain.states import DistributionStatus, OfferingStatus
from services.distributions.messages import read_movement
from services.distributions.store.allocations import sum_by_payee
from services.distributions.store.approvals import CLOSE_OFFERING, DISTRIBUTION_APPROVALS, read_closing_hash
from services.distributions.store.distributions import DISTRIBUTIONS, require_distribution
from services.distributions.store.investments import list_investments_of
from services.distributions.store.offerings import OFFERINGS, require_offering
from services.distributions.store.sagas import list_mandates


def build_witnessed(database: Database, notary: Compliance) -> Witnessed:
    """What moves money in escrow if two persons say so."""

    async def read_release(offering_id: str, content_hash: str) -> Movement:
        async with database.begin() as tx:
            offering = await require_offering(tx, offering_id)
            released = sum_releases(await list_investments_of(tx, offering_id))
        return _build(CLOSE_OFFERING, offering_id, content_hash, offering, released)

    async def read_declaration(distribution_id: str, content_hash: str) -> Movement:
        async with database.begin() as tx:
            distribution = await require_distribution(tx, distribution_id)
            offering = await require_offering(tx, distribution.offering_id)
            owed = await sum_by_payee(tx, distribution)
        return _build(DISTRIBUTION_APPROVALS.kind, distribution_id, content_hash, offering, owed)

    return Witnessed(notary, {CLOSE_OFFERING: read_release, DISTRIBUTION_APPROVALS.kind: read_declaration})


async def check_movement_order(
    tx: Tx, request: pb.CheckMovementOrderRequest, _: datetime
) -> pb.CheckMovementOrderResponse:
    """Raises: MovementNotOrdered, NotSealed."""
    asked = read_movement(request.movement)
    find = _find_release if asked.kind == CLOSE_OFFERING else _find_declaration
    ordered = await find(tx, asked.resource_id)
    if ordered is None or ordered[0] != asked:
        message = "Just this is not about to be moved."
        log.error("movement_not_ordered", kind=asked.kind, resource_id=asked.resource_id)
        raise MovementNotOrdered(message, resource_id=asked.resource_id)
    saga_id = ordered[1]
    mandates = await list_mandates(tx, [saga_id])
    return pb.CheckMovementOrderResponse(ordered_by=mandates[saga_id].actor)


async def _find_release(tx: Tx, offering_id: str) -> tuple[Movement, str] | None:
    """What is about to be released, and the saga that has it done."""
    offering = await OFFERINGS.find(tx, offering_id)
    if offering is None or offering.status is not OfferingStatus.CLOSING:
        return None
    content_hash = await read_closing_hash(tx, offering)
    released = sum_released(await list_investments_of(tx, offering_id))
    return _build(CLOSE_OFFERING, offering_id, content_hash, offering, released), offering.closing_saga_id or ""


async def _find_declaration(tx: Tx, distribution_id: str) -> tuple[Movement, str] | None:
    """What is about to be declared, and the saga that has it done."""
    distribution = await DISTRIBUTIONS.find(tx, distribution_id)
    if distribution is None or distribution.status is not DistributionStatus.QUEUED:
        return None
    offering = await require_offering(tx, distribution.offering_id)
    owed = await sum_by_payee(tx, distribution)
    kind, content_hash = DISTRIBUTION_APPROVALS.kind, distribution.approved_hash or ""
    return _build(kind, distribution_id, content_hash, offering, owed), distribution.execution_saga_id or ""


def _build(kind: str, resource_id: str, content_hash: str, offering: Offering, parts: Mapping[str, int]) -> Movement:
    lines = tuple(MovementLine(party_id, Money(minor, offering.currency)) for party_id, minor in sorted(parts.items()))
    return Movement(kind, resource_id, content_hash, offering.escrow_account_id, lines)
