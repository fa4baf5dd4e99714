"""Asks for, decides and does what needs two persons, for one service.

A person's call of such an RPC does nothing but ask: its request becomes the content of an approval, after a rehearsal
has shown that it could be done. Another person's decision names the hash of that content. Then it is done in its
maker's name, under a key made from the approval, so that it is done once: the decision is committed first, the deed
follows, and a job goes on where a crash came between. Each rule is asked again by the deed itself.

A service that may call the RPC orders what was decided elsewhere, and an investor takes back what is its own: theirs is
done at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

from google.protobuf.message import Message
from realco.approvals.v1 import approvals_pb2

from services.chassis.approvals import messages, records
from services.chassis.approvals.asked import AskedRequests
from services.chassis.approvals.executions import Executions, begin_execution
from services.chassis.approvals.facts import Drift
from services.chassis.approvals.notary import Rehearse, Witnessed
from services.chassis.approvals.permissions import Permissions
from services.chassis.approvals.repetitions import explain_others
from services.chassis.approvals.requests import RequestKind, build_answer
from services.chassis.approvals.resources import ResourceKind
from services.chassis.approvals.writer import ApprovalWriter
from services.chassis.calls.auth import current_principal
from services.chassis.data.leases import due_in
from services.chassis.data.once import keys_of
from services.chassis.data.operations import Operations
from services.chassis.data.reads import Source
from services.chassis.data.restores import explain_recent_restore
from services.chassis.data.transaction import Tx
from services.chassis.values.approval import (
    Approval,
    ApprovalDetails,
    ApprovalFacts,
    ApprovalNotCancellable,
    ApprovalNotFound,
    Comment,
    NotAMaker,
    Status,
    check_content,
    check_no,
    check_pending,
    hash_content,
    mark_cancelled,
)
from services.chassis.values.approval_bounds import add_comment
from services.chassis.values.errors import DomainError, InvalidField, Kind
from services.chassis.values.etags import check_etag, etag_of
from services.chassis.values.explanation import Explanation, explain_refused
from services.chassis.values.same_content import explain_end, join_makers
from services.chassis.values.text import quote

Answer = TypeVar("Answer", bound=Message)


class Approvals:
    """The approvals of one service.

    Args:
        requests: The calls that a person only asks for.
        resources: What waits by itself.
        witnessed: Which of both move money in another service, which therefore asks whether two persons said so.
    """

    def __init__(
        self,
        operations: Operations,
        requests: Sequence[RequestKind[Any]],
        writer: ApprovalWriter,
        resources: Sequence[ResourceKind] = (),
        witnessed: Witnessed | None = None,
    ) -> None:
        self._operations = operations
        self.requests = AskedRequests(operations, requests)
        self._resources = {kind.approvals.kind: kind for kind in resources}
        self._writer = writer
        self._witnessed = witnessed
        self.permissions = Permissions(self.requests.kinds, self._resources)
        self.executions = Executions(operations, self.requests, writer, witnessed)

    async def carry_out(self, request: Message, answer_type: type[Answer]) -> Answer:
        """The RPC's answer: what was done, or the approval that waits.

        Raises:
            DomainError: it cannot be done as things are.
            TooManyApprovals: the person has asked for it too often.
        """
        kind, principal = self.requests.kind_of(request), current_principal()
        if not (principal.service or principal.confined):
            return await self._operations.write_on_facts(request, answer_type, self._examine, self._record)
        answer = build_answer(answer_type, await kind.execute(request))
        assert isinstance(answer, answer_type), "who asks names the RPC's own answer"
        return answer

    async def _examine(self, request: Any) -> tuple[Message, ApprovalDetails]:
        kind = self.requests.kind_of(request)
        done = await kind.rehearse(request)
        details = await kind.describe(request, self._operations.clock.now())
        if (witnessed := self._find_witnessed(kind.name)) and not (details.is_done or request.validate_only):
            content_hash, now = hash_content(kind.write_content(request, details)), self._operations.clock.now()
            async with self._operations.database.begin_rehearsal() as tx:
                await self._writer.check_may_ask(tx, kind.name, details.resource_id, now)
                await self._writer.outdate(tx, kind.name, details.resource_id, now, current_hash=content_hash)
            makers, gaining = details.makers, details.beneficiary_party_ids
            await witnessed.record_request(kind.name, details.resource_id, content_hash, makers, gaining)
        return done, details

    async def _record(self, tx: Tx, request: Message, examined: tuple[Message, ApprovalDetails], now: datetime) -> Any:
        kind, (done, details) = self.requests.kind_of(request), examined
        if details.is_done:
            return build_answer(kind.answer_type, done)  # it stays as it is, and nobody has to approve that
        content = kind.build_content(request, details)
        asked = await self._writer.ask(tx, kind.name, content, details, now, has_key=bool(keys_of(request)))
        if self._find_witnessed(kind.name):
            # The notary takes what was asked for last for what is wanted.
            await self._writer.outdate(tx, kind.name, details.resource_id, now, current_hash=asked.content_hash)
        actions, others = self.permissions.list_actions(asked, now), await self.explain_others(tx, asked, now)
        return kind.answer_type(approval=messages.to_approval(asked, details, actions, others))

    async def explain_others(self, source: Source, approval: Approval, now: datetime) -> list[Explanation]:
        """That the same was approved before, or that what does the same was or waits: none of it keeps from a yes. And
        that the records by which it is decided were restored.
        """
        others = await explain_others(source, approval, now, waits_by_itself=approval.kind in self._resources)
        return [*await explain_recent_restore(source), *others]

    async def witness(self, approval: Approval, rehearse: Rehearse) -> None:
        """Has the notary hear the caller's yes before it counts, where money moves in another service by it.

        Raises:
            Unavailable, ContentChanged, MakerIsChecker, BeneficiaryIsChecker, and as the command does
        """
        if witnessed := self._find_witnessed(approval.kind):
            about = approval.kind, approval.resource_id, approval.content_hash
            await witnessed.record_approval(*about, rehearse)

    async def witness_end(self, approval: Approval, rehearse: Rehearse) -> bool:
        """Whether the notary has heard now that what was asked for is about to end, as `witness` has it hear a yes."""
        if not (witnessed := self._find_witnessed(approval.kind)) or approval.status is not Status.PENDING:
            return False
        async with self._operations.database.begin() as tx:
            same = await records.lock_same(tx, approval, self._operations.clock.now())
        if not same:  # else another person wants it still
            await witnessed.record_withdrawal(approval.kind, approval.resource_id, rehearse)
        return not same

    async def ask_drift(self, approval: Approval, now: datetime) -> Drift:
        """Who made it and who gains from it by now. What it would do is still what it was when it was asked for: who
        gains may have grown since, or anybody could end what others wait for by a cent of their own.

        Raises:
            ContentOutdated: it would do something else: whoever read it has read something else.
            DomainError: it cannot be said, for somebody who would have to be asked is away; or it cannot be done.
        """
        drift = Drift(approval.makers, approval.beneficiary_party_ids)
        if not approval.is_open_at(now):
            return drift
        if (resource := self._resources.get(approval.kind)) is not None:  # it is moved as it was read
            gaining = await resource.list_beneficiaries(approval.resource_id) if resource.list_beneficiaries else ()
            return drift.join((), gaining)
        try:
            details = await self.requests.compare(approval, now)
            await self.requests.check_version(approval)
        except DomainError as refusal:
            if refusal.kind is not Kind.NOT_FOUND:
                raise
            return drift  # what it is about is gone: it has failed once it is approved
        return drift.join(details.makers, details.beneficiary_party_ids)

    async def describe(self, approval: Approval, now: datetime) -> ApprovalDetails | None:
        """What a person who decides has to know now, as far as it is known: a yes is not counted before all of it is.
        None where there is nothing to decide, or somebody is away."""
        if not approval.is_open_at(now):
            return None
        try:
            if (resource := self._resources.get(approval.kind)) is not None:
                return await resource.describe(approval, now)
            return await self.requests.describe(approval, now)
        except DomainError as refusal:
            if refusal.kind.transient:
                return None
            said, gaining = (explain_refused(refusal),), approval.beneficiary_party_ids
            return ApprovalDetails(
                approval.summary, approval.resource_id, beneficiary_party_ids=gaining, explanations=said
            )

    async def approve(
        self, tx: Tx, request: approvals_pb2.ApproveApprovalRequest, facts: ApprovalFacts, now: datetime
    ) -> Approval:
        """A person's yes. By the last that it needs a resource goes on; a request is APPROVED, for `execute` to do it.

        Args:
            facts: About the caller and who approved it before (facts.py).

        Raises:
            ApprovalNotFound, EtagMismatch, ApprovalExpired, IllegalStatusChange, ContentChanged, ContentOutdated,
            PermissionDenied, InvalidField, MakerIsChecker, AlreadyApproved, BeneficiaryIsChecker,
            InsufficientUserAuthentication, or what the command of a resource that waits refuses
        """
        approval = await self._lock_pending(tx, request, now, Status.APPROVED)
        check_content(approval, request.content_hash)
        self.permissions.rule_of(approval.kind).admit(current_principal())
        note = request.note or None
        if (resource := self._resources.get(approval.kind)) is not None:
            if resource.approvals.needs_note and note is None:
                raise InvalidField("Whoever approves this says why.", fields={"note": "is required"})
            await resource.approvals.check_newest(tx, approval, now)
            await resource.on_yes(tx, replace(approval, note=note), facts, now)
            return await self._lock(tx, approval)
        same = await records.lock_same(tx, approval, now)
        facts = replace(facts, makers=facts.makers | join_makers(approval, same))
        due_at = due_in(records.EXECUTION_LEASE_MS)
        after = await self._writer.record_yes(tx, approval, facts, now, note, begin_execution, due_at=due_at)
        if after.status is Status.APPROVED:  # so it is done once, however often it was asked for
            if self._find_witnessed(approval.kind):
                # Whoever ends what else was asked for about it, or fails with it, must not end this.
                same = await records.lock_readable(tx, approval.org_id, approval.kind, approval.resource_id, now)
            for each in same:
                await self._writer.cancel(tx, each, now, explain_end(each, after))
        return after

    async def reject(self, tx: Tx, request: approvals_pb2.RejectApprovalRequest, now: datetime) -> Approval:
        """
        Raises:
            ApprovalNotFound, EtagMismatch, ApprovalExpired, IllegalStatusChange, PermissionDenied, MakerIsChecker
        """
        approval = await self._lock_pending(tx, request, now, Status.REJECTED)
        self.permissions.rule_of(approval.kind).admit(current_principal())
        person = current_principal().person
        same = await records.lock_same(tx, approval, now)
        check_no(replace(approval, makers=join_makers(approval, same)), now, person)
        rejected = replace(approval, status=Status.REJECTED, decided_by=person, decided_at=now, note=request.note)
        return await self._end(tx, rejected, f"rejected: {quote(request.note)}", now)

    async def cancel(self, tx: Tx, request: approvals_pb2.CancelApprovalRequest, now: datetime) -> Approval:
        """
        Raises:
            ApprovalNotFound, EtagMismatch, ApprovalExpired, IllegalStatusChange, NotAMaker, ApprovalNotCancellable
        """
        approval = await self._lock_as_read(tx, request)
        if approval.status is Status.CANCELLED:
            return approval
        check_pending(approval, now, Status.CANCELLED)
        if self.permissions.must_be_decided(approval):
            raise ApprovalNotCancellable("What it is about waits until somebody decides.")
        person = current_principal().person
        if person not in approval.makers:
            raise NotAMaker("Only who made it takes it back; you may reject it.")
        return await self._end(tx, mark_cancelled(approval, person, now), "taken back", now)

    async def comment(self, tx: Tx, request: approvals_pb2.CommentApprovalRequest, now: datetime) -> Approval:
        """Raises: ApprovalNotFound, EtagMismatch, ApprovalExpired, IllegalStatusChange, TooManyComments."""
        approval = await self._lock_pending(tx, request, now)
        comment = Comment(current_principal().person, request.text, now)
        return await self._writer.save(tx, add_comment(approval, comment), now)

    async def expire(self, tx: Tx, approval_id: str, now: datetime) -> None:
        """Writes down that nobody decided in time, unless somebody did."""
        found = await records.find_approval(tx, current_principal().org_id, approval_id)
        if found is None:
            raise ApprovalNotFound()
        approval = await self._lock(tx, found)
        if approval.status is Status.PENDING and approval.status_at(now) is Status.EXPIRED:
            await self._end(tx, replace(approval, status=Status.EXPIRED), "nobody approved it in time", now)

    async def _end(self, tx: Tx, ended: Approval, why: str, now: datetime) -> Approval:
        """Nobody approves it any more: a resource that waited for it is given up, unless it waits for a later one."""
        saved = await self._writer.save(tx, ended, now)
        if (resource := self._resources.get(ended.kind)) and not await resource.approvals.end_earlier(tx, ended, now):
            await resource.end(tx, saved, why, now)
        return saved

    async def _lock_pending(self, tx: Tx, request: Any, now: datetime, wanted: Status = Status.PENDING) -> Approval:
        """The approval of a request about one that waits, in the version that was read."""
        approval = await self._lock_as_read(tx, request)
        check_pending(approval, now, wanted)
        return approval

    async def _lock_as_read(self, tx: Tx, request: Any) -> Approval:
        found = await self.find(tx, request.approval_id)
        if found is None:
            raise ApprovalNotFound()
        approval = await self._lock(tx, found)
        check_etag(request.etag, etag_of(approval.approval_id, approval.version))
        return approval

    async def find(self, tx: Tx, approval_id: str) -> Approval | None:
        """One that the caller may read."""
        found = await records.find_approval(tx, current_principal().org_id, approval_id)
        return found if found is not None and self.permissions.may_read(found.kind) else None

    async def _lock(self, tx: Tx, found: Approval) -> Approval:
        resource = self._resources.get(found.kind)
        if resource and resource.lock:
            await resource.lock(tx, found.resource_id)
        return await records.lock_approval(tx, found)

    def _find_witnessed(self, kind: str) -> Witnessed | None:
        return self._witnessed if self._witnessed and kind in self._witnessed else None
