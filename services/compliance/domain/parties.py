"""What a party is and who acts for it, what a change of it puts in question, and for whom the limits hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from services.chassis.values.etags import etag_of
from services.chassis.values.explanation import Explanation
from services.chassis.values.money import Money
from services.chassis.values.session import NO_SESSION, Session
from services.compliance.domain import clearance

NON_ACCREDITED = "NON_ACCREDITED"
PERSONS_MAX = 100
# So that whom somebody acts for fits one answer (`GET /me`), and is known at each call.
PARTIES_MAX = 1000
# Whoever stops acting for a party decides for so long nothing that it gains from.
INTEREST_LASTS = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    party_id: str
    kind: str
    legal_name: str
    accreditation: str
    annual_income: Money | None
    net_worth: Money | None
    external_id: str | None
    metadata: Mapping[str, str]
    created_at: datetime
    updated_at: datetime
    version: int = 1  # of the facts and of the persons

    @property
    def etag(self) -> str:
        return etag_of(self.party_id, self.version)

    @property
    def has_limits(self) -> bool:
        """Whether limits hold for what it contributes: by what it does, whatever it is called."""
        return self.accreditation == NON_ACCREDITED


@dataclass(frozen=True, slots=True, kw_only=True)
class PartyPerson:
    """Somebody who acts for a party, or waits to.

    Args:
        act_started_at: Since when the person acts; None: it waits for a second person's yes.
        session: In which somebody said so.
    """

    party_id: str
    person_id: str
    title: str | None
    version: int  # of the party at its last change: a person who left and came back has another
    created_by: str
    created_at: datetime
    updated_at: datetime
    act_started_at: datetime | None = None
    session: Session = NO_SESSION

    @property
    def etag(self) -> str:
        return etag_of(f"{self.party_id}/{self.person_id}", self.version)

    @property
    def acts(self) -> bool:
        return self.act_started_at is not None


_FACTS: Final = "FACTS"


def name_acting(party_id: str, person_id: str) -> tuple[str, ...]:
    """What it is about that a person acts for a party."""
    return "person of a party", party_id, person_id


def list_questions(before: Party, after: Party) -> dict[str, Explanation]:
    """The checks to ask a person again, each with why."""
    return {
        required.check_type: _explain_changed(changed)
        for required in clearance.REQUIRED_CHECKS
        if (changed := [name for name in required.rests_on if getattr(before, name) != getattr(after, name)])
    }


def join_changes(former: Explanation | None, because: Explanation) -> Explanation:
    """All that changed since somebody passed the check: one edit after the other hides none of them.

    Args:
        former: Why the check was asked before, which nobody has passed since.
    """
    if former is None or former.rule != _FACTS or because.rule != _FACTS:
        return because
    return _explain_changed(list(dict.fromkeys(str(name) for each in (former, because) for _, name in each.operands)))


def _explain_changed(names: Sequence[str]) -> Explanation:
    """Names of facts only: what they were and are is personal data, and an explanation is told in events."""
    spelled = [name.replace("_", " ") for name in names]
    source = "house rule: a check is about the facts that were checked"
    operands = tuple(("changed", name) for name in spelled)
    return Explanation(f"The party's facts changed: {', '.join(spelled)}.", _FACTS, operands, source)
