"""The gRPC services: what must be asked of others first, then one transaction, once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, TypeVar

from google.protobuf.message import Message
from grpc.aio import ServicerContext
from realco.distributions.v1 import (
    commitments_pb2,
    commitments_pb2_grpc,
    distributions_pb2,
    distributions_pb2_grpc,
    offerings_pb2,
    offerings_pb2_grpc,
    payout_orders_pb2,
    payout_orders_pb2_grpc,
)

from services.chassis.approvals.notary import write_heard
from services.chassis.approvals.workflow import Approvals
from services.chassis.calls.parties import Parties
from services.chassis.data.transaction import Tx
from services.chassis.values.approval import ApprovalFacts
from services.distributions.commands.distributions import calculations, drafts, executions, submissions
from services.distributions.commands.raises import investments, offerings
from services.distributions.dependencies import Dependencies
from services.distributions.queries import distributions as distribution_queries
from services.distributions.queries import gates
from services.distributions.queries import raises as raise_queries
from services.distributions.queries.movements import build_witnessed, check_movement_order
from services.distributions.queries.payouts import batch_get_payout_orders
from services.distributions.store.approvals import DISTRIBUTION_APPROVALS

Context = ServicerContext[Any, Any]
M = TypeVar("M", bound=Message)


class OfferingsServicer(offerings_pb2_grpc.OfferingsServiceServicer):
    """Offerings from opening to closing or refund."""

    def __init__(self, dependencies: Dependencies, approvals: Approvals) -> None:
        self._dependencies = dependencies
        self._approvals = approvals

    async def CreateOffering(
        self, request: offerings_pb2.CreateOfferingRequest, context: Context
    ) -> offerings_pb2.Offering:
        async def ask(request: offerings_pb2.CreateOfferingRequest) -> offerings.OfferingFacts:
            party_id = request.sponsor_party_id
            return offerings.OfferingFacts(
                await self._dependencies.peers.escrow.get_escrow_account(request.escrow_account_id),
                await self._dependencies.known_parties.find_refusal(party_id, "sponsor_party_id"),
            )

        return await self._dependencies.write_on_facts(request, offerings_pb2.Offering, ask, offerings.create_offering)

    async def GetOffering(self, request: offerings_pb2.GetOfferingRequest, context: Context) -> offerings_pb2.Offering:
        return await self._dependencies.fetch(request, raise_queries.get_offering)

    async def ListOfferings(
        self, request: offerings_pb2.ListOfferingsRequest, context: Context
    ) -> offerings_pb2.ListOfferingsResponse:
        return await self._dependencies.read(request, raise_queries.list_offerings)

    async def UpdateOffering(
        self, request: offerings_pb2.UpdateOfferingRequest, context: Context
    ) -> offerings_pb2.Offering:
        return await self._dependencies.write(request, offerings_pb2.Offering, offerings.update_offering)

    async def ChangeReceivablesPolicy(
        self, request: offerings_pb2.ChangeReceivablesPolicyRequest, context: Context
    ) -> offerings_pb2.ChangeReceivablesPolicyResponse:
        return await self._approvals.carry_out(request, offerings_pb2.ChangeReceivablesPolicyResponse)

    async def GetClosingGates(
        self, request: offerings_pb2.GetClosingGatesRequest, context: Context
    ) -> offerings_pb2.ClosingGates:
        facts = await gates.read_peer_facts(self._dependencies.database, self._dependencies.peers, request.offering_id)
        return await self._dependencies.read(
            request, lambda tx, request, now: gates.get_closing_gates(tx, request, facts, now)
        )

    async def CloseOffering(
        self, request: offerings_pb2.CloseOfferingRequest, context: Context
    ) -> offerings_pb2.CloseOfferingResponse:
        return await self._approvals.carry_out(request, offerings_pb2.CloseOfferingResponse)

    async def RefundOffering(
        self, request: offerings_pb2.RefundOfferingRequest, context: Context
    ) -> offerings_pb2.RefundOfferingResponse:
        return await self._approvals.carry_out(request, offerings_pb2.RefundOfferingResponse)

    async def ResendProceeds(
        self, request: offerings_pb2.ResendProceedsRequest, context: Context
    ) -> offerings_pb2.ResendProceedsResponse:
        return await self._approvals.carry_out(request, offerings_pb2.ResendProceedsResponse)


class InvestmentsServicer(offerings_pb2_grpc.InvestmentsServiceServicer):
    """Investors' commitments."""

    def __init__(self, dependencies: Dependencies, approvals: Approvals) -> None:
        self._dependencies = dependencies
        self._approvals = approvals

    async def CreateInvestment(
        self, request: offerings_pb2.CreateInvestmentRequest, context: Context
    ) -> offerings_pb2.Investment:
        return await self._dependencies.write_on_facts(
            request,
            offerings_pb2.Investment,
            lambda request: self._dependencies.known_parties.find_refusal(request.party_id, "party_id"),
            investments.create_investment,
        )

    async def GetInvestment(
        self, request: offerings_pb2.GetInvestmentRequest, context: Context
    ) -> offerings_pb2.Investment:
        return await self._dependencies.fetch(request, raise_queries.get_investment)

    async def ListInvestments(
        self, request: offerings_pb2.ListInvestmentsRequest, context: Context
    ) -> offerings_pb2.ListInvestmentsResponse:
        return await self._dependencies.read(request, raise_queries.list_investments)

    async def CancelInvestment(
        self, request: offerings_pb2.CancelInvestmentRequest, context: Context
    ) -> offerings_pb2.CancelInvestmentResponse:
        return await self._approvals.carry_out(request, offerings_pb2.CancelInvestmentResponse)

    async def ResendRefund(
        self, request: offerings_pb2.ResendRefundRequest, context: Context
    ) -> offerings_pb2.ResendRefundResponse:
        return await self._approvals.carry_out(request, offerings_pb2.ResendRefundResponse)


