"""Rows to protobuf messages: the one place where a column meets its field, and where etags are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from realco.compliance.v1 import api_keys_pb2, notary_pb2, parties_pb2
from realco.compliance.v1 import compliance_pb2 as pb

from services.chassis.calls.wire import (
    to_explanation,
    to_money,
    to_optional_failure,
    to_optional_timestamp,
    to_timestamp,
)
from services.chassis.values.approval_policy import ApprovalRule
from services.chassis.values.etags import etag_of
from services.chassis.values.ids import derived_id
from services.chassis.values.invariant import require_present
from services.chassis.values.money import Money
from services.chassis.values.movement import Movement, MovementLine
from services.compliance.domain import clearance
from services.compliance.domain.api_keys import ApiKey
from services.compliance.domain.checks import ComplianceCheck
from services.compliance.domain.clearance import Check
from services.compliance.domain.parties import Party, PartyPerson


def to_party(party: Party, checks: Mapping[str, Check], allowed_actions: Sequence[str] = ()) -> parties_pb2.Party:
    missing = clearance.list_missing(checks)
    return parties_pb2.Party(
        party_id=party.party_id,
        kind=party.kind,
        legal_name=party.legal_name,
        accreditation=party.accreditation,
        annual_income=_to_optional_money(party.annual_income),
        net_worth=_to_optional_money(party.net_worth),
        external_id=party.external_id,
        metadata=party.metadata,
        checks=to_party_checks(checks),
        cleared=not missing,
        missing=map(to_explanation, missing),
        etag=party.etag,
        create_time=to_timestamp(party.created_at),
        update_time=to_timestamp(party.updated_at),
        allowed_actions=allowed_actions,
    )


def to_party_checks(checks: Mapping[str, Check]) -> list[parties_pb2.Party.Check]:
    """A line a required check, whether there is one yet or not."""
    found = ((check_type, checks.get(check_type, clearance.NO_CHECK)) for check_type in clearance.list_required_types())
    return [
        parties_pb2.Party.Check(
            type=check_type,
            status=check.status,
            expire_time=to_optional_timestamp(check.expires_at),
        )
        for check_type, check in found
    ]


def to_acting_for(party: Party, checks: Mapping[str, Check]) -> parties_pb2.Me.ActingFor:
    """A party as `GET /me` tells of it."""
    return parties_pb2.Me.ActingFor(
        party_id=party.party_id,
        legal_name=party.legal_name,
        kind=party.kind,
        checks=to_party_checks(checks),
        cleared=not clearance.list_missing(checks),
    )


def to_party_person(person: PartyPerson) -> parties_pb2.PartyPerson:
    return parties_pb2.PartyPerson(
        party_id=person.party_id,
        person_id=person.person_id,
        title=person.title,
        act_start_time=to_optional_timestamp(person.act_started_at),
        etag=person.etag,
        created_by=person.created_by,
        create_time=to_timestamp(person.created_at),
        update_time=to_timestamp(person.updated_at),
    )


def to_compliance_check(check: ComplianceCheck, allowed_actions: Sequence[str] = ()) -> pb.ComplianceCheck:
    return pb.ComplianceCheck(
        compliance_check_id=check.compliance_check_id,
        type=check.check_type,
        status=check.status,
        resource_type=check.resource_type,
        resource_id=check.resource_id,
        party_id=check.party_id,
        direction=check.direction,
        note=check.note,
        reviewed_by=check.reviewed_by,
        review_time=to_optional_timestamp(check.reviewed_at),
        expire_time=to_optional_timestamp(check.expires_at),
        etag=etag_of_check(check),
        create_time=to_timestamp(check.created_at),
        update_time=to_timestamp(check.updated_at),
        allowed_actions=allowed_actions,
        amount=_to_optional_money(check.amount),
        failure=to_optional_failure(check.failure),
        explanation=None if check.explanation is None else to_explanation(check.explanation),
    )


def etag_of_check(check: ComplianceCheck) -> str:
    """A check has each status once at most: with the time of its last change it tells the versions apart."""
    return etag_of(f"{check.compliance_check_id}/{check.status}", to_timestamp(check.updated_at).ToMicroseconds())


def to_api_key(key: ApiKey, allowed_actions: Sequence[str] = ()) -> api_keys_pb2.ApiKey:
    """Without a secret, or a digest of one."""
    return api_keys_pb2.ApiKey(
        api_key_id=key.api_key_id,
        display_name=key.display_name,
        scopes=key.scopes,
        status=key.status,
        expire_time=to_timestamp(key.expires_at),
        secret_waits=key.next_secret is not None,
        former_secret_expire_time=to_optional_timestamp(key.former_until),
        last_use_time=to_optional_timestamp(key.last_used_at),
        external_id=key.external_id,
        metadata=key.metadata,
        created_by=key.created_by,
        approved_by=key.approved_by,
        revoked_by=key.revoked_by,
        etag=key.etag,
        create_time=to_timestamp(key.created_at),
        update_time=to_timestamp(key.updated_at),
        allowed_actions=allowed_actions,
    )


def to_api_key_content(key: ApiKey) -> api_keys_pb2.ApiKeyContent:
    """What a second person decides on: a secret that waits."""
    secret = require_present(key.next_secret, "a secret waits")
    decided = api_keys_pb2.ApiKey(
        api_key_id=key.api_key_id,
        display_name=key.display_name,
        scopes=key.scopes,
        expire_time=to_timestamp(key.expires_at),
        created_by=key.created_by,
    )
    grace_seconds = None if key.secret is None else key.next_grace_seconds
    return api_keys_pb2.ApiKeyContent(api_key=decided, grace_seconds=grace_seconds, secret_id=secret.secret_id)


def to_limit(row: Any, allowed_actions: Sequence[str] = ()) -> pb.TransactionLimit:
    """A limit in force."""
    return pb.TransactionLimit(
        transaction_limit_id=limit_id_of(row),
        type=row.limit_type,
        amount=to_money(Money(row.amount_minor, row.currency)),
        is_default=row.is_default,
        set_by=row.set_by,
        set_time=to_timestamp(row.set_at),
        etag=etag_of_limit(row),
        allowed_actions=allowed_actions,
    )


def limit_id_of(row: Any) -> str:
    return derived_id("lim", row.org_id, row.limit_type, row.currency)


def etag_of_limit(row: Any) -> str:
    """Two settings of one limit never take effect in the same microsecond."""
    return etag_of(limit_id_of(row), to_timestamp(row.set_at).ToMicroseconds())


def _to_optional_money(amount: Money | None) -> Any:
    return None if amount is None else to_money(amount)


def to_approval_rule(rule: ApprovalRule) -> parties_pb2.Me.ApprovalRule:
    amount = (
        Money(rule.amount_minor_from, rule.currency_code) if rule.amount_minor_from and rule.currency_code else None
    )
    return parties_pb2.Me.ApprovalRule(
        kinds=sorted(rule.kinds or ()),
        amount_from=None if amount is None else to_money(amount),
        approvers_needed=rule.approvers_needed,
        strong_sign_in_seconds_max=rule.strong_sign_in_seconds_max,
        valid_for_hours=rule.valid_for_hours,
    )


def read_movement(movement: notary_pb2.Movement) -> Movement:
    return Movement(
        read_movement_kind(movement.kind),
        movement.resource_id,
        movement.content_hash,
        movement.escrow_account_id,
        tuple(MovementLine(each.party_id, Money.from_proto(each.amount)) for each in movement.lines),
    )


def read_movement_kind(kind: notary_pb2.Movement.Kind) -> str:
    return notary_pb2.Movement.Kind.Name(kind)
