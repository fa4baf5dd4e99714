"""Starts the escrow service: `python -m services.escrow`."""

from __future__ import annotations

import sys

from realco.escrow.v1 import escrow_accounts_pb2, holds_pb2, journal_pb2, postings_pb2
from realco.escrow.v1.escrow_accounts_pb2_grpc import add_EscrowAccountsServiceServicer_to_server
from realco.escrow.v1.holds_pb2_grpc import add_HoldsServiceServicer_to_server
from realco.escrow.v1.journal_pb2_grpc import add_JournalServiceServicer_to_server
from realco.escrow.v1.postings_pb2_grpc import add_PostingsServiceServicer_to_server

from services.chassis.approvals.jobs import build_approval_jobs
from services.chassis.approvals.service import ApprovalsServicer, serving_approvals
from services.chassis.calls.parties import CurrentParties
from services.chassis.process.main import run
from services.chassis.process.runtime import Runtime
from services.chassis.process.settings import Settings
from services.escrow.api import EscrowAccountsServicer, HoldsServicer, JournalServicer, PostingsServicer
from services.escrow.approvals import build_approvals
from services.escrow.clients import ComplianceClient
from services.escrow.dependencies import NAME, Dependencies
from services.escrow.jobs import build_jobs
from services.escrow.posting.group_commit import Poster
from services.escrow.subscribers import SUBSCRIPTIONS


async def main(settings: Settings) -> None:
    async with Runtime.start(NAME, settings) as runtime:
        poster = Poster(runtime.database, runtime.clock)
        dependencies = Dependencies(
            database=runtime.database, clock=runtime.clock, work_due=runtime.work_due, poster=poster
        )
        approvals = build_approvals(dependencies)
        parties = CurrentParties(ComplianceClient(runtime.channel("compliance")).list_parties_of_person)
        accounts = escrow_accounts_pb2.DESCRIPTOR.services_by_name["EscrowAccountsService"]
        journal = journal_pb2.DESCRIPTOR.services_by_name["JournalService"]
        holds = holds_pb2.DESCRIPTOR.services_by_name["HoldsService"]
        postings = postings_pb2.DESCRIPTOR.services_by_name["PostingsService"]
        await runtime.serve(
            servicers=[
                (
                    add_EscrowAccountsServiceServicer_to_server,
                    EscrowAccountsServicer(dependencies, approvals),
                    accounts,
                ),
                (add_JournalServiceServicer_to_server, JournalServicer(dependencies, approvals), journal),
                (add_HoldsServiceServicer_to_server, HoldsServicer(dependencies, approvals), holds),
                (add_PostingsServiceServicer_to_server, PostingsServicer(dependencies), postings),
                serving_approvals(ApprovalsServicer(dependencies, approvals, parties)),
            ],
            subscriptions=SUBSCRIPTIONS,
            jobs=[
                *build_jobs(dependencies),
                *build_approval_jobs(NAME, dependencies, approvals),
            ],
        )
        await poster.drain()


if __name__ == "__main__":
    sys.exit(run(main, Settings))
