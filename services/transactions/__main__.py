"""Starts the transactions service: `python -m services.transactions`."""

from __future__ import annotations

import sys

from services.chassis.approvals.jobs import APPROVAL_WORK, build_approval_jobs
from services.chassis.approvals.service import ApprovalsServicer
from services.chassis.data.audit import audit_seals
from services.chassis.data.heard_persons import HeardParties
from services.chassis.data.overdue import watch_overdue
from services.chassis.process.main import run
from services.chassis.runtime.runtime import Runtime
from services.transactions.api import (
    BankAccountsServicer,
    ContributionsServicer,
    EvaluationsServicer,
    ExceptionsServicer,
    PayoutsServicer,
    ReturnRatesServicer,
    SweepsServicer,
    TransactionsServicer,
    UnfinishedTransactionsServicer,
    WebhooksServicer,
)
from services.transactions.approvals import build_approvals
from services.transactions.clients import ComplianceClient, DistributionsClient, EscrowClient, Peers
from services.transactions.dependencies import NAME, Dependencies
from services.transactions.jobs import WORK, build_jobs
from services.transactions.jobs.keep_vault_keys import VaultKeeper
from services.transactions.providers.registry import open_providers
from services.transactions.settings import Settings
from services.transactions.subscribers import SUBSCRIPTIONS
from services.transactions.tables import metadata
from services.transactions.vault import Vault
from services.transactions.wrapping import Keyring


async def main(settings: Settings) -> None:
    settings.require("wrapping_key_file")
    assert settings.wrapping_key_file is not None  # required above
    vault = Vault()
    async with (
        Runtime.start(NAME, settings) as runtime,
        open_providers(settings, runtime.database, runtime.clock, vault) as providers,
    ):
        keyring = Keyring(settings.wrapping_key_file)
        keeper = VaultKeeper(runtime.database, runtime.clock, keyring, vault, runtime.alarms)
        await keeper.start()
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
            operator_org_id=settings.operator_org_id,
            alarms=runtime.alarms,
        )
        approvals = build_approvals(dependencies)
        parties = HeardParties(runtime.database, compliance.list_parties_of_person)
        await runtime.serve(
            servicers=[
                TransactionsServicer(dependencies, approvals, parties),
                PayoutsServicer(dependencies),
                ContributionsServicer(dependencies),
                EvaluationsServicer(dependencies),
                UnfinishedTransactionsServicer(dependencies),
                BankAccountsServicer(dependencies, approvals),
                WebhooksServicer(dependencies, approvals),
                ExceptionsServicer(dependencies, parties),
                ReturnRatesServicer(dependencies),
                SweepsServicer(dependencies),
                ApprovalsServicer(dependencies, approvals, parties),
            ],
            subscriptions=SUBSCRIPTIONS,
            jobs=[
                *build_jobs(dependencies),
                keeper.job(),
                *build_approval_jobs(NAME, dependencies, approvals),
                audit_seals(runtime.database, metadata, runtime.alarms),
                watch_overdue(runtime.database, runtime.clock, runtime.alarms, [*WORK, *APPROVAL_WORK]),
            ],
            parties=parties,
        )


if __name__ == "__main__":
    sys.exit(run(main, Settings))
