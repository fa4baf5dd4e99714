"""What persons said about a movement of money, and whether enough of them decided it. Pure.

A person asks, another one approves what was asked for last, or several do, as the organization's rules want.
Whoever asks for something else about the same resource takes back what was approved before; so does whoever takes it
back without asking for anything.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from services.chassis.values.approval import check_beneficiary
from services.chassis.values.money import Money
from services.chassis.values.refusals import ContentChanged, MakerIsChecker


class Act(Enum):
    """What a person did by saying it."""

    REQUEST = "REQUEST"
    APPROVAL = "APPROVAL"
    WITHDRAWAL = "WITHDRAWAL"


class Line(NamedTuple):
    """What moves out of one ledger account."""

    ledger_account_kind: str
    party_id: str
    amount: Money


class Subject(NamedTuple):
    """What is said something about: a content, and all that moves by it. Of a withdrawal: nothing."""

    content_hash: str = ""
    movement_digest: str = ""


NOTHING = Subject()


@dataclass(frozen=True, slots=True)
class Statement:
    """What one person said.

    Args:
        makers: Who had a part in what is asked for, the person among them. Of an approval: nobody.
        beneficiary_party_ids: Who gains from what is asked for. Of an approval: nobody.
        approvers_needed: How many persons had to approve it, as the organization's rules said at that moment.
    """

    act: Act
    person_id: str
    subject: Subject = NOTHING
    makers: frozenset[str] = frozenset()
    beneficiary_party_ids: frozenset[str] = frozenset()
    approvers_needed: int = 1


def digest_movement(escrow_account_id: str, lines: Sequence[Line]) -> str:
    """SHA-256 in hex: the same for the same lines in any order, another one for anything else."""
    spelled = sorted([kind, party_id, amount.amount_minor, amount.currency] for kind, party_id, amount in lines)
    text = json.dumps([escrow_account_id, spelled], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def check_approver(said: Sequence[Statement], subject: Subject, person: str, parties: Collection[str]) -> None:
    """Whether this person may approve it.

    Args:
        said: About the resource, oldest first.
        parties: Those the person acts for, or did not long ago.

    Raises:
        ContentChanged: it is not what was asked for last.
        MakerIsChecker, BeneficiaryIsChecker
    """
    asked = [each for each in _list_current(said, subject) if each.act is Act.REQUEST]
    if not asked:
        last = [each.subject.content_hash for each in said if each.act is Act.REQUEST][-1:]
        message = "That is not what was asked for last; read it again."
        raise ContentChanged(message, content_hash=last[0] if last else "")
    for each in asked:
        check_beneficiary(each.beneficiary_party_ids, parties)
    if all(person in each.makers for each in asked):
        raise MakerIsChecker("You had a part in making it; another person decides.")


def sum_lines(lines: Sequence[Line]) -> list[Money]:
    """All that moves, in each currency."""
    totals: dict[str, int] = {}
    for line in lines:
        totals[line.amount.currency] = totals.get(line.amount.currency, 0) + line.amount.amount_minor
    return [Money(minor, currency) for currency, minor in totals.items()]


class Decision(NamedTuple):
    requested_by: str
    approved_by: tuple[str, ...]


def find_decision(said: Sequence[Statement], subject: Subject) -> Decision | None:
    """Who asked for it and who approved it, if as many persons did as any of the statements about it wants, and nothing
    else was asked for since.

    Args:
        said: About the resource, oldest first.
    """
    current = _list_current(said, subject)
    needed = max((each.approvers_needed for each in current), default=1)
    approvers = list(dict.fromkeys(each.person_id for each in current if each.act is Act.APPROVAL))
    for asked in (each for each in current if each.act is Act.REQUEST):
        others = tuple(person for person in approvers if person not in asked.makers)
        if len(others) >= needed:
            return Decision(asked.person_id, others)
    return None


def _list_current(said: Sequence[Statement], subject: Subject) -> list[Statement]:
    """What was said about it since something else was asked for, or all was taken back."""
    others = [number for number, each in enumerate(said) if each.act is not Act.APPROVAL and each.subject != subject]
    return [each for each in said[others[-1] + 1 if others else 0 :] if each.subject == subject]
