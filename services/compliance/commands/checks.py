"""What changes checks of parties: asked, decided by a person, expired. Each runs inside the caller's transaction.

Whoever changes a check holds its party's lock, so the facts it is about do not change meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from realco.compliance.v1 import compliance_pb2 as pb
from realco.compliance.v1 import parties_pb2

from services.chassis.approvals.resources import ResourceApprovals
from services.chassis.calls.auth import current_principal
from services.chassis.data.transaction import Tx
from services.chassis.values.approval import Approval, ApprovalDetails, ApprovalFacts, Change
from services.chassis.values.etags import check_etag
from services.chassis.values.explanation import Explanation
from services.chassis.values.ids import new_id
from services.compliance import actions, messages
from services.compliance.commands.persons import admit_waiting
from services.compliance.domain import clearance
from services.compliance.domain.checks import CHECK_MOVES, CheckStatus, ComplianceCheck
from services.compliance.domain.parties import Party, join_changes
from services.compliance.domain.refusals import ComplianceCheckNotFound
from services.compliance.store import checks as store
from services.compliance.store import parties as parties_store
from services.compliance.store.approvals import APPROVAL_WRITER
from services.compliance.store.standings import list_persons_to_review

# A party cannot do without an answer, so the question waits until there is one.
CHECK_APPROVALS = ResourceApprovals(
    "REVIEW_COMPLIANCE_CHECK",
    APPROVAL_WRITER,
    "realco.compliance.v1.ComplianceService/ReviewComplianceCheck",
    needs_note=True,
    must_be_decided=True,
)


async def review_compliance_check(
    tx: Tx, request: pb.ReviewComplianceCheckRequest, facts: ApprovalFacts, now: datetime
) -> pb.ComplianceCheck:
    """
    Raises:
        ComplianceCheckNotFound, EtagMismatch, IllegalStatusChange, MakerIsChecker, BeneficiaryIsChecker, TooManyParties
    """
    decision = pb.ComplianceCheck.Status.Name(request.decision)
    decided = await decide_check(tx, request.compliance_check_id, decision, request.note, facts, now, etag=request.etag)
    return await actions.answer_check(tx, decided, now)


async def decide_check(
    tx: Tx,
    check_id: str,
    decision: str,
    note: str,
    facts: ApprovalFacts | None,
    now: datetime,
    *,
    etag: str = "",
) -> ComplianceCheck:
    """What a review does, by the check's own route or by the inbox.

    Args:
        facts: What a yes is counted on; a no needs none.

    Raises:
        ComplianceCheckNotFound, EtagMismatch, IllegalStatusChange, MakerIsChecker, AlreadyApproved,
        BeneficiaryIsChecker, InsufficientUserAuthentication, TooManyParties
    """
    reviewer = current_principal().person
    party = await lock_party_of(tx, check_id)
    check = await store.find_check(tx, check_id)
    if check is None:
        raise ComplianceCheckNotFound()
    check_etag(etag, messages.etag_of_check(check))
    persons = await parties_store.list_interested_persons(tx, check.party_id, now)
    clearance.check_may_review(check, persons, reviewer, CheckStatus(decision))
    assert party is not None  # what waits for a person is about a party
    is_passed = decision == CheckStatus.PASSED
    if not is_passed:
        await CHECK_APPROVALS.reject(tx, check_id, note, now)
    else:
        assert facts is not None  # whoever says yes was asked about
        if not await CHECK_APPROVALS.count_yes(tx, check_id, facts, now, note):
            return check  # it waits for another person, too
    decided = replace(
        check,
        status=CheckStatus(decision),
        note=note,
        reviewed_by=reviewer,
        reviewed_at=now,
        expires_at=now + clearance.VALIDITY if is_passed else None,
    )
    decided = await store.save_check(tx, check, decided, now)
    if is_passed and check.check_type == clearance.ADMITTING_CHECK:
        approval = await CHECK_APPROVALS.find_last(tx, check_id)
        assert approval is not None  # the one that was just approved
        party = await admit_waiting(tx, party, approval, now)
    await parties_store.publish_clearance(tx, party, now)
    return decided


async def open_checks(tx: Tx, party: Party, persons: Sequence[str], now: datetime) -> None:
    """Asks a person for the first time about a party that the caller wrote, and is about to insert.

    Args:
        persons: Who will act for it, or wait to.
    """
    for check_type in clearance.list_required_types():
        await _open(tx, party, persons, check_type, (current_principal().person,), now)


async def reopen_checks(
    tx: Tx, party: Party, questions: Mapping[str, Explanation], before: Mapping[str, Approval], now: datetime
) -> None:
    """Asks a person again about a locked party whose facts the caller changes: what was asked or answered about the
    former facts counts no longer.

    Args:
        party: As it will be.
        questions: The checks to ask again, each with why.
        before: Of those of which the caller says a part anew, and not all: what was asked before.
    """
    latest = await store.list_latest_of(tx, party.party_id) if questions else {}
    persons = [one.person_id for one in await list_persons_to_review(tx, party.party_id, now)]
    for check_type, because in questions.items():
        former, writer = latest.get(check_type), current_principal().person
        if former is not None and former.status is not CheckStatus.PASSED:
            because = join_changes(former.explanation, because)
        makers = clearance.list_makers(former.status if former else "", former.makers if former else (), writer)
        if former is not None and CheckStatus.EXPIRED in CHECK_MOVES[former.status]:
            expired = replace(former, status=CheckStatus.EXPIRED, explanation=because)
            await store.save_check(tx, former, expired, now)
            await CHECK_APPROVALS.cancel(tx, former.compliance_check_id, now)
        await _open(tx, party, persons, check_type, makers, now, because, before.get(check_type))


async def list_asked(tx: Tx, party_id: str) -> dict[str, Approval]:
    """What was asked for of the checks that nobody passed, by their types."""
    found = {}
    for check_type, check in (await store.list_latest_of(tx, party_id)).items():
        if check.status in (CheckStatus.MANUAL_REVIEW, CheckStatus.FAILED):
            asked = await CHECK_APPROVALS.find_last(tx, check.compliance_check_id)
            if asked is not None:
                found[check_type] = asked
    return found


async def expire_check(tx: Tx, check_id: str, now: datetime) -> None:
    """Ends an answer that is too old, and asks again, unless somebody was faster. Raises: NotSealed."""
    party = await lock_party_of(tx, check_id)
    check = await store.find_check(tx, check_id)
    if party is None or check is None or check.status is not CheckStatus.PASSED:
        return
    await store.save_check(tx, check, replace(check, status=CheckStatus.EXPIRED), now)
    persons = [one.person_id for one in await list_persons_to_review(tx, party.party_id, now)]
    await _open(tx, party, persons, check.check_type, check.makers, now, clearance.EXPIRED)
    await parties_store.publish_clearance(tx, party, now)


async def _open(
    tx: Tx,
    party: Party,
    persons: Sequence[str],
    check_type: str,
    makers: tuple[str, ...],
    now: datetime,
    because: Explanation | None = None,
    before: Approval | None = None,
) -> None:
    check_id, party_id = new_id("chk"), party.party_id
    check = ComplianceCheck(
        compliance_check_id=check_id,
        check_type=check_type,
        status=CheckStatus.MANUAL_REVIEW,
        resource_type="PARTY",
        resource_id=party_id,
        party_id=party_id,
        makers=makers,
        explanation=because,
        created_at=now,
        updated_at=now,
    )
    await store.insert_check(tx, check)
    # Events tell the summary, so it names nobody.
    details = ApprovalDetails(
        f"Pass {check_type} of {party_id}",
        check_id,
        makers=frozenset(makers),
        beneficiary_party_ids=frozenset({party_id}),
        changes=(Change("status", CheckStatus.MANUAL_REVIEW, CheckStatus.PASSED),),
        matter=("check", check_type, party_id),
    )
    facts = {name: getattr(party, name) for name in clearance.list_facts(check_type)}
    resource = parties_pb2.ComplianceCheckContent(
        compliance_check=pb.ComplianceCheck(compliance_check_id=check_id, type=check_type, party_id=party_id),
        party=parties_pb2.Party(party_id=party_id, **facts),
        person_ids=sorted(persons),
    )
    await CHECK_APPROVALS.open(tx, details, resource, now, before=before)


async def lock_party_of(tx: Tx, check_id: str) -> Party | None:
    """The party of a check, locked; None if there is no such check or, for a refused transaction's, no such party."""
    check = await store.find_check(tx, check_id)
    if check is None:
        return None
    return (await parties_store.lock_parties(tx, [check.party_id])).get(check.party_id)
