"""A distribution of cash through the waterfall, and the allocations it consists of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from enum import Enum
from typing import Final

from services.chassis.values.approval import ApprovalExpired
from services.chassis.values.etags import etag_of
from services.chassis.values.explanation import Explanation
from services.chassis.values.failure import Failure
from services.chassis.values.moves import check_move
from services.chassis.values.refusals import ContentChanged, ContentOutdated, IllegalStatusChange
from services.chassis.values.second_person import check_no_maker
from services.chassis.values.times import write_time
from services.distributions.domain.offering import Offering
from services.distributions.domain.refusals import DistributionNotDue, NotCalculated, NothingToResend
from services.distributions.domain.states import (
    DISTRIBUTION_MOVES,
    AllocationStatus,
    DistributionStatus,
)

UNDER_WAY: Final = frozenset({AllocationStatus.PENDING, AllocationStatus.PROCESSING, AllocationStatus.ON_HOLD})
UNPAID: Final = frozenset({AllocationStatus.FAILED, AllocationStatus.RETURNED})


class PayeeType(Enum):
    INVESTOR = "INVESTOR"
    SPONSOR = "SPONSOR"


@dataclass(frozen=True, slots=True)
class TierTotal:
    """What one tier of a calculated distribution pays, in minor units."""

    kind: str
    investors_minor: int
    sponsor_minor: int
    explanation: Explanation


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """Amounts are minor units of its currency."""

    distribution_id: str
    offering_id: str
    type: str
    currency: str
    amount_minor: int
    distribution_date: date
    description: str | None = None
    status: DistributionStatus = DistributionStatus.DRAFT
    tiers: tuple[TierTotal, ...] = ()
    content_hash: str | None = None
    basis_version: int | None = None  # the offering's `declarations` when it was calculated
    allocation_count: int = 0
    paid_minor: int = 0  # of the allocations that were paid
    failure: Failure | None = None
    external_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    created_by: str
    calculated_by: str | None = None
    submitted_by: str | None = None
    approved_by: str | None = None
    approved_hash: str | None = None
    makers: frozenset[str]  # whoever drafted, calculated or submitted it, however often: none of them approves it
    expires_at: datetime | None = None  # until when it may be approved, or executed once it is
    declared_at: datetime | None = None
    execution_saga_id: str | None = None  # no other declares it
    created_at: datetime
    updated_at: datetime
    version: int = 1

    @property
    def etag(self) -> str:
        return etag_of(self.distribution_id, self.version)


@dataclass(frozen=True, slots=True)
class AllocationLine:
    """What one tier pays to one payee, in minor units.

    An investor's part goes by a claim (`claim_minor` of `claims_minor` of all investors); the sponsor's has none.
    """

    tier: int  # its place among the tiers of the terms, from 0
    kind: str
    amount_minor: int
    claim_minor: int | None
    claims_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """One payee's part of a distribution."""

    allocation_id: str
    distribution_id: str
    offering_id: str
    payee_type: PayeeType
    party_id: str
    currency: str
    lines: tuple[AllocationLine, ...]
    amount_minor: int
    set_off_minor: int = 0  # what of it was set off against what the payee owed: it is not paid
    status: AllocationStatus = AllocationStatus.PENDING
    transaction_id: str | None = None
    attempts: int = 0
    failure: Failure | None = None
    created_at: datetime
    updated_at: datetime
    version: int = 1

    @property
    def etag(self) -> str:
        return etag_of(self.allocation_id, self.version)


def count_set_off(allocation: Allocation, paid_minor: int) -> Allocation:
    """The allocation of which the newest attempt pays so much: all else of it was set off, by this one or before."""
    return replace(allocation, set_off_minor=allocation.amount_minor - paid_minor)


