"""Every change of an approval is written and told in one act."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from google.protobuf.message import Message

from services.chassis.approvals import messages, records
from services.chassis.approvals.repetitions import is_version_awaited
from services.chassis.calls.auth import current_principal
from services.chassis.calls.sign_in import check_fresh_sign_in
from services.chassis.data import outbox
from services.chassis.data.approval_policy import decide_terms_of
from services.chassis.data.locks import lock_name
from services.chassis.data.restores import check_restore_seen
from services.chassis.data.stops import note_stop
from services.chassis.data.transaction import Tx
from services.chassis.process.telemetry import log
from services.chassis.values.approval import (
    Approval,
    ApprovalDetails,
    ApprovalFacts,
    Approver,
    Status,
    add_yes,
    find_lapsed,
    hash_matter,
    mark_cancelled,
)
from services.chassis.values.approval_bounds import CANCELLED_COUNTS, check_may_ask
from services.chassis.values.approval_succession import go_on, go_on_by_itself
from services.chassis.values.content import Content
from services.chassis.values.ids import new_id
from services.chassis.values.session import NO_SESSION, Session
from services.chassis.values.text import read_as_line


@dataclass(frozen=True)
class ApprovalWriter:
    """Writes the approvals of one service.

    Args:
        requested, updated: The service's own events that tell of them, with a field `approval`.
    """

    requested: Callable[..., Message]
    updated: Callable[..., Message]

    async def ask(
        self, tx: Tx, kind: str, content: Content, details: ApprovalDetails, now: datetime, *, has_key: bool
    ) -> Approval:
        """The caller asks for it. Who asks again without a key of idempotency means what waits already.

        Raises: TooManyApprovals.
        """
        principal = current_principal()
        if not has_key:
            before = await records.lock_asked(tx, principal.org_id, kind, content.content_hash, principal.person)
            if before is not None and before.is_open_at(now):
                return await self._renew(tx, before, now)
        # One after the other: of those that come at once none knows of the others.
        await lock_name(tx, "approvals", kind, details.resource_id, principal.person)
        await self.check_may_ask(tx, kind, details.resource_id, now)
        return await self.insert(tx, kind, content, details, now)

    async def check_may_ask(self, tx: Tx, kind: str, resource_id: str, now: datetime) -> None:
        """Whether the caller may ask for one more of this kind about the resource. Raises: TooManyApprovals."""
        principal, since = current_principal(), now - CANCELLED_COUNTS
        asked = await records.list_asked(tx, principal.org_id, kind, resource_id, principal.person, since)
        check_may_ask(asked, now)

    async def insert(
        self,
        tx: Tx,
        kind: str,
        content: Content,
        details: ApprovalDetails,
        now: datetime,
        *,
        expires: bool = True,
        session: Session | None = None,
        before: Approval | None = None,
    ) -> Approval:
        """A new approval that waits, asked for by the caller: as `build` makes it."""
        approval = self.build(tx, kind, content, details, now, expires=expires, session=session, before=before)
        await self.insert_all(tx, [approval], now)
        return approval

    async def insert_all(self, tx: Tx, new: Sequence[Approval], now: datetime) -> None:
        """Writes and tells of approvals that `build` made."""
        await records.insert_approvals(tx, new)
        told = [self.requested(approval=messages.to_listed_approval(approval)) for approval in new]
        await outbox.enqueue_all(tx, told, now=now)

    def build(
        self,
        tx: Tx,
        kind: str,
        content: Content,
        details: ApprovalDetails,
        now: datetime,
        *,
        expires: bool = True,
        session: Session | None = None,
        before: Approval | None = None,
    ) -> Approval:
        """A new approval that is about to wait, asked for by the caller.

        Args:
            before: What was asked for before about the resource, of which the caller says a part anew, and not all.
            session: In which the person asked, where that was before and the caller goes on with it; else the caller's.
            expires: It can be decided for as long as the organization's rules say; else as long as what it is about
                waits.
        """
        principal, terms = current_principal(), decide_terms_of(tx, kind, details.amount)
        approval = Approval(
            org_id=principal.org_id,
            approval_id=new_id("apr"),
            version=1,
            kind=kind,
            summary=read_as_line(details.summary),  # some have a note of several lines in it
            status=Status.PENDING,
            resource_id=details.resource_id,
            scope_id=details.scope_id,
            amount=details.amount,
            text=content.text,
            content_hash=content.content_hash,
            effect_hash=content.effect_hash,
            anew_hash=content.anew_hash,
            asked_etag=content.etag,
            matter_hash=hash_matter(details.matter or (kind, details.resource_id)),
            makers=details.makers | {principal.person},
            beneficiary_party_ids=details.beneficiary_party_ids,
            created_by=principal.person,
            created_role=principal.role,
            session=session or principal.session,
            created_at=now,
            expires_at=now + terms.validity if expires else None,
            updated_at=now,
            approvers_needed=terms.approvers_needed,
        )
        if before is not None:
            is_by_itself = principal.service and approval.session == NO_SESSION
            approval = (go_on_by_itself if is_by_itself else go_on)(approval, before)
        return approval

    async def _renew(self, tx: Tx, approval: Approval, now: datetime) -> Approval:
        """Who asked for a locked one that waits asks for it again: from now on it counts by this session."""
        renewed = replace(approval, session=current_principal().session)
        return approval if renewed == approval else await self.save(tx, renewed, now)

    async def save(self, tx: Tx, approval: Approval, now: datetime, *, due_at: Any = None) -> Approval:
        """The next version of a locked one."""
        saved = replace(approval, version=approval.version + 1, updated_at=now)
        await records.save_approval(tx, saved, due_at=due_at)
        await outbox.enqueue(tx, self.updated(approval=messages.to_listed_approval(saved)), now=now)
        return saved

    async def record_yes(
        self,
        tx: Tx,
        approval: Approval,
        facts: ApprovalFacts,
        now: datetime,
        note: str | None,
        complete: Callable[[Approval], Approval],
        *,
        due_at: Any = None,
    ) -> Approval:
        """The caller says yes to a locked one.

        Args:
            facts: About the caller and who approved it before, asked before the transaction (facts.py).
            complete: What becomes of it by the last yes that it needs.
            due_at: When a job goes on with it then.

        Returns:
            PENDING, where it needs another person, too.

        Raises:
            ApprovalExpired, IllegalStatusChange, MakerIsChecker, AlreadyApproved, BeneficiaryIsChecker,
            MakerSessionEnded, InsufficientUserAuthentication, RestoreNotSeen
        """
        await check_restore_seen(tx)
        principal, terms = current_principal(), decide_terms_of(tx, approval.kind, approval.amount)
        yes = Approver(principal.person, now, principal.signed_in_at)
        after = add_yes(approval, yes, facts, terms.approvers_needed, note)
        check_fresh_sign_in(principal, terms.strong_sign_in_seconds_max)
        for person, why in find_lapsed(approval, facts).items():
            log.warning("yes_lapsed", approval_id=approval.approval_id, person=person, reason=why)
        if after.status is Status.PENDING:
            return await self.save(tx, after, now)
        return await self.save(tx, complete(after), now, due_at=due_at)

    async def outdate(self, tx: Tx, kind: str, resource_id: str, now: datetime, *, current_hash: str = "") -> None:
        """By a deed of the caller alone, what was asked for before about the resource is wanted no longer.

        Args:
            current_hash: Of the content that goes on, if one does.

        Raises: TooManyStops: it was another person's, and the caller has done that too often.
        """
        ended = await self.cancel_undoing(tx, kind, resource_id, now, lambda each: each.content_hash != current_hash)
        if any(each.created_by != current_principal().person for each in ended):
            await note_stop(tx, f"OUTDATE_{kind}", resource_id, now)

    async def note_edit(self, tx: Tx, resource_id: str, etag: str, now: datetime) -> None:
        """The caller makes another version of a resource, and no yes counts any more to what others asked for about the
        one with this etag. Raises: TooManyStops: too often."""
        if await is_version_awaited(tx, resource_id, etag, current_principal().person, now):
            await note_stop(tx, "EDIT_AWAITED", resource_id, now)

    async def cancel_undoing(
        self,
        tx: Tx,
        kind: str,
        resource_id: str,
        now: datetime,
        would_undo: Callable[[Approval], bool] = lambda _: True,
    ) -> list[Approval]:
        """What they are about waits no more, or is not what it was; or the caller takes something away, and who asked
        before to be given it asks anew.

        A row that somebody wrote past this service stops nobody from that. If it is ours after all, no yes to it
        counts: its content is another one by now, or a newer one waits, or the resource waits no more.

        Returns:
            What waited.
        """
        found = await records.lock_readable(tx, current_principal().org_id, kind, resource_id, now)
        waiting = [each for each in found if would_undo(each)]
        for approval in waiting:
            await self.cancel(tx, approval, now)
        return waiting

    async def cancel(self, tx: Tx, approval: Approval, now: datetime, why: str | None = None) -> None:
        """By an act of the caller a locked one that waits is over.

        Args:
            why: For whoever reads it, where its kind does not say it.
        """
        if approval.status_at(now) is Status.EXPIRED:
            ended = replace(approval, status=Status.EXPIRED)
        else:
            ended = mark_cancelled(approval, current_principal().person, now, why)
        await self.save(tx, ended, now)
