"""Starts the compliance service: `python -m services.compliance`."""

from __future__ import annotations

import sys

from realco.compliance.v1 import compliance_pb2 as pb
from realco.compliance.v1 import compliance_pb2_grpc as pb_grpc

from services.chassis.process.main import run
from services.chassis.process.runtime import Runtime
from services.chassis.process.settings import Settings
from services.compliance.api import ComplianceServicer
from services.compliance.jobs import jobs
from services.compliance.subscribers import SUBSCRIPTIONS


async def main(settings: Settings) -> None:
    async with Runtime.start("compliance", settings) as runtime:
        servicer = ComplianceServicer(runtime.database, runtime.clock)
        service = pb.DESCRIPTOR.services_by_name["ComplianceService"]
        await runtime.serve(
            servicers=[(pb_grpc.add_ComplianceServiceServicer_to_server, servicer, service)],
            subscriptions=SUBSCRIPTIONS,
            jobs=jobs(runtime.database, runtime.clock),
        )


if __name__ == "__main__":
    sys.exit(run(main, Settings))
