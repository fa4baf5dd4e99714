"""Starts the transactions service: `python -m services.transactions`."""

from __future__ import annotations

import sys

from realco.transactions.v1 import bank_accounts_pb2, transactions_pb2, webhooks_pb2
from realco.transactions.v1.bank_accounts_pb2_grpc import add_BankAccountsServiceServicer_to_server
from realco.transactions.v1.transactions_pb2_grpc import add_TransactionsServiceServicer_to_server
from realco.transactions.v1.webhooks_pb2_grpc import add_WebhooksServiceServicer_to_server

from services.chassis.data.heard_persons import HeardParties
from services.chassis.process.main import run
from services.chassis.process.runtime import Runtime
from services.transactions.api import BankAccountsServicer, TransactionsServicer, WebhooksServicer
from services.transactions.clients import ComplianceClient, DistributionsClient, EscrowClient
from services.transactions.dependencies import NAME, Dependencies
from services.transactions.jobs import build_jobs
from services.transactions.providers import manual, plaid, sandbox, stripe
from services.transactions.providers.manual.orders import ManualOrders
from services.transactions.providers.plaid.webhooks import PlaidWebhooks
from services.transactions.providers.protocols import Providers
from services.transactions.providers.sandbox.bank import SandboxBank
from services.transactions.providers.sandbox.webhooks import SandboxWebhooks
from services.transactions.providers.stripe.webhooks import StripeWebhooks
from services.transactions.settings import Settings
from services.transactions.subscribers import SUBSCRIPTIONS
from services.transactions.vault import Vault


async def main(settings: Settings) -> None:
    settings.require("sandbox_bank_url", "sandbox_bank_webhook_secret", "field_key_file")
    assert settings.field_key_file is not None  # required above
    vault = Vault.load(settings.field_key_file)
    bank = SandboxBank(settings.sandbox_bank_url)
    async with Runtime.start(NAME, settings) as runtime:
        compliance = ComplianceClient(runtime.channel("compliance"))
        dependencies = Dependencies(
            database=runtime.database,
            clock=runtime.clock,
            nudge=runtime.nudge,
            vault=vault,
            providers=build_providers(settings, bank),
            escrow=EscrowClient(runtime.channel("escrow")),
            compliance=compliance,
            distributions=DistributionsClient(runtime.channel("distributions")),
        )
        transactions = transactions_pb2.DESCRIPTOR.services_by_name["TransactionsService"]
        accounts = bank_accounts_pb2.DESCRIPTOR.services_by_name["BankAccountsService"]
        webhooks = webhooks_pb2.DESCRIPTOR.services_by_name["WebhooksService"]
        try:
            await runtime.serve(
                servicers=[
                    (add_TransactionsServiceServicer_to_server, TransactionsServicer(dependencies), transactions),
                    (add_BankAccountsServiceServicer_to_server, BankAccountsServicer(dependencies), accounts),
                    (add_WebhooksServiceServicer_to_server, WebhooksServicer(dependencies), webhooks),
                ],
                subscriptions=SUBSCRIPTIONS,
                jobs=build_jobs(dependencies),
                parties=HeardParties(runtime.database, compliance.list_parties_of),
            )
        finally:
            await bank.close()


def build_providers(settings: Settings, bank: SandboxBank) -> Providers:
    plaid_secret = settings.plaid_secret.get_secret_value()
    return Providers(
        orders={sandbox.NAME: bank, manual.NAME: ManualOrders()},
        look_ups={sandbox.NAME: bank},
        webhooks={
            sandbox.NAME: SandboxWebhooks(settings.sandbox_bank_webhook_secret.get_secret_value()),
            stripe.NAME: StripeWebhooks(settings.stripe_webhook_secret.get_secret_value()),
            plaid.NAME: PlaidWebhooks(settings.plaid_base_url, settings.plaid_client_id, plaid_secret),
        },
    )


if __name__ == "__main__":
    sys.exit(run(main, Settings))
