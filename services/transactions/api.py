"""The gRPC services of transactions: opens the transaction, calls the use case. No rule lives here."""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty
from grpc.aio import ServicerContext
from realco.transactions.v1 import bank_accounts_pb2 as bank_pb
from realco.transactions.v1 import bank_accounts_pb2_grpc as bank_grpc
from realco.transactions.v1 import transactions_pb2 as pb
from realco.transactions.v1 import transactions_pb2_grpc as pb_grpc
from realco.transactions.v1 import webhooks_pb2 as hook_pb
from realco.transactions.v1 import webhooks_pb2_grpc as hook_grpc

from services.chassis.calls.auth import ALL_ORGANIZATIONS, current_principal
from services.chassis.data.once import answered_before, once
from services.chassis.values.errors import InvalidField
from services.transactions import queries
from services.transactions.commands import bank_accounts, creation, decisions, evaluation, payouts, webhooks
from services.transactions.providers.base import ProviderEvent
from services.transactions.wiring import Parts

WEBHOOK_BYTES_MAX = 256 * 1024


class TransactionsServicer(pb_grpc.TransactionsServiceServicer):
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._database = parts.database

    async def CreateTransaction(self, request: pb.CreateTransactionRequest, context: ServicerContext) -> pb.Transaction:
        principal, parts = current_principal(), self._parts
        party_id = creation.check_request(request, principal)
        answer = await answered_before(self._database, request, pb.Transaction)
        if answer is None:
            said = await creation.ask_peers(request, party_id, parts.escrow, parts.distributions)
            now = parts.clock.now()
            answer = await once(
                self._database,
                request,
                pb.Transaction,
                lambda tx: creation.create(tx, request, party_id, said, now),
            )
        if answer.status == pb.Transaction.INITIATED:
            answer = await evaluation.evaluate_now(parts, principal.org_id, answer)
            parts.nudge.set()
        if answer.status == pb.Transaction.INITIATED:
            # A job may have decided while compliance thought: the caller hears what a replay would.
            answer = await answered_before(self._database, request, pb.Transaction) or answer
        return answer

    async def GetTransaction(self, request: pb.GetTransactionRequest, context: ServicerContext) -> pb.Transaction:
        async with self._database.begin() as tx:
            return await queries.get_transaction(tx, request.transaction_id, self._parts.clock.now())

    async def ListTransactions(
        self, request: pb.ListTransactionsRequest, context: ServicerContext
    ) -> pb.ListTransactionsResponse:
        async with self._database.begin() as tx:
            return await queries.list_transactions(tx, request, self._parts.clock.now())

    async def GetTransactionHistory(
        self, request: pb.GetTransactionHistoryRequest, context: ServicerContext
    ) -> pb.GetTransactionHistoryResponse:
        async with self._database.begin() as tx:
            return await queries.get_history(tx, request.transaction_id, self._parts.clock.now())

    async def RetryTransaction(self, request: pb.RetryTransactionRequest, context: ServicerContext) -> pb.Transaction:
        parts, now = self._parts, self._parts.clock.now()
        answer = await answered_before(self._database, request, pb.Transaction)
        if answer is None:
            said = await decisions.ask_peers_again(parts, request)
            answer = await once(
                self._database, request, pb.Transaction, lambda tx: decisions.retry(tx, request, said, now)
            )
            parts.nudge.set()
        return answer

    async def CancelTransaction(self, request: pb.CancelTransactionRequest, context: ServicerContext) -> pb.Transaction:
        now = self._parts.clock.now()
        return await once(self._database, request, pb.Transaction, lambda tx: decisions.cancel(tx, request, now))

    async def ApproveTransaction(
        self, request: pb.ApproveTransactionRequest, context: ServicerContext
    ) -> pb.Transaction:
        now = self._parts.clock.now()
        answer = await once(self._database, request, pb.Transaction, lambda tx: decisions.approve(tx, request, now))
        self._parts.nudge.set()
        return answer

    async def RejectTransaction(self, request: pb.RejectTransactionRequest, context: ServicerContext) -> pb.Transaction:
        now = self._parts.clock.now()
        return await once(self._database, request, pb.Transaction, lambda tx: decisions.reject(tx, request, now))

    async def ConfirmTransaction(
        self, request: pb.ConfirmTransactionRequest, context: ServicerContext
    ) -> pb.Transaction:
        now = self._parts.clock.now()
        return await once(self._database, request, pb.Transaction, lambda tx: decisions.confirm(tx, request, now))

    async def BatchCreatePayouts(
        self, request: pb.BatchCreatePayoutsRequest, context: ServicerContext
    ) -> pb.BatchCreatePayoutsResponse:
        async with self._database.begin() as tx:
            answer = await payouts.create_payouts(tx, request, self._parts.clock.now())
        self._parts.nudge.set()
        return answer


