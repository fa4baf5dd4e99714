"""Starts the escrow service: `python -m services.escrow`."""

from __future__ import annotations

import sys

from realco.escrow.v1 import escrow_pb2 as pb
from realco.escrow.v1 import escrow_pb2_grpc as pb_grpc

from services.chassis.approvals.jobs import build_approval_jobs
from services.chassis.approvals.service import ApprovalsServicer, serving_approvals
from services.chassis.calls.parties import CurrentParties
from services.chassis.data.operations import Operations
from services.chassis.process.main import run
from services.chassis.process.runtime import Runtime
from services.chassis.process.settings import Settings
from services.escrow.api import EscrowServicer
from services.escrow.approvals import build_approvals
from services.escrow.clients import ComplianceClient
from services.escrow.jobs import build_jobs
from services.escrow.posting.group_commit import Poster
from services.escrow.subscribers import SUBSCRIPTIONS


async def main(settings: Settings) -> None:
    async with Runtime.start("escrow", settings) as runtime:
        poster = Poster(runtime.database, runtime.clock)
        operations = Operations(runtime.database, runtime.clock, runtime.work_waiting)
        approvals = build_approvals(operations, poster)
        servicer = EscrowServicer(operations, poster, approvals)
        parties = CurrentParties(ComplianceClient(runtime.channel("compliance")).list_parties_of_person)
        service = pb.DESCRIPTOR.services_by_name["EscrowService"]
        await runtime.serve(
            servicers=[
                (pb_grpc.add_EscrowServiceServicer_to_server, servicer, service),
                serving_approvals(ApprovalsServicer(operations, approvals, parties)),
            ],
            subscriptions=SUBSCRIPTIONS,
            jobs=[
                *build_jobs(runtime.database, runtime.clock),
                *build_approval_jobs("escrow", operations, approvals),
            ],
        )
        await poster.drain()


if __name__ == "__main__":
    sys.exit(run(main, Settings))
