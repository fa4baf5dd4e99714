"""What changes checks of parties: asked, decided by a person, run out. Each runs inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from realco.compliance.v1 import compliance_pb2 as pb
from realco.compliance.v1 import events_pb2 as events
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import current_principal
from services.chassis.data import outbox
from services.chassis.values.etags import check_etag
from services.chassis.values.explanation import Explanation
from services.chassis.values.ids import derived_id, new_id
from services.chassis.values.refusals import MakerIsChecker
from services.compliance import messages, queries, store
from services.compliance.domain import clearance
from services.compliance.domain.refusals import CheckNotInReview, ComplianceCheckNotFound

_EXPIRED_CHECKS_MAX = 100
_EXPIRED = Explanation("The last answer expired.", "VALIDITY", source="house rule: an answer is good for 365 days")


async def review_check(
    tx: AsyncConnection, request: pb.ReviewComplianceCheckRequest, now: datetime
) -> pb.ComplianceCheck:
    """Raises: ComplianceCheckNotFound, EtagMismatch, CheckNotInReview, MakerIsChecker."""
    reviewer = current_principal().person
    check = await store.lock_check(tx, request.compliance_check_id)
    if check is None:
        raise ComplianceCheckNotFound()
    check_etag(request.etag, messages.check_etag_of(check))
    if check.status != "MANUAL_REVIEW":
        raise CheckNotInReview("The check does not wait for a person.", status=check.status)
    party = (await store.lock_parties(tx, [check.party_id]))[check.party_id]
    if not clearance.may_review(check.status, party.written_by, reviewer):
        raise MakerIsChecker("Whoever wrote the party's facts may not clear it; ask another admin.")
    decision = pb.ComplianceCheck.Status.Name(request.decision)
    decided = await store.update_check(
        tx,
        request.compliance_check_id,
        status=decision,
        note=request.note,
        reviewed_by=reviewer,
        expires_at=now + clearance.VALIDITY if decision == "PASSED" else None,
        updated_at=now,
    )
    await _announce(tx, decided, party, now)
    return queries.describe_check(decided, party.written_by)


async def take_expired_checks(tx: AsyncConnection, now: datetime) -> list[Any]:
    """Marks parties' checks that ran out, at most 100 of them, and returns their rows."""
    return await store.take_expired(tx, now, _EXPIRED_CHECKS_MAX)


async def reopen_check(tx: AsyncConnection, expired: Any, now: datetime) -> None:
    """Asks a person again what `expired` had answered, unless a later check of the party has taken its place."""
    party = (await store.lock_parties(tx, [expired.party_id]))[expired.party_id]
    if await store.is_latest(tx, expired):
        await open_checks(tx, expired.party_id, [expired.check_type], now, cause=expired.compliance_check_id)
    await _announce(tx, expired, party, now)


async def open_checks(
    tx: AsyncConnection, party_id: str, check_types: Iterable[str], now: datetime, cause: str = ""
) -> None:
    """Asks a person about a party.

    Args:
        cause: The check whose answer expired, if one did.
    """
    principal = current_principal()
    for check_type in check_types:
        check_id = derived_id("chk", cause) if cause else new_id("chk")
        row = {
            "org_id": principal.org_id,
            "compliance_check_id": check_id,
            "check_type": check_type,
            "status": "MANUAL_REVIEW",
            "entity_type": "USER",
            "entity_id": party_id,
            "party_id": party_id,
            "explanation": messages.write_explanation(_EXPIRED) if cause else None,
            "created_at": now,
            "updated_at": now,
        }
        await store.insert_checks(tx, [row])
        opened = await store.lock_check(tx, check_id)
        event = events.ComplianceCheckOpened(compliance_check=messages.to_told_check(opened))
        await outbox.enqueue(tx, event, now=now)


async def _announce(tx: AsyncConnection, check: Any, party: Any, now: datetime) -> None:
    """Tells of a check of a party, and of the party whose clearance may be another by it."""
    state = await queries.describe_state(tx, await queries.describe_party(tx, party, now))
    told = [
        events.ComplianceCheckCompleted(compliance_check=messages.to_told_check(check)),
        events.PartyClearanceChanged(party=state),
    ]
    await outbox.enqueue_all(tx, told, now=now)
