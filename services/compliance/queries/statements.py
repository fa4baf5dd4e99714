"""Whether enough persons decided on a movement of money, and somebody executed it."""

from __future__ import annotations

from datetime import datetime

from realco.compliance.v1 import notary_pb2 as pb

from services.chassis.data.transaction import Tx
from services.chassis.process.telemetry import log
from services.chassis.values.movement import Movement
from services.compliance.domain.refusals import MovementNotDecided
from services.compliance.domain.statements import (
    DONE_BY_LAST_YES,
    Decision,
    build_subject,
    find_decision,
    find_lapsed,
    list_current,
)
from services.compliance.messages import read_movement
from services.compliance.store.standings import read_standings
from services.compliance.store.statements import list_statements


async def check_movement(tx: Tx, request: pb.CheckMovementRequest, now: datetime) -> pb.CheckMovementResponse:
    """Raises: MovementNotDecided."""
    movement = read_movement(request.movement)
    decision = await require_decision(tx, movement, now, executed=movement.kind not in DONE_BY_LAST_YES)
    return pb.CheckMovementResponse(**decision._asdict())


async def require_decision(tx: Tx, movement: Movement, now: datetime, *, executed: bool) -> Decision:
    """
    Args:
        executed: It has to be executed, too.

    Raises:
        MovementNotDecided
    """
    said, subject = await list_statements(tx, movement.kind, movement.resource_id), build_subject(movement)
    lapsed = find_lapsed(await read_standings(tx, list_current(said, subject), now))
    decision = find_decision(said, subject, now, lapsed, executed=executed)
    if decision is None:
        message = "Not as many persons as it takes have decided that this money is to move, as it is asked for here."
        if executed:
            message += " Or nobody executed it."
        if lapsed:
            message += f" {'; '.join(dict.fromkeys(f'{each.person_id} {why}' for each, why in lapsed.items()))}."
        refusal = MovementNotDecided(
            message,
            kind=movement.kind,
            resource_id=movement.resource_id,
            person_ids=sorted({each.person_id for each in lapsed}),
        )
        log.error("movement_not_decided", said=message, **refusal.metadata)
        raise refusal
    return decision
