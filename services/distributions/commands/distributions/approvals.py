"""A calculated distribution submitted, and approved or sent back by another person."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from realco.distributions.v1 import distributions_pb2 as pb
from realco.distributions.v1 import events_pb2 as events
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import current_principal
from services.chassis.values.etags import check_etag
from services.distributions.actions import answer_distribution
from services.distributions.domain.approval import check_content
from services.distributions.domain.distribution import check_may_approve, check_may_reject, check_may_submit
from services.distributions.domain.states import DistributionStatus
from services.distributions.store.distributions import lock_distribution, save_distribution


async def submit_distribution(
    tx: AsyncConnection, request: pb.SubmitDistributionRequest, now: datetime
) -> pb.Distribution:
    offering, distribution = await lock_distribution(tx, request.distribution_id)
    check_etag(request.etag, distribution.etag)
    if distribution.status is DistributionStatus.PENDING_APPROVAL:
        return answer_distribution(offering, distribution)
    check_may_submit(distribution)
    submitted = replace(
        distribution, status=DistributionStatus.PENDING_APPROVAL, submitted_by=current_principal().person
    )
    after, _ = await save_distribution(tx, distribution, submitted, events.DistributionSubmitted(), now)
    return answer_distribution(offering, after)


async def approve_distribution(
    tx: AsyncConnection, request: pb.ApproveDistributionRequest, now: datetime
) -> pb.Distribution:
    """Approves exactly the content and the version that the request names."""
    offering, distribution = await lock_distribution(tx, request.distribution_id)
    check_etag(request.etag, distribution.etag)
    checker = current_principal().person
    check_may_approve(offering, distribution, checker)
    check_content(request.content_hash, distribution.content_hash)
    approved = replace(
        distribution,
        status=DistributionStatus.APPROVED,
        approved_by=checker,
        approved_hash=request.content_hash,
    )
    after, _ = await save_distribution(tx, distribution, approved, events.DistributionApproved(), now)
    return answer_distribution(offering, after)


async def reject_distribution(
    tx: AsyncConnection, request: pb.RejectDistributionRequest, now: datetime
) -> pb.Distribution:
    """Back to DRAFT: it may be calculated and submitted again. Takes an approval away too."""
    offering, distribution = await lock_distribution(tx, request.distribution_id)
    check_etag(request.etag, distribution.etag)
    check_may_reject(distribution)
    drafted = replace(
        distribution,
        status=DistributionStatus.DRAFT,
        submitted_by=None,
        approved_by=None,
        approved_hash=None,
    )
    event = events.DistributionRejected(reason=request.reason)
    after, _ = await save_distribution(tx, distribution, drafted, event, now)
    return answer_distribution(offering, after)
