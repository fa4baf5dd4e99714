"""Whether enough persons decided on a movement of money."""

from __future__ import annotations

from datetime import datetime

from realco.compliance.v1 import notary_pb2 as pb
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.process.telemetry import log
from services.compliance.domain.refusals import MovementNotDecided
from services.compliance.domain.statements import find_decision
from services.compliance.messages import read_subject
from services.compliance.store.statements import list_statements


async def check_movement(
    tx: AsyncConnection, request: pb.CheckMovementRequest, _: datetime
) -> pb.CheckMovementResponse:
    """Raises: MovementNotDecided."""
    said = await list_statements(tx, request.kind, request.resource_id)
    decision = find_decision(said, read_subject(request.content_hash, request.movement))
    if decision is None:
        message = "Not as many persons as it takes have decided that this money is to move, as it is asked for here."
        log.error("movement_not_decided", kind=request.kind, resource_id=request.resource_id)
        raise MovementNotDecided(message, kind=request.kind, resource_id=request.resource_id)
    return pb.CheckMovementResponse(**decision._asdict())
