"""What changes compliance's state. Each runs inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from realco.compliance.v1 import compliance_pb2 as pb
from realco.compliance.v1 import events_pb2 as events
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import current_principal
from services.chassis.calls.wire import to_timestamp
from services.chassis.data import outbox
from services.chassis.values.ids import derived_id, new_id
from services.compliance import messages, store
from services.compliance.domain import clearance
from services.compliance.domain.errors import CheckNotInReview, ComplianceCheckNotFound, MakerIsChecker

_EXPIRED_CHECKS_MAX = 100


async def put_investor(tx: AsyncConnection, request: pb.PutInvestorRequest, now: datetime) -> pb.Investor:
    """Writes the profile, and asks a person again about what a changed name, type or accreditation puts in question."""
    principal = current_principal()
    party_type = pb.Investor.PartyType.Name(request.party_type or pb.Investor.INVESTOR)
    accreditation = pb.Investor.Accreditation.Name(request.accreditation or pb.Investor.NON_ACCREDITED)
    before = (await store.lock_investors(tx, [request.party_id])).get(request.party_id)
    facts: dict[str, Any] = {
        "party_type": party_type,
        "legal_name": request.legal_name,
        "accreditation": accreditation,
        "written_by": principal.person,
    }
    for field in ("annual_income", "net_worth"):
        given = getattr(request, field) if request.HasField(field) else None
        facts[f"{field}_minor"] = given.amount_minor if given else None
        facts[f"{field}_currency"] = given.currency_code if given else None
    await store.put_investor(tx, principal.org_id, request.party_id, now, **facts)
    if before is None or before.legal_name != request.legal_name:
        await _open_checks(tx, request.party_id, clearance.REQUIRED_CHECKS, now)
    elif (before.party_type, before.accreditation) != (party_type, accreditation):
        # Whom the limits hold for rests on these two: nobody lifts them alone.
        await _open_checks(tx, request.party_id, ["KYC"], now)
    profile = (await store.lock_investors(tx, [request.party_id]))[request.party_id]
    checks = await store.latest_checks(tx, [request.party_id])
    investor = messages.investor(profile, checks.get(request.party_id, {}), now)
    event = events.InvestorPut(investor=investor)
    await outbox.enqueue(tx, event, now=now)
    return investor


async def review_check(
    tx: AsyncConnection, request: pb.ReviewComplianceCheckRequest, now: datetime
) -> pb.ComplianceCheck:
    """Raises: ComplianceCheckNotFound, CheckNotInReview, MakerIsChecker."""
    reviewer = current_principal().person
    check = await store.lock_check(tx, request.compliance_check_id)
    if check is None:
        raise ComplianceCheckNotFound("No such check.")
    if check.status != "MANUAL_REVIEW":
        raise CheckNotInReview("The check does not wait for a person.", status=check.status)
    profile = (await store.lock_investors(tx, [check.party_id]))[check.party_id]
    if profile.written_by == reviewer:
        raise MakerIsChecker("Whoever wrote the profile may not clear it; ask another admin.")
    decision = pb.ComplianceCheck.Status.Name(request.decision)
    decided = await store.update_check(
        tx,
        request.compliance_check_id,
        status=decision,
        detail=request.note,
        reviewed_by=reviewer,
        expires_at=now + clearance.VALIDITY if decision == "PASSED" else None,
        updated_at=now,
    )
    return await _announce(tx, decided, now)


async def put_limit(tx: AsyncConnection, request: pb.PutTransactionLimitRequest, now: datetime) -> pb.TransactionLimit:
    """Puts a limit in force from now on. One after another: the last one put is the one that holds."""
    principal = current_principal()
    limit_type = pb.TransactionLimit.LimitType.Name(request.limit_type)
    await store.lock_limits(tx, principal.org_id, limit_type)
    effective_at = await store.insert_limit(
        tx,
        now,
        org_id=principal.org_id,
        limit_type=limit_type,
        currency=request.amount.currency_code,
        amount_minor=request.amount.amount_minor,
        set_by=principal.person,
    )
    limit = pb.TransactionLimit(
        limit_type=request.limit_type,
        amount=request.amount,
        effective_time=to_timestamp(effective_at),
        set_by=principal.person,
    )
    event = events.TransactionLimitPut(transaction_limit=limit)
    await outbox.enqueue(tx, event, now=now)
    return limit


async def expire_checks(tx: AsyncConnection, now: datetime) -> list[Any]:
    """Marks parties' checks that ran out, at most 100 of them, and returns their rows, their parties locked."""
    expired = await store.take_expired(tx, now, _EXPIRED_CHECKS_MAX)
    await store.lock_investors(tx, {row.party_id for row in expired})
    return expired


async def reopen_check(tx: AsyncConnection, expired: Any, now: datetime) -> None:
    """Asks a person again what `expired` had answered, unless a later check of the party has taken its place."""
    await _announce(tx, expired, now)
    if await store.is_latest(tx, expired):
        await _open_checks(tx, expired.party_id, [expired.check_type], now, cause=expired.compliance_check_id)


async def _open_checks(
    tx: AsyncConnection, party_id: str, check_types: Iterable[str], now: datetime, cause: str = ""
) -> None:
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
            "detail": "The last answer expired." if cause else "",
            "created_at": now,
            "updated_at": now,
        }
        await store.insert_checks(tx, [row])
        opened = await store.lock_check(tx, check_id)
        event = events.ComplianceCheckOpened(compliance_check=messages.check(opened))
        await outbox.enqueue(tx, event, now=now)


async def _announce(tx: AsyncConnection, row: Any, now: datetime) -> pb.ComplianceCheck:
    check = messages.check(row)
    event = events.ComplianceCheckCompleted(compliance_check=check)
    await outbox.enqueue(tx, event, now=now)
    return check
