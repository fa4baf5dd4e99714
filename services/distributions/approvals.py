"""What needs two persons about raises and distributions, and what the second one has to know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from google.protobuf.message import Message
from realco.compliance.v1.notary_pb2 import Movement
from realco.distributions.v1 import distributions_pb2, offerings_pb2

from services.chassis.approvals.requests import RequestKind, by_asking, by_command
from services.chassis.approvals.resources import ResourceKind
from services.chassis.approvals.workflow import Approvals
from services.chassis.values.approval import Approval, ApprovalDetails, Change, Precondition
from services.chassis.values.invariant import require_present
from services.chassis.values.money import Money
from services.chassis.values.refusals import InvestmentNotFound
from services.chassis.values.text import quote
from services.chassis.values.times import write_time
from services.distributions.commands.distributions.executions import read_cash
from services.distributions.commands.distributions.submissions import approve_waiting, end_waiting
from services.distributions.commands.payouts import resends
from services.distributions.commands.raises import closings, investments, offerings, refunds
from services.distributions.dependencies import Dependencies
from services.distributions.domain.closing import is_released, sum_releases
from services.distributions.domain.destination import Destination
from services.distributions.domain.distribution import find_owed_share
from services.distributions.domain.explanations import (
    explain_attempt,
    explain_basis,
    explain_cash,
    explain_date,
    explain_destination,
    explain_earlier_attempts,
    explain_escrow_status,
    explain_failed_refunds,
    explain_failure,
    explain_gate,
    explain_left_out,
    explain_less_left,
    explain_owed,
    explain_receivables,
)
from services.distributions.domain.investment import list_committed_parties, list_untaken, sum_by_party
from services.distributions.domain.offering import Offering, check_may_resend_proceeds, find_owed_proceeds
from services.distributions.domain.payout import PayoutType, count_unpaid_proceeds
from services.distributions.domain.preconditions import (
    build_attempt_change,
    build_default_preconditions,
    build_funded_precondition,
    build_owed_precondition,
    build_policy_precondition,
    build_proceeds_changes,
    build_proceeds_preconditions,
)
from services.distributions.domain.refunds import RefundPosition, list_failed
from services.distributions.domain.states import DistributionStatus, InvestmentStatus, OfferingStatus
from services.distributions.queries import gates
from services.distributions.queries.destinations import (
    ask_about_proceeds,
    ask_about_share,
    ask_closing_destination,
    ask_default,
    ask_destination,
)
from services.distributions.queries.movements import build_witnessed
from services.distributions.queries.previews import Previews
from services.distributions.store.allocations import ALLOCATIONS, sum_by_payee
from services.distributions.store.approvals import (
    APPROVAL_WRITER,
    DISTRIBUTION_APPROVALS,
)
from services.distributions.store.distributions import find_being_declared, lock_distribution, require_distribution
from services.distributions.store.investments import INVESTMENTS, list_investments_of
from services.distributions.store.offerings import require_offering
from services.distributions.store.payouts import (
    find_refund_position,
    list_failed_attempts,
    list_proceeds,
    list_refund_positions,
)

_POLICIES = {"BLOCK": "block what is paid to them", "SET_OFF": "set off against what is paid to them"}
Facts = TypeVar("Facts")
Done = TypeVar("Done", bound=Message)


def build_approvals(dependencies: Dependencies) -> Approvals:
    """The approvals of this service."""

    by, details = partial(by_command, dependencies), _Details(dependencies)
    witnessed = build_witnessed(dependencies.database, dependencies.peers.compliance)
    asking = partial(by_asking, dependencies)
    close = asking(offerings_pb2.Offering, partial(_ask_about_closing, dependencies), closings.close_offering)
    where, share = partial(ask_destination, dependencies), partial(ask_about_share, dependencies)
    proceeds = partial(ask_about_proceeds, dependencies)
    resend_proceeds = asking(offerings_pb2.Offering, proceeds, resends.resend_proceeds)
    resend_refund = asking(offerings_pb2.Investment, where, resends.resend_refund)
    resend_allocation = asking(distributions_pb2.Allocation, share, resends.resend_allocation)
    requests: list[RequestKind[Any]] = [
        RequestKind(offerings_pb2.CloseOfferingRequest, close, details.describe_closing),
        RequestKind(
            offerings_pb2.ChangeReceivablesPolicyRequest,
            by(offerings.change_receivables_policy),
            details.describe_policy,
        ),
        RequestKind(offerings_pb2.RefundOfferingRequest, by(refunds.refund_offering), details.describe_refund),
        RequestKind(offerings_pb2.ResendProceedsRequest, resend_proceeds, details.describe_resend_proceeds),
        RequestKind(
            offerings_pb2.CancelInvestmentRequest, by(investments.cancel_investment), details.describe_cancellation
        ),
        RequestKind(offerings_pb2.ResendRefundRequest, resend_refund, details.describe_resend_refund),
        RequestKind(distributions_pb2.ResendAllocationRequest, resend_allocation, details.describe_resend_allocation),
    ]
    resources = [
        ResourceKind(
            DISTRIBUTION_APPROVALS, details.describe_distribution, approve_waiting, end_waiting, lock_distribution
        )
    ]
    return Approvals(dependencies, requests, APPROVAL_WRITER, resources, witnessed)


async def _ask_about_closing(
    dependencies: Dependencies, request: offerings_pb2.CloseOfferingRequest
) -> tuple[gates.PeerFacts, Destination]:
    facts = await gates.read_peer_facts(dependencies.database, dependencies.peers, request.offering_id)
    return facts, await ask_closing_destination(dependencies, request)


class _Details:
    """What a person who decides has to know."""

    def __init__(self, dependencies: Dependencies) -> None:
        self._dependencies = dependencies
        self._previews = Previews(dependencies.peers)

    # --- raises ---

    async def describe_policy(
        self, request: offerings_pb2.ChangeReceivablesPolicyRequest, now: datetime
    ) -> ApprovalDetails:
        async with self._dependencies.database.begin() as tx:
            offering = await require_offering(tx, request.offering_id)
            found = await list_investments_of(tx, offering.offering_id)
        before = offering.receivables_policy.value
        wanted = offerings_pb2.Offering.ReceivablesPolicy.Name(request.receivables_policy)
        changes = (Change("receivables_policy", before, wanted),) if wanted != before else ()
        return ApprovalDetails(
            f"Have what payees of {quote(offering.display_name)} owe {_POLICIES[wanted]}",
            offering.offering_id,
            offering.offering_id,
            beneficiary_party_ids=list_committed_parties(found) | {offering.sponsor_party_id},
            changes=changes,
            is_done=not changes,
            explanations=explain_receivables(found),
        )

    async def describe_closing(self, request: offerings_pb2.CloseOfferingRequest, now: datetime) -> ApprovalDetails:
        asked, destination = await _ask_about_closing(self._dependencies, request)
        async with self._dependencies.database.begin() as tx:
            offering = await require_offering(tx, request.offering_id)
            held = await list_investments_of(tx, offering.offering_id)
            found = await gates.list_gates(tx, offering, held, asked, now)
            released = sum_releases(gates.choose_live(held))
            funded = build_funded_precondition(filter(is_released, held))
        preview = await self._previews.preview_movement(
            offering, Movement.CLOSE_OFFERING, released, offering.deadline_at
        )
        shown = await ask_default(self._dependencies, destination, offering.sponsor_party_id)
        to, account = destination.bank_account_id, explain_destination(shown, offering.sponsor_party_id, now)
        # Escrow books under the hash of this: closed again, after escrow refused it, it must be another one.
        attempts = Change("closing_attempts", str(offering.closing_attempt), str(offering.closing_attempt + 1))
        return ApprovalDetails(
            f"Close {quote(offering.display_name)}",
            offering.offering_id,
            offering.offering_id,
            amount=Money(sum(released.values()), offering.currency),
            makers=offering.makers,
            beneficiary_party_ids=frozenset({offering.sponsor_party_id}),
            changes=(
                Change("status", offering.status.value, "CLOSED"),
                attempts,
                *build_proceeds_changes(offering, to),
            ),
            preconditions=(
                # Whoever moves it ends what waits; what could not be read then is outdated by this.
                Precondition("deadline_time", write_time(offering.deadline_at)),
                funded,
                build_policy_precondition(offering),
                *build_proceeds_preconditions(offering, to),
            ),
            explanations=(
                *map(explain_gate, found),
                *explain_left_out(held),
                *explain_failure(offering.closing_failure),
                account,
                *preview.explanations,
            ),
            effects=preview.effects,
        )

    async def describe_resend_proceeds(
        self, request: offerings_pb2.ResendProceedsRequest, now: datetime
    ) -> ApprovalDetails:
        async with self._dependencies.database.begin() as tx:
            offering = await require_offering(tx, request.offering_id)
            attempts = await list_proceeds(tx, offering.offering_id)
            unpaid = Money(count_unpaid_proceeds(attempts), offering.currency)
            check_may_resend_proceeds(offering, unpaid.amount_minor)
            earlier = explain_earlier_attempts(await list_failed_attempts(tx, offering.offering_id))
        destination, left_minor = await ask_about_proceeds(self._dependencies, request)
        shown = await ask_default(self._dependencies, destination, offering.sponsor_party_id)
        to, account = destination.bank_account_id, explain_destination(shown, offering.sponsor_party_id, now)
        amount = Money(find_owed_proceeds(unpaid.amount_minor, left_minor), offering.currency)
        why = (*explain_less_left(unpaid, amount, "ISSUER_PROCEEDS"), *explain_failure(offering.proceeds_failure))
        preview = await self._previews.preview_payouts(
            offering, PayoutType.ESCROW_WITHDRAWAL, {offering.sponsor_party_id: amount}
        )
        return ApprovalDetails(
            f"Pay the proceeds of {quote(offering.display_name)} again",
            offering.offering_id,
            offering.offering_id,
            amount=amount,
            makers=offering.makers | shown.makers,
            beneficiary_party_ids=frozenset({offering.sponsor_party_id}),
            changes=(
                # One that goes to no account takes away none.
                *(build_proceeds_changes(offering, to) if destination.pays_to_account else ()),
                build_attempt_change(attempts[-1].attempt),
            ),
            preconditions=(
                build_policy_precondition(offering),
                *build_proceeds_preconditions(offering, to),
                *build_default_preconditions(shown),
            ),
            explanations=(*why, *earlier, account, *preview.explanations),
            effects=preview.effects,
        )

    async def describe_refund(self, request: offerings_pb2.RefundOfferingRequest, now: datetime) -> ApprovalDetails:
        async with self._dependencies.database.begin() as tx:
            offering = await require_offering(tx, request.offering_id)
            if offering.status is OfferingStatus.REFUNDING:
                failed = list_failed(await list_refund_positions(tx, offering.offering_id))
                return await self._describe_refunds_again(offering, failed, request.note, now)
            found = await list_investments_of(tx, offering.offering_id)
        # Who committed gains as well, before any money of theirs is in the book: it may be on its way.
        back = list_untaken(found)
        owed = {party_id: amount for party_id, amount in sum_by_party(back).items() if amount.amount_minor > 0}
        owing = [explain_owed(owed)] if owed else []  # where nothing was paid in, the preview says so
        preview = await self._previews.preview_refunds(offering, back, owed, now)
        return ApprovalDetails(
            f"Give all contributions to {quote(offering.display_name)} back: {quote(request.note)}",
            offering.offering_id,
            offering.offering_id,
            amount=Money(sum(each.funded_minor for each in back), offering.currency),
            beneficiary_party_ids=frozenset(each.party_id for each in back),
            changes=(Change("status", offering.status.value, "REFUNDED"),),
            preconditions=(build_funded_precondition(back), build_policy_precondition(offering)),
            explanations=(*owing, *preview.explanations),
            effects=preview.effects,
        )

    async def _describe_refunds_again(
        self, offering: Offering, failed: Sequence[RefundPosition], note: str, now: datetime
    ) -> ApprovalDetails:
        owed = Counter[str]()
        for each in failed:
            owed[each.investment.party_id] += each.owed_minor
        amounts = {party_id: Money(minor, offering.currency) for party_id, minor in owed.items()}
        preview = await self._previews.preview_refunds(offering, [each.investment for each in failed], amounts, now)
        return ApprovalDetails(
            f"Send refunds of {quote(offering.display_name)} again that failed: {quote(note)}",
            offering.offering_id,
            offering.offering_id,
            amount=Money(owed.total(), offering.currency),
            beneficiary_party_ids=frozenset(owed),
            preconditions=(build_owed_precondition(failed), build_policy_precondition(offering)),
            explanations=(*explain_failed_refunds(failed), *preview.explanations),
            effects=preview.effects,
        )

    async def describe_cancellation(
        self, request: offerings_pb2.CancelInvestmentRequest, now: datetime
    ) -> ApprovalDetails:
        async with self._dependencies.database.begin() as tx:
            investment = await INVESTMENTS.find(tx, request.investment_id)
            if investment is None:
                raise InvestmentNotFound
            offering = await require_offering(tx, investment.offering_id)
        amount = Money(investment.funded_minor, investment.currency)
        preview = await self._previews.preview_refunds(offering, [investment], {investment.party_id: amount}, now)
        return ApprovalDetails(
            f"Cancel an investment of {Money(investment.amount_minor, investment.currency)}"
            f" in {quote(offering.display_name)}, and give back what was paid",
            investment.investment_id,
            offering.offering_id,
            amount=amount,
            beneficiary_party_ids=frozenset({investment.party_id}),
            changes=(Change("status", investment.status.value, InvestmentStatus.CANCELLING.value),),
            preconditions=(build_policy_precondition(offering),),
            is_done=investment.is_withdrawn,
            explanations=(*explain_failure(investment.refund_failure), *preview.explanations),
            effects=preview.effects,
        )

    async def describe_resend_refund(
        self, request: offerings_pb2.ResendRefundRequest, now: datetime
    ) -> ApprovalDetails:
        async with self._dependencies.database.begin() as tx:
            position = await find_refund_position(tx, request.investment_id)
            if position is None:
                raise InvestmentNotFound
            offering = await require_offering(tx, position.investment.offering_id)
        investment, amount = position.investment, Money(position.owed_minor, position.investment.currency)
        destination = await ask_destination(self._dependencies, request)
        preview = await self._previews.preview_refunds(
            offering, [investment], {investment.party_id: amount}, now, destination=destination
        )
        # Where none is named it may be the default that is paid, if the money came from no account.
        shown = await ask_default(self._dependencies, destination, investment.party_id)
        return ApprovalDetails(
            f"Give {amount} of an investment in {quote(offering.display_name)} back again",
            investment.investment_id,
            offering.offering_id,
            amount=amount,
            makers=shown.makers,
            beneficiary_party_ids=frozenset({investment.party_id}),
            changes=(build_attempt_change(position.last_attempt),),
            preconditions=(build_policy_precondition(offering),),
            explanations=(
                *explain_failure(investment.refund_failure),
                *explain_earlier_attempts(position.failures),
                *preview.explanations,
            ),
            effects=preview.effects,
        )

    # --- distributions ---

    async def describe_resend_allocation(
        self, request: distributions_pb2.ResendAllocationRequest, now: datetime
    ) -> ApprovalDetails:
        named, left_minor = await ask_about_share(self._dependencies, request)
        async with self._dependencies.database.begin() as tx:
            allocation = require_present(await ALLOCATIONS.find(tx, request.allocation_id), "it was asked about")
            offering = await require_offering(tx, allocation.offering_id)
            failed = await list_failed_attempts(tx, allocation.offering_id, allocation.allocation_id)
        destination = await ask_default(self._dependencies, named, allocation.party_id)
        unpaid = Money(allocation.amount_minor - allocation.set_off_minor, allocation.currency)
        amount = Money(find_owed_share(allocation, left_minor), allocation.currency)
        preview = await self._previews.preview_payouts(offering, PayoutType.DISTRIBUTION, {allocation.party_id: amount})
        return ApprovalDetails(
            f"Pay {amount} of a distribution of {quote(offering.display_name)} again",
            allocation.allocation_id,
            offering.offering_id,
            amount=amount,
            makers=destination.makers,
            beneficiary_party_ids=frozenset({allocation.party_id}),
            changes=(build_attempt_change(allocation.attempts),),
            preconditions=(build_policy_precondition(offering), *build_default_preconditions(destination)),
            explanations=(
                *(explain_attempt(allocation), *explain_earlier_attempts(failed)),
                *(*explain_less_left(unpaid, amount, "PAYABLE"), *preview.explanations),
                explain_destination(destination, allocation.party_id, now),
            ),
            effects=preview.effects,
        )

    async def describe_distribution(self, approval: Approval, now: datetime) -> ApprovalDetails:
        cash = await read_cash(self._dependencies.database, self._dependencies.peers.escrow, approval.resource_id)
        async with self._dependencies.database.begin() as tx:
            distribution = await require_distribution(tx, approval.resource_id)
            offering = await require_offering(tx, distribution.offering_id)
            owed = await sum_by_payee(tx, distribution)
            declaring = await find_being_declared(tx, offering.offering_id)
        preview = await self._previews.preview_movement(offering, Movement.APPROVE_DISTRIBUTION, owed)
        return ApprovalDetails(
            approval.summary,
            approval.resource_id,
            offering.offering_id,
            beneficiary_party_ids=approval.beneficiary_party_ids,
            changes=(Change("status", DistributionStatus.PENDING_APPROVAL.value, DistributionStatus.APPROVED.value),),
            explanations=(
                explain_owed({party_id: Money(minor, offering.currency) for party_id, minor in owed.items()}),
                explain_cash(distribution, cash.distributable_minor, cash.available_minor, cash.set_off_minor),
                explain_escrow_status(cash.escrow_status),
                explain_date(distribution, now.date()),
                explain_basis(offering, distribution, declaring),
                await self._previews.explain_clearances(owed),
                await self._previews.explain_payout_accounts(owed, now),
                *preview.explanations,
            ),
            effects=preview.effects,
        )
