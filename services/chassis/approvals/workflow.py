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
from services.chassis.approvals.facts import Drift
from services.chassis.approvals.notary import Rehearse, Witnessed
from services.chassis.approvals.permissions import Permissions
from services.chassis.approvals.repetitions import explain_others
from services.chassis.approvals.requests import RequestKind, build_answer, find_result_id, maker_of, name_kind_of
from services.chassis.approvals.resources import ResourceKind
from services.chassis.approvals.writer import ApprovalWriter
from services.chassis.calls.auth import acting_as, current_principal
from services.chassis.data.leases import due_in
from services.chassis.data.once import is_decision, keys_of, was_decided
from services.chassis.data.operations import Operations, build_rehearsal, do_whole
from services.chassis.data.reads import Source
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
from services.chassis.values.errors import DomainError, InvalidField, Kind, Unavailable
from services.chassis.values.etags import EtagMismatch, check_etag, etag_of
from services.chassis.values.explanation import Explanation
from services.chassis.values.failure import make_failure
from services.chassis.values.invariant import invariant
from services.chassis.values.refusals import ContentOutdated
from services.chassis.values.same_content import explain_end, join_makers

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
        self._requests = {kind.name: kind for kind in requests}
        self._resources = {kind.approvals.kind: kind for kind in resources}
        self._writer = writer
        self._witnessed = witnessed
        self.permissions = Permissions(self._requests, self._resources)

    async def carry_out(self, request: Message, answer_type: type[Answer]) -> Answer:
        """The RPC's answer: what was done, or the approval that waits.

        Raises:
            DomainError: it cannot be done as things are.
            TooManyApprovals: the person has asked for it too often.
        """
        kind, principal = self._kind_of(request), current_principal()
        if not (principal.service or principal.confined):
            return await self._operations.write_on_facts(request, answer_type, self._examine, self._record)
        answer = build_answer(answer_type, await kind.execute(request))
        assert isinstance(answer, answer_type), "who asks names the RPC's own answer"
        return answer

    async def _examine(self, request: Any) -> tuple[Message, ApprovalDetails]:
        done, kind = await self._rehearse(request), self._kind_of(request)
        details = await kind.describe(request, self._operations.clock.now())
        if (witnessed := self._find_witnessed(kind.name)) and not (details.is_done or request.validate_only):
            content_hash, now = hash_content(self._write_content(kind, request, details)), self._operations.clock.now()
            async with self._operations.database.begin_rehearsal() as tx:
                await self._writer.check_may_ask(tx, kind.name, details.resource_id, now)
                await self._writer.outdate(tx, kind.name, details.resource_id, now, current_hash=content_hash)
            makers, gaining = details.makers, details.beneficiary_party_ids
            await witnessed.record_request(kind.name, details.resource_id, content_hash, makers, gaining)
        return done, details

    def _write_content(self, kind: RequestKind[Any], request: Message, details: ApprovalDetails) -> str:
        return messages.to_content(kind.name, current_principal().org_id, request, details, name="request")

    async def _rehearse(self, request: Any) -> Message:
        return await self._kind_of(request).execute(build_rehearsal(request))

    async def _record(self, tx: Tx, request: Message, examined: tuple[Message, ApprovalDetails], now: datetime) -> Any:
        kind, (done, details) = self._kind_of(request), examined
        if details.is_done:
            return build_answer(kind.answer_type, done)  # it stays as it is, and nobody has to approve that
        content = self._write_content(kind, request, details)
        asked = await self._writer.ask(tx, kind.name, content, details, now, has_key=bool(keys_of(request)))
        if self._find_witnessed(kind.name):
            # The notary takes what was asked for last for what is wanted.
            await self._writer.outdate(tx, kind.name, details.resource_id, now, current_hash=asked.content_hash)
        actions, others = self.permissions.list_actions(asked, now), await self.explain_others(tx, asked, now)
        return kind.answer_type(approval=messages.to_approval(asked, details, actions, others))

    async def explain_others(self, source: Source, approval: Approval, now: datetime) -> list[Explanation]:
        """That the same was approved before, or that what does the same was or waits. None of it keeps from a yes."""
        return await explain_others(source, approval, self._find_effect, now)

    def _find_effect(self, approval: Approval) -> Any:
        """What a request does and changes; None of what is none, or was asked for by a newer release."""
        if (kind := self._requests.get(approval.kind)) is None:
            return None
        try:
            return kind.find_effect(self._read_request(approval)), messages.list_bound(approval.content)
        except Unavailable:
            return None

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
            details = await self._compare(approval, now)
        except DomainError as refusal:
            if refusal.kind is not Kind.NOT_FOUND:
                raise
            return drift  # what it is about is gone: it has failed once it is approved
        return drift.join(details.makers, details.beneficiary_party_ids)

    async def _compare(self, approval: Approval, now: datetime) -> ApprovalDetails:
        """What a request would do now. Raises ContentOutdated, or why that cannot be said."""
        request = self._read_request(approval)
        details = await self._requests[approval.kind].describe(request, now)
        as_asked = replace(details, beneficiary_party_ids=approval.beneficiary_party_ids)
        current = messages.to_content(approval.kind, approval.org_id, request, as_asked, name="request")
        if hash_content(current) != approval.content_hash:
            message = "It would do something else now than when it was asked for: reject or cancel it, and ask again."
            raise ContentOutdated(message)
        return details

    async def rehearse(self, approved: Approval) -> None:
        """Whether it could be done now. Raises DomainError as the deed would."""
        if approved.kind in self._requests:
            with acting_as(maker_of(approved)):
                await self._rehearse(self._read_request(approved))

    def _read_request(self, approval: Approval) -> Any:
        return messages.read_content(approval.content, self._requests[approval.kind].request_type, approval.approval_id)

    async def describe(self, approval: Approval, now: datetime) -> ApprovalDetails | None:
        """What a person who decides has to know now; None where there is nothing to decide, or somebody is away."""
        if not approval.is_open_at(now):
            return None
        try:
            if (resource := self._resources.get(approval.kind)) is not None:
                return await resource.describe(approval, now)
            kind = self._requests[approval.kind]
            return await kind.describe(self._read_request(approval), now)
        except DomainError:
            return None  # it is shown as far as it is known; a yes is not counted before all of it is

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
        after = await self._writer.record_yes(tx, approval, facts, now, note, _begin_execution, due_at=due_at)
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
        return await self._end(tx, rejected, f"rejected: {request.note}", now)

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

    async def execute(self, approved: Approval) -> Approval:
        """Does what was approved, and records what became of it.

        Raises:
            DomainError: a service it needs is away; a job goes on with it.
        """
        # Not what waits or was refused, whoever has it done: the seal says which of them it is.
        invariant(approved.status is Status.APPROVED, "only what was approved is done")
        kind = self._requests[approved.kind]
        request = self._read_request(approved)
        with acting_as(maker_of(approved)):
            try:
                check_content(approved, hash_content(approved.content))  # the row is still the one that was decided on
                await self._check_still_wanted(approved, request)
                answer = build_answer(kind.answer_type, await kind.execute(request))
                # A batch, or a person of a party, has no id of its own: then it is that of what it is about.
                result_id, result = find_result_id(answer) or approved.resource_id, messages.to_result(answer)
                done = replace(approved, status=Status.EXECUTED, result_id=result_id, result=result)
            except DomainError as refusal:
                if _may_pass(refusal):
                    raise
                failed = replace(approved, status=Status.FAILED, failure=make_failure(refusal))
                return await do_whole(self._fail(failed))
            return await self._finish(done)

    async def _check_still_wanted(self, approved: Approval, request: Message) -> None:
        """What is not done may have become something else since the yes. What a crash left done is done, and so is what
        another worker does just now: then it only looks like something else.

        Raises: ContentOutdated, or why that cannot be said.
        """
        database = self._operations.database
        if await was_decided(database, request):
            return
        try:
            await self._compare(approved, self._operations.clock.now())
        except DomainError:
            if not await was_decided(database, request):
                raise

    async def _fail(self, failed: Approval) -> Approval:
        if witnessed := self._find_witnessed(failed.kind):  # nobody else has it done later
            await witnessed.record_failure(failed.kind, failed.resource_id)
        return await self._finish(failed)

    async def _finish(self, done: Approval) -> Approval:
        now = self._operations.clock.now()
        async with self._operations.database.begin() as tx:
            current = await self._lock(tx, done)
            # Another worker was faster, and did the same under the same key.
            if current.status is not Status.APPROVED or current.epoch != done.epoch:
                return current
            if done.status is Status.FAILED and self._find_witnessed(done.kind):
                # For the notary it counts no longer, whoever asked for it: they ask anew.
                same = (done.kind, done.resource_id, now, lambda each: each.content_hash == done.content_hash)
                await self._writer.cancel_undoing(tx, *same)
            return await self._writer.save(tx, done, now)

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

    def _kind_of(self, request: Message) -> RequestKind[Any]:
        return self._requests[name_kind_of(type(request))]


def _begin_execution(approved: Approval) -> Approval:
    return replace(approved, epoch=approved.epoch + 1)


def _may_pass(refusal: DomainError) -> bool:
    """Whether another try may be answered otherwise. What was approved of another version never is."""
    return refusal.kind.transient and not is_decision(refusal) and not isinstance(refusal, EtagMismatch)
