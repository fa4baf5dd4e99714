"""EscrowService over gRPC: opens the transaction, or passes the poster; calls the command or query. No rule here."""

from __future__ import annotations

from grpc.aio import ServicerContext
from realco.escrow.v1 import escrow_pb2 as pb
from realco.escrow.v1 import escrow_pb2_grpc as pb_grpc

from services.chassis.approvals.book import Approvals
from services.chassis.data.operations import Operations
from services.escrow.commands import escrow_accounts, holds, journal_entries
from services.escrow.posting.group_commit import Poster
from services.escrow.queries import balances, journal
from services.escrow.queries import escrow_accounts as accounts_read
from services.escrow.queries import holds as holds_read


class EscrowServicer(pb_grpc.EscrowServiceServicer):
    def __init__(self, operations: Operations, poster: Poster, approvals: Approvals) -> None:
        self._operations = operations
        self._poster = poster
        self._approvals = approvals

    # --- escrow accounts ---

    async def CreateEscrowAccount(
        self, request: pb.CreateEscrowAccountRequest, context: ServicerContext
    ) -> pb.EscrowAccount:
        return await self._operations.write(request, pb.EscrowAccount, escrow_accounts.create_escrow_account)

    async def GetEscrowAccount(self, request: pb.GetEscrowAccountRequest, context: ServicerContext) -> pb.EscrowAccount:
        return await self._operations.read(request, accounts_read.get_escrow_account)

    async def ListEscrowAccounts(
        self, request: pb.ListEscrowAccountsRequest, context: ServicerContext
    ) -> pb.ListEscrowAccountsResponse:
        return await self._operations.read(request, accounts_read.list_escrow_accounts)

    async def UpdateEscrowAccount(
        self, request: pb.UpdateEscrowAccountRequest, context: ServicerContext
    ) -> pb.EscrowAccount:
        return await self._operations.write(request, pb.EscrowAccount, escrow_accounts.update_escrow_account)

    async def ChangeEscrowAccountCustodian(
        self, request: pb.ChangeEscrowAccountCustodianRequest, context: ServicerContext
    ) -> pb.ChangeEscrowAccountCustodianResponse:
        return await self._approvals.carry_out(request, pb.ChangeEscrowAccountCustodianResponse)

    async def FreezeEscrowAccount(
        self, request: pb.FreezeEscrowAccountRequest, context: ServicerContext
    ) -> pb.EscrowAccount:
        return await self._operations.write(request, pb.EscrowAccount, escrow_accounts.freeze_escrow_account)

    async def UnfreezeEscrowAccount(
        self, request: pb.UnfreezeEscrowAccountRequest, context: ServicerContext
    ) -> pb.UnfreezeEscrowAccountResponse:
        return await self._approvals.carry_out(request, pb.UnfreezeEscrowAccountResponse)

    async def CloseEscrowAccount(
        self, request: pb.CloseEscrowAccountRequest, context: ServicerContext
    ) -> pb.CloseEscrowAccountResponse:
        return await self._approvals.carry_out(request, pb.CloseEscrowAccountResponse)

    # --- the book, read ---

    async def GetEscrowAccountBalance(
        self, request: pb.GetEscrowAccountBalanceRequest, context: ServicerContext
    ) -> pb.EscrowAccountBalance:
        return await self._operations.read(request, balances.get_escrow_account_balance)

    async def ListLedgerAccounts(
        self, request: pb.ListLedgerAccountsRequest, context: ServicerContext
    ) -> pb.ListLedgerAccountsResponse:
        return await self._operations.read(request, balances.list_ledger_accounts)

    async def ListLedgerEntries(
        self, request: pb.ListLedgerEntriesRequest, context: ServicerContext
    ) -> pb.ListLedgerEntriesResponse:
        return await self._operations.read(request, journal.list_ledger_entries)

    async def ListJournalEntries(
        self, request: pb.ListJournalEntriesRequest, context: ServicerContext
    ) -> pb.ListJournalEntriesResponse:
        return await self._operations.read(request, journal.list_journal_entries)

    async def GetJournalEntry(self, request: pb.GetJournalEntryRequest, context: ServicerContext) -> pb.JournalEntry:
        return await self._operations.read(request, journal.get_journal_entry)

    async def GetTrialBalance(self, request: pb.GetTrialBalanceRequest, context: ServicerContext) -> pb.TrialBalance:
        return await self._operations.read(request, balances.get_trial_balance)

    # --- the book, written ---

    async def PostJournalEntry(
        self, request: pb.PostJournalEntryRequest, context: ServicerContext
    ) -> pb.PostJournalEntryResponse:
        return await self._approvals.carry_out(request, pb.PostJournalEntryResponse)

    async def BatchPostJournalEntries(
        self, request: pb.BatchPostJournalEntriesRequest, context: ServicerContext
    ) -> pb.BatchPostJournalEntriesResponse:
        return await self._approvals.carry_out(request, pb.BatchPostJournalEntriesResponse)

    async def ReleaseSubscriptions(
        self, request: pb.ReleaseSubscriptionsRequest, context: ServicerContext
    ) -> pb.JournalEntry:
        return await journal_entries.release_subscriptions(self._poster, request)

    async def DeclareDistribution(
        self, request: pb.DeclareDistributionRequest, context: ServicerContext
    ) -> pb.JournalEntry:
        return await journal_entries.declare_distribution(self._poster, request)

    async def BatchSubmitPayouts(
        self, request: pb.BatchSubmitPayoutsRequest, context: ServicerContext
    ) -> pb.BatchSubmitPayoutsResponse:
        return await journal_entries.batch_submit_payouts(self._poster, request)

    # --- holds ---

    async def PlaceHold(self, request: pb.PlaceHoldRequest, context: ServicerContext) -> pb.Hold:
        return await self._operations.write(request, pb.Hold, holds.place_hold)

    async def GetHold(self, request: pb.GetHoldRequest, context: ServicerContext) -> pb.Hold:
        return await self._operations.read(request, holds_read.get_hold)

    async def ListHolds(self, request: pb.ListHoldsRequest, context: ServicerContext) -> pb.ListHoldsResponse:
        return await self._operations.read(request, holds_read.list_holds)

    async def CaptureHold(self, request: pb.CaptureHoldRequest, context: ServicerContext) -> pb.CaptureHoldResponse:
        return await self._approvals.carry_out(request, pb.CaptureHoldResponse)

    async def ReleaseHold(self, request: pb.ReleaseHoldRequest, context: ServicerContext) -> pb.ReleaseHoldResponse:
        return await self._approvals.carry_out(request, pb.ReleaseHoldResponse)
