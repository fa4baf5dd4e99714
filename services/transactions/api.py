"""The gRPC services of transactions: each method hands its request to a command or a query. No rule lives here."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any

from grpc.aio import ServicerContext
from realco.transactions.v1 import bank_accounts_pb2 as bank_pb
from realco.transactions.v1 import bank_accounts_pb2_grpc as bank_grpc
from realco.transactions.v1 import (
    contributions_pb2,
    contributions_pb2_grpc,
    evaluations_pb2,
    evaluations_pb2_grpc,
    exceptions_pb2,
    exceptions_pb2_grpc,
    payouts_pb2,
    payouts_pb2_grpc,
    return_rates_pb2,
    return_rates_pb2_grpc,
    sweeps_pb2,
    sweeps_pb2_grpc,
    unfinished_pb2,
    unfinished_pb2_grpc,
)
from realco.transactions.v1 import transactions_pb2 as pb
from realco.transactions.v1 import transactions_pb2_grpc as pb_grpc
from realco.transactions.v1 import webhooks_pb2 as hook_pb
from realco.transactions.v1 import webhooks_pb2_grpc as hook_grpc

from services.chassis.approvals.workflow import Approvals
from services.chassis.calls.auth import current_principal
from services.chassis.calls.parties import Parties
from services.chassis.data.transaction import Tx
from services.transactions.commands import (
    bank_accounts,
    batch_cancellation,
    batch_creation,
    cancellation,
    contributions,
    creation,
    decisions,
    evaluation,
    exceptions,
    linked_accounts,
    payouts,
    verifications,
    webhooks,
)
from services.transactions.commands.added_accounts import blind_request
from services.transactions.dependencies import Dependencies
from services.transactions.domain.rails import PROVIDER_OF_WEBHOOK
from services.transactions.queries import bank_accounts as account_queries
from services.transactions.queries import exceptions as exception_queries
from services.transactions.queries import payouts as payout_queries
from services.transactions.queries import sweeps as sweep_queries
from services.transactions.queries import transactions as queries
from services.transactions.queries import webhooks as webhook_queries


class TransactionsServicer(pb_grpc.TransactionsServiceServicer):
    def __init__(self, dependencies: Dependencies, approvals: Approvals, parties: Parties) -> None:
        self._dependencies = dependencies
        self._approvals = approvals
        self._parties = parties

    async def CreateTransaction(self, request: pb.CreateTransactionRequest, context: ServicerContext) -> pb.Transaction:
        creation.check_create_transaction(request, current_principal())
        answer = await self._dependencies.write_on_facts(
            request,
            pb.Transaction,
            partial(creation.ask_about_new_transaction, self._dependencies),
            partial(creation.create_transaction, choice=self._dependencies.providers.choice),
        )
        return await evaluation.evaluate_and_keep_answer(self._dependencies, request, answer)

    async def BatchCreateTransactions(
        self, request: pb.BatchCreateTransactionsRequest, context: ServicerContext
    ) -> pb.BatchCreateTransactionsResponse:
        return await batch_creation.batch_create_transactions(self._dependencies, request)

    async def GetTransaction(self, request: pb.GetTransactionRequest, context: ServicerContext) -> pb.Transaction:
        return await self._dependencies.fetch(request, queries.get_transaction)

    async def ListTransactions(
        self, request: pb.ListTransactionsRequest, context: ServicerContext
    ) -> pb.ListTransactionsResponse:
        return await self._dependencies.fetch(request, queries.list_transactions)

    async def ListTransactionStatusChanges(
        self, request: pb.ListTransactionStatusChangesRequest, context: ServicerContext
    ) -> pb.ListTransactionStatusChangesResponse:
        return await self._dependencies.read(request, queries.list_transaction_status_changes)

    async def RetryTransaction(self, request: pb.RetryTransactionRequest, context: ServicerContext) -> pb.Transaction:
        return await self._dependencies.write_on_facts(
            request,
            pb.Transaction,
            partial(decisions.ask_about_inflow_again, self._dependencies),
            decisions.retry_transaction,
        )

    async def CancelTransaction(self, request: pb.CancelTransactionRequest, context: ServicerContext) -> pb.Transaction:
        return await self._dependencies.write_on_facts(
            request,
            pb.Transaction,
            partial(cancellation.ask_to_end, self._dependencies),
            cancellation.cancel_transaction,
        )

    async def BatchCancelTransactions(
        self, request: pb.BatchCancelTransactionsRequest, context: ServicerContext
    ) -> pb.BatchCancelTransactionsResponse:
        return await batch_cancellation.batch_cancel_transactions(self._dependencies, request)

    async def ApproveTransaction(
        self, request: pb.ApproveTransactionRequest, context: ServicerContext
    ) -> pb.Transaction:
        return await self._dependencies.write_on_facts(
            request,
            pb.Transaction,
            partial(decisions.ask_approval_facts, self._dependencies, self._parties),
            decisions.approve_transaction,
        )

    async def RejectTransaction(self, request: pb.RejectTransactionRequest, context: ServicerContext) -> pb.Transaction:
        return await self._dependencies.write(request, pb.Transaction, decisions.reject_transaction)

    async def ConfirmTransaction(
        self, request: pb.ConfirmTransactionRequest, context: ServicerContext
    ) -> pb.Transaction:
        return await self._dependencies.write_on_facts(
            request,
            pb.Transaction,
            partial(decisions.ask_confirmation_facts, self._dependencies, self._parties),
            decisions.confirm_transaction,
        )

    async def CorrectTransactionAmount(
        self, request: pb.CorrectTransactionAmountRequest, context: ServicerContext
    ) -> pb.Transaction:
        return await self._dependencies.write_on_facts(
            request,
            pb.Transaction,
            partial(decisions.ask_correction_facts, self._dependencies, self._parties),
            decisions.correct_transaction_amount,
        )

    async def RecordTransactionReturn(
        self, request: pb.RecordTransactionReturnRequest, context: ServicerContext
    ) -> pb.RecordTransactionReturnResponse:
        return await self._approvals.carry_out(request, pb.RecordTransactionReturnResponse)

    async def ReverseTransaction(
        self, request: pb.ReverseTransactionRequest, context: ServicerContext
    ) -> pb.ReverseTransactionResponse:
        return await self._approvals.carry_out(request, pb.ReverseTransactionResponse)


class PayoutsServicer(payouts_pb2_grpc.PayoutsServiceServicer):
    def __init__(self, dependencies: Dependencies) -> None:
        self._dependencies = dependencies

    async def BatchCreatePayouts(
        self, request: payouts_pb2.BatchCreatePayoutsRequest, context: ServicerContext
    ) -> payouts_pb2.BatchCreatePayoutsResponse:
        orders = await payouts.check_ordered(self._dependencies.peers.distributions, request)

        async def create(
            tx: Tx, request: payouts_pb2.BatchCreatePayoutsRequest, now: datetime
        ) -> payouts_pb2.BatchCreatePayoutsResponse:
            return await payouts.batch_create_payouts(
                tx, request, orders, now, choice=self._dependencies.providers.choice
            )

        return await self._dependencies.write(request, payouts_pb2.BatchCreatePayoutsResponse, create)

    async def BatchGetPayouts(
        self, request: payouts_pb2.BatchGetPayoutsRequest, context: ServicerContext
    ) -> payouts_pb2.BatchGetPayoutsResponse:
        return await self._dependencies.read(request, payout_queries.batch_get_payouts)

    async def GetReceivedMoney(
        self, request: payouts_pb2.GetReceivedMoneyRequest, context: ServicerContext
    ) -> payouts_pb2.ReceivedMoney:
        return await self._dependencies.read(request, payout_queries.get_received_money)

    async def BatchGetPayoutAccounts(
        self, request: payouts_pb2.BatchGetPayoutAccountsRequest, context: ServicerContext
    ) -> payouts_pb2.BatchGetPayoutAccountsResponse:
        return await self._dependencies.read(request, payout_queries.batch_get_payout_accounts)

    async def GetRefundPreview(
        self, request: payouts_pb2.GetRefundPreviewRequest, context: ServicerContext
    ) -> payouts_pb2.RefundPreview:
        return await self._dependencies.read(request, payout_queries.get_refund_preview)


class ContributionsServicer(contributions_pb2_grpc.ContributionsServiceServicer):
    def __init__(self, dependencies: Dependencies) -> None:
        self._dependencies = dependencies

    async def CancelContributions(
        self, request: contributions_pb2.CancelContributionsRequest, context: ServicerContext
    ) -> contributions_pb2.CancelContributionsResponse:
        return await self._dependencies.write_on_facts(
            request,
            contributions_pb2.CancelContributionsResponse,
            partial(contributions.ask_about_contributions, self._dependencies),
            contributions.cancel_contributions,
        )


class EvaluationsServicer(evaluations_pb2_grpc.EvaluationsServiceServicer):
    def __init__(self, dependencies: Dependencies) -> None:
        self._dependencies = dependencies

    async def BatchGetEvaluationFacts(
        self, request: evaluations_pb2.BatchGetEvaluationFactsRequest, context: ServicerContext
    ) -> evaluations_pb2.BatchGetEvaluationFactsResponse:
        return await self._dependencies.fetch(request, queries.batch_get_evaluation_facts)


class UnfinishedTransactionsServicer(unfinished_pb2_grpc.UnfinishedTransactionsServiceServicer):
    def __init__(self, dependencies: Dependencies) -> None:
        self._dependencies = dependencies

    async def ListUnfinishedTransactions(
        self, request: unfinished_pb2.ListUnfinishedTransactionsRequest, context: ServicerContext
    ) -> unfinished_pb2.ListUnfinishedTransactionsResponse:
        return await self._dependencies.read(request, queries.list_unfinished_transactions)


class BankAccountsServicer(bank_grpc.BankAccountsServiceServicer):
    def __init__(self, dependencies: Dependencies, approvals: Approvals) -> None:
        self._dependencies = dependencies
        self._approvals = approvals

    async def CreateBankAccount(
        self, request: bank_pb.CreateBankAccountRequest, context: ServicerContext
    ) -> bank_pb.BankAccount:
        bank_accounts.check_create_bank_account(request, current_principal())
        vault = self._dependencies.vault

        return await self._dependencies.write_on_facts(
            blind_request(request, vault, "account_number"),
            bank_pb.BankAccount,
            partial(bank_accounts.ask_about_owner, self._dependencies),
            lambda tx, _, refusal, now: bank_accounts.create_bank_account(tx, request, refusal, vault, now),
        )

    async def CreateLinkToken(
        self, request: bank_pb.CreateLinkTokenRequest, context: ServicerContext
    ) -> bank_pb.LinkToken:
        return await linked_accounts.create_link_token(self._dependencies, request)

    async def LinkBankAccount(
        self, request: bank_pb.LinkBankAccountRequest, context: ServicerContext
    ) -> bank_pb.BankAccount:
        vault = self._dependencies.vault

        return await self._dependencies.write_on_facts(
            blind_request(request, vault, "public_token"),
            bank_pb.BankAccount,
            lambda _: linked_accounts.read_linked_account(self._dependencies, request),
            lambda tx, _, facts, now: linked_accounts.link_bank_account(tx, request, facts, vault, now),
        )

    async def VerifyBankAccount(
        self, request: bank_pb.VerifyBankAccountRequest, context: ServicerContext
    ) -> bank_pb.BankAccount:
        return await verifications.verify_bank_account(self._dependencies, request)

    async def GetBankAccount(
        self, request: bank_pb.GetBankAccountRequest, context: ServicerContext
    ) -> bank_pb.BankAccount:
        get = partial(account_queries.get_bank_account, choice=self._dependencies.providers.choice)
        return await self._dependencies.fetch(request, get)

    async def ListBankAccounts(
        self, request: bank_pb.ListBankAccountsRequest, context: ServicerContext
    ) -> bank_pb.ListBankAccountsResponse:
        return await self._dependencies.read(request, account_queries.list_bank_accounts)

    async def UpdateBankAccount(
        self, request: bank_pb.UpdateBankAccountRequest, context: ServicerContext
    ) -> bank_pb.BankAccount:
        return await self._dependencies.write(request, bank_pb.BankAccount, bank_accounts.update_bank_account)

    async def DeleteBankAccount(
        self, request: bank_pb.DeleteBankAccountRequest, context: ServicerContext
    ) -> bank_pb.BankAccount:
        return await self._dependencies.write(request, bank_pb.BankAccount, bank_accounts.delete_bank_account)

    async def UnblockBankAccount(
        self, request: bank_pb.UnblockBankAccountRequest, context: ServicerContext
    ) -> bank_pb.UnblockBankAccountResponse:
        return await self._approvals.carry_out(request, bank_pb.UnblockBankAccountResponse)


class WebhooksServicer(hook_grpc.WebhooksServiceServicer):
    def __init__(self, dependencies: Dependencies, approvals: Approvals) -> None:
        self._dependencies = dependencies
        self._approvals = approvals

    async def _receive(self, request: Any, context: ServicerContext) -> hook_pb.ReceiveWebhookResponse:
        """Takes a webhook of any provider: the type of the request says whose it claims to be."""
        provider = PROVIDER_OF_WEBHOOK[request.DESCRIPTOR.name]
        body = webhooks.check_body(request.body.data)
        reader = self._dependencies.providers.webhooks[provider.name]
        event = await reader.read_webhook(body, getattr(request, provider.webhook_proof))
        # A webhook proves its sender, not an organization: that is known once its payment is found.
        about, now = self._dependencies, self._dependencies.clock.now()
        answer = await webhooks.receive_webhook(about.database, provider.name, event, body, now)
        self._dependencies.work_due.set()
        return answer

    ReceiveStripeWebhook = ReceivePlaidWebhook = ReceiveSandboxWebhook = _receive

    async def GetWebhook(self, request: hook_pb.GetWebhookRequest, context: ServicerContext) -> hook_pb.Webhook:
        return await self._dependencies.read(request, webhook_queries.get_webhook)

    async def ListWebhooks(
        self, request: hook_pb.ListWebhooksRequest, context: ServicerContext
    ) -> hook_pb.ListWebhooksResponse:
        return await self._dependencies.read(request, webhook_queries.list_webhooks)

    async def ReplayWebhook(
        self, request: hook_pb.ReplayWebhookRequest, context: ServicerContext
    ) -> hook_pb.ReplayWebhookResponse:
        return await self._approvals.carry_out(request, hook_pb.ReplayWebhookResponse)


class ExceptionsServicer(exceptions_pb2_grpc.ExceptionsServiceServicer):
    def __init__(self, dependencies: Dependencies, parties: Parties) -> None:
        self._dependencies, self._parties = dependencies, parties

    async def GetPaymentException(
        self, request: exceptions_pb2.GetPaymentExceptionRequest, context: ServicerContext
    ) -> exceptions_pb2.PaymentException:
        return await self._dependencies.read(request, exception_queries.get_payment_exception)

    async def ListPaymentExceptions(
        self, request: exceptions_pb2.ListPaymentExceptionsRequest, context: ServicerContext
    ) -> exceptions_pb2.ListPaymentExceptionsResponse:
        return await self._dependencies.read(request, exception_queries.list_payment_exceptions)

    async def ListPaymentExceptionStatusChanges(
        self, request: exceptions_pb2.ListPaymentExceptionStatusChangesRequest, context: ServicerContext
    ) -> exceptions_pb2.ListPaymentExceptionStatusChangesResponse:
        return await self._dependencies.read(request, exception_queries.list_payment_exception_status_changes)

    async def AssignPaymentException(
        self, request: exceptions_pb2.AssignPaymentExceptionRequest, context: ServicerContext
    ) -> exceptions_pb2.PaymentException:
        return await self._dependencies.write(
            request, exceptions_pb2.PaymentException, exceptions.assign_payment_exception
        )

    async def ResolvePaymentException(
        self, request: exceptions_pb2.ResolvePaymentExceptionRequest, context: ServicerContext
    ) -> exceptions_pb2.PaymentException:
        return await self._dependencies.write_on_facts(
            request,
            exceptions_pb2.PaymentException,
            partial(exceptions.ask_who_gains, self._dependencies, self._parties),
            exceptions.resolve_payment_exception,
        )


class ReturnRatesServicer(return_rates_pb2_grpc.ReturnRatesServiceServicer):
    def __init__(self, dependencies: Dependencies) -> None:
        self._dependencies = dependencies

    async def GetAchReturnRates(
        self, request: return_rates_pb2.GetAchReturnRatesRequest, context: ServicerContext
    ) -> return_rates_pb2.AchReturnRates:
        return await self._dependencies.read(request, exception_queries.get_ach_return_rates)


class SweepsServicer(sweeps_pb2_grpc.SweepsServiceServicer):
    def __init__(self, dependencies: Dependencies) -> None:
        self._dependencies = dependencies

    async def GetSweep(self, request: sweeps_pb2.GetSweepRequest, context: ServicerContext) -> sweeps_pb2.Sweep:
        return await self._dependencies.read(request, sweep_queries.get_sweep)

    async def ListSweeps(
        self, request: sweeps_pb2.ListSweepsRequest, context: ServicerContext
    ) -> sweeps_pb2.ListSweepsResponse:
        return await self._dependencies.read(request, sweep_queries.list_sweeps)

    async def ListSweepLines(
        self, request: sweeps_pb2.ListSweepLinesRequest, context: ServicerContext
    ) -> sweeps_pb2.ListSweepLinesResponse:
        return await self._dependencies.read(request, sweep_queries.list_sweep_lines)
