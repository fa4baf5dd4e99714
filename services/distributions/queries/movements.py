"""What escrow moves by each decision of two persons: as the notary hears it from both, and as escrow is asked."""

from __future__ import annotations

from collections.abc import Mapping

from services.chassis.approvals.notary import Movement, MovementLine, Witnessed
from services.chassis.data.database import Database
from services.chassis.values.money import Money
from services.distributions.clients import Compliance
from services.distributions.domain.closing import sum_releases
from services.distributions.domain.offering import Offering
from services.distributions.store.allocations import sum_by_payee
from services.distributions.store.approvals import CLOSE_OFFERING, DISTRIBUTION_APPROVALS
from services.distributions.store.distributions import require_distribution
from services.distributions.store.investments import list_investments_of
from services.distributions.store.offerings import require_offering


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
            owed = await sum_by_payee(tx, distribution_id)
        return _build(DISTRIBUTION_APPROVALS.kind, distribution_id, content_hash, offering, owed)

    return Witnessed(notary, {CLOSE_OFFERING: read_release, DISTRIBUTION_APPROVALS.kind: read_declaration})


def _build(kind: str, resource_id: str, content_hash: str, offering: Offering, parts: Mapping[str, int]) -> Movement:
    lines = tuple(MovementLine(party_id, Money(minor, offering.currency)) for party_id, minor in parts.items())
    return Movement(kind, resource_id, content_hash, offering.escrow_account_id, lines)