class CommitmentsServicer(commitments_pb2_grpc.CommitmentsServiceServicer):
    """Who has committed to invest."""

    def __init__(self, dependencies: Dependencies) -> None:
        self._dependencies = dependencies

    async def ListCommittedParties(
        self, request: commitments_pb2.ListCommittedPartiesRequest, context: Context
    ) -> commitments_pb2.ListCommittedPartiesResponse:
        return await self._dependencies.read(request, raise_queries.list_committed_parties)

    async def GetCommitments(
        self, request: commitments_pb2.GetCommitmentsRequest, context: Context
    ) -> commitments_pb2.Commitments:
        return await self._dependencies.read(request, raise_queries.get_commitments)

    async def ListOpenOfferings(
        self, request: commitments_pb2.ListOpenOfferingsRequest, context: Context
    ) -> commitments_pb2.ListOpenOfferingsResponse:
        return await self._dependencies.read(request, raise_queries.list_open_offerings)


class DistributionsServicer(distributions_pb2_grpc.DistributionsServiceServicer):
    """Who gets what of distributable cash.

    Args:
        parties: Tells for whom a person acts at this moment: no payee approves.
    """

    def __init__(self, dependencies: Dependencies, approvals: Approvals, parties: Parties) -> None:
        self._dependencies = dependencies
        self._approvals = approvals
        self._parties = parties
        self._witnessed = build_witnessed(dependencies.database, dependencies.peers.compliance)

    async def CreateDistribution(
        self, request: distributions_pb2.CreateDistributionRequest, context: Context
    ) -> distributions_pb2.Distribution:
        return await self._dependencies.write(request, distributions_pb2.Distribution, drafts.create_distribution)

    async def GetDistribution(
        self, request: distributions_pb2.GetDistributionRequest, context: Context
    ) -> distributions_pb2.Distribution:
        return await self._dependencies.read(request, distribution_queries.get_distribution)

    async def ListDistributions(
        self, request: distributions_pb2.ListDistributionsRequest, context: Context
    ) -> distributions_pb2.ListDistributionsResponse:
        return await self._dependencies.read(request, distribution_queries.list_distributions)

    async def ListAllocations(
        self, request: distributions_pb2.ListAllocationsRequest, context: Context
    ) -> distributions_pb2.ListAllocationsResponse:
        return await self._dependencies.read(request, distribution_queries.list_allocations)

    async def GetAllocation(
        self, request: distributions_pb2.GetAllocationRequest, context: Context
    ) -> distributions_pb2.Allocation:
        return await self._dependencies.read(request, distribution_queries.get_allocation)

    async def CalculateDistribution(
        self, request: distributions_pb2.CalculateDistributionRequest, context: Context
    ) -> distributions_pb2.Distribution:
        command = calculations.calculate_distribution
        return await self._dependencies.write(request, distributions_pb2.Distribution, command)

    async def SubmitDistribution(
        self, request: distributions_pb2.SubmitDistributionRequest, context: Context
    ) -> distributions_pb2.Distribution:
        return await self._dependencies.write_on_facts(
            request,
            distributions_pb2.Distribution,
            lambda request: submissions.witness_submission(
                self._dependencies.database, self._witnessed, request, self._dependencies.clock.now()
            ),
            lambda tx, request, _, now: submissions.submit_distribution(tx, request, now),
        )

    async def ApproveDistribution(
        self, request: distributions_pb2.ApproveDistributionRequest, context: Context
    ) -> distributions_pb2.Distribution:
        async def ask(request: distributions_pb2.ApproveDistributionRequest) -> ApprovalFacts:
            distribution_id, dependencies = request.distribution_id, self._dependencies
            facts = await DISTRIBUTION_APPROVALS.ask_facts(dependencies, self._parties, distribution_id)
            await submissions.witness_approval(dependencies, self._witnessed, request, facts)
            return facts

        command = submissions.approve_distribution
        return await self._dependencies.write_on_facts(request, distributions_pb2.Distribution, ask, command)

    async def RejectDistribution(
        self, request: distributions_pb2.RejectDistributionRequest, context: Context
    ) -> distributions_pb2.Distribution:
        return await self._take_back(request, submissions.reject_distribution)

    async def ExecuteDistribution(
        self, request: distributions_pb2.ExecuteDistributionRequest, context: Context
    ) -> distributions_pb2.Distribution:
        async def ask(request: distributions_pb2.ExecuteDistributionRequest) -> executions.Cash:
            dependencies, escrow = self._dependencies, self._dependencies.peers.escrow
            cash = await executions.read_cash(dependencies.database, escrow, request.distribution_id)
            await executions.witness_execution(dependencies, self._witnessed, request, cash)
            return cash

        command = executions.execute_distribution
        return await self._dependencies.write_on_facts(request, distributions_pb2.Distribution, ask, command)

    async def ResendAllocation(
        self, request: distributions_pb2.ResendAllocationRequest, context: Context
    ) -> distributions_pb2.ResendAllocationResponse:
        return await self._approvals.carry_out(request, distributions_pb2.ResendAllocationResponse)

    async def CancelDistribution(
        self, request: distributions_pb2.CancelDistributionRequest, context: Context
    ) -> distributions_pb2.Distribution:
        return await self._take_back(request, drafts.cancel_distribution)

    async def _take_back(
        self, request: M, command: Callable[[Tx, M, datetime], Awaitable[distributions_pb2.Distribution]]
    ) -> distributions_pb2.Distribution:
        async def hear(request: M) -> bool:
            return await submissions.witness_withdrawal(self._dependencies, self._witnessed, request, command)

        return await write_heard(self._dependencies, request, distributions_pb2.Distribution, hear, command)


class PayoutOrdersServicer(payout_orders_pb2_grpc.PayoutOrdersServiceServicer):
    """What was ordered of transactions."""

    def __init__(self, dependencies: Dependencies) -> None:
        self._dependencies = dependencies

    async def BatchGetPayoutOrders(
        self, request: payout_orders_pb2.BatchGetPayoutOrdersRequest, context: Context
    ) -> payout_orders_pb2.BatchGetPayoutOrdersResponse:
        return await self._dependencies.read(request, batch_get_payout_orders)

    async def CheckMovementOrder(
        self, request: payout_orders_pb2.CheckMovementOrderRequest, context: Context
    ) -> payout_orders_pb2.CheckMovementOrderResponse:
        return await self._dependencies.read(request, check_movement_order)
