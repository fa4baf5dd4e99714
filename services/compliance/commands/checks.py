"""What changes checks of parties: asked, decided by a person, expired. Each runs inside the caller's transaction.

Whoever changes a check holds its party's lock, so the facts it is about do not change meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from realco.compliance.v1 import compliance_pb2 as pb
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import current_principal
from services.chassis.values.etags import check_etag
from services.chassis.values.explanation import Explanation
from services.chassis.values.ids import new_id
from services.chassis.values.refusals import MakerIsChecker
from services.compliance import actions, messages
from services.compliance.domain import clearance
from services.compliance.domain.refusals import CheckNotInReview, ComplianceCheckNotFound
from services.compliance.store import checks as store
from services.compliance.store import parties as parties_store

_EXPIRED_CHECKS_MAX = 100


async def review_compliance_check(
    tx: AsyncConnection, request: pb.ReviewComplianceCheckRequest, now: datetime
) -> pb.ComplianceCheck:
    """Raises: ComplianceCheckNotFound, EtagMismatch, CheckNotInReview, MakerIsChecker."""
    reviewer = current_principal().person
    party = await _lock_party_of(tx, request.compliance_check_id)
    check = await store.find_check(tx, request.compliance_check_id)
    if check is None:
        raise ComplianceCheckNotFound()
    check_etag(request.etag, messages.etag_of_check(check))
    if check.status != "MANUAL_REVIEW":
        raise CheckNotInReview("The check does not wait for a person.", status=check.status)
    if not clearance.may_review(check.status, check.makers, reviewer):
        raise MakerIsChecker("Whoever wrote the party's facts may not clear it; ask another admin.")
    decision = pb.ComplianceCheck.Status.Name(request.decision)
    decided = await store.save_check(
        tx,
        check,
        now,
        status=decision,
        note=request.note,
        reviewed_by=reviewer,
        reviewed_at=now,
        expires_at=now + clearance.VALIDITY if decision == "PASSED" else None,
    )
    await parties_store.publish_clearance(tx, party, now)
    return actions.answer_check(decided)


async def open_checks(tx: AsyncConnection, party_id: str, now: datetime) -> None:
    """Asks a person for the first time about a party that the caller wrote, and is about to insert."""
    for check_type in clearance.list_required_types():
        await _open(tx, party_id, check_type, [current_principal().person], now)


async def reopen_checks(
    tx: AsyncConnection, party_id: str, questions: Mapping[str, Explanation], now: datetime
) -> None:
    """Asks a person again about a locked party whose facts the caller changes: what was asked or answered about the
    former facts counts no longer.

    Args:
        questions: The checks to ask again, each with why.
    """
    latest = await store.list_latest_rows(tx, party_id) if questions else {}
    for check_type, because in questions.items():
        makers = [current_principal().person]
        if former := latest.get(check_type):
            makers = clearance.list_makers(former.status, former.makers, current_principal().person)
            if former.status in ("MANUAL_REVIEW", "PASSED"):
                explanation = messages.to_explanation_column(because)
                await store.save_check(tx, former, now, status="EXPIRED", explanation=explanation)
        await _open(tx, party_id, check_type, makers, now, because)


async def expire_checks(tx: AsyncConnection, now: datetime) -> int:
    """Ends answers that are too old, at most 100 of the organization's, and asks again; how many there were."""
    due = await store.list_expired_checks(tx, now, _EXPIRED_CHECKS_MAX)
    parties = await parties_store.lock_parties(tx, {row.party_id for row in due})
    for row in due:
        party = parties[row.party_id]
        check = await store.find_check(tx, row.compliance_check_id)
        if check is not None and check.status == "PASSED":  # nobody was faster
            await store.save_check(tx, check, now, status="EXPIRED")
            await _open(tx, party.party_id, check.check_type, check.makers, now, clearance.EXPIRED)
            await parties_store.publish_clearance(tx, party, now)
    return len(due)


async def _open(
    tx: AsyncConnection,
    party_id: str,
    check_type: str,
    makers: Sequence[str],
    now: datetime,
    because: Explanation | None = None,
) -> None:
    await store.insert_check(
        tx,
        now,
        org_id=current_principal().org_id,
        compliance_check_id=new_id("chk"),
        check_type=check_type,
        status="MANUAL_REVIEW",
        entity_type="PARTY",
        entity_id=party_id,
        party_id=party_id,
        makers=makers,
        explanation=None if because is None else messages.to_explanation_column(because),
    )


async def _lock_party_of(tx: AsyncConnection, check_id: str) -> Any:
    """The party of a check, locked; None if there is no such check or, for a refused transaction's, no such party."""
    check = await store.find_check(tx, check_id)
    if check is None:
        return None
    return (await parties_store.lock_parties(tx, [check.party_id])).get(check.party_id)
