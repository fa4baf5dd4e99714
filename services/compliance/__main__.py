"""Starts the compliance service: `python -m services.compliance`."""

from __future__ import annotations

import sys

from realco.compliance.v1 import compliance_pb2, parties_pb2
from realco.compliance.v1.compliance_pb2_grpc import add_ComplianceServiceServicer_to_server
from realco.compliance.v1.parties_pb2_grpc import add_PartiesServiceServicer_to_server

from services.chassis.approvals.jobs import build_approval_jobs
from services.chassis.approvals.service import APPROVALS_SERVICE, ApprovalsServicer, serving_approvals
from services.chassis.calls.serving import servers_of
from services.chassis.data.operations import Operations
from services.chassis.process.main import run
from services.chassis.process.runtime import Runtime
from services.chassis.process.settings import Settings
from services.compliance.api import ComplianceServicer, OwnParties, PartiesServicer
from services.compliance.approvals import build_approvals
from services.compliance.inbox import Inbox
from services.compliance.jobs import build_jobs
from services.compliance.subscribers import SUBSCRIPTIONS


async def main(settings: Settings) -> None:
    async with Runtime.start("compliance", settings) as runtime:
        operations = Operations(runtime.database, runtime.clock, runtime.work_due)
        services = {**compliance_pb2.DESCRIPTOR.services_by_name, **parties_pb2.DESCRIPTOR.services_by_name}
        approvals, own_parties = build_approvals(operations), OwnParties(runtime.database, runtime.clock)
        compliance, parties = ComplianceServicer(operations, approvals), PartiesServicer(operations, approvals)
        _, *others = servers_of(APPROVALS_SERVICE)
        inbox = Inbox(ApprovalsServicer(operations, approvals, own_parties), [runtime.channel(name) for name in others])
        await runtime.serve(
            servicers=[
                (add_ComplianceServiceServicer_to_server, compliance, services["ComplianceService"]),
                (add_PartiesServiceServicer_to_server, parties, services["PartiesService"]),
                serving_approvals(inbox),
            ],
            subscriptions=SUBSCRIPTIONS,
            jobs=[
                *build_jobs(runtime.database, runtime.clock),
                *build_approval_jobs("compliance", operations, approvals),
            ],
            parties=own_parties,
        )


if __name__ == "__main__":
    sys.exit(run(main, Settings))
