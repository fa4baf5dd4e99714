"""What persons say about money that is to move, kept as theirs: one asks, others approve, one executes.

The caller is the person, proven by a token of its own, whichever service passes the call on.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from realco.compliance.v1 import notary_pb2 as pb

from services.chassis.calls.auth import current_principal
from services.chassis.calls.sign_in import check_fresh_sign_in
from services.chassis.data.approval_policy import decide_terms_of
from services.chassis.data.restores import check_restore_seen
from services.chassis.data.transaction import Tx
from services.chassis.process.telemetry import log
from services.chassis.values.approval import VALIDITY
from services.chassis.values.approval_policy import ApprovalTerms
from services.chassis.values.errors import PermissionDenied
from services.chassis.values.movement import Movement
from services.compliance.domain.statements import (
    Act,
    Statement,
    build_subject,
    check_approver,
    check_may_withdraw,
    find_lapsed,
    find_last_asked,
    list_current,
    sum_lines,
)
from services.compliance.messages import read_movement, read_movement_kind
from services.compliance.queries.statements import require_decision
from services.compliance.store.standings import read_standings
from services.compliance.store.statements import insert_statement, lock_statements


async def record_request(tx: Tx, request: pb.RecordRequestRequest, now: datetime) -> pb.RecordRequestResponse:
    """Raises: JustDecided: something else was, and this would end it."""
    principal, movement = current_principal(), read_movement(request.movement)
    person, subject, terms = principal.person, build_subject(movement), _decide_terms(tx, movement)
    said = await lock_statements(tx, movement.kind, movement.resource_id)
    if subject != find_last_asked(said):
        await _check_may_withdraw(tx, movement.kind, said, now)
    asked = Statement(
        Act.REQUEST,
        person,
        said_at=now,
        expires_at=now + terms.validity,
        session=principal.session,
        subject=subject,
        makers=frozenset(request.makers) | {person},
        beneficiary_party_ids=frozenset(request.beneficiary_party_ids),
        approvers_needed=terms.approvers_needed,
    )
    await insert_statement(tx, movement.kind, movement.resource_id, asked)
    return pb.RecordRequestResponse()


async def record_approval(
    tx: Tx, request: pb.RecordApprovalRequest, parties: Collection[str], now: datetime
) -> pb.RecordApprovalResponse:
    """
    Args:
        parties: Those the caller acts for, or did not long ago.

    Raises:
        ContentChanged, MakerSessionEnded, ApprovalExpired, MakerIsChecker, BeneficiaryIsChecker,
        InsufficientUserAuthentication, RestoreNotSeen
    """
    await check_restore_seen(tx)
    principal, movement = current_principal(), read_movement(request.movement)
    person, subject, terms = principal.person, build_subject(movement), _decide_terms(tx, movement)
    said = await lock_statements(tx, movement.kind, movement.resource_id)
    lapsed = find_lapsed(await read_standings(tx, list_current(said, subject), now))
    check_approver(said, subject, person, parties, now, lapsed)
    check_fresh_sign_in(principal, terms.strong_sign_in_seconds_max)
    approved = Statement(
        Act.APPROVAL,
        person,
        said_at=now,
        expires_at=now + VALIDITY,
        session=principal.session,
        subject=subject,
        approvers_needed=terms.approvers_needed,
    )
    await insert_statement(tx, movement.kind, movement.resource_id, approved)
    return pb.RecordApprovalResponse()


async def record_execution(tx: Tx, request: pb.RecordExecutionRequest, now: datetime) -> pb.RecordExecutionResponse:
    """Raises: MovementNotDecided: nobody executes what was not approved."""
    principal, movement = current_principal(), read_movement(request.movement)
    await lock_statements(tx, movement.kind, movement.resource_id)
    await require_decision(tx, movement, now, executed=False)
    executed = Statement(
        Act.EXECUTION,
        principal.person,
        said_at=now,
        expires_at=now + VALIDITY,
        session=principal.session,
        subject=build_subject(movement),
    )
    await insert_statement(tx, movement.kind, movement.resource_id, executed)
    return pb.RecordExecutionResponse()


async def record_withdrawal(tx: Tx, request: pb.RecordWithdrawalRequest, now: datetime) -> pb.RecordWithdrawalResponse:
    """It is said by the person whose own token came along, and else by the service.

    Raises:
        PermissionDenied: somebody asked for it, nothing refused it since, and no person takes it back.
        JustDecided
    """
    kind, principal = read_movement_kind(request.kind), current_principal()
    about = {"kind": kind, "resource_id": request.resource_id, "principal": principal.subject}
    said = await lock_statements(tx, kind, request.resource_id)
    if request.after_refusal:
        log.warning("movement_given_up", **about)
    elif not principal.token and any(each.act is Act.REQUEST for each in list_current(said, find_last_asked(said))):
        log.error("withdrawal_by_nobody", **about)
        raise PermissionDenied("A person takes back what somebody asked for, by that person's own token.")
    else:
        await _check_may_withdraw(tx, kind, said, now, of_approved=request.of_approved)
    said_by = principal.person if principal.token else principal.subject
    taken_back = Statement(Act.WITHDRAWAL, said_by, said_at=now, expires_at=now)
    await insert_statement(tx, kind, request.resource_id, taken_back)
    return pb.RecordWithdrawalResponse()


async def _check_may_withdraw(
    tx: Tx, kind: str, said: Sequence[Statement], now: datetime, *, of_approved: bool = False
) -> None:
    standings = await read_standings(tx, list_current(said, find_last_asked(said)), now)
    check_may_withdraw(kind, said, now, find_lapsed(standings), of_approved=of_approved)


def _decide_terms(tx: Tx, movement: Movement) -> ApprovalTerms:
    """What it needs by the amount that moves, which the caller cannot say otherwise: it is what is booked."""
    return decide_terms_of(tx, movement.kind, *sum_lines(movement.lines))
