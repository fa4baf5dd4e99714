"""Does what was asked for by a request once as many persons approved it as it needs."""

from __future__ import annotations

from dataclasses import replace

from google.protobuf.message import Message

from services.chassis.approvals import records
from services.chassis.approvals.asked import AskedRequests
from services.chassis.approvals.messages import to_result
from services.chassis.approvals.notary import Witnessed
from services.chassis.approvals.requests import build_answer, find_result_id, maker_of
from services.chassis.approvals.writer import ApprovalWriter
from services.chassis.calls.auth import acting_as
from services.chassis.data.once import is_decision, was_decided
from services.chassis.data.operations import Operations, do_whole
from services.chassis.data.restores import check_restore_seen
from services.chassis.values.approval import Approval, Status, check_content, hash_content
from services.chassis.values.errors import DomainError
from services.chassis.values.etags import EtagMismatch
from services.chassis.values.failure import make_failure
from services.chassis.values.invariant import invariant


class Executions:
    """
    Args:
        witnessed: Which of the requests move money in another service, which is told where one fails.
    """

    def __init__(
        self,
        operations: Operations,
        requests: AskedRequests,
        writer: ApprovalWriter,
        witnessed: Witnessed | None,
    ) -> None:
        self._operations, self._requests, self._writer = operations, requests, writer
        self._witnessed = witnessed

    async def execute(self, approved: Approval) -> Approval:
        """Does what was approved, and records what became of it.

        Raises:
            DomainError: a service it needs is away; a job goes on with it.
        """
        # Not what waits or was refused, whoever has it done: the seal says which of them it is.
        invariant(approved.status is Status.APPROVED, "only what was approved is done")
        kind = self._requests.kinds[approved.kind]
        request = self._requests.read(approved)
        with acting_as(maker_of(approved)):
            try:
                check_content(approved, hash_content(approved.content))  # the row is still the one that was decided on
                await self._check_still_wanted(approved, request)
                answer = build_answer(kind.answer_type, await kind.execute(request))
                # A batch, or a person of a party, has no id of its own: then it is that of what it is about.
                result_id, result = find_result_id(answer) or approved.resource_id, to_result(answer)
                done = replace(approved, status=Status.EXECUTED, result_id=result_id)
                done = replace(done, result=result, result_hash=hash_content(result))
            except DomainError as refusal:
                if _may_pass(refusal):
                    raise
                failed = replace(approved, status=Status.FAILED, failure=make_failure(refusal))
                return await do_whole(self._fail(failed))
            return await self._finish(done)

    async def _check_still_wanted(self, approved: Approval, request: Message) -> None:
        """What is not done may have become something else since the yes. What a crash left done is done, and so is what
        another worker does just now: then it only looks like something else.

        Raises: ContentOutdated, or why that cannot be said; RestoreNotSeen.
        """
        database = self._operations.database
        if await was_decided(database, request):
            return
        await check_restore_seen(database.reader)
        try:
            await self._requests.compare(approved, self._operations.clock.now())
        except DomainError:
            if not await was_decided(database, request):
                raise

    async def _fail(self, failed: Approval) -> Approval:
        if self._witnessed and failed.kind in self._witnessed:  # nobody else has it done later
            await self._witnessed.record_failure(failed.kind, failed.resource_id)
        return await self._finish(failed)

    async def _finish(self, done: Approval) -> Approval:
        now = self._operations.clock.now()
        async with self._operations.database.begin() as tx:
            current = await records.lock_approval(tx, done)
            # Another worker was faster, and did the same under the same key.
            if current.status is not Status.APPROVED or current.epoch != done.epoch:
                return current
            if done.status is Status.FAILED and self._witnessed and done.kind in self._witnessed:
                # For the notary it counts no longer, whoever asked for it: they ask anew.
                same = (done.kind, done.resource_id, now, lambda each: each.content_hash == done.content_hash)
                await self._writer.cancel_undoing(tx, *same)
            return await self._writer.save(tx, done, now)


def begin_execution(approved: Approval) -> Approval:
    return replace(approved, epoch=approved.epoch + 1)


def _may_pass(refusal: DomainError) -> bool:
    """Whether another try may be answered otherwise. What was approved of another version never is."""
    return refusal.kind.transient and not is_decision(refusal) and not isinstance(refusal, EtagMismatch)
