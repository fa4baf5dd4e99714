"""The distributions service's only wiring: `python -m services.distributions`."""

from __future__ import annotations

import sys

from realco.distributions.v1 import distributions_pb2, distributions_pb2_grpc, offerings_pb2, offerings_pb2_grpc

from services.chassis.approvals.jobs import build_approval_jobs
from services.chassis.approvals.service import ApprovalsServicer, serving_approvals
from services.chassis.data.heard_persons import HeardParties
from services.chassis.process.main import run
from services.chassis.process.runtime import Runtime
from services.chassis.process.settings import Settings
from services.distributions.api import DistributionsServicer, InvestmentsServicer, OfferingsServicer
from services.distributions.approvals import build_approvals
from services.distributions.clients import ComplianceClient, EscrowClient, Peers, TransactionsClient
from services.distributions.dependencies import NAME, Dependencies
from services.distributions.jobs import build_jobs
from services.distributions.subscribers import SUBSCRIPTIONS


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
        raises = offerings_pb2.DESCRIPTOR.services_by_name
        payments = distributions_pb2.DESCRIPTOR.services_by_name
        await runtime.serve(
            servicers=[
                (
                    offerings_pb2_grpc.add_OfferingsServiceServicer_to_server,
                    OfferingsServicer(dependencies, approvals),
                    raises["OfferingsService"],
                ),
                (
                    offerings_pb2_grpc.add_InvestmentsServiceServicer_to_server,
                    InvestmentsServicer(dependencies, approvals),
                    raises["InvestmentsService"],
                ),
                (
                    distributions_pb2_grpc.add_DistributionsServiceServicer_to_server,
                    DistributionsServicer(dependencies, approvals, parties),
                    payments["DistributionsService"],
                ),
                serving_approvals(ApprovalsServicer(dependencies, approvals, parties)),
            ],
            subscriptions=SUBSCRIPTIONS,
            jobs=[
                *build_jobs(dependencies),
                *build_approval_jobs(NAME, dependencies, approvals),
            ],
            parties=parties,
        )


if __name__ == "__main__":
    sys.exit(run(main, Settings))
