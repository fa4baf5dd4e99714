"""Rows to protobuf messages: the one place where a column meets its field."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from realco.compliance.v1 import compliance_pb2 as pb
from realco.type.v1 import money_pb2

from services.chassis.calls.wire import to_timestamp
from services.compliance.domain import clearance
from services.compliance.domain.clearance import Check


def investor(row: Any, checks: Mapping[str, Check], now: datetime) -> pb.Investor:
    missing = clearance.missing(checks, now)
    message = pb.Investor(
        party_id=row.party_id,
        party_type=row.party_type,
        legal_name=row.legal_name,
        accreditation=row.accreditation,
        kyc_status=clearance.effective_status(checks.get("KYC"), now),
        ofac_status=clearance.effective_status(checks.get("OFAC"), now),
        cleared=not missing,
        missing=missing,
        create_time=to_timestamp(row.created_at),
        update_time=to_timestamp(row.updated_at),
    )
    if row.annual_income_minor is not None:
        message.annual_income.CopyFrom(_money(row.annual_income_minor, row.annual_income_currency))
    if row.net_worth_minor is not None:
        message.net_worth.CopyFrom(_money(row.net_worth_minor, row.net_worth_currency))
    return message


def check(row: Any) -> pb.ComplianceCheck:
    message = pb.ComplianceCheck(
        compliance_check_id=row.compliance_check_id,
        type=row.check_type,
        status=row.status,
        entity_type=row.entity_type,
        entity_id=row.entity_id,
        party_id=row.party_id,
        detail=row.detail,
        metadata=row.metadata,
        reviewed_by=row.reviewed_by or "",
        create_time=to_timestamp(row.created_at),
        update_time=to_timestamp(row.updated_at),
    )
    if row.expires_at is not None:
        message.expire_time.CopyFrom(to_timestamp(row.expires_at))
    return message


def limit(row: Any) -> pb.TransactionLimit:
    return pb.TransactionLimit(
        limit_type=row.limit_type,
        amount=_money(row.amount_minor, row.currency),
        effective_time=to_timestamp(row.effective_at),
        set_by=row.set_by,
    )


def decision(row: Any) -> pb.EvaluateTransactionsResponse.Decision:
    """From the check that holds it."""
    return pb.EvaluateTransactionsResponse.Decision(
        transaction_id=row.entity_id, status=row.status, reason=row.reason, message=row.detail, metadata=row.metadata
    )


def _money(amount_minor: int, currency: str) -> money_pb2.Money:
    return money_pb2.Money(currency_code=currency, amount_minor=amount_minor)
