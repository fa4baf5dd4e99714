"""Approvals about what itself waits for a second person: a transaction, a distribution, a bank account.

The approval begins in the database transaction in which the resource begins to wait, and ends in the one in which the
resource goes on or is given up. Whoever decides by the resource's own route decides it, and the inbox runs the same
command, so it does not matter which of the two a person uses.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from google.protobuf.message import Message

from services.chassis.approvals import records
from services.chassis.approvals.facts import ask_facts
from services.chassis.approvals.messages import to_content
from services.chassis.approvals.writer import ApprovalWriter
from services.chassis.calls.auth import current_principal
from services.chassis.calls.parties import Parties
from services.chassis.data.operations import Operations
from services.chassis.data.reads import Source
from services.chassis.data.transaction import Tx
from services.chassis.values.approval import (
    Approval,
    ApprovalDetails,
    ApprovalFacts,
    ApprovalNotFound,
    Status,
    check_no,
    check_yes,
)
from services.chassis.values.content import Content, build_resource_content
from services.chassis.values.refusals import ContentOutdated
from services.chassis.values.session import Session


@dataclass(frozen=True)
class ResourceApprovals:
    """The approvals of one kind of resource. Its functions run in the transaction of the command that moves it.

    Args:
        kind: What the second person's yes does: `APPROVE_TRANSACTION`.
        rpc: The resource's own route to approve it: who may call it may approve by the inbox. None: it has none.
        needs_note: Whoever approves it writes why, by either way.
        must_be_decided: It waits until somebody decides: it does not expire, and nobody takes it back.
    """

    kind: str
    writer: ApprovalWriter
    rpc: str | None = None
    needs_note: bool = False
    must_be_decided: bool = False

    async def open(
        self,
        tx: Tx,
        details: ApprovalDetails,
        resource: Message | dict[str, Any],
        now: datetime,
        session: Session | None = None,
        before: Approval | None = None,
    ) -> Approval:
        """The resource begins to wait.

        Args:
            resource: What of it is decided on. What is not in it may change without the second person's knowing.
            session: In which the person asked for it, where that was before; else the caller's.
            before: What was asked for before about it, where the caller does not say all of it anew.
        """
        content = self._build_content(details, resource)
        expires = not self.must_be_decided
        return await self.writer.insert(
            tx, self.kind, content, details, now, expires=expires, session=session, before=before
        )

    async def open_each(
        self,
        tx: Tx,
        asked: Sequence[tuple[ApprovalDetails, Message | dict[str, Any], Session]],
        now: datetime,
    ) -> list[Approval]:
        """As `open` of each: its details, what of it is decided on, and the session in which it was asked for."""
        opened = [
            self.writer.build(
                tx,
                self.kind,
                self._build_content(details, resource),
                details,
                now,
                expires=not self.must_be_decided,
                session=session,
            )
            for details, resource, session in asked
        ]
        await self.writer.insert_all(tx, opened, now)
        return opened

    def to_content(self, details: ApprovalDetails, resource: Message | dict[str, Any]) -> str:
        """The text that is decided on."""
        return to_content(self.kind, current_principal().org_id, resource, details, name="resource")

    def _build_content(self, details: ApprovalDetails, resource: Message | dict[str, Any]) -> Content:
        return build_resource_content(self.kind, details.resource_id, self.to_content(details, resource))

    async def count_yes(
        self, tx: Tx, resource_id: str, facts: ApprovalFacts, now: datetime, note: str | None = None
    ) -> bool:
        """The caller is the second person, or one of several.

        Args:
            facts: What `ask_facts` answered.
            note: What the caller says to it.

        Returns:
            Whether it is decided: the resource goes on. If not, it waits for another person, too, and stays as it is.

        Raises:
            ApprovalNotFound, ApprovalExpired, IllegalStatusChange, MakerIsChecker, AlreadyApproved,
            BeneficiaryIsChecker, InsufficientUserAuthentication
        """
        approval = await self._lock_newest(tx, resource_id, now)
        if approval is None:
            raise ApprovalNotFound()

        def complete(approved: Approval) -> Approval:
            return replace(approved, status=Status.EXECUTED, result_id=resource_id)

        after = await self.writer.record_yes(tx, approval, facts, now, note, complete)
        return after.status is Status.EXECUTED

    async def reject(self, tx: Tx, resource_id: str, note: str, now: datetime) -> None:
        """The caller says no by the resource's own route. Changes nothing where none waits any more.

        Raises:
            ApprovalExpired, MakerIsChecker
        """
        approval = await self._lock_newest(tx, resource_id, now)
        if approval is not None:
            person = current_principal().person
            check_no(approval, now, person)
            no = replace(approval, status=Status.REJECTED, decided_by=person, decided_at=now, note=note)
            await self.writer.save(tx, no, now)

    async def check_may_ask(self, tx: Tx, resource_id: str, now: datetime) -> None:
        """Whether the caller may have a locked resource wait once more. Raises: TooManyApprovals."""
        await self.writer.check_may_ask(tx, self.kind, resource_id, now)

    async def cancel(self, tx: Tx, resource_id: str, now: datetime) -> None:
        """The resource waits no more, or its content changed: nobody decides. Changes nothing where none is asked."""
        await self.writer.cancel_undoing(tx, self.kind, resource_id, now)

    async def ask_facts(
        self,
        operations: Operations,
        parties: Parties,
        resource_id: str,
        beneficiary_party_ids: frozenset[str] = frozenset(),
    ) -> ApprovalFacts:
        """What `count_yes` counts it on, where it comes by the resource's own route (facts.py).

        Args:
            beneficiary_party_ids: Who gains from it by now, where that may change while it waits.
        """
        async with operations.database.begin() as tx:
            read = await self.find(tx, resource_id, operations.clock.now())
        return await ask_facts(parties, read, beneficiary_party_ids=beneficiary_party_ids)

    async def find(self, source: Source, resource_id: str, now: datetime) -> Approval | None:
        """What waits about the resource, for its own rules to say who may decide."""
        return await records.find_pending_about(source, self.kind, resource_id, now)

    async def reopen(
        self,
        tx: Tx,
        details: ApprovalDetails,
        resource: Message | dict[str, Any],
        now: datetime,
    ) -> None:
        """The caller changes a part of what waits, or has asked for again what nobody approved. What waits already
        with just this content stays as it is.

        Raises: NotSealed, TooManyApprovals.
        """
        last = await self.find_last(tx, details.resource_id)
        is_same = last is not None and last.is_open_at(now) and last.content == self.to_content(details, resource)
        if not is_same:
            await self.check_may_ask(tx, details.resource_id, now)
            await self.cancel(tx, details.resource_id, now)
            await self.open(tx, details, resource, now, before=last)

    async def open_anew(
        self, tx: Tx, details: ApprovalDetails, resource: Message | dict[str, Any], now: datetime
    ) -> None:
        """Another thing is known of what waits, or waits again: no yes of before counts.

        What was rejected, or nobody approved in time, is asked for by a person.

        Raises: NotSealed: nobody knows whether what was asked for last was rejected, or in whose session it was.
        """
        last = await self.find_last(tx, details.resource_id)
        await self.cancel(tx, details.resource_id, now)
        if last is None or last.status is Status.EXECUTED or last.is_open_at(now):
            await self.open(tx, details, resource, now, before=last)

    async def find_last(self, tx: Tx, resource_id: str) -> Approval | None:
        """What was asked for last about the resource, whatever became of it. Raises: NotSealed."""
        return await records.find_last_about(tx, current_principal().org_id, self.kind, resource_id)

    async def check_newest(self, tx: Tx, approval: Approval, now: datetime) -> None:
        """Raises: ContentOutdated: something was asked for about the resource since."""
        newest = await self._lock_newest(tx, approval.resource_id, now)
        if newest is None or newest.approval_id != approval.approval_id:
            raise ContentOutdated("Another request about the same came after this one.")

    async def end_earlier(self, tx: Tx, ended: Approval, now: datetime) -> bool:
        """With an approval that has ended, ends those before it: they could not be read when they were to be ended.

        Returns: Whether the resource waits for one that came after it.
        """
        waiting = await records.lock_readable(tx, ended.org_id, self.kind, ended.resource_id, now)
        earlier = [each for each in waiting if each.approval_id < ended.approval_id]
        for each in earlier:
            await self.writer.cancel(tx, each, now)
        return len(earlier) < len(waiting)

    async def _lock_newest(self, tx: Tx, resource_id: str, now: datetime) -> Approval | None:
        """Ends the ones before it: they could not be read when they were to be ended."""
        pending = await records.lock_pending(tx, current_principal().org_id, self.kind, resource_id, now)
        for each in pending[:-1]:
            await self.writer.cancel(tx, each, now)
        return pending[-1] if pending else None


@dataclass(frozen=True)
class ResourceKind:
    """How the inbox shows and moves what waits.

    Args:
        describe: What a person who decides has to know about it now.
        on_yes: The command of the resource's own approve route; it calls `ResourceApprovals.count_yes`, with the
            approval's note, and leaves the resource as it is until that answers True. In the caller's name.
        end: What becomes of the resource where nobody approves it: it was rejected, taken back, or its time ran out.
            The text says which. The approval has ended before.
        lock: Locks the resource of this id as its own commands do, where they lock it before its approval: so nobody
            waits for each other.
        list_beneficiaries: Who gains from the resource of this id by now, where that may change while it waits. Asks
            others, outside of any transaction.
    """

    approvals: ResourceApprovals
    describe: Callable[[Approval, datetime], Awaitable[ApprovalDetails]]
    on_yes: Callable[[Tx, Approval, ApprovalFacts, datetime], Awaitable[Any]]
    end: Callable[[Tx, Approval, str, datetime], Awaitable[Any]]
    lock: Callable[[Tx, str], Awaitable[Any]] | None = None
    list_beneficiaries: Callable[[str], Awaitable[frozenset[str]]] | None = None


def check_offered(approval: Approval | None, now: datetime) -> None:
    """Whether the caller is offered to approve it: for whom the caller acts is asked at the decision alone.

    Args:
        approval: What waits about the resource, if anything does.

    Raises:
        ApprovalNotFound, and as `check_yes`.
    """
    if approval is None:
        raise ApprovalNotFound()
    check_yes(approval, now, current_principal().person, ())
