"""Single resources as one caller gets them, from a read or a write alike: with what that caller may do now."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from realco.compliance.v1 import api_keys_pb2, parties_pb2
from realco.compliance.v1 import compliance_pb2 as pb

from services.chassis.calls.access import list_allowed_actions
from services.chassis.calls.auth import current_principal
from services.chassis.data.transaction import Tx
from services.compliance import messages
from services.compliance.domain import clearance
from services.compliance.domain.api_keys import ApiKey, ApiKeyStatus
from services.compliance.domain.checks import ComplianceCheck
from services.compliance.domain.parties import Party
from services.compliance.store import checks, parties


async def answer_party(tx: Tx, party: Party) -> parties_pb2.Party:
    latest = await checks.list_latest_checks(tx, [party.party_id])
    actions = list_allowed_actions(
        parties_pb2.Party,
        ("PartiesService/UpdateParty", True),
        ("PartiesService/AddPartyPerson", True),
        ("PartiesService/RemovePartyPerson", True),
    )
    return messages.to_party(party, latest.get(party.party_id, {}), actions)


async def answer_check(tx: Tx, check: ComplianceCheck, now: datetime) -> pb.ComplianceCheck:
    persons = await parties.list_interested_persons(tx, check.party_id, now)
    person = current_principal().person
    review = (
        "ComplianceService/ReviewComplianceCheck",
        lambda: clearance.check_may_review(check, persons, person),
    )
    return messages.to_compliance_check(check, list_allowed_actions(pb.ComplianceCheck, review))


def answer_api_key(key: ApiKey, now: datetime) -> api_keys_pb2.ApiKey:
    is_holder = current_principal().person == key.created_by
    actions = list_allowed_actions(
        api_keys_pb2.ApiKey,
        ("ApiKeysService/RotateApiKey", is_holder and not key.has_ended_at(now)),
        ("ApiKeysService/RevokeApiKey", key.status is not ApiKeyStatus.REVOKED),
    )
    return messages.to_api_key(key, actions)


def answer_limit(row: Any) -> pb.TransactionLimit:
    actions = list_allowed_actions(
        pb.TransactionLimit,
        ("ComplianceService/PutTransactionLimit", True),
        ("ComplianceService/DeleteTransactionLimit", not row.is_default),
    )
    return messages.to_limit(row, actions)
