"""EscrowService over gRPC: opens the transaction, or hands to the poster; calls the command or query. No rule here."""

from __future__ import annotations

from grpc.aio import ServicerContext
from realco.escrow.v1 import escrow_pb2 as pb
from realco.escrow.v1 import escrow_pb2_grpc as pb_grpc

from services.chassis.data.database import Database
from services.chassis.data.once import once
from services.chassis.values.clock import Clock
from services.escrow import commands, entries, messages, queries
from services.escrow.posting import Poster


class EscrowServicer(pb_grpc.EscrowServiceServicer):
    def __init__(self, database: Database, clock: Clock, poster: Poster) -> None:
        self._database = database
        self._clock = clock
        self._poster = poster

    # --- escrow accounts ---

    async def CreateEscrowAccount(
        self, request: pb.CreateEscrowAccountRequest, context: ServicerContext
    ) -> pb.EscrowAccount:
        return await once(
            self._database,
            request,
            pb.EscrowAccount,
            lambda tx: commands.create_escrow_account(tx, request, self._clock.now()),
        )

    async def GetEscrowAccount(self, request: pb.GetEscrowAccountRequest, context: ServicerContext) -> pb.EscrowAccount:
        async with self._database.begin() as tx:
            return await queries.get_escrow_account(tx, request.escrow_account_id)

    async def ListEscrowAccounts(
        self, request: pb.ListEscrowAccountsRequest, context: ServicerContext
    ) -> pb.ListEscrowAccountsResponse:
        async with self._database.begin() as tx:
            return await queries.list_escrow_accounts(tx, request)

    async def FreezeEscrowAccount(
        self, request: pb.FreezeEscrowAccountRequest, context: ServicerContext
    ) -> pb.EscrowAccount:
        return await once(
            self._database, request, pb.EscrowAccount, lambda tx: commands.freeze(tx, request, self._clock.now())
        )

    async def UnfreezeEscrowAccount(
        self, request: pb.UnfreezeEscrowAccountRequest, context: ServicerContext
    ) -> pb.EscrowAccount:
        return await once(
            self._database, request, pb.EscrowAccount, lambda tx: commands.unfreeze(tx, request, self._clock.now())
        )

    async def CloseEscrowAccount(
        self, request: pb.CloseEscrowAccountRequest, context: ServicerContext
    ) -> pb.EscrowAccount:
        return await once(
            self._database, request, pb.EscrowAccount, lambda tx: commands.close(tx, request, self._clock.now())
        )

    # --- the book, read ---

    async def GetEscrowAccountBalance(
        self, request: pb.GetEscrowAccountBalanceRequest, context: ServicerContext
    ) -> pb.EscrowAccountBalance:
        async with self._database.begin() as tx:
            return await queries.get_balance(tx, request, self._clock.now())

    async def ListLedgerAccounts(
        self, request: pb.ListLedgerAccountsRequest, context: ServicerContext
    ) -> pb.ListLedgerAccountsResponse:
        async with self._database.begin() as tx:
            return await queries.list_ledger_accounts(tx, request, self._clock.now())

    async def ListLedgerEntries(
        self, request: pb.ListLedgerEntriesRequest, context: ServicerContext
    ) -> pb.ListLedgerEntriesResponse:
        async with self._database.begin() as tx:
            return await queries.list_ledger_entries(tx, request)

    async def GetTrialBalance(self, request: pb.GetTrialBalanceRequest, context: ServicerContext) -> pb.TrialBalance:
        async with self._database.begin() as tx:
            return await queries.get_trial_balance(tx, request.escrow_account_id)

    # --- the book, written: idempotent by the journal's own keys, committed together with what others ask for ---

    async def PostJournalEntry(self, request: pb.PostJournalEntryRequest, context: ServicerContext) -> pb.JournalEntry:
        now = self._clock.now()
        return await self._poster.post_one(
            await entries.asked(
                self._database, request.escrow_account_id, request.idempotency_key, request.journal_entry, now
            )
        )

    async def BatchPostJournalEntries(
        self, request: pb.BatchPostJournalEntriesRequest, context: ServicerContext
    ) -> pb.BatchPostJournalEntriesResponse:
        outcomes = await self._poster.post(await entries.asked_together(self._database, request, self._clock.now()))
        result = pb.BatchPostJournalEntriesResponse.Result
        return pb.BatchPostJournalEntriesResponse(results=messages.results(result, request.items, outcomes))

    async def ReleaseSubscriptions(
        self, request: pb.ReleaseSubscriptionsRequest, context: ServicerContext
    ) -> pb.JournalEntry:
        return await self._poster.post_one(entries.release_of_subscriptions(request))

    async def DeclareDistribution(
        self, request: pb.DeclareDistributionRequest, context: ServicerContext
    ) -> pb.JournalEntry:
        return await self._poster.post_one(entries.declaration(request))

    async def SubmitPayouts(
        self, request: pb.SubmitPayoutsRequest, context: ServicerContext
    ) -> pb.SubmitPayoutsResponse:
        outcomes = await self._poster.post([entries.payout(item) for item in request.items])
        result = pb.SubmitPayoutsResponse.Result
        return pb.SubmitPayoutsResponse(results=messages.results(result, request.items, outcomes))

    # --- holds ---

    async def PlaceHold(self, request: pb.PlaceHoldRequest, context: ServicerContext) -> pb.Hold:
        return await once(
            self._database, request, pb.Hold, lambda tx: commands.place_hold(tx, request, self._clock.now())
        )

    async def ListHolds(self, request: pb.ListHoldsRequest, context: ServicerContext) -> pb.ListHoldsResponse:
        async with self._database.begin() as tx:
            return await queries.list_holds(tx, request)

    async def CaptureHold(self, request: pb.CaptureHoldRequest, context: ServicerContext) -> pb.Hold:
        return await once(
            self._database, request, pb.Hold, lambda tx: commands.capture_hold(tx, request, self._clock.now())
        )

    async def ReleaseHold(self, request: pb.ReleaseHoldRequest, context: ServicerContext) -> pb.Hold:
        return await once(
            self._database, request, pb.Hold, lambda tx: commands.release_hold(tx, request, self._clock.now())
        )
