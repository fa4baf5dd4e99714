"""The waterfall run on what was declared before, and its result kept until the next run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from realco.distributions.v1 import distributions_pb2 as pb

from services.chassis.calls.auth import current_principal
from services.chassis.data.transaction import Tx
from services.chassis.values.approval import ApprovalDetails, Change, hash_content
from services.chassis.values.etags import check_etag
from services.chassis.values.ids import derived_id
from services.chassis.values.money import Money
from services.chassis.values.text import quote
from services.distributions.actions import answer_distribution
from services.distributions.domain.distribution import (
    Allocation,
    Distribution,
    PayeeType,
    TierTotal,
    check_may_calculate,
    check_up_to_date,
    sum_by_party,
)
from services.distributions.domain.lines import list_lines, sum_claims
from services.distributions.domain.lots import SPONSOR
from services.distributions.domain.offering import Offering
from services.distributions.domain.states import DistributionStatus
from services.distributions.domain.waterfall import Result, calculate
from services.distributions.messages import to_distribution_content
from services.distributions.store.approvals import DISTRIBUTION_APPROVALS
from services.distributions.store.distributions import lock_distribution, save_calculation
from services.distributions.store.waterfalls import read_state


async def calculate_distribution(tx: Tx, request: pb.CalculateDistributionRequest, now: datetime) -> pb.Distribution:
    """Runs the waterfall on what has been declared so far, and keeps the result instead of an earlier one.

    Where the same person got the same result before, it stays as it is.
    """
    offering, distribution = await lock_distribution(tx, request.distribution_id)
    check_etag(request.etag, distribution.etag)
    check_may_calculate(distribution)
    result, person = await run_waterfall(tx, offering, distribution), current_principal().person
    content_hash = hash_result(offering, distribution, result)
    kept = (distribution.content_hash, distribution.basis_version, distribution.calculated_by)
    if kept == (content_hash, offering.declarations, person):
        return answer_distribution(offering, distribution, now)
    calculated = replace(
        distribution,
        tiers=tuple(TierTotal(step.kind, step.investors, step.sponsor, step.explanation) for step in result.steps),
        content_hash=content_hash,
        basis_version=offering.declarations,
        allocation_count=len(result.lines),
        calculated_by=person,
        makers=distribution.makers | {person},
    )
    build = partial(_build_allocations, offering, result)
    after = await save_calculation(tx, distribution, calculated, build, now)
    return answer_distribution(offering, after, now)


def _build_allocations(offering: Offering, result: Result, distribution: Distribution) -> list[Allocation]:
    """By payee. An allocation's id follows from the distribution and its payee: a repeated calculation keeps it."""
    claims = sum_claims(result.steps)
    found = []
    for line in result.lines:
        payee_type = PayeeType.SPONSOR if line.party_id == SPONSOR else PayeeType.INVESTOR
        allocation = Allocation(
            allocation_id=derived_id("alloc", distribution.distribution_id, payee_type.value, line.party_id),
            distribution_id=distribution.distribution_id,
            offering_id=offering.offering_id,
            payee_type=payee_type,
            party_id=offering.sponsor_party_id if payee_type is PayeeType.SPONSOR else line.party_id,
            currency=distribution.currency,
            lines=list_lines(line, result.steps, claims),
            amount_minor=line.total,
            created_at=distribution.updated_at,
            updated_at=distribution.updated_at,
            version=distribution.version,  # grows with each calculation, so each has etags of its own
        )
        found.append(allocation)
    return sorted(found, key=lambda each: (each.party_id, each.payee_type.value))


def is_result_of(
    offering: Offering, distribution: Distribution, allocations: Sequence[Allocation], result: Result
) -> bool:
    """Whether the tiers of the distribution and its allocations, to their lines, are what the waterfall pays.

    A draft's rows can be removed, and put back as they were before it was calculated anew: once it is queued, nothing
    of them changes.
    """
    tiers = [(each.kind, each.investors_minor, each.sponsor_minor) for each in distribution.tiers]
    wanted = _build_allocations(offering, result, distribution)
    return tiers == [(step.kind, step.investors, step.sponsor) for step in result.steps] and {
        (each.allocation_id, each.party_id, each.amount_minor, each.lines) for each in allocations
    } == {(each.allocation_id, each.party_id, each.amount_minor, each.lines) for each in wanted}


async def run_waterfall(tx: Tx, offering: Offering, distribution: Distribution) -> Result:
    """What the distribution pays, given all that was declared before. The caller holds the offering's lock.

    Raises: NothingContributed, OutOfDateOrder.
    """
    state = await read_state(tx, offering.offering_id)
    amount_minor, currency = distribution.amount_minor, distribution.currency
    return calculate(state, offering.terms, amount_minor, distribution.distribution_date, currency)


def sum_owed(offering: Offering, result: Result) -> dict[str, int]:
    """Party -> what the distribution owes it."""
    sponsor = offering.sponsor_party_id
    return sum_by_party((sponsor if line.party_id == SPONSOR else line.party_id, line.total) for line in result.lines)


def describe_result(offering: Offering, distribution: Distribution, result: Result) -> ApprovalDetails:
    """What a second person has to know of it, whenever it is looked at."""
    payees, amount = sum_owed(offering, result), Money(distribution.amount_minor, distribution.currency)
    who = f"{len(payees)} {'party' if len(payees) == 1 else 'parties'}"
    return ApprovalDetails(
        f"Distribute {amount} of {quote(offering.display_name)} to {who}",
        distribution.distribution_id,
        offering.offering_id,
        amount=amount,
        makers=distribution.makers,
        beneficiary_party_ids=frozenset(payees),
        changes=(Change("status", DistributionStatus.PENDING_APPROVAL.value, DistributionStatus.APPROVED.value),),
        matter=("distribution", offering.offering_id),
    )


def build_content(offering: Offering, distribution: Distribution, result: Result) -> dict[str, Any]:
    """What of it is decided on, in JSON."""
    amount = Money(distribution.amount_minor, distribution.currency)
    return to_distribution_content(
        offering, distribution.distribution_id, amount, distribution.distribution_date, result.lines
    )


async def work_out_again(tx: Tx, offering: Offering, distribution: Distribution) -> Result:
    """What the distribution does by now, which is what was calculated. Raises: ContentOutdated: it is not."""
    result = await run_waterfall(tx, offering, distribution)
    check_up_to_date(distribution.content_hash, hash_result(offering, distribution, result))
    return result


def hash_result(offering: Offering, distribution: Distribution, result: Result) -> str:
    """The hash of the content of its approval, whether there is one yet or not."""
    details, resource = describe_result(offering, distribution, result), build_content(offering, distribution, result)
    return hash_content(DISTRIBUTION_APPROVALS.to_content(details, resource))
