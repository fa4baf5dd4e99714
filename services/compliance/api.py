"""Compliance over gRPC: opens the transaction, calls the command or query. No rule lives here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from datetime import datetime
from functools import partial
from typing import Any

from grpc.aio import ServicerContext
from realco.compliance.v1 import (
    api_keys_pb2,
    api_keys_pb2_grpc,
    clearances_pb2,
    clearances_pb2_grpc,
    notary_pb2,
    notary_pb2_grpc,
    parties_pb2,
    parties_pb2_grpc,
    persons_pb2,
    persons_pb2_grpc,
)
from realco.compliance.v1 import compliance_pb2 as pb
from realco.compliance.v1 import compliance_pb2_grpc as pb_grpc

from services.chassis.approvals.workflow import Approvals
from services.chassis.calls.answer import is_replayed
from services.chassis.calls.auth import Principal, acting_as, current_principal, service_principal
from services.chassis.data.database import Database
from services.chassis.data.transaction import Tx
from services.chassis.values.clock import Clock
from services.chassis.values.ids import new_id
from services.chassis.values.session import Identity, Standings
from services.compliance.commands import api_keys, checks, evaluation, parties, statements
from services.compliance.commands.checks import CHECK_APPROVALS
from services.compliance.dependencies import NAME, Dependencies
from services.compliance.domain.api_keys import digest_secret, make_secret
from services.compliance.queries import api_keys as api_keys_read
from services.compliance.queries import checks as checks_read
from services.compliance.queries import limits as limits_read
from services.compliance.queries import parties as parties_read
from services.compliance.queries import statements as statements_read
from services.compliance.store.api_keys import find_organization_of_key
from services.compliance.store.parties import list_parties_of_person
from services.compliance.store.standings import read_standing


class ComplianceServicer(pb_grpc.ComplianceServiceServicer):
    def __init__(self, dependencies: Dependencies, approvals: Approvals) -> None:
        self._dependencies = dependencies
        self._approvals = approvals
        self._parties = OwnParties(dependencies.database, dependencies.clock)

    async def GetComplianceCheck(
        self, request: pb.GetComplianceCheckRequest, context: ServicerContext
    ) -> pb.ComplianceCheck:
        return await self._dependencies.read(request, checks_read.get_compliance_check)

    async def ListComplianceChecks(
        self, request: pb.ListComplianceChecksRequest, context: ServicerContext
    ) -> pb.ListComplianceChecksResponse:
        return await self._dependencies.read(request, checks_read.list_compliance_checks)

    async def ReviewComplianceCheck(
        self, request: pb.ReviewComplianceCheckRequest, context: ServicerContext
    ) -> pb.ComplianceCheck:
        return await self._dependencies.write_on_facts(
            request,
            pb.ComplianceCheck,
            lambda request: CHECK_APPROVALS.ask_facts(self._dependencies, self._parties, request.compliance_check_id),
            checks.review_compliance_check,
        )

    async def GetTransactionLimit(
        self, request: pb.GetTransactionLimitRequest, context: ServicerContext
    ) -> pb.TransactionLimit:
        return await self._dependencies.read(request, limits_read.get_transaction_limit)

    async def ListTransactionLimits(
        self, request: pb.ListTransactionLimitsRequest, context: ServicerContext
    ) -> pb.ListTransactionLimitsResponse:
        return await self._dependencies.read(request, limits_read.list_transaction_limits)

    async def PutTransactionLimit(
        self, request: pb.PutTransactionLimitRequest, context: ServicerContext
    ) -> pb.PutTransactionLimitResponse:
        return await self._approvals.carry_out(request, pb.PutTransactionLimitResponse)

    async def DeleteTransactionLimit(
        self, request: pb.DeleteTransactionLimitRequest, context: ServicerContext
    ) -> pb.DeleteTransactionLimitResponse:
        return await self._approvals.carry_out(request, pb.DeleteTransactionLimitResponse)


class PartiesServicer(parties_pb2_grpc.PartiesServiceServicer):
    def __init__(self, dependencies: Dependencies, approvals: Approvals) -> None:
        self._dependencies = dependencies
        self._approvals = approvals

    async def CreateParty(self, request: parties_pb2.CreatePartyRequest, context: ServicerContext) -> parties_pb2.Party:
        return await self._dependencies.write(request, parties_pb2.Party, parties.create_party)

    async def GetParty(self, request: parties_pb2.GetPartyRequest, context: ServicerContext) -> parties_pb2.Party:
        return await self._dependencies.read(request, parties_read.get_party)

    async def ListParties(
        self, request: parties_pb2.ListPartiesRequest, context: ServicerContext
    ) -> parties_pb2.ListPartiesResponse:
        return await self._dependencies.read(request, parties_read.list_parties)

    async def UpdateParty(self, request: parties_pb2.UpdatePartyRequest, context: ServicerContext) -> parties_pb2.Party:
        return await self._dependencies.write(request, parties_pb2.Party, parties.update_party)

    async def ListPartyPersons(
        self, request: parties_pb2.ListPartyPersonsRequest, context: ServicerContext
    ) -> parties_pb2.ListPartyPersonsResponse:
        return await self._dependencies.read(request, parties_read.list_party_persons)

    async def AddPartyPerson(
        self, request: parties_pb2.AddPartyPersonRequest, context: ServicerContext
    ) -> parties_pb2.AddPartyPersonResponse:
        return await self._approvals.carry_out(request, parties_pb2.AddPartyPersonResponse)

    async def RemovePartyPerson(
        self, request: parties_pb2.RemovePartyPersonRequest, context: ServicerContext
    ) -> parties_pb2.Party:
        return await self._dependencies.write(request, parties_pb2.Party, parties.remove_party_person)

    async def GetMe(self, request: parties_pb2.GetMeRequest, context: ServicerContext) -> parties_pb2.Me:
        return await self._dependencies.read(request, parties_read.get_me)

    async def EndSessions(
        self, request: parties_pb2.EndSessionsRequest, context: ServicerContext
    ) -> parties_pb2.EndSessionsResponse:
        return await self._dependencies.write(request, parties_pb2.EndSessionsResponse, parties.end_sessions)


class ApiKeysServicer(api_keys_pb2_grpc.ApiKeysServiceServicer):
    def __init__(self, dependencies: Dependencies) -> None:
        self._dependencies = dependencies

    async def CreateApiKey(
        self, request: api_keys_pb2.CreateApiKeyRequest, context: ServicerContext
    ) -> api_keys_pb2.IssuedApiKey:
        secret, api_key_id = make_secret(), new_id("key")
        return await self._tell(
            request,
            secret,
            lambda tx, request, now: api_keys.create_api_key(tx, request, api_key_id, digest_secret(secret), now),
        )

    async def RotateApiKey(
        self, request: api_keys_pb2.RotateApiKeyRequest, context: ServicerContext
    ) -> api_keys_pb2.IssuedApiKey:
        secret = make_secret()
        return await self._tell(
            request, secret, lambda tx, request, now: api_keys.rotate_api_key(tx, request, digest_secret(secret), now)
        )

    async def _tell(
        self,
        request: Any,
        secret: str,
        command: Callable[[Tx, Any, datetime], Awaitable[api_keys_pb2.IssuedApiKey]],
    ) -> api_keys_pb2.IssuedApiKey:
        """The answer, kept under its key as the command made it, and told with the secret to this caller alone."""
        issued = await self._dependencies.write(request, api_keys_pb2.IssuedApiKey, command)
        if not (request.validate_only or is_replayed()):
            issued.secret = secret
        return issued

    async def GetApiKey(self, request: api_keys_pb2.GetApiKeyRequest, context: ServicerContext) -> api_keys_pb2.ApiKey:
        return await self._dependencies.read(request, api_keys_read.get_api_key)

    async def ListApiKeys(
        self, request: api_keys_pb2.ListApiKeysRequest, context: ServicerContext
    ) -> api_keys_pb2.ListApiKeysResponse:
        return await self._dependencies.read(request, api_keys_read.list_api_keys)

    async def RevokeApiKey(
        self, request: api_keys_pb2.RevokeApiKeyRequest, context: ServicerContext
    ) -> api_keys_pb2.ApiKey:
        return await self._dependencies.write(request, api_keys_pb2.ApiKey, api_keys.revoke_api_key)

    async def IssueApiKeyToken(
        self, request: api_keys_pb2.IssueApiKeyTokenRequest, context: ServicerContext
    ) -> api_keys_pb2.ApiKeyToken:
        database, now = self._dependencies.database, self._dependencies.clock.now()
        # A secret proves its key, not an organization: that is known once the key is found.
        async with database.begin_for_all() as tx:
            org_id = await find_organization_of_key(tx, request.api_key_id)
        if org_id is None:
            raise api_keys.secret_not_acceptable()
        with acting_as(service_principal(NAME, org_id)):
            async with database.begin() as tx:
                key, secret = await api_keys.use_secret(tx, request, now)
        return self._dependencies.key_tokens.issue(key, org_id, secret, now)


class ClearancesServicer(clearances_pb2_grpc.ClearancesServiceServicer):
    def __init__(self, dependencies: Dependencies) -> None:
        self._dependencies = dependencies

    async def BatchEvaluateTransactions(
        self, request: clearances_pb2.BatchEvaluateTransactionsRequest, context: ServicerContext
    ) -> clearances_pb2.BatchEvaluateTransactionsResponse:
        # Each transaction is its own key: asked again, it answers what it decided.
        answer = clearances_pb2.BatchEvaluateTransactionsResponse
        ask = partial(evaluation.ask_what_waits, self._dependencies.peers.transactions)
        return await self._dependencies.write_on_facts(request, answer, ask, evaluation.batch_evaluate_transactions)

    async def BatchGetClearances(
        self, request: clearances_pb2.BatchGetClearancesRequest, context: ServicerContext
    ) -> clearances_pb2.BatchGetClearancesResponse:
        return await self._dependencies.fetch(request, checks_read.batch_get_clearances)

    async def GetPartyName(
        self, request: clearances_pb2.GetPartyNameRequest, context: ServicerContext
    ) -> clearances_pb2.PartyName:
        return await self._dependencies.read(request, parties_read.get_party_name)


class PersonsServicer(persons_pb2_grpc.PersonsServiceServicer):
    def __init__(self, dependencies: Dependencies) -> None:
        self._dependencies = dependencies

    async def ListPartiesOfPerson(
        self, request: persons_pb2.ListPartiesOfPersonRequest, context: ServicerContext
    ) -> persons_pb2.ListPartiesOfPersonResponse:
        return await self._dependencies.fetch(request, parties_read.list_parties_of_person)


class NotaryServicer(notary_pb2_grpc.NotaryServiceServicer):
    def __init__(self, dependencies: Dependencies) -> None:
        self._dependencies = dependencies
        self._parties = OwnParties(dependencies.database, dependencies.clock)

    async def RecordRequest(
        self, request: notary_pb2.RecordRequestRequest, context: ServicerContext
    ) -> notary_pb2.RecordRequestResponse:
        return await self._dependencies.write(request, notary_pb2.RecordRequestResponse, statements.record_request)

    async def RecordApproval(
        self, request: notary_pb2.RecordApprovalRequest, context: ServicerContext
    ) -> notary_pb2.RecordApprovalResponse:
        return await self._dependencies.write_on_facts(
            request,
            notary_pb2.RecordApprovalResponse,
            lambda _: self._parties.list_interests(current_principal()),
            statements.record_approval,
        )

    async def RecordExecution(
        self, request: notary_pb2.RecordExecutionRequest, context: ServicerContext
    ) -> notary_pb2.RecordExecutionResponse:
        return await self._dependencies.write(request, notary_pb2.RecordExecutionResponse, statements.record_execution)

    async def RecordWithdrawal(
        self, request: notary_pb2.RecordWithdrawalRequest, context: ServicerContext
    ) -> notary_pb2.RecordWithdrawalResponse:
        return await self._dependencies.write(
            request, notary_pb2.RecordWithdrawalResponse, statements.record_withdrawal
        )

    async def CheckMovement(
        self, request: notary_pb2.CheckMovementRequest, context: ServicerContext
    ) -> notary_pb2.CheckMovementResponse:
        return await self._dependencies.read(request, statements_read.check_movement)


class OwnParties:
    """For whom a caller acts, from the table that says so: what was heard and what is are the same here."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def list_heard(self, principal: Principal) -> frozenset[str]:
        return await self.list_current(principal)

    async def list_current(self, principal: Principal) -> frozenset[str]:
        with acting_as(principal):
            reader = self._database.reader
            await parties_read.check_session_of(reader, principal, self._clock.now())
            return frozenset(await list_parties_of_person(reader, principal.person))

    async def list_interests(self, principal: Principal) -> frozenset[str]:
        with acting_as(principal):
            return (await self.list_standings([me := Identity(principal.person)]))[me].parties

    async def list_standings(self, persons: Collection[Identity]) -> Standings:
        now, reader = self._clock.now(), self._database.reader
        await parties_read.check_session_of(reader, current_principal(), now)
        return {each: await read_standing(reader, each.person, now, api_key_id=each.api_key_id) for each in persons}
