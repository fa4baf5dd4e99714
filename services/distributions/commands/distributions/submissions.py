"""A calculated distribution submitted, and approved or sent back by another person: by its own route or the inbox."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from google.protobuf.message import Message
from realco.distributions.v1 import distributions_pb2 as pb
from realco.distributions.v1 import events_pb2 as events
from realco.distributions.v1.events_pb2 import DistributionSentBack as SentBack

from services.chassis.approvals.notary import Witnessed
from services.chassis.calls.auth import current_principal
from services.chassis.data.approval_policy import decide_terms_of
from services.chassis.data.database import Database
from services.chassis.data.operations import Operations
from services.chassis.data.stops import note_stop
from services.chassis.data.transaction import Tx
from services.chassis.values.approval import VALIDITY, Approval, ApprovalFacts
from services.chassis.values.approval import Status as ApprovalStatus
from services.chassis.values.etags import check_etag
from services.chassis.values.money import Money
from services.distributions.actions import answer_distribution, answer_waiting
from services.distributions.commands.distributions.calculations import (
    build_content,
    describe_result,
    work_out_again,
)
from services.distributions.domain.distribution import (
    Distribution,
    check_content,
    check_due_before,
    check_may_approve,
    check_may_reject,
    check_may_submit,
)
from services.distributions.domain.offering import Offering
from services.distributions.domain.states import DistributionStatus
from services.distributions.store.allocations import sum_by_payee
from services.distributions.store.approvals import DISTRIBUTION_APPROVALS
from services.distributions.store.distributions import lock_distribution, require_distribution, save_distribution
from services.distributions.store.offerings import require_offering

M = TypeVar("M", bound=Message)
# Somebody asked for it to be paid, or approved that.
_SAID = (DistributionStatus.PENDING_APPROVAL, DistributionStatus.APPROVED)
# How its approval ended, where nobody approved it.
_REASONS = {
    ApprovalStatus.REJECTED: SentBack.REJECTED,
    ApprovalStatus.CANCELLED: SentBack.WITHDRAWN,
    ApprovalStatus.EXPIRED: SentBack.EXPIRED,
}


async def witness_submission(
    database: Database, witnessed: Witnessed, request: pb.SubmitDistributionRequest, now: datetime
) -> None:
    """Has the notary hear what the caller is about to ask for. Raises Unavailable, and as the command does."""
    async with database.begin() as tx:
        distribution = await require_distribution(tx, request.distribution_id)
        offering = await require_offering(tx, distribution.offering_id)
        payees = await sum_by_payee(tx, distribution)
    check_etag(request.etag, distribution.etag)
    if request.validate_only or distribution.status is DistributionStatus.PENDING_APPROVAL:
        return
    check_may_submit(offering, distribution)
    async with database.begin() as tx:
        check_due_before(distribution, _compute_end(tx, distribution, now))
        await DISTRIBUTION_APPROVALS.check_may_ask(tx, distribution.distribution_id, now)
    content_hash = distribution.content_hash or ""
    kind, makers = DISTRIBUTION_APPROVALS.kind, distribution.makers
    await witnessed.record_request(kind, distribution.distribution_id, content_hash, makers, payees)


async def submit_distribution(tx: Tx, request: pb.SubmitDistributionRequest, now: datetime) -> pb.Distribution:
    """DRAFT -> PENDING_APPROVAL; one that waits already stays as it is."""
    offering, distribution = await lock_distribution(tx, request.distribution_id)
    check_etag(request.etag, distribution.etag)
    if distribution.status is DistributionStatus.PENDING_APPROVAL:
        return await answer_waiting(tx, offering, distribution, now)
    check_may_submit(offering, distribution)
    await DISTRIBUTION_APPROVALS.check_may_ask(tx, distribution.distribution_id, now)
    expires_at = _compute_end(tx, distribution, now)
    check_due_before(distribution, expires_at)
    person = current_principal().person
    submitted = replace(
        distribution,
        status=DistributionStatus.PENDING_APPROVAL,
        submitted_by=person,
        makers=distribution.makers | {person},
        expires_at=expires_at,
    )
    after, _ = await save_distribution(tx, distribution, submitted, events.DistributionSubmitted(), now)
    await _ask_for_approval(tx, offering, after, now)
    return await answer_waiting(tx, offering, after, now)


def _compute_end(tx: Tx, distribution: Distribution, now: datetime) -> datetime:
    """Of an approval that is asked for now."""
    amount = Money(distribution.amount_minor, distribution.currency)
    return now + decide_terms_of(tx, DISTRIBUTION_APPROVALS.kind, amount).validity


async def _ask_for_approval(tx: Tx, offering: Offering, distribution: Distribution, now: datetime) -> None:
    """What another person reads is what the hash says. Raises: ContentOutdated."""
    result = await work_out_again(tx, offering, distribution)
    details, resource = describe_result(offering, distribution, result), build_content(offering, distribution, result)
    await DISTRIBUTION_APPROVALS.open(tx, details, resource, now)


async def witness_approval(
    operations: Operations, witnessed: Witnessed, request: pb.ApproveDistributionRequest, facts: ApprovalFacts
) -> None:
    """Has the notary hear the caller's yes before it counts.

    Raises:
        Unavailable, and as the command does.
    """
    if request.validate_only:
        return

    async def approve(tx: Tx, request: pb.ApproveDistributionRequest, now: datetime) -> pb.Distribution:
        return await approve_distribution(tx, request, facts, now)

    rehearse = partial(operations.rehearse, request, pb.Distribution, approve)
    about = DISTRIBUTION_APPROVALS.kind, request.distribution_id, request.content_hash
    await witnessed.record_approval(*about, rehearse)


async def approve_distribution(
    tx: Tx, request: pb.ApproveDistributionRequest, facts: ApprovalFacts, now: datetime
) -> pb.Distribution:
    """Approves exactly the content and the version that the request names; it goes on by the last yes that it needs.

    Args:
        facts: About the caller and who approved it before.
    """
    offering, distribution = await lock_distribution(tx, request.distribution_id)
    check_etag(request.etag, distribution.etag)
    after = await _approve(tx, offering, distribution, request.content_hash, facts, now)
    return await answer_waiting(tx, offering, after, now)


async def witness_withdrawal(
    operations: Operations, witnessed: Witnessed, request: M, command: Callable[..., Awaitable[pb.Distribution]]
) -> bool:
    """Has the notary hear that what was asked for, or approved, is about to be taken back by this command.

    Returns: Whether it did.

    Raises:
        Unavailable, and as the command does.
    """
    asked: Any = request
    async with operations.database.begin() as tx:
        distribution = await require_distribution(tx, asked.distribution_id)
    if asked.validate_only or distribution.status not in _SAID:
        return False
    rehearse = partial(operations.rehearse, asked, pb.Distribution, command)
    about, is_approved = asked.distribution_id, distribution.status is DistributionStatus.APPROVED
    await witnessed.record_withdrawal(DISTRIBUTION_APPROVALS.kind, about, rehearse, of_approved=is_approved)
    return True


async def approve_waiting(tx: Tx, approval: Approval, facts: ApprovalFacts, now: datetime) -> None:
    """As the own route does, for who decided in the inbox."""
    offering, distribution = await lock_distribution(tx, approval.resource_id)
    await _approve(tx, offering, distribution, approval.content_hash, facts, now, approval.note)


async def _approve(
    tx: Tx,
    offering: Offering,
    distribution: Distribution,
    content_hash: str,
    facts: ApprovalFacts,
    now: datetime,
    note: str | None = None,
) -> Distribution:
    checker = current_principal().person
    check_may_approve(offering, distribution, checker, now)
    check_content(content_hash, distribution.content_hash)
    await work_out_again(tx, offering, distribution)
    if not await DISTRIBUTION_APPROVALS.count_yes(tx, distribution.distribution_id, facts, now, note):
        return distribution
    approved = replace(
        distribution,
        status=DistributionStatus.APPROVED,
        approved_by=checker,
        approved_hash=content_hash,
        expires_at=now + VALIDITY,
    )
    after, _ = await save_distribution(tx, distribution, approved, events.DistributionApproved(), now)
    return after


async def reject_distribution(tx: Tx, request: pb.RejectDistributionRequest, now: datetime) -> pb.Distribution:
    """Back to DRAFT: it may be calculated and submitted again. Takes an approval away too."""
    offering, distribution = await lock_distribution(tx, request.distribution_id)
    check_etag(request.etag, distribution.etag)
    check_may_reject(distribution, current_principal().person, now)
    if distribution.status is DistributionStatus.APPROVED:  # no decision any more: it undoes what two persons decided
        await note_stop(tx, "TAKE_BACK_DISTRIBUTION", distribution.distribution_id, now)
    await DISTRIBUTION_APPROVALS.reject(tx, distribution.distribution_id, request.note, now)
    sent_back = await _send_back(tx, distribution, SentBack.REJECTED, now)
    return answer_distribution(offering, sent_back, now)


async def end_waiting(tx: Tx, approval: Approval, why: str, now: datetime) -> None:
    """Back to DRAFT: it was rejected or taken back in the inbox, or nobody decided in time."""
    _, distribution = await lock_distribution(tx, approval.resource_id)
    if distribution.status is DistributionStatus.PENDING_APPROVAL:
        await _send_back(tx, distribution, _REASONS[approval.status], now)


async def _send_back(tx: Tx, distribution: Distribution, reason: SentBack.Reason, now: datetime) -> Distribution:
    drafted = replace(
        distribution,
        status=DistributionStatus.DRAFT,
        submitted_by=None,
        approved_by=None,
        approved_hash=None,
        expires_at=None,
    )
    after, _ = await save_distribution(tx, distribution, drafted, SentBack(reason=reason), now)
    return after
