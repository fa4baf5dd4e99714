"""Starts the distributions service: `python -m services.distributions`."""

from __future__ import annotations

import sys

from services.chassis.approvals.jobs import APPROVAL_WORK, build_approval_jobs
from services.chassis.approvals.service import ApprovalsServicer
from services.chassis.data.audit import audit_seals
from services.chassis.data.heard_persons import HeardParties
from services.chassis.data.overdue import watch_overdue
from services.chassis.process.main import run
from services.chassis.process.settings import Settings
from services.chassis.runtime.runtime import Runtime
from services.distributions.api import (
    CommitmentsServicer,
    DistributionsServicer,
    InvestmentsServicer,
    OfferingsServicer,
    PayoutOrdersServicer,
)
from services.distributions.approvals import build_approvals
from services.distributions.clients import ComplianceClient, EscrowClient, Peers, TransactionsClient
from services.distributions.dependencies import NAME, Dependencies
from services.distributions.jobs import WORK, build_jobs
from services.distributions.subscribers import SUBSCRIPTIONS
from services.distributions.tables import metadata


async def main(settings: Settings) -> None:
    async with Runtime.start(NAME, settings) as runtime:
        compliance = ComplianceClient(runtime.channel("compliance"))
        peers = Peers(
            EscrowClient(runtime.channel("escrow")),
            TransactionsClient(runtime.channel("transactions")),
            compliance,
        )
        dependencies = Dependencies(
            database=runtime.database, clock=runtime.clock, work_due=runtime.work_due, peers=peers
        )
        approvals = build_approvals(dependencies)
        parties = HeardParties(runtime.database, compliance.list_parties_of_person)
        await runtime.serve(
            servicers=[
                OfferingsServicer(dependencies, approvals),
                InvestmentsServicer(dependencies, approvals),
                DistributionsServicer(dependencies, approvals, parties),
                CommitmentsServicer(dependencies),
                PayoutOrdersServicer(dependencies),
                ApprovalsServicer(dependencies, approvals, parties),
            ],
            subscriptions=SUBSCRIPTIONS,
            jobs=[
                *build_jobs(dependencies),
                *build_approval_jobs(NAME, dependencies, approvals),
                audit_seals(runtime.database, metadata, runtime.alarms),
                watch_overdue(runtime.database, runtime.clock, runtime.alarms, [*WORK, *APPROVAL_WORK]),
            ],
            parties=parties,
        )


if __name__ == "__main__":
    sys.exit(run(main, Settings))
