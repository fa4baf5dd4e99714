"""What needs two persons in compliance, and what the second one has to know."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any

from realco.compliance.v1 import compliance_pb2 as pb
from realco.compliance.v1 import parties_pb2

from services.chassis.approvals.requests import RequestKind, by_command
from services.chassis.approvals.resources import ResourceKind
from services.chassis.approvals.workflow import Approvals
from services.chassis.calls.auth import current_principal
from services.chassis.data.transaction import Tx
from services.chassis.values.approval import NOBODY, Approval, ApprovalDetails, ApprovalFacts, Change, Status
from services.chassis.values.explanation import Explanation
from services.chassis.values.ids import derived_id
from services.chassis.values.invariant import invariant
from services.chassis.values.money import Money
from services.chassis.values.refusals import PartyNotFound
from services.chassis.values.text import normalize_person, quote
from services.chassis.values.times import write_time
from services.compliance.commands import api_keys, checks, limits, parties
from services.compliance.commands.api_keys import API_KEY_APPROVALS
from services.compliance.commands.checks import CHECK_APPROVALS
from services.compliance.dependencies import Dependencies
from services.compliance.domain.checks import CheckStatus
from services.compliance.domain.names import explain_look_alikes
from services.compliance.domain.parties import Party, PartyPerson, name_acting
from services.compliance.domain.refusals import ApiKeyNotFound, ComplianceCheckNotFound, TransactionLimitNotFound
from services.compliance.store import checks as checks_store
from services.compliance.store import limits as limits_store
from services.compliance.store import parties as parties_store
from services.compliance.store.api_keys import find_api_key, lock_api_key
from services.compliance.store.approvals import APPROVAL_WRITER

_SOURCE = "house rule: nobody clears a party alone, and nobody gives power over its money alone"


def build_approvals(dependencies: Dependencies) -> Approvals:
    """The approvals of compliance."""
    by = partial(by_command, dependencies)
    details = _Details(dependencies)
    requests: list[RequestKind[Any]] = [
        RequestKind(parties_pb2.AddPartyPersonRequest, by(parties.add_party_person), details.describe_person),
        RequestKind(pb.PutTransactionLimitRequest, by(limits.put_transaction_limit), details.describe_limit),
        RequestKind(pb.DeleteTransactionLimitRequest, by(limits.delete_transaction_limit), details.describe_removal),
    ]
    resources = [
        ResourceKind(CHECK_APPROVALS, details.describe_check, _pass_check, _fail_check, checks.lock_party_of),
        ResourceKind(
            API_KEY_APPROVALS, details.describe_secret, api_keys.approve_secret, api_keys.give_up_secret, lock_api_key
        ),
    ]
    return Approvals(dependencies, requests, APPROVAL_WRITER, resources)


class _Details:
    """What a person who decides has to know."""

    def __init__(self, dependencies: Dependencies) -> None:
        self._dependencies = dependencies

    # --- persons ---

    async def describe_person(self, request: parties_pb2.AddPartyPersonRequest, now: datetime) -> ApprovalDetails:
        person_id = normalize_person(request.person_id)
        async with self._dependencies.database.begin() as tx:
            party = await _require_party(tx, request.party_id)
            persons = await parties_store.list_persons(tx, request.party_id)
            ended = await parties_store.find_last_end(tx, request.party_id, person_id)
            alike = await parties_store.list_look_alikes(tx, party)
        named = next((one for one in persons if one.person_id == person_id), None)
        before = named if named is not None and named.acts else None
        former_title = None if before is None else before.title
        named_title = None if named is None else named.title
        title = request.title if request.HasField("title") else named_title
        changes = [] if before else [Change("person_id", None, person_id)]
        if title != former_title:
            changes.append(Change("title", former_title, title))
        if named is None and ended is not None:  # somebody took it away, which a yes undoes
            changes += [
                Change("remove_time", write_time(ended.ended_at), None),
                Change("removed_by", ended.ended_by, None),
            ]
        return ApprovalDetails(
            f"Let {quote(person_id)} act for {request.party_id}",
            request.party_id,
            # Nobody gives this power to oneself, whoever asks for it.
            makers=frozenset({person_id}),
            beneficiary_party_ids=frozenset({request.party_id}),
            changes=tuple(changes),
            is_done=not changes,
            matter=name_acting(request.party_id, person_id),
            explanations=(_explain_party(party), *explain_look_alikes(party, alike), *map(_explain_person, persons)),
        )

    # --- limits ---

    async def describe_limit(self, request: pb.PutTransactionLimitRequest, now: datetime) -> ApprovalDetails:
        limit_type, currency = pb.TransactionLimit.Type.Name(request.type), request.amount.currency_code
        async with self._dependencies.database.begin() as tx:
            former = await limits_store.find_limit_of(tx, limit_type, currency)
        amount = Money.from_proto(request.amount)
        return ApprovalDetails(
            f"Limit {limit_type} to {amount}",
            derived_id("lim", current_principal().org_id, limit_type, currency),
            beneficiary_party_ids=NOBODY,  # a limit is the organization's: it holds for all parties
            changes=(Change("amount", _read_amount(former), amount),),
            is_done=former is not None and limits.is_set_to(former, amount.amount_minor),
        )

    async def describe_removal(self, request: pb.DeleteTransactionLimitRequest, now: datetime) -> ApprovalDetails:
        async with self._dependencies.database.begin() as tx:
            limit = await limits_store.find_limit(tx, request.transaction_limit_id)
            if limit is None:
                raise TransactionLimitNotFound()
            default = await limits_store.find_default(tx, limit.limit_type, limit.currency)
        return ApprovalDetails(
            f"Take back {limit.limit_type} of {_read_amount(limit)}",
            request.transaction_limit_id,
            beneficiary_party_ids=NOBODY,  # as of another limit
            changes=(Change("amount", _read_amount(limit), _read_amount(default)),),
        )

    # --- checks ---

    async def describe_check(self, approval: Approval, now: datetime) -> ApprovalDetails:
        async with self._dependencies.database.begin() as tx:
            check = await checks_store.find_check(tx, approval.resource_id)
            if check is None:
                raise ComplianceCheckNotFound()
            party = await _require_party(tx, check.party_id)
            persons = await parties_store.list_persons(tx, check.party_id)
            alike = await parties_store.list_look_alikes(tx, party)
        because = [] if check.explanation is None else [check.explanation]
        return ApprovalDetails(
            approval.summary,
            approval.resource_id,
            beneficiary_party_ids=approval.beneficiary_party_ids,
            changes=(Change("status", check.status, CheckStatus.PASSED),),
            explanations=(
                *because,
                _explain_party(party),
                *explain_look_alikes(party, alike),
                *map(_explain_person, persons),
            ),
        )

    # --- API keys ---

    async def describe_secret(self, approval: Approval, now: datetime) -> ApprovalDetails:
        async with self._dependencies.database.begin() as tx:
            key = await find_api_key(tx, approval.resource_id)
        if key is None:
            raise ApiKeyNotFound()
        return api_keys.build_secret_details(key)


async def _pass_check(tx: Tx, approval: Approval, facts: ApprovalFacts, now: datetime) -> None:
    await checks.decide_check(tx, approval.resource_id, CheckStatus.PASSED, approval.note or "", facts, now)


async def _fail_check(tx: Tx, approval: Approval, why: str, now: datetime) -> None:
    """Only a rejection ends it: it does not expire, and nobody takes it back."""
    invariant(approval.status is Status.REJECTED and approval.note is not None, "a check ends by an answer")
    await checks.decide_check(tx, approval.resource_id, CheckStatus.FAILED, approval.note or "", None, now)


async def _require_party(tx: Tx, party_id: str) -> Party:
    party = await parties_store.find_party(tx, party_id)
    if party is None:
        raise PartyNotFound()
    return party


def _explain_party(party: Party) -> Explanation:
    operands = (
        ("legal name", party.legal_name),
        ("kind", party.kind),
        ("accreditation", party.accreditation),
    )
    return Explanation(f"This is the party now: {quote(party.legal_name)}.", "PARTY", operands, _SOURCE)


def _explain_person(person: PartyPerson) -> Explanation:
    operands = (("person id", person.person_id), ("title", person.title or ""), ("added by", person.created_by))
    does = "acts" if person.acts else "waits to act"
    return Explanation(f"{quote(person.person_id)} {does} for it.", "PERSON", operands, _SOURCE)


def _read_amount(limit: Any) -> Money | None:
    return None if limit is None else Money(limit.amount_minor, limit.currency)
