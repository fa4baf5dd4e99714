"""ComplianceService over gRPC: opens the transaction, calls the command or query. No rule lives here."""

from __future__ import annotations

from grpc.aio import ServicerContext
from realco.compliance.v1 import compliance_pb2 as pb
from realco.compliance.v1 import compliance_pb2_grpc as pb_grpc

from services.chassis.data.database import Database
from services.chassis.data.once import once
from services.chassis.values.clock import Clock
from services.compliance import commands, evaluation, queries


class ComplianceServicer(pb_grpc.ComplianceServiceServicer):
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def EvaluateTransactions(
        self, request: pb.EvaluateTransactionsRequest, context: ServicerContext
    ) -> pb.EvaluateTransactionsResponse:
        # Each transaction is its own key: asked again, it answers what it decided.
        async with self._database.begin() as tx:
            return await evaluation.evaluate(tx, request, self._clock.now())

    async def PutInvestor(self, request: pb.PutInvestorRequest, context: ServicerContext) -> pb.Investor:
        return await once(
            self._database, request, pb.Investor, lambda tx: commands.put_investor(tx, request, self._clock.now())
        )

    async def GetInvestor(self, request: pb.GetInvestorRequest, context: ServicerContext) -> pb.Investor:
        async with self._database.begin() as tx:
            return await queries.get_investor(tx, request.party_id, self._clock.now())

    async def BatchGetClearances(
        self, request: pb.BatchGetClearancesRequest, context: ServicerContext
    ) -> pb.BatchGetClearancesResponse:
        async with self._database.begin() as tx:
            return await queries.get_clearances(tx, request, self._clock.now())

    async def GetComplianceCheck(
        self, request: pb.GetComplianceCheckRequest, context: ServicerContext
    ) -> pb.ComplianceCheck:
        async with self._database.begin() as tx:
            return await queries.get_check(tx, request.compliance_check_id)

    async def ListComplianceChecks(
        self, request: pb.ListComplianceChecksRequest, context: ServicerContext
    ) -> pb.ListComplianceChecksResponse:
        async with self._database.begin() as tx:
            return await queries.list_checks(tx, request)

    async def ReviewComplianceCheck(
        self, request: pb.ReviewComplianceCheckRequest, context: ServicerContext
    ) -> pb.ComplianceCheck:
        return await once(
            self._database,
            request,
            pb.ComplianceCheck,
            lambda tx: commands.review_check(tx, request, self._clock.now()),
        )

    async def ListTransactionLimits(
        self, request: pb.ListTransactionLimitsRequest, context: ServicerContext
    ) -> pb.ListTransactionLimitsResponse:
        async with self._database.begin() as tx:
            return await queries.list_limits(tx)

    async def PutTransactionLimit(
        self, request: pb.PutTransactionLimitRequest, context: ServicerContext
    ) -> pb.TransactionLimit:
        return await once(
            self._database, request, pb.TransactionLimit, lambda tx: commands.put_limit(tx, request, self._clock.now())
        )
