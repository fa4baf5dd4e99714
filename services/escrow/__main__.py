"""Starts the escrow service: `python -m services.escrow`."""

from __future__ import annotations

import sys

from services.chassis.approvals.jobs import APPROVAL_WORK, build_approval_jobs
from services.chassis.approvals.service import ApprovalsServicer
from services.chassis.calls.parties import CurrentParties
from services.chassis.data.audit import audit_seals
from services.chassis.data.overdue import watch_overdue
from services.chassis.process.main import run
from services.chassis.process.settings import Settings
from services.chassis.runtime.runtime import Runtime
from services.escrow.api import (
    BulkPostingsServicer,
    EscrowAccountsServicer,
    HoldsServicer,
    JournalServicer,
    PostingsServicer,
)
from services.escrow.approvals import build_approvals
from services.escrow.clients import ComplianceClient, DistributionsClient, Peers, TransactionsClient
from services.escrow.dependencies import NAME, Dependencies
from services.escrow.jobs import WORK, build_jobs
from services.escrow.posting.group_commit import Poster
from services.escrow.subscribers import SUBSCRIPTIONS
from services.escrow.tables import metadata


async def main(settings: Settings) -> None:
    async with Runtime.start(NAME, settings) as runtime:
        poster = Poster(runtime.database, runtime.clock)
        compliance = ComplianceClient(runtime.channel("compliance"))
        dependencies = Dependencies(
            database=runtime.database,
            clock=runtime.clock,
            work_due=runtime.work_due,
            poster=poster,
            peers=Peers(
                compliance=compliance,
                transactions=TransactionsClient(runtime.channel("transactions")),
                distributions=DistributionsClient(runtime.channel("distributions")),
            ),
            faults=runtime.faults,
        )
        approvals = build_approvals(dependencies)
        parties = CurrentParties(compliance.list_parties_of_person)
        await runtime.serve(
            servicers=[
                EscrowAccountsServicer(dependencies, approvals),
                JournalServicer(dependencies, approvals),
                HoldsServicer(dependencies, approvals),
                PostingsServicer(dependencies),
                BulkPostingsServicer(dependencies),
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
        await poster.drain()


if __name__ == "__main__":
    sys.exit(run(main, Settings))
