"""Distributions: drafted, calculated, submitted, approved by another person, executed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from realco.distributions.v1 import distributions_pb2 as pb
from realco.distributions.v1 import events_pb2 as events
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import current_principal
from services.chassis.calls.wire import from_date
from services.chassis.data.outbox import enqueue
from services.chassis.values.errors import InvalidField
from services.chassis.values.ids import new_id
from services.chassis.values.invariant import invariant
from services.chassis.values.money import Money
from services.distributions import messages
from services.distributions.commands import agreements
from services.distributions.domain.approval import ContentChanged, check_approval, content_hash
from services.distributions.domain.states import DISTRIBUTION_MOVES, DistributionStatus, IllegalState, move
from services.distributions.domain.waterfall import OutOfDateOrder, Result, calculate
from services.distributions.errors import (
    AllocationNotFailed,
    AllocationNotFound,
    CurrencyMismatch,
    DistributionInProgress,
    DistributionNotFound,
    EscrowAccountNotUsable,
    InsufficientDistributableCash,
    NotApproved,
    NotCalculated,
    OfferingNotClosed,
    OfferingNotFound,
)
from services.distributions.store import distributions as store
from services.distributions.store import investments as investments_store
from services.distributions.store import rows, sagas
from services.distributions.tables import allocations, distributions, offerings, payouts

_Status = DistributionStatus
_ALLOCATIONS_AN_EVENT = 800  # an event fits a message of 248 KiB


async def create(tx: AsyncConnection, request: pb.CreateDistributionRequest, now: datetime) -> pb.Distribution:
    offering = await rows.find(tx, offerings, request.offering_id)
    if offering is None:
        raise OfferingNotFound("No such offering.")
    if offering.status != "CLOSED":
        raise OfferingNotClosed("Only a closed offering distributes.", status=offering.status)
    if request.amount.currency_code != offering.currency:
        fields = {"amount.currency_code": "is not the offering's currency"}
        raise CurrencyMismatch("The offering is in another currency.", fields=fields, expected=offering.currency)
    on = now.date()
    if request.HasField("distribution_date"):
        on = from_date(request.distribution_date, "distribution_date")
    # A distribution on the day of the closing would precede the contributions it pays on.
    not_before = offering.declared_through or offering.closing_date + timedelta(days=1)
    if on < not_before:
        raise OutOfDateOrder("The date is already reckoned.", not_before=not_before.isoformat())
    if on > now.date() + agreements.PLANS_END:
        # Declared, it would keep every earlier date from being distributed, for ever.
        raise InvalidField("No such date.", fields={"distribution_date": "must lie within ten years of now"})
    row = await rows.insert(
        tx,
        distributions,
        distribution_id=new_id("dist"),
        offering_id=offering.offering_id,
        type=pb.Distribution.Type.Name(request.type),
        currency=offering.currency,
        amount_minor=request.amount.amount_minor,
        distribution_date=on,
        description=request.description,
        status=_Status.DRAFT.value,
        created_by=current_principal().person,
        created_at=now,
        updated_at=now,
    )
    invariant(row is not None, "a new distribution has a new id")
    assert row is not None
    return messages.distribution(row, [], 0)


async def calculate_one(
    tx: AsyncConnection, request: pb.CalculateDistributionRequest, now: datetime
) -> pb.Distribution:
    """Runs the waterfall on what has been declared so far, and keeps the result instead of an earlier one."""
    offering, row = await lock(tx, request.distribution_id)
    if row.status != _Status.DRAFT.value:
        raise IllegalState(row.status, _Status.DRAFT.value)
    result = await run_waterfall(tx, offering, row)
    lines = await store.keep_calculation(tx, row, offering.sponsor_party_id, result.steps, result.lines, now)
    row = await rows.save(
        tx,
        distributions,
        row.distribution_id,
        content_hash=hash_of(offering, row, result),
        basis_version=offering.declarations,
        allocation_count=len(lines),
        calculated_by=current_principal().person,
        updated_at=now,
    )
    message = await store.describe_one(tx, row)
    for start in range(0, len(lines), _ALLOCATIONS_AN_EVENT):
        part = [messages.allocation(line) for line in lines[start : start + _ALLOCATIONS_AN_EVENT]]
        await enqueue(tx, events.DistributionCalculated(distribution=message, allocations=part), now=now)
    return message


async def run_waterfall(tx: AsyncConnection, offering: rows.Row, row: rows.Row) -> Result:
    """What the distribution pays, given all that was declared before. The caller holds the offering's lock.

    Raises: NothingContributed, OutOfDateOrder.
    """
    state = await investments_store.waterfall_state(tx, offering.offering_id)
    return calculate(state, agreements.kept_in(offering), row.amount_minor, row.distribution_date)


def hash_of(offering: rows.Row, row: rows.Row, result: Result) -> str:
    """The hash of the content that an approval is bound to."""
    amount = Money(row.amount_minor, row.currency)
    return content_hash(row.distribution_id, amount, row.distribution_date, agreements.kept_in(offering), result.lines)


async def submit(tx: AsyncConnection, request: pb.SubmitDistributionRequest, now: datetime) -> pb.Distribution:
    _, row = await lock(tx, request.distribution_id)
    move(DISTRIBUTION_MOVES, _Status(row.status), _Status.PENDING_APPROVAL)
    if row.status == _Status.PENDING_APPROVAL.value:
        return await store.describe_one(tx, row)
    if not row.content_hash:
        raise NotCalculated("Calculate the distribution first.")
    row = await rows.save(
        tx,
        distributions,
        row.distribution_id,
        status=_Status.PENDING_APPROVAL.value,
        submitted_by=current_principal().person,
        updated_at=now,
    )
    message = await store.describe_one(tx, row)
    await enqueue(tx, events.DistributionSubmitted(distribution=message), now=now)
    return message


async def approve(tx: AsyncConnection, request: pb.ApproveDistributionRequest, now: datetime) -> pb.Distribution:
    offering, row = await lock(tx, request.distribution_id)
    move(DISTRIBUTION_MOVES, _Status(row.status), _Status.APPROVED)
    makers = [person for person in (row.created_by, row.calculated_by, row.submitted_by) if person]
    checker = current_principal().person
    check_approval(makers, checker, request.content_hash, row.content_hash)
    check_basis(offering, row)
    if row.status == _Status.APPROVED.value:
        return await store.describe_one(tx, row)
    row = await rows.save(
        tx,
        distributions,
        row.distribution_id,
        status=_Status.APPROVED.value,
        approved_by=checker,
        approved_hash=request.content_hash,
        updated_at=now,
    )
    message = await store.describe_one(tx, row)
    await enqueue(tx, events.DistributionApproved(distribution=message), now=now)
    return message


def check_basis(offering: rows.Row, row: rows.Row) -> None:
    """Raises ContentChanged if a distribution of the offering was declared since this one was calculated."""
    if row.basis_version != offering.declarations:
        raise ContentChanged(
            "Another distribution of the offering was declared meanwhile: send it back and calculate again.",
            content_hash=row.content_hash,
        )


async def reject(tx: AsyncConnection, request: pb.RejectDistributionRequest, now: datetime) -> pb.Distribution:
    """Back to DRAFT: it may be calculated and submitted again. Takes an approval away too."""
    _, row = await lock(tx, request.distribution_id)
    if row.status == _Status.DRAFT.value:
        raise IllegalState(row.status, _Status.DRAFT.value)
    move(DISTRIBUTION_MOVES, _Status(row.status), _Status.DRAFT)
    row = await rows.save(
        tx,
        distributions,
        row.distribution_id,
        status=_Status.DRAFT.value,
        submitted_by=None,
        approved_by=None,
        approved_hash=None,
        updated_at=now,
    )
    message = await store.describe_one(tx, row)
    await enqueue(tx, events.DistributionRejected(distribution=message, reason=request.reason), now=now)
    return message


async def cancel(tx: AsyncConnection, request: pb.CancelDistributionRequest, now: datetime) -> pb.Distribution:
    _, row = await lock(tx, request.distribution_id)
    move(DISTRIBUTION_MOVES, _Status(row.status), _Status.CANCELLED)
    if row.status == _Status.CANCELLED.value:
        return await store.describe_one(tx, row)
    await store.move_allocations(tx, row.distribution_id, "CANCELLED", now)
    row = await rows.save(tx, distributions, row.distribution_id, status=_Status.CANCELLED.value, updated_at=now)
    message = await store.describe_one(tx, row)
    await enqueue(tx, events.DistributionCancelled(distribution=message), now=now)
    return message


@dataclass(frozen=True, slots=True)
class Cash:
    """What escrow said of an offering's money."""

    escrow_account_id: str
    escrow_status: str
    distributable_minor: int


