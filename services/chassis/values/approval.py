"""Who may decide, on what, and until when. No I/O.

Nobody alone: what creates, moves, releases or redirects money waits for a second person, who is none of the makers of
this very content and acts for nobody who gains from it (second_person.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, NamedTuple

import orjson

from services.chassis.values.errors import DomainError, Kind, NotFound
from services.chassis.values.explanation import Explanation
from services.chassis.values.failure import Failure
from services.chassis.values.invariant import require_present
from services.chassis.values.money import Money
from services.chassis.values.refusals import ContentChanged, IllegalStatusChange
from services.chassis.values.second_person import check_no_maker, check_second_person
from services.chassis.values.session import Asker, Identity, Session, Standing, Standings, join_askers, list_ended

# What nobody decided for so long was not important, or is not known to anybody any more: it is asked again.
VALIDITY = timedelta(days=7)


# Why nothing counts that was asked for in a session that was ended.
LOCKED_OUT_RULE: Final = "house rule: who is locked out asks for nothing"
# Who writes that a yes counts no longer; in whose name what was approved is done.
SUBJECT = "service:approvals"


class Status(StrEnum):
    PENDING = "PENDING"
    APPROVED = "APPROVED"
    EXECUTED = "EXECUTED"
    FAILED = "FAILED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"


class ApprovalNotFound(NotFound):
    reason = "APPROVAL_NOT_FOUND"
    what = "approval"


class ApprovalExpired(DomainError):
    """What it is about is asked for again."""

    kind = Kind.FAILED_PRECONDITION
    reason = "APPROVAL_EXPIRED"

    def __init__(
        self, expires_at: datetime | None, message: str = "Nobody decided it in time; ask for it again."
    ) -> None:
        super().__init__(message, expire_time=expires_at)


class AlreadyApproved(DomainError):
    kind = Kind.PERMISSION_DENIED
    reason = "ALREADY_APPROVED"


class NotAMaker(DomainError):
    kind = Kind.PERMISSION_DENIED
    reason = "NOT_A_MAKER"


class MakerSessionEnded(DomainError):
    """Perhaps it was not who asked: whoever had the person's token, or the secret of the API key, asked in their name.
    The person asks for it anew."""

    kind = Kind.FAILED_PRECONDITION
    reason = "MAKER_SESSION_ENDED"

    def __init__(self) -> None:
        super().__init__(
            "A session in which it was asked for, or a part of it, was ended since: ask for that anew, or end it."
        )


class ApprovalNotCancellable(DomainError):
    """What waits by itself goes on waiting, whoever made it."""

    kind = Kind.FAILED_PRECONDITION
    reason = "APPROVAL_NOT_CANCELLABLE"


@dataclass(frozen=True, slots=True)
class Change:
    """A value that the content changes; None where there is none. What is no money is text for a person to read."""

    field: str
    before: str | Money | None
    after: str | Money | None


class Precondition(NamedTuple):
    """A value that the content leaves as it is, and that a yes rests on: as text, for a person to read or compare."""

    field: str
    value: str


@dataclass(frozen=True, slots=True)
class Effect:
    """What the content would do to one ledger account."""

    kind: str
    party_id: str | None
    before: Money
    after: Money


class Preview(NamedTuple):
    """What moving money would do to the book, and what is asked when it is booked, as it stands now."""

    effects: tuple[Effect, ...] = ()
    explanations: tuple[Explanation, ...] = ()


# Of what no party in particular gains from.
NOBODY: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class ApprovalDetails:
    """What a service says about a content somebody asks for.

    Args:
        summary: One sentence for the person who decides.
        resource_id: What it is about.
        scope_id: The escrow account or offering whose books it touches, if it is one's.
        amount: The money it moves, if it moves some.
        makers: Who made the content, beside the person who asks: who drafted, edited or calculated it.
        beneficiary_party_ids: The parties that gain from it; of each kind it is said, also that it is NOBODY.
        is_done: It is so already: there is nothing to approve.
        matter: What stays the same of it when it is asked for anew as another resource, or with other numbers: whoever
            decides is told who said no to it before. Empty: what does it, and its resource.
        changes, preconditions: What it changes and what else must be as it is: a yes is bound to both.
        explanations, effects: For the decision, as they stand at this moment; not kept.
    """

    summary: str
    resource_id: str
    scope_id: str | None = None
    amount: Money | None = None
    makers: frozenset[str] = frozenset()
    beneficiary_party_ids: frozenset[str] = field(kw_only=True)
    changes: tuple[Change, ...] = ()
    preconditions: tuple[Precondition, ...] = ()
    explanations: tuple[Explanation, ...] = ()
    effects: tuple[Effect, ...] = ()
    is_done: bool = False
    matter: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Comment:
    created_by: str
    text: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Approver:
    """A person who said yes.

    Args:
        signed_in_at: When that person had signed in for it, in seconds since 1970.
    """

    approved_by: str
    approved_at: datetime
    signed_in_at: int | None = None


@dataclass(frozen=True, slots=True)
class ApprovalFacts:
    """What a yes is counted on.

    Args:
        standings: Of the person who says it, of each who did before, and of whoever asked for it in a session.
        makers: Who had a part in it by now; those who had when it was asked for stand in the approval.
        beneficiary_party_ids: The parties that gain from it by now; likewise.
    """

    standings: Standings
    makers: frozenset[str] = frozenset()
    beneficiary_party_ids: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Approval:
    """An approval as it is kept."""

    org_id: str
    approval_id: str
    version: int
    kind: str
    summary: str
    status: Status
    resource_id: str
    scope_id: str | None
    amount: Money | None
    text: str | None  # what is decided on; None where it was read without that
    content_hash: str
    effect_hash: str
    anew_hash: str
    asked_etag: str | None
    matter_hash: str
    makers: frozenset[str]
    beneficiary_party_ids: frozenset[str]
    created_by: str
    created_role: str  # the role that the person had
    session: Session  # in which it was asked for
    created_at: datetime
    expires_at: datetime | None  # None: it can be decided as long as what it is about waits
    updated_at: datetime
    approvers_needed: int
    approvers: tuple[Approver, ...] = ()
    decided_by: str | None = None
    decided_at: datetime | None = None
    note: str | None = None
    result_id: str | None = None
    result: str | None = None  # None, too, where it was read without its text
    result_hash: str | None = None
    failure: Failure | None = None
    epoch: int = 0
    tries: int = 0
    comments: tuple[Comment, ...] = field(default=())
    earlier_askers: tuple[Asker, ...] = ()  # who asked for parts of it that nobody approved and nobody said anew

    def status_at(self, now: datetime) -> Status:
        """An end by time is true from its instant, whether a job has written it or not."""
        is_over = self.expires_at is not None and now >= self.expires_at
        return Status.EXPIRED if self.status is Status.PENDING and is_over else self.status

    def list_askers(self) -> tuple[Asker, ...]:
        """Whose sessions it was asked for in: whichever of them is ended, it counts no longer."""
        return join_askers(Asker(self.created_by, self.session), *self.earlier_askers)

    @property
    def content(self) -> str:
        """What is decided on, which may be long: whoever needs it has read it."""
        return require_present(self.text, "what is decided on was read")

    @property
    def makers_and_checkers(self) -> frozenset[str]:
        """Whoever has a part in what it grants."""
        return self.makers.union(each.approved_by for each in self.approvers)

    def is_open_at(self, now: datetime) -> bool:
        """Whether somebody may decide it."""
        return self.status_at(now) is Status.PENDING


def write_content(content: Mapping[str, Any]) -> str:
    """The canonical text that is decided on: sorted keys, no spaces."""
    return orjson.dumps(content, option=orjson.OPT_SORT_KEYS).decode()


def hash_content(content: str) -> str:
    """SHA-256 in hex. It binds a decision to what was read."""
    return hashlib.sha256(content.encode()).hexdigest()


def hash_matter(matter: Sequence[str]) -> str:
    """SHA-256 in hex of what it is about: the same where the no to one speaks against the other."""
    return hashlib.sha256(orjson.dumps(tuple(matter))).hexdigest()


def check_pending(approval: Approval, now: datetime, wanted: Status = Status.PENDING) -> None:
    """
    Args:
        wanted: Where it is to go; PENDING for what leaves it as it is.

    Raises:
        ApprovalExpired: nobody decided it in time.
        IllegalStatusChange: it was decided before.
    """
    status = approval.status_at(now)
    if status is Status.EXPIRED:
        raise ApprovalExpired(approval.expires_at)
    if status is not Status.PENDING:
        raise IllegalStatusChange(status, wanted, "It was decided before.")


def explain_lapsed_yes(
    approver: Approver, makers: Collection[str], beneficiary_party_ids: Collection[str], standing: Standing
) -> str | None:
    """Why a yes that was good counts no longer; None where it does.

    Args:
        standing: Of the approver, at this moment.
    """
    if approver.approved_by in makers:
        return "had a part in making it"
    if gaining := sorted(frozenset(beneficiary_party_ids) & standing.parties):
        return f"acts for {gaining[0]}, which gains from it"
    if standing.has_ended(approver.signed_in_at):
        return "said so in a session that was ended"
    return None


def find_lapsed(approval: Approval, facts: ApprovalFacts) -> dict[str, str]:
    """Whose yes counts no longer, and why.

    Days may lie between the first and the last of several. Meanwhile one may have begun to act for a party that gains,
    or a party that one acts for to gain; somebody may have ended the sessions in one of which the yes was said, or that
    person had a part in it. Who said yes while the facts were asked for was asked about then.
    """
    makers, gaining = approval.makers | facts.makers, approval.beneficiary_party_ids | facts.beneficiary_party_ids
    lapsed = {}
    for each in approval.approvers:
        if (standing := facts.standings.get(Identity(each.approved_by))) is not None:
            lapsed[each.approved_by] = explain_lapsed_yes(each, makers, gaining, standing)
    return {person: why for person, why in lapsed.items() if why is not None}


def _drop_yes(approval: Approval, lapsed: Mapping[str, str], now: datetime) -> Approval:
    """The approval without the yes of these persons, and with a comment on each."""
    kept = tuple(each for each in approval.approvers if each.approved_by not in lapsed)
    gone = [each.approved_by for each in approval.approvers if each.approved_by in lapsed]
    notes = [Comment(SUBJECT, f"The yes of {person} counts no longer: {lapsed[person]}.", now) for person in gone]
    return replace(approval, approvers=kept, comments=(*approval.comments, *notes))


def check_yes(approval: Approval, now: datetime, person: str, parties: Collection[str]) -> None:
    """Whether this person may approve it now.

    Args:
        parties: The parties the person acts for at this moment, or did not long ago.

    Raises:
        ApprovalExpired, IllegalStatusChange, MakerIsChecker, AlreadyApproved, BeneficiaryIsChecker
    """
    check_pending(approval, now, Status.APPROVED)
    check_second_person(person, parties, approval.makers, approval.beneficiary_party_ids)
    if any(person == each.approved_by for each in approval.approvers):
        raise AlreadyApproved("You have approved it before; it needs another person, too.")


def add_yes(approval: Approval, yes: Approver, facts: ApprovalFacts, needed: int, note: str | None) -> Approval:
    """The approval with this person's yes: APPROVED by the last that it needs, else PENDING as before. Each yes that
    counts no longer is taken out.

    Args:
        facts: At least about this person.
        needed: How many persons the organization's rules want by now. More may have been wanted when it was asked for.
        note: What the person says to it. Whoever decides after them reads it among the comments.

    Raises:
        ApprovalExpired, IllegalStatusChange, MakerIsChecker, AlreadyApproved, BeneficiaryIsChecker, MakerSessionEnded
    """
    person, now = yes.approved_by, yes.approved_at
    approval = _drop_yes(approval, find_lapsed(approval, facts), now)
    parties = facts.standings[Identity(person)].parties
    check_yes(approval, now, person, parties)
    check_second_person(person, parties, facts.makers, facts.beneficiary_party_ids)
    if list_ended(approval.list_askers(), facts.standings):
        raise MakerSessionEnded()
    needed = max(needed, approval.approvers_needed)
    after = replace(approval, approvers_needed=needed, approvers=(*approval.approvers, yes))
    if len(after.approvers) >= needed:
        return replace(after, status=Status.APPROVED, decided_by=person, decided_at=now, note=note)
    return after if note is None else replace(after, comments=(*after.comments, Comment(person, note, now)))


def mark_cancelled(approval: Approval, person: str, now: datetime, why: str | None = None) -> Approval:
    """Taken back by `person`, or over by an act of theirs.

    Args:
        why: Stands among the comments.
    """
    comments = approval.comments if why is None else (*approval.comments, Comment(SUBJECT, why, now))
    return replace(approval, status=Status.CANCELLED, decided_by=person, decided_at=now, comments=comments)


def check_no(approval: Approval, now: datetime, person: str) -> None:
    """Whether this person may reject it now.

    Raises:
        ApprovalExpired, IllegalStatusChange, MakerIsChecker
    """
    check_pending(approval, now, Status.REJECTED)
    check_no_maker(approval.makers, person)


def check_content(approval: Approval, content_hash: str) -> None:
    """Raises: ContentChanged."""
    if content_hash != approval.content_hash:
        raise ContentChanged("That is not the content that waits; read it again.", content_hash=approval.content_hash)
