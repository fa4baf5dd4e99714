"""What persons said about a movement of money, and whether enough of them decided it. Pure.

A person asks, another one approves what was asked for last, or several do, as the organization's rules want.
Where the last yes does not do it by itself, a person executes it after that. Whoever asks for something else about the
same resource takes back what was approved and executed before; so does whoever takes it back without asking for
anything. What is asked for can be approved for as long as the rules say, and what was decided can be done for a week.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Final, NamedTuple

from services.chassis.values.approval import ApprovalExpired, Approver, MakerSessionEnded, explain_lapsed_yes
from services.chassis.values.money import Money
from services.chassis.values.movement import Movement, MovementLine
from services.chassis.values.refusals import ContentChanged
from services.chassis.values.second_person import check_second_person
from services.chassis.values.session import NO_SESSION, Session, Standing
from services.compliance.domain.refusals import JustDecided


class Act(Enum):
    """What a person did by saying it."""

    REQUEST = "REQUEST"
    APPROVAL = "APPROVAL"
    EXECUTION = "EXECUTION"
    WITHDRAWAL = "WITHDRAWAL"


_DECIDING: Final = frozenset({Act.APPROVAL, Act.EXECUTION})
# The kinds that the last yes does by itself. What was approved of any other kind moves only once a person executes it.
DONE_BY_LAST_YES: Final = frozenset({"CLOSE_OFFERING"})


# From the last word about a movement until the service that it is about has begun with it: as long as a call may take.
_BEGINS_WITHIN: Final = timedelta(seconds=60)


class Subject(NamedTuple):
    """What is said something about: a content, and all that moves by it. Of a withdrawal: nothing."""

    content_hash: str = ""
    movement_digest: str = ""


NOTHING = Subject()


@dataclass(frozen=True, slots=True)
class Statement:
    """What one person said.

    Args:
        makers: Who had a part in what is asked for, the person among them. Of anything but a request: nobody.
        beneficiary_party_ids: Who gains from what is asked for. Of anything but a request: nobody.
        approvers_needed: How many persons had to approve it, as the organization's rules said at that moment.
        expires_at: Until when what is asked for can be approved, or what was approved can be done.
        session: In which the person said it.
    """

    act: Act
    person_id: str
    said_at: datetime
    expires_at: datetime
    session: Session = NO_SESSION
    subject: Subject = NOTHING
    makers: frozenset[str] = frozenset()
    beneficiary_party_ids: frozenset[str] = frozenset()
    approvers_needed: int = 1


def build_subject(movement: Movement) -> Subject:
    """Its digest is SHA-256 in hex: the same for the same lines in any order, another one for anything else."""
    spelled = sorted([party_id, amount.amount_minor, amount.currency] for party_id, amount in movement.lines)
    text = json.dumps([movement.escrow_account_id, spelled], separators=(",", ":"))
    return Subject(movement.content_hash, hashlib.sha256(text.encode()).hexdigest())


def check_approver(
    said: Sequence[Statement],
    subject: Subject,
    person: str,
    parties: Collection[str],
    now: datetime,
    lapsed: Collection[Statement] = (),
) -> None:
    """Whether this person may approve it.

    Args:
        said: About the resource, oldest first.
        parties: Those the person acts for, or did not long ago.
        lapsed: What counts no longer of it.

    Raises:
        ContentChanged: it is not what was asked for last.
        MakerSessionEnded: whoever asked for it did so in a session that was ended.
        ApprovalExpired: nobody decided it in time.
        MakerIsChecker, BeneficiaryIsChecker
    """
    asked = [each for each in list_current(said, subject) if each.act is Act.REQUEST]
    if not asked:
        last = [each.subject.content_hash for each in said if each.act is Act.REQUEST][-1:]
        message = "That is not what was asked for last; read it again."
        raise ContentChanged(message, content_hash=last[0] if last else None)
    asked = [each for each in asked if each not in lapsed]
    if not asked:
        raise MakerSessionEnded()
    ends_at = max(each.expires_at for each in asked)
    if ends_at <= now:
        raise ApprovalExpired(ends_at)
    # Who had no part in what one of them asks for approves that.
    makers = frozenset.intersection(*(each.makers for each in asked))
    gaining = frozenset[str]().union(*(each.beneficiary_party_ids for each in asked))
    check_second_person(person, parties, makers, gaining)


def sum_lines(lines: Sequence[MovementLine]) -> list[Money]:
    """All that moves, in each currency."""
    totals: dict[str, int] = {}
    for line in lines:
        totals[line.amount.currency] = totals.get(line.amount.currency, 0) + line.amount.amount_minor
    return [Money(minor, currency) for currency, minor in totals.items()]


class Decision(NamedTuple):
    requested_by: str
    approved_by: tuple[str, ...]


def find_lapsed(standings: Mapping[Statement, Standing]) -> dict[Statement, str]:
    """What counts no longer, and why. Whoever gains from it may ask for it and execute it.

    Args:
        standings: What is said now, each with what speaks against who said it at this moment.
    """
    gaining = frozenset[str]().union(*(each.beneficiary_party_ids for each in standings))
    why = {each: _explain_lapsed(each, gaining, standing) for each, standing in standings.items()}
    return {each: said for each, said in why.items() if said is not None}


def _explain_lapsed(statement: Statement, gaining: Collection[str], standing: Standing) -> str | None:
    signed_in_at = statement.session.signed_in_at
    if statement.act is Act.REQUEST:
        return "asked for it in a session that was ended" if standing.has_ended(signed_in_at) else None
    word = Approver(statement.person_id, statement.said_at, signed_in_at)
    return explain_lapsed_yes(word, (), gaining if statement.act is Act.APPROVAL else (), standing)


def find_decision(
    said: Sequence[Statement], subject: Subject, now: datetime, lapsed: Collection[Statement], *, executed: bool
) -> Decision | None:
    """Who asked for it and who approved it; None where it is not decided.

    It is decided if enough persons who had no part in making it approved it: as many as the statement about it that
    wants the most. Each of them did so before the request expired. The last of these approvals has not expired. Whoever
    asks for something else about the same resource puts an end to all that was said before.

    Args:
        said: About the resource, oldest first.
        lapsed: What counts no longer of it. What was asked for, all the same, was asked for in place of something else.
        executed: It is decided only if a person executed it after that.
    """
    current = list_current(said, subject)
    needed = max((each.approvers_needed for each in current), default=1)
    if executed:
        current = current[: _find_last_execution(current, lapsed)]
    for number, asked in enumerate(current):
        if asked.act is not Act.REQUEST or asked in lapsed:
            continue
        heard = {
            each.person_id: each.expires_at
            for each in current[number:]
            if each.act is Act.APPROVAL and each.said_at < asked.expires_at and each not in lapsed
        }
        for person in asked.makers:
            heard.pop(person, None)
        if len(heard) >= needed and max(heard.values()) > now:
            return Decision(asked.person_id, tuple(heard))
    return None


def find_last_asked(said: Sequence[Statement]) -> Subject:
    """What was asked for last, whatever became of it."""
    return next((each.subject for each in reversed(said) if each.act is Act.REQUEST), NOTHING)


def check_may_withdraw(
    kind: str,
    said: Sequence[Statement],
    now: datetime,
    lapsed: Collection[Statement] = (),
    *,
    of_approved: bool = False,
) -> None:
    """Whether what was asked for last may be taken back, or something else be asked for in its place.

    Args:
        lapsed: What counts no longer of it.
        of_approved: Whoever takes it back had read that it was approved, and not yet executed.

    Raises: JustDecided: what has it done was said a moment ago. Whoever takes it back read it before that.
    """
    asked = find_last_asked(said)
    if find_decision(said, asked, now, lapsed, executed=False) is None:
        return
    has_it_done = {Act.EXECUTION} if of_approved and kind not in DONE_BY_LAST_YES else {Act.APPROVAL, Act.EXECUTION}
    just_now = now - _BEGINS_WITHIN
    if any(each.act in has_it_done and each.said_at > just_now for each in list_current(said, asked)):
        raise JustDecided


def _find_last_execution(current: Sequence[Statement], lapsed: Collection[Statement]) -> int:
    """How much was said before it was executed the last time by somebody who still counts: nothing, if nobody did."""
    counting = (number for number, each in enumerate(current) if each.act is Act.EXECUTION and each not in lapsed)
    return max(counting, default=0)


def list_current(said: Sequence[Statement], subject: Subject) -> list[Statement]:
    """What was said about it since something else was asked for, or all was taken back."""
    others = [number for number, each in enumerate(said) if each.act not in _DECIDING and each.subject != subject]
    return [each for each in said[others[-1] + 1 if others else 0 :] if each.subject == subject]
