"""Rows to protobuf messages: the one place where a column meets its field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict
from realco.compliance.v1 import compliance_pb2 as pb
from realco.compliance.v1 import parties_pb2
from realco.type.v1 import explanation_pb2, failure_pb2

from services.chassis.calls.wire import to_explanation, to_failure, to_money, to_timestamp
from services.chassis.values.etags import etag_of
from services.chassis.values.explanation import Explanation
from services.chassis.values.failure import Failure
from services.chassis.values.ids import derived_id
from services.chassis.values.money import Money
from services.compliance.domain import clearance
from services.compliance.domain.clearance import Check


def to_party(
    row: Any, checks: Mapping[str, Check], now: datetime, allowed_actions: Sequence[str] = ()
) -> parties_pb2.Party:
    missing = clearance.list_missing(checks, now)
    message = parties_pb2.Party(
        party_id=row.party_id,
        kind=row.kind,
        roles=row.roles,
        legal_name=row.legal_name,
        accreditation=row.accreditation,
        kyc_status=clearance.effective_status(checks.get("KYC"), now),
        ofac_status=clearance.effective_status(checks.get("OFAC"), now),
        cleared=not missing,
        missing=map(to_explanation, missing),
        external_id=row.external_id or None,
        metadata=row.metadata,
        etag=party_etag(row),
        create_time=to_timestamp(row.created_at),
        update_time=to_timestamp(row.updated_at),
        allowed_actions=allowed_actions,
    )
    if row.annual_income_minor is not None:
        message.annual_income.CopyFrom(to_money(Money(row.annual_income_minor, row.annual_income_currency)))
    if row.net_worth_minor is not None:
        message.net_worth.CopyFrom(to_money(Money(row.net_worth_minor, row.net_worth_currency)))
    return message


def party_etag(row: Any) -> str:
    return etag_of(row.party_id, row.version)


def to_state(party: parties_pb2.Party, persons: Sequence[str]) -> parties_pb2.PartyState:
    """What events tell of a party."""
    return parties_pb2.PartyState(
        party_id=party.party_id,
        kind=party.kind,
        roles=party.roles,
        kyc_status=party.kyc_status,
        ofac_status=party.ofac_status,
        cleared=party.cleared,
        persons=persons,
        external_id=party.external_id if party.HasField("external_id") else None,
        etag=party.etag,
        create_time=party.create_time,
        update_time=party.update_time,
    )


def to_person(row: Any) -> parties_pb2.PartyPerson:
    return parties_pb2.PartyPerson(
        party_id=row.party_id,
        person=row.person,
        title=row.title,
        added_by=row.added_by,
        create_time=to_timestamp(row.created_at),
    )


def check_etag_of(row: Any) -> str:
    """A check has each status once at most: with the time of its last change it tells the versions apart."""
    return etag_of(f"{row.compliance_check_id}/{row.status}", to_timestamp(row.updated_at).ToMicroseconds())


def to_check(row: Any, allowed_actions: Sequence[str] = ()) -> pb.ComplianceCheck:
    message = pb.ComplianceCheck(
        compliance_check_id=row.compliance_check_id,
        type=row.check_type,
        status=row.status,
        entity_type=row.entity_type,
        entity_id=row.entity_id,
        party_id=row.party_id,
        note=row.note,
        reviewed_by=row.reviewed_by or "",
        create_time=to_timestamp(row.created_at),
        update_time=to_timestamp(row.updated_at),
        allowed_actions=allowed_actions,
        etag=check_etag_of(row),
    )
    _read_reasons(row, message)
    if row.expires_at is not None:
        message.expire_time.CopyFrom(to_timestamp(row.expires_at))
    return message


def to_told_check(row: Any) -> pb.ComplianceCheck:
    """What events tell of a check: a person's note may say more of a party than ids."""
    message = to_check(row)
    message.note = ""
    return message


def to_limit(row: Any, org_id: str) -> pb.TransactionLimit:
    return pb.TransactionLimit(
        limit_type=row.limit_type,
        amount=to_money(Money(row.amount_minor, row.currency)),
        effective_time=to_timestamp(row.effective_at),
        set_by=row.set_by,
        etag=limit_etag(row, org_id),
        transaction_limit_id=derived_id("lim", org_id, row.limit_type, row.currency),
    )


def limit_etag(row: Any, org_id: str) -> str:
    """Two settings of one limit never take effect in the same microsecond."""
    return etag_of(f"{org_id}/{row.limit_type}/{row.currency}", to_timestamp(row.effective_at).ToMicroseconds())


def to_decision(row: Any) -> pb.EvaluateTransactionsResponse.Decision:
    """From the check that holds it."""
    message = pb.EvaluateTransactionsResponse.Decision(transaction_id=row.entity_id, status=row.status)
    _read_reasons(row, message)
    return message


def write_failure(failure: Failure) -> dict[str, Any]:
    """The column of a failure."""
    return MessageToDict(to_failure(failure))


def write_explanation(explanation: Explanation) -> dict[str, Any]:
    """The column of an explanation."""
    return MessageToDict(to_explanation(explanation))


def _read_reasons(row: Any, message: pb.ComplianceCheck | pb.EvaluateTransactionsResponse.Decision) -> None:
    if row.failure is not None:
        message.failure.CopyFrom(ParseDict(row.failure, failure_pb2.Failure()))
    if row.explanation is not None:
        message.explanation.CopyFrom(ParseDict(row.explanation, explanation_pb2.Explanation()))
