"""Compliance over gRPC: opens the transaction, calls the command or query. No rule lives here."""

from __future__ import annotations

from grpc.aio import ServicerContext
from realco.compliance.v1 import compliance_pb2 as pb
from realco.compliance.v1 import compliance_pb2_grpc as pb_grpc
from realco.compliance.v1 import parties_pb2, parties_pb2_grpc

from services.chassis.calls.auth import Principal, acting_as
from services.chassis.data.database import Database
from services.chassis.data.operations import Operations
from services.compliance import queries, store
from services.compliance.commands import checks, evaluation, limits, parties


class ComplianceServicer(pb_grpc.ComplianceServiceServicer):
    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    async def EvaluateTransactions(
        self, request: pb.EvaluateTransactionsRequest, context: ServicerContext
    ) -> pb.EvaluateTransactionsResponse:
        # Each transaction is its own key: asked again, it answers what it decided.
        return await self._operations.read(request, evaluation.evaluate)

    async def BatchGetClearances(
        self, request: pb.BatchGetClearancesRequest, context: ServicerContext
    ) -> pb.BatchGetClearancesResponse:
        return await self._operations.read(request, queries.get_clearances)

    async def GetComplianceCheck(
        self, request: pb.GetComplianceCheckRequest, context: ServicerContext
    ) -> pb.ComplianceCheck:
        return await self._operations.read(request, queries.get_check)

    async def ListComplianceChecks(
        self, request: pb.ListComplianceChecksRequest, context: ServicerContext
    ) -> pb.ListComplianceChecksResponse:
        return await self._operations.read(request, queries.list_checks)

    async def ReviewComplianceCheck(
        self, request: pb.ReviewComplianceCheckRequest, context: ServicerContext
    ) -> pb.ComplianceCheck:
        return await self._operations.write(request, pb.ComplianceCheck, checks.review_check)

    async def ListTransactionLimits(
        self, request: pb.ListTransactionLimitsRequest, context: ServicerContext
    ) -> pb.ListTransactionLimitsResponse:
        return await self._operations.read(request, queries.list_limits)

    async def PutTransactionLimit(
        self, request: pb.PutTransactionLimitRequest, context: ServicerContext
    ) -> pb.TransactionLimit:
        return await self._operations.write(request, pb.TransactionLimit, limits.put_limit)


class PartiesServicer(parties_pb2_grpc.PartiesServiceServicer):
    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    async def CreateParty(self, request: parties_pb2.CreatePartyRequest, context: ServicerContext) -> parties_pb2.Party:
        return await self._operations.write(request, parties_pb2.Party, parties.create_party)

    async def GetParty(self, request: parties_pb2.GetPartyRequest, context: ServicerContext) -> parties_pb2.Party:
        return await self._operations.read(request, queries.get_party)

    async def ListParties(
        self, request: parties_pb2.ListPartiesRequest, context: ServicerContext
    ) -> parties_pb2.ListPartiesResponse:
        return await self._operations.read(request, queries.list_parties)

    async def UpdateParty(self, request: parties_pb2.UpdatePartyRequest, context: ServicerContext) -> parties_pb2.Party:
        return await self._operations.write(request, parties_pb2.Party, parties.update_party)

    async def ListPartyPersons(
        self, request: parties_pb2.ListPartyPersonsRequest, context: ServicerContext
    ) -> parties_pb2.ListPartyPersonsResponse:
        return await self._operations.read(request, queries.list_party_persons)

    async def AddPartyPerson(
        self, request: parties_pb2.AddPartyPersonRequest, context: ServicerContext
    ) -> parties_pb2.PartyPerson:
        return await self._operations.write(request, parties_pb2.PartyPerson, parties.add_person)

    async def RemovePartyPerson(
        self, request: parties_pb2.RemovePartyPersonRequest, context: ServicerContext
    ) -> parties_pb2.RemovePartyPersonResponse:
        answer = parties_pb2.RemovePartyPersonResponse
        return await self._operations.write(request, answer, parties.remove_person)

    async def GetMe(self, request: parties_pb2.GetMeRequest, context: ServicerContext) -> parties_pb2.Me:
        return await self._operations.read(request, queries.get_me)

    async def ListPartiesOfPerson(
        self, request: parties_pb2.ListPartiesOfPersonRequest, context: ServicerContext
    ) -> parties_pb2.ListPartiesOfPersonResponse:
        return await self._operations.read(request, queries.list_parties_of_person)


class OwnParties:
    """For whom a caller acts, from the table that says so: what was heard and what is are the same here."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_heard(self, principal: Principal) -> frozenset[str]:
        return await self.list_current(principal)

    async def list_current(self, principal: Principal) -> frozenset[str]:
        with acting_as(principal):
            async with self._database.begin() as tx:
                return frozenset(await store.list_parties_of(tx, principal.org_id, principal.subject))
