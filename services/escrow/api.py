"""The gRPC services of escrow: each method opens the transaction, or passes the poster, and calls the command or query.

No rule lives here.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator

from grpc.aio import ServicerContext
from realco.escrow.v1 import bulk_postings_pb2 as bulk_pb
from realco.escrow.v1 import bulk_postings_pb2_grpc as bulk_grpc
from realco.escrow.v1 import escrow_accounts_pb2 as accounts_pb
from realco.escrow.v1 import escrow_accounts_pb2_grpc as accounts_grpc
from realco.escrow.v1 import holds_pb2 as holds_pb
from realco.escrow.v1 import holds_pb2_grpc as holds_grpc
from realco.escrow.v1 import journal_pb2 as journal_pb
from realco.escrow.v1 import journal_pb2_grpc as journal_grpc
from realco.escrow.v1 import postings_pb2 as postings_pb
from realco.escrow.v1 import postings_pb2_grpc as postings_grpc

from services.chassis.approvals.workflow import Approvals
from services.chassis.calls.parties import find_unknown_party
from services.escrow.commands import escrow_accounts, holds, journal_entries, postings, set_offs
from services.escrow.dependencies import Dependencies
from services.escrow.queries import balances, journal
from services.escrow.queries import escrow_accounts as accounts_read
from services.escrow.queries import holds as holds_read
from services.escrow.queries.beneficiaries import list_beneficiaries
from services.escrow.queries.previews import get_movement_preview, get_transaction_preview


class EscrowAccountsServicer(accounts_grpc.EscrowAccountsServiceServicer):
    def __init__(self, dependencies: Dependencies, approvals: Approvals) -> None:
        self._dependencies = dependencies
        self._approvals = approvals

    async def CreateEscrowAccount(
        self, request: accounts_pb.CreateEscrowAccountRequest, context: ServicerContext
    ) -> accounts_pb.EscrowAccount:
        return await self._dependencies.write_on_facts(
            request,
            accounts_pb.EscrowAccount,
            lambda request: find_unknown_party(
                self._dependencies.peers.compliance.batch_get_clearances, request.sponsor_party_id, "sponsor_party_id"
            ),
            escrow_accounts.create_escrow_account,
        )

    async def GetEscrowAccount(
        self, request: accounts_pb.GetEscrowAccountRequest, context: ServicerContext
    ) -> accounts_pb.EscrowAccount:
        return await self._dependencies.fetch(request, accounts_read.get_escrow_account)

    async def ListEscrowAccounts(
        self, request: accounts_pb.ListEscrowAccountsRequest, context: ServicerContext
    ) -> accounts_pb.ListEscrowAccountsResponse:
        return await self._dependencies.read(request, accounts_read.list_escrow_accounts)

    async def UpdateEscrowAccount(
        self, request: accounts_pb.UpdateEscrowAccountRequest, context: ServicerContext
    ) -> accounts_pb.EscrowAccount:
        return await self._dependencies.write(request, accounts_pb.EscrowAccount, escrow_accounts.update_escrow_account)

    async def ChangeEscrowAccountCustodian(
        self, request: accounts_pb.ChangeEscrowAccountCustodianRequest, context: ServicerContext
    ) -> accounts_pb.ChangeEscrowAccountCustodianResponse:
        return await self._approvals.carry_out(request, accounts_pb.ChangeEscrowAccountCustodianResponse)

    async def FreezeEscrowAccount(
        self, request: accounts_pb.FreezeEscrowAccountRequest, context: ServicerContext
    ) -> accounts_pb.EscrowAccount:
        return await self._dependencies.write(request, accounts_pb.EscrowAccount, escrow_accounts.freeze_escrow_account)

    async def UnfreezeEscrowAccount(
        self, request: accounts_pb.UnfreezeEscrowAccountRequest, context: ServicerContext
    ) -> accounts_pb.UnfreezeEscrowAccountResponse:
        return await self._approvals.carry_out(request, accounts_pb.UnfreezeEscrowAccountResponse)

    async def CloseEscrowAccount(
        self, request: accounts_pb.CloseEscrowAccountRequest, context: ServicerContext
    ) -> accounts_pb.CloseEscrowAccountResponse:
        return await self._approvals.carry_out(request, accounts_pb.CloseEscrowAccountResponse)

    async def GetEscrowAccountBalance(
        self, request: accounts_pb.GetEscrowAccountBalanceRequest, context: ServicerContext
    ) -> accounts_pb.EscrowAccountBalance:
        return await self._dependencies.fetch(request, balances.get_escrow_account_balance)


class JournalServicer(journal_grpc.JournalServiceServicer):
    def __init__(self, dependencies: Dependencies, approvals: Approvals) -> None:
        self._dependencies = dependencies
        self._approvals = approvals

    async def ListLedgerAccounts(
        self, request: journal_pb.ListLedgerAccountsRequest, context: ServicerContext
    ) -> journal_pb.ListLedgerAccountsResponse:
        return await self._dependencies.fetch(request, balances.list_ledger_accounts)

    async def ListLedgerEntries(
        self, request: journal_pb.ListLedgerEntriesRequest, context: ServicerContext
    ) -> journal_pb.ListLedgerEntriesResponse:
        return await self._dependencies.fetch(request, journal.list_ledger_entries)

    async def ListJournalEntries(
        self, request: journal_pb.ListJournalEntriesRequest, context: ServicerContext
    ) -> journal_pb.ListJournalEntriesResponse:
        return await self._dependencies.fetch(request, journal.list_journal_entries)

    async def GetJournalEntry(
        self, request: journal_pb.GetJournalEntryRequest, context: ServicerContext
    ) -> journal_pb.JournalEntry:
        return await self._dependencies.fetch(request, journal.get_journal_entry)

    async def GetTrialBalance(
        self, request: journal_pb.GetTrialBalanceRequest, context: ServicerContext
    ) -> journal_pb.TrialBalance:
        return await self._dependencies.read(request, balances.get_trial_balance)

    async def PostJournalEntry(
        self, request: journal_pb.PostJournalEntryRequest, context: ServicerContext
    ) -> journal_pb.PostJournalEntryResponse:
        return await self._approvals.carry_out(request, journal_pb.PostJournalEntryResponse)

    async def BatchPostJournalEntries(
        self, request: journal_pb.BatchPostJournalEntriesRequest, context: ServicerContext
    ) -> journal_pb.BatchPostJournalEntriesResponse:
        return await self._approvals.carry_out(request, journal_pb.BatchPostJournalEntriesResponse)


class HoldsServicer(holds_grpc.HoldsServiceServicer):
    def __init__(self, dependencies: Dependencies, approvals: Approvals) -> None:
        self._dependencies = dependencies
        self._approvals = approvals

    async def PlaceHold(self, request: holds_pb.PlaceHoldRequest, context: ServicerContext) -> holds_pb.Hold:
        return await self._dependencies.write(request, holds_pb.Hold, holds.place_hold)

    async def GetHold(self, request: holds_pb.GetHoldRequest, context: ServicerContext) -> holds_pb.Hold:
        return await self._dependencies.read(request, holds_read.get_hold)

    async def ListHolds(
        self, request: holds_pb.ListHoldsRequest, context: ServicerContext
    ) -> holds_pb.ListHoldsResponse:
        return await self._dependencies.read(request, holds_read.list_holds)

    async def CaptureHold(
        self, request: holds_pb.CaptureHoldRequest, context: ServicerContext
    ) -> holds_pb.CaptureHoldResponse:
        return await self._approvals.carry_out(request, holds_pb.CaptureHoldResponse)

    async def ReleaseHold(
        self, request: holds_pb.ReleaseHoldRequest, context: ServicerContext
    ) -> holds_pb.ReleaseHoldResponse:
        return await self._approvals.carry_out(request, holds_pb.ReleaseHoldResponse)


class BulkPostingsServicer(bulk_grpc.BulkPostingsServiceServicer):
    def __init__(self, dependencies: Dependencies) -> None:
        self._dependencies = dependencies

    async def StreamPostJournalEntries(
        self, requests: AsyncIterable[bulk_pb.StreamPostJournalEntriesRequest], context: ServicerContext
    ) -> AsyncIterator[journal_pb.PostingResults]:
        async for request in requests:
            now = self._dependencies.clock.now()
            yield await journal_entries.post_items(self._dependencies.poster, self._dependencies.database, request, now)


class PostingsServicer(postings_grpc.PostingsServiceServicer):
    def __init__(self, dependencies: Dependencies) -> None:
        self._dependencies = dependencies

    async def ReleaseSubscriptions(
        self, request: postings_pb.ReleaseSubscriptionsRequest, context: ServicerContext
    ) -> journal_pb.JournalEntry:
        return await postings.release_subscriptions(self._dependencies, request)

    async def DeclareDistribution(
        self, request: postings_pb.DeclareDistributionRequest, context: ServicerContext
    ) -> journal_pb.JournalEntry:
        return await postings.declare_distribution(self._dependencies, request)

    async def BatchBookPayouts(
        self, request: postings_pb.BatchBookPayoutsRequest, context: ServicerContext
    ) -> postings_pb.BatchBookPayoutsResponse:
        return await postings.batch_book_payouts(self._dependencies, request)

    async def SetOffReceivables(
        self, request: postings_pb.SetOffReceivablesRequest, context: ServicerContext
    ) -> postings_pb.SetOffReceivablesResponse:
        return await set_offs.set_off_receivables(self._dependencies, request)

    async def ListBeneficiaries(
        self, request: postings_pb.ListBeneficiariesRequest, context: ServicerContext
    ) -> postings_pb.ListBeneficiariesResponse:
        dependencies = self._dependencies
        return await list_beneficiaries(dependencies.database, dependencies.peers.distributions, request)

    async def GetTransactionPreview(
        self, request: postings_pb.GetTransactionPreviewRequest, context: ServicerContext
    ) -> postings_pb.BookPreview:
        return await self._dependencies.read(request, get_transaction_preview)

    async def GetMovementPreview(
        self, request: postings_pb.GetMovementPreviewRequest, context: ServicerContext
    ) -> postings_pb.BookPreview:
        return await self._dependencies.read(request, get_movement_preview)
