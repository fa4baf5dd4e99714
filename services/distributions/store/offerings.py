"""Offerings: each change is its row, its line of history and its event."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from google.protobuf.message import Message
from realco.distributions.v1 import events_pb2 as events

from services.chassis.data.aggregates import Aggregate, list_columns, read_fields
from services.chassis.data.outbox import enqueue
from services.chassis.data.reads import Source
from services.chassis.data.sql import Row
from services.chassis.data.transaction import Tx
from services.chassis.values.failure import read_failure, write_failure
from services.distributions.domain.offering import Exemption, Offering, ReceivablesPolicy
from services.distributions.domain.refusals import OfferingNotFound
from services.distributions.domain.states import OFFERING_MOVES, OfferingStatus
from services.distributions.messages import to_offering
from services.distributions.store.columns import read_terms, write_terms
from services.distributions.tables import moves, offerings


def _read_offering(row: Row) -> Offering:
    return read_fields(
        Offering,
        row,
        exemption=Exemption(row.exemption),
        terms=read_terms(row.tiers),
        receivables_policy=ReceivablesPolicy(row.receivables_policy),
        status=OfferingStatus(row.status),
        closing_failure=read_failure(row.closing_failure),
        proceeds_failure=read_failure(row.proceeds_failure),
        makers=frozenset(row.makers),
    )


def _list_columns(offering: Offering) -> dict[str, Any]:
    return list_columns(
        offerings,
        offering,
        exemption=offering.exemption.value,
        tiers=write_terms(offering.terms),
        receivables_policy=offering.receivables_policy.value,
        status=offering.status.value,
        closing_failure=write_failure(offering.closing_failure),
        proceeds_failure=write_failure(offering.proceeds_failure),
        metadata=dict(offering.metadata),
        makers=sorted(offering.makers),
    )


OFFERINGS = Aggregate(offerings, "offering_id", _read_offering, _list_columns, OFFERING_MOVES, moves)


async def require_offering(source: Source, offering_id: str, field: str | None = None) -> Offering:
    """Raises: OfferingNotFound, which names the field of a request that named it."""
    offering = await OFFERINGS.find(source, offering_id)
    if offering is None:
        raise OfferingNotFound(field)
    return offering


async def lock_offering(tx: Tx, offering_id: str, field: str | None = None) -> Offering:
    """Raises: OfferingNotFound, which names the field of a request that named it."""
    offering = await OFFERINGS.lock(tx, offering_id)
    if offering is None:
        raise OfferingNotFound(field)
    return offering


async def find_offering_of(tx: Tx, escrow_account_id: str) -> Offering | None:
    """As `lock_offering_of`, without its lock."""
    found = await OFFERINGS.list_all(tx, offerings.c.escrow_account_id == escrow_account_id)
    return found[0] if found else None


async def lock_offering_of(tx: Tx, escrow_account_id: str) -> Offering | None:
    """The offering whose money the escrow account keeps, if there is one."""
    row = (await tx.execute(_LOCKING_OF_ACCOUNT, {"of_account": escrow_account_id})).one_or_none()
    return None if row is None else OFFERINGS.read_sealed(tx, row)


_LOCKING_OF_ACCOUNT = OFFERINGS.locking.where(offerings.c.escrow_account_id == sa.bindparam("of_account"))


async def insert_offering(tx: Tx, offering: Offering) -> bool:
    """False if another offering uses the escrow account. Raises: NotSealed: nobody of ours says that one does."""
    if not await OFFERINGS.insert_if_new(tx, offering):
        await lock_offering_of(tx, offering.escrow_account_id)
        return False
    await enqueue(tx, events.OfferingCreated(offering=to_offering(offering)), now=offering.created_at)
    return True


async def save_offering(tx: Tx, before: Offering, after: Offering, event: Message, now: datetime) -> Offering:
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
