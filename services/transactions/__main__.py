"""Starts the transactions service: `python -m services.transactions`."""

from __future__ import annotations

import sys

from realco.transactions.v1 import bank_accounts_pb2, transactions_pb2, webhooks_pb2
from realco.transactions.v1.bank_accounts_pb2_grpc import add_BankAccountsServiceServicer_to_server
from realco.transactions.v1.transactions_pb2_grpc import add_TransactionsServiceServicer_to_server
from realco.transactions.v1.webhooks_pb2_grpc import add_WebhooksServiceServicer_to_server

from services.chassis.approvals.jobs import build_approval_jobs
from services.chassis.approvals.service import ApprovalsServicer, serving_approvals
from services.chassis.data.heard_persons import HeardParties
from services.chassis.process.main import run
from services.chassis.process.runtime import Runtime
from services.transactions.api import BankAccountsServicer, TransactionsServicer, WebhooksServicer
from services.transactions.approvals import build_approvals
from services.transactions.clients import ComplianceClient, DistributionsClient, EscrowClient, Peers
from services.transactions.dependencies import NAME, Dependencies
from services.transactions.jobs import build_jobs
from services.transactions.providers.registry import open_providers
from services.transactions.settings import Settings
from services.transactions.subscribers import SUBSCRIPTIONS
from services.transactions.vault import Vault


async def main(settings: Settings) -> None:
    settings.require("data_key_file")
    assert settings.data_key_file is not None  # required above
    vault = Vault.load(settings.data_key_file)
    async with open_providers(settings) as providers, Runtime.start(NAME, settings) as runtime:
        compliance = ComplianceClient(runtime.channel("compliance"))
        dependencies = Dependencies(
            database=runtime.database,
            clock=runtime.clock,
            work_due=runtime.work_due,
            vault=vault,
            providers=providers,
            peers=Peers(
                escrow=EscrowClient(runtime.channel("escrow")),
                compliance=compliance,
                distributions=DistributionsClient(runtime.channel("distributions")),
            ),
        )
        transactions = transactions_pb2.DESCRIPTOR.services_by_name["TransactionsService"]
        accounts = bank_accounts_pb2.DESCRIPTOR.services_by_name["BankAccountsService"]
        webhooks = webhooks_pb2.DESCRIPTOR.services_by_name["WebhooksService"]
        approvals = build_approvals(dependencies)
        parties = HeardParties(runtime.database, compliance.list_parties_of_person)
        await runtime.serve(
            servicers=[
                (add_TransactionsServiceServicer_to_server, TransactionsServicer(dependencies), transactions),
                (add_BankAccountsServiceServicer_to_server, BankAccountsServicer(dependencies), accounts),
                (add_WebhooksServiceServicer_to_server, WebhooksServicer(dependencies, approvals), webhooks),
                serving_approvals(ApprovalsServicer(dependencies, approvals, parties)),
            ],
            subscriptions=SUBSCRIPTIONS,
            jobs=[*build_jobs(dependencies), *build_approval_jobs(NAME, dependencies, approvals)],
            parties=parties,
        )


if __name__ == "__main__":
    sys.exit(run(main, Settings))