async def execute(
    tx: AsyncConnection, request: pb.ExecuteDistributionRequest, cash: Cash, now: datetime
) -> pb.Distribution:
    """Queues an approved distribution; the saga does the rest. `cash` was read before the transaction.

    What escrow would refuse is refused here while nothing has changed: a declaration that escrow refuses fails the
    distribution for good, and two persons begin again.
    """
    offering, row = await lock(tx, request.distribution_id)
    if row.status != _Status.APPROVED.value:
        raise NotApproved("Only an approved distribution is executed.", status=row.status)
    check_basis(offering, row)
    in_progress = await store.being_declared(tx, offering.offering_id)
    if in_progress is not None:
        raise DistributionInProgress("Another distribution is being declared.", distribution_id=in_progress)
    if cash.escrow_status in ("FROZEN", "CLOSED"):
        raise EscrowAccountNotUsable(
            f"The escrow account is {cash.escrow_status}.",
            escrow_account_id=cash.escrow_account_id,
            cause=cash.escrow_status,
        )
    if cash.distributable_minor < row.amount_minor:
        raise InsufficientDistributableCash(
            "Escrow holds less distributable cash.",
            available_minor=cash.distributable_minor,
            requested_minor=row.amount_minor,
        )
    row = await rows.save(tx, distributions, row.distribution_id, status=_Status.QUEUED.value, updated_at=now)
    await sagas.begin(tx, "EXECUTION", row.distribution_id, "DECLARE", current_principal().person, now)
    return await store.describe_one(tx, row)