class BankAccountsServicer(bank_grpc.BankAccountsServiceServicer):
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._database = parts.database

    async def CreateBankAccount(
        self, request: bank_pb.CreateBankAccountRequest, context: ServicerContext
    ) -> bank_pb.BankAccount:
        vault, now = self._parts.vault, self._parts.clock.now()
        party_id = bank_accounts.check_request(request, current_principal())
        return await once(
            self._database,
            bank_accounts.blinded(request, vault),
            bank_pb.BankAccount,
            lambda tx: bank_accounts.create(tx, request, party_id, vault, now),
        )

    async def GetBankAccount(
        self, request: bank_pb.GetBankAccountRequest, context: ServicerContext
    ) -> bank_pb.BankAccount:
        async with self._database.begin() as tx:
            return await queries.get_bank_account(tx, request.bank_account_id)

    async def ListBankAccounts(
        self, request: bank_pb.ListBankAccountsRequest, context: ServicerContext
    ) -> bank_pb.ListBankAccountsResponse:
        async with self._database.begin() as tx:
            return await queries.list_bank_accounts(tx, request)

    async def DeleteBankAccount(self, request: bank_pb.DeleteBankAccountRequest, context: ServicerContext) -> Empty:
        async with self._database.begin() as tx:
            return await bank_accounts.delete(tx, request, self._parts.clock.now())


class WebhooksServicer(hook_grpc.WebhooksServiceServicer):
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def ReceiveStripeWebhook(
        self, request: hook_pb.ReceiveStripeWebhookRequest, context: ServicerContext
    ) -> hook_pb.ReceiveWebhookResponse:
        body = _body(request.body.data)
        return await self._store("stripe", self._parts.stripe.read_webhook(body, request.signature), body)

    async def ReceivePlaidWebhook(
        self, request: hook_pb.ReceivePlaidWebhookRequest, context: ServicerContext
    ) -> hook_pb.ReceiveWebhookResponse:
        body = _body(request.body.data)
        return await self._store("plaid", await self._parts.plaid.read_webhook(body, request.verification), body)

    async def ReceiveSandboxWebhook(
        self, request: hook_pb.ReceiveSandboxWebhookRequest, context: ServicerContext
    ) -> hook_pb.ReceiveWebhookResponse:
        body = _body(request.body.data)
        event = self._parts.providers["sandbox"].read_webhook(body, request.signature)
        return await self._store("sandbox", event, body)

    async def _store(self, provider: str, event: ProviderEvent, body: bytes) -> hook_pb.ReceiveWebhookResponse:
        # A webhook proves its sender, not an organization: that is known once its payment is found.
        async with self._parts.database.begin(ALL_ORGANIZATIONS) as tx:
            answer = await webhooks.receive(tx, provider, event, body, self._parts.clock.now())
        self._parts.nudge.set()
        return answer

    async def ListWebhooks(
        self, request: hook_pb.ListWebhooksRequest, context: ServicerContext
    ) -> hook_pb.ListWebhooksResponse:
        async with self._parts.database.begin() as tx:
            return await queries.list_webhooks(tx, request)

    async def ReplayWebhook(self, request: hook_pb.ReplayWebhookRequest, context: ServicerContext) -> hook_pb.Webhook:
        answer = await once(self._parts.database, request, hook_pb.Webhook, lambda tx: webhooks.replay(tx, request))
        self._parts.nudge.set()
        return answer


def _body(data: bytes) -> bytes:
    if len(data) > WEBHOOK_BYTES_MAX:
        raise InvalidField("The body is too long.", fields={"body": f"must have at most {WEBHOOK_BYTES_MAX} bytes"})
    return data
