"""The distributions service's only wiring: `python -m services.distributions`."""

from __future__ import annotations

import sys

from realco.distributions.v1 import distributions_pb2, distributions_pb2_grpc, offerings_pb2, offerings_pb2_grpc

from services.chassis.approvals.jobs import build_approval_jobs
from services.chassis.approvals.service import ApprovalsServicer, serving_approvals
from services.chassis.data.heard_persons import HeardParties
from services.chassis.data.operations import Operations
from services.chassis.process.main import run
from services.chassis.process.runtime import Runtime
from services.chassis.process.settings import Settings
from services.distributions.api import DistributionsServicer, InvestmentsServicer, OfferingsServicer
from services.distributions.approvals import build_approvals
from services.distributions.clients import ComplianceClient, EscrowClient, Peers, TransactionsClient
from services.distributions.jobs import build_jobs
from services.distributions.subscribers import SUBSCRIPTIONS


async def main(settings: Settings) -> None:
    async with Runtime.start("distributions", settings) as runtime:
        compliance = ComplianceClient(runtime.channel("compliance"))
        peers = Peers(
            EscrowClient(runtime.channel("escrow")),
            TransactionsClient(runtime.channel("transactions")),
            compliance,
        )
        operations = Operations(runtime.database, runtime.clock, runtime.work_due)
        approvals = build_approvals(operations, peers)
        parties = HeardParties(runtime.database, compliance.list_parties_of_person)
        raises = offerings_pb2.DESCRIPTOR.services_by_name
        payments = distributions_pb2.DESCRIPTOR.services_by_name
        await runtime.serve(
            servicers=[
                (
                    offerings_pb2_grpc.add_OfferingsServiceServicer_to_server,
                    OfferingsServicer(operations, peers, approvals),
                    raises["OfferingsService"],
                ),
                (
                    offerings_pb2_grpc.add_InvestmentsServiceServicer_to_server,
                    InvestmentsServicer(operations, peers, approvals),
                    raises["InvestmentsService"],
                ),
                (
                    distributions_pb2_grpc.add_DistributionsServiceServicer_to_server,
                    DistributionsServicer(operations, peers, approvals, parties),
                    payments["DistributionsService"],
                ),
                serving_approvals(ApprovalsServicer(operations, approvals, parties)),
            ],
            subscriptions=SUBSCRIPTIONS,
            jobs=[
                *build_jobs(runtime.database, peers, runtime.clock),
                *build_approval_jobs("distributions", operations, approvals),
            ],
            parties=parties,
        )


if __name__ == "__main__":
    sys.exit(run(main, Settings))
