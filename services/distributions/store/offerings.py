"""Offerings: each change is its row, its line of history and its event."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from google.protobuf.message import Message
from realco.distributions.v1 import events_pb2 as events
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.data.outbox import enqueue
from services.chassis.values.failure import read_failure, write_failure
from services.distributions.domain.offering import Exemption, Offering
from services.distributions.domain.refusals import OfferingNotFound
from services.distributions.domain.states import OFFERING_MOVES, OfferingStatus
from services.distributions.messages import to_offering
from services.distributions.store.aggregates import Aggregate
from services.distributions.store.columns import read_terms, write_terms
from services.distributions.store.rows import Row
from services.distributions.tables import offerings


def read_offering(row: Row) -> Offering:
    return Offering(
        offering_id=row.offering_id,
        display_name=row.display_name,
        sponsor_party_id=row.sponsor_party_id,
        escrow_account_id=row.escrow_account_id,
        exemption=Exemption(row.exemption),
        currency=row.currency,
        target_minor=row.target_minor,
        maximum_minor=row.maximum_minor,
        open_at=row.open_at,
        deadline_at=row.deadline_at,
        early_close_noticed_on=row.early_close_noticed_on,
        terms=read_terms(row.tiers),
        status=OfferingStatus(row.status),
        committed_minor=row.committed_minor,
        funded_minor=row.funded_minor,
        closing_date=row.closing_date,
        closing_attempt=row.closing_attempt,
        proceeds_bank_account_id=row.proceeds_bank_account_id,
        proceeds_transaction_id=row.proceeds_transaction_id,
        proceeds_failure=read_failure(row.proceeds_failure),
        refund_note=row.refund_note,
        declarations=row.declarations,
        edition=row.edition,
        declared_through=row.declared_through,
        external_id=row.external_id,
        metadata=row.metadata,
        created_by=row.created_by,
        makers=frozenset(row.makers),
        created_at=row.created_at,
        updated_at=row.updated_at,
        version=row.version,
    )


def _columns(offering: Offering) -> dict[str, Any]:
    return {
        "offering_id": offering.offering_id,
        "display_name": offering.display_name,
        "sponsor_party_id": offering.sponsor_party_id,
        "escrow_account_id": offering.escrow_account_id,
        "exemption": offering.exemption.value,
        "currency": offering.currency,
        "target_minor": offering.target_minor,
        "maximum_minor": offering.maximum_minor,
        "open_at": offering.open_at,
        "deadline_at": offering.deadline_at,
        "early_close_noticed_on": offering.early_close_noticed_on,
        "tiers": write_terms(offering.terms),
        "status": offering.status.value,
        "committed_minor": offering.committed_minor,
        "funded_minor": offering.funded_minor,
        "closing_date": offering.closing_date,
        "closing_attempt": offering.closing_attempt,
        "proceeds_bank_account_id": offering.proceeds_bank_account_id,
        "proceeds_transaction_id": offering.proceeds_transaction_id,
        "proceeds_failure": write_failure(offering.proceeds_failure),
        "refund_note": offering.refund_note,
        "declarations": offering.declarations,
        "edition": offering.edition,
        "declared_through": offering.declared_through,
        "external_id": offering.external_id,
        "metadata": dict(offering.metadata),
        "created_by": offering.created_by,
        "makers": sorted(offering.makers),
        "created_at": offering.created_at,
        "updated_at": offering.updated_at,
    }


OFFERINGS = Aggregate(offerings, "offering_id", OFFERING_MOVES, read_offering, _columns)


async def require_offering(tx: AsyncConnection, offering_id: str, field: str | None = None) -> Offering:
    """Raises: OfferingNotFound, which names the field of a request that named it."""
    offering = await OFFERINGS.find(tx, offering_id)
    if offering is None:
        raise OfferingNotFound(field)
    return offering


async def lock_offering(tx: AsyncConnection, offering_id: str, field: str | None = None) -> Offering:
    """Raises: OfferingNotFound, which names the field of a request that named it."""
    offering = await OFFERINGS.lock(tx, offering_id)
    if offering is None:
        raise OfferingNotFound(field)
    return offering


async def lock_offering_of(tx: AsyncConnection, escrow_account_id: str) -> Offering | None:
    """The offering whose money the escrow account keeps, if there is one."""
    found = await OFFERINGS.lock_all(tx, offerings.c.escrow_account_id == escrow_account_id)
    return found[0] if found else None


async def insert_offering(tx: AsyncConnection, offering: Offering) -> bool:
    """False if another offering uses the escrow account."""
    if not await OFFERINGS.insert(tx, offering):
        return False
    await enqueue(tx, events.OfferingCreated(offering=to_offering(offering)), now=offering.created_at)
    return True


async def save_offering(
    tx: AsyncConnection, before: Offering, after: Offering, event: Message, now: datetime
) -> Offering:
    """Writes the offering as it is `after`, and publishes the event with it. The caller holds its lock.

    Raises: IllegalStatusChange.
    """
    if after == before:
        return before
    if not after.is_edition_of(before):
        after = replace(after, edition=before.edition + 1)
    offering = await OFFERINGS.save(tx, before, after, now)
    holder: Any = event
    holder.offering.CopyFrom(to_offering(offering))
    await enqueue(tx, event, now=now)
    return offering
