"""Starts the transactions service: `python -m services.transactions`."""

from __future__ import annotations

import sys

from realco.transactions.v1 import bank_accounts_pb2, transactions_pb2, webhooks_pb2
from realco.transactions.v1.bank_accounts_pb2_grpc import add_BankAccountsServiceServicer_to_server
from realco.transactions.v1.transactions_pb2_grpc import add_TransactionsServiceServicer_to_server
from realco.transactions.v1.webhooks_pb2_grpc import add_WebhooksServiceServicer_to_server

from services.chassis.process.main import run
from services.chassis.process.runtime import Runtime
from services.transactions.api import BankAccountsServicer, TransactionsServicer, WebhooksServicer
from services.transactions.clients import ComplianceClient, DistributionsClient, EscrowClient
from services.transactions.jobs import jobs
from services.transactions.providers.manual import ManualProvider
from services.transactions.providers.plaid import PlaidWebhooks
from services.transactions.providers.sandbox import SandboxBank
from services.transactions.providers.stripe import StripeWebhooks
from services.transactions.settings import Settings
from services.transactions.subscribers import SUBSCRIPTIONS
from services.transactions.vault import Vault
from services.transactions.wiring import NAME, Parts


async def main(settings: Settings) -> None:
    settings.require("sandbox_bank_url", "sandbox_bank_webhook_secret", "field_key_file")
    assert settings.field_key_file is not None  # required above
    vault = Vault.load(settings.field_key_file)
    sandbox = SandboxBank(settings.sandbox_bank_url, settings.sandbox_bank_webhook_secret.get_secret_value())
    async with Runtime.start(NAME, settings) as runtime:
        parts = Parts(
            database=runtime.database,
            clock=runtime.clock,
            vault=vault,
            providers={"sandbox": sandbox, "manual": ManualProvider()},
            stripe=StripeWebhooks(settings.stripe_webhook_secret.get_secret_value()),
            plaid=PlaidWebhooks(
                settings.plaid_base_url, settings.plaid_client_id, settings.plaid_secret.get_secret_value()
            ),
            escrow=EscrowClient(runtime.channel("escrow")),
            compliance=ComplianceClient(runtime.channel("compliance")),
            distributions=DistributionsClient(runtime.channel("distributions")),
            nudge=runtime.nudge,
        )
        services = {
            **transactions_pb2.DESCRIPTOR.services_by_name,
            **bank_accounts_pb2.DESCRIPTOR.services_by_name,
            **webhooks_pb2.DESCRIPTOR.services_by_name,
        }
        transactions, accounts = TransactionsServicer(parts), BankAccountsServicer(parts)
        try:
            await runtime.serve(
                servicers=[
                    (add_TransactionsServiceServicer_to_server, transactions, services["TransactionsService"]),
                    (add_BankAccountsServiceServicer_to_server, accounts, services["BankAccountsService"]),
                    (add_WebhooksServiceServicer_to_server, WebhooksServicer(parts), services["WebhooksService"]),
                ],
                subscriptions=SUBSCRIPTIONS,
                jobs=jobs(parts),
            )
        finally:
            await sandbox.close()


if __name__ == "__main__":
    sys.exit(run(main, Settings))