def sum_by_party(parts: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Party -> what it is owed, by party: a sponsor that invests too is owed both in one sum.

    Args:
        parts: A party and an amount in minor units, of each part.
    """
    owed: dict[str, int] = defaultdict(int)
    for party_id, amount_minor in parts:
        owed[party_id] += amount_minor
    return dict(sorted(owed.items()))


def check_may_calculate(distribution: Distribution) -> None:
    """Raises: IllegalStatusChange."""
    if distribution.status is not DistributionStatus.DRAFT:
        raise IllegalStatusChange(distribution.status.value, DistributionStatus.DRAFT.value)


def check_content(expected_hash: str, current_hash: str | None) -> None:
    """Refuses to go on with anything but what was seen: the hash binds an approval to every cent, payee, term and date
    of it. Raises: ContentChanged."""
    if expected_hash != current_hash:
        raise ContentChanged("The distribution has changed since it was seen.", content_hash=current_hash)


def check_up_to_date(kept_hash: str | None, worked_out_hash: str) -> None:
    """Whether it still is what was calculated, or approved, once it is worked out again. Raises: ContentOutdated."""
    if kept_hash != worked_out_hash:
        raise ContentOutdated("Worked out again it is something else: send it back and calculate again.")


def check_may_submit(offering: Offering, distribution: Distribution) -> None:
    """Raises: IllegalStatusChange, NotCalculated, ContentOutdated."""
    check_move(DISTRIBUTION_MOVES, distribution.status, DistributionStatus.PENDING_APPROVAL)
    if distribution.content_hash is None:
        raise NotCalculated("Calculate the distribution first.")
    check_basis(offering, distribution)


def check_due_before(distribution: Distribution, expires_at: datetime) -> None:
    """Whether its day comes while an approval that is asked for now is good. Raises: DistributionNotDue."""
    if (due := distribution.distribution_date) > expires_at.date():
        message = (
            f"An approval that is asked for now ends on {expires_at.date()}, before the distribution's day, {due}."
        )
        raise DistributionNotDue(message, distribution_date=due.isoformat(), expire_time=write_time(expires_at))


def check_may_approve(offering: Offering, distribution: Distribution, checker: str, now: datetime) -> None:
    """Whether this person may approve it, as far as the distribution knows: its approval knows who gains from it.

    Raises: IllegalStatusChange, ApprovalExpired, MakerIsChecker, ContentOutdated.
    """
    check_move(DISTRIBUTION_MOVES, distribution.status, DistributionStatus.APPROVED)
    _check_not_expired(distribution, now)
    check_no_maker(distribution.makers, checker)
    check_basis(offering, distribution)


def check_may_reject(distribution: Distribution, checker: str, now: datetime) -> None:
    """Whether this person may send it back. Who made it takes it back in the inbox, or cancels it.

    Raises: IllegalStatusChange, ApprovalExpired, MakerIsChecker.
    """
    check_move(DISTRIBUTION_MOVES, distribution.status, DistributionStatus.DRAFT)
    if distribution.status is DistributionStatus.PENDING_APPROVAL:  # what nobody decides in time goes back by itself
        _check_not_expired(distribution, now)
    check_no_maker(distribution.makers, checker)


def check_may_execute(offering: Offering, distribution: Distribution, now: datetime) -> None:
    """Raises: IllegalStatusChange, ApprovalExpired, DistributionNotDue, ContentOutdated."""
    check_move(DISTRIBUTION_MOVES, distribution.status, DistributionStatus.QUEUED)
    _check_not_expired(distribution, now)
    if (due := distribution.distribution_date) > now.date():
        # What is earned until then is not earned yet, and no other date before it could be distributed any more.
        message = f"The distribution is dated {due}: it is executed on that day, or later."
        raise DistributionNotDue(message, distribution_date=due.isoformat())
    check_basis(offering, distribution)


def check_may_cancel(distribution: Distribution) -> None:
    """Raises: IllegalStatusChange."""
    check_move(DISTRIBUTION_MOVES, distribution.status, DistributionStatus.CANCELLED)


def check_may_resend(allocation: Allocation) -> None:
    """Raises: IllegalStatusChange."""
    if allocation.status not in UNPAID:
        message = "Only a failed or returned allocation is sent again."
        raise IllegalStatusChange(allocation.status.value, AllocationStatus.PROCESSING.value, message)


def find_owed_share(allocation: Allocation, left_minor: int) -> int:
    """How much of a share is to be paid again: what entries have taken of it is not owed any more.

    Args:
        left_minor: On PAYABLE of its payee, who may have other shares there.

    Raises: NothingToResend.
    """
    owed_minor = min(allocation.amount_minor - allocation.set_off_minor, left_minor)
    if owed_minor <= 0:
        raise NothingToResend("Nothing of the share is left on PAYABLE: entries by hand have paid or settled it.")
    return owed_minor


def check_basis(offering: Offering, distribution: Distribution) -> None:
    """Raises ContentOutdated if a distribution of the offering was declared since this one was calculated."""
    if distribution.basis_version != offering.declarations:
        raise ContentOutdated(
            "Another distribution of the offering was declared meanwhile: send it back and calculate again."
        )


def _check_not_expired(distribution: Distribution, now: datetime) -> None:
    expires_at = distribution.expires_at
    if expires_at is not None and now >= expires_at:
        message = "Too long ago it was submitted or approved: send it back, and submit it again."
        raise ApprovalExpired(expires_at, message)


def find_end(counts: Mapping[AllocationStatus, int], current: DistributionStatus) -> DistributionStatus:
    """How a distribution with these allocations has ended. None of them is under way."""
    if not any(counts.get(status) for status in UNPAID):
        return DistributionStatus.COMPLETED
    # Something was paid, even if all of it has come back.
    was_paid = current in (DistributionStatus.COMPLETED, DistributionStatus.PARTIALLY_FAILED)
    if was_paid or counts.get(AllocationStatus.COMPLETED):
        return DistributionStatus.PARTIALLY_FAILED
    return DistributionStatus.FAILED
