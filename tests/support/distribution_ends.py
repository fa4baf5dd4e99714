"""How a person ends what waits of a distribution, or what was approved of it."""

from __future__ import annotations

from realco.approvals.v1 import approvals_pb2
from realco.distributions.v1 import distributions_pb2 as dpb

from tests.support.distributions import DistributionsHarness


async def reject(service: DistributionsHarness, distribution: dpb.Distribution) -> None:
    request = dpb.RejectDistributionRequest(
        distribution_id=distribution.distribution_id, note="no", etag=distribution.etag
    )
    await service.call(service.distributions.RejectDistribution, request, "admin-2")


async def reject_in_inbox(service: DistributionsHarness, distribution: dpb.Distribution) -> None:
    await service.decline(await service.find_approval(distribution.distribution_id))


async def take_back(service: DistributionsHarness, distribution: dpb.Distribution) -> None:
    approval = await service.find_approval(distribution.distribution_id)
    request = approvals_pb2.CancelApprovalRequest(approval_id=approval.approval_id)
    await service.call(service.approvals.CancelApproval, request)