async def resend(tx: AsyncConnection, request: pb.ResendAllocationRequest, now: datetime) -> pb.Allocation:
    """Begins another attempt to pay, only after the last one has definitely ended."""
    offering, row = await lock(tx, request.distribution_id)
    allocation = await rows.find(tx, allocations, request.allocation_id, lock=True)
    if allocation is None or allocation.distribution_id != row.distribution_id:
        raise AllocationNotFound("No such allocation of this distribution.")
    if allocation.status not in ("FAILED", "RETURNED"):
        raise AllocationNotFailed("Only a failed or returned allocation is sent again.", status=allocation.status)
    if row.status != _Status.PROCESSING.value:
        move(DISTRIBUTION_MOVES, _Status(row.status), _Status.PROCESSING)
        await rows.save(
            tx, distributions, row.distribution_id, status=_Status.PROCESSING.value, failure="", updated_at=now
        )
    allocation = await rows.save(
        tx,
        allocations,
        allocation.allocation_id,
        status="PROCESSING",
        attempts=allocation.attempts + 1,
        failure="",
        updated_at=now,
    )
    saga = await sagas.begin(tx, "RESEND", allocation.allocation_id, "PAY", current_principal().person, now)
    await request_payouts(tx, offering, [allocation], saga.saga_id, now, bank_account_id=request.bank_account_id)
    return messages.allocation(allocation)


async def request_payouts(
    tx: AsyncConnection,
    offering: rows.Row,
    found: list[rows.Row],
    saga_id: str,
    now: datetime,
    *,
    bank_account_id: str = "",
) -> None:
    """The intent to pay these allocations: the saga sends it."""
    await rows.insert_many(
        tx,
        payouts,
        [
            {
                "request_key": f"alloc:{allocation.allocation_id}:{allocation.attempts}",
                "saga_id": saga_id,
                "type": "DISTRIBUTION",
                "offering_id": offering.offering_id,
                "distribution_id": allocation.distribution_id,
                "allocation_id": allocation.allocation_id,
                "escrow_account_id": offering.escrow_account_id,
                "party_id": allocation.party_id,
                "bank_account_id": bank_account_id,
                "currency": allocation.currency,
                "amount_minor": allocation.total_minor,
                "attempt": allocation.attempts,
                "status": "REQUESTED",
                "created_at": now,
                "updated_at": now,
            }
            for allocation in found
        ],
    )


async def lock(tx: AsyncConnection, distribution_id: str) -> tuple[rows.Row, rows.Row]:
    """The offering and the distribution, locked in that order. Raises: DistributionNotFound."""
    found = await rows.find(tx, distributions, distribution_id)
    if found is None:
        raise DistributionNotFound("No such distribution.")
    offering = await rows.find(tx, offerings, found.offering_id, lock=True)
    row = await rows.find(tx, distributions, distribution_id, lock=True)
    assert offering is not None
    assert row is not None
    return offering, row
