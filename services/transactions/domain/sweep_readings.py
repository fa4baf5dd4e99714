"""What a reading of a sweep says: whether it adds up, what changed, and for what a person is called.

A sweep is explained once its lines add up to what the provider says that it moved, to the cent, and are those that are
kept. Whoever has a line in it is told of all that is wrong with it: at the reading at which the line is kept first, of
what was found before as well.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from services.chassis.values.money import Money
from services.transactions.domain.exception_kinds import ExceptionKind
from services.transactions.domain.sweeps import (
    SWEEP_MOVES,
    Explanation,
    KnownSweep,
    Owner,
    ProviderLine,
    ProviderSweep,
    SweepStatus,
    sum_net,
)

S = SweepStatus
# After the day on which one should have arrived: longer than any weekend with holidays beside it.
_ARRIVES_WITHIN: Final = timedelta(days=5)
# After it was made, whatever day the provider puts it off to.
_ON_ITS_WAY_MAX: Final = timedelta(days=30)


class Trouble(NamedTuple):
    """What a person is called for.

    Args:
        is_new: Whether nobody was called for it at an earlier reading.
    """

    kind: ExceptionKind
    cause: str
    is_new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a provider says of a sweep now, beside what was known of it.

    Args:
        feed: Whose sweeps these are.
        theirs: As far as it is believed (`believe`).
        known: As it was last read; None: it is new.
        lines: All of them; None where they were not read.
        contradicted: Of which movements the provider says otherwise than what is kept, by whose they are.
        destination_before: Of the sweep before it in this currency; None where there was none, or where the lines
            were not read, so that nobody can hear of it now.
    """

    feed: str
    provider: str
    theirs: ProviderSweep
    known: KnownSweep | None
    lines: Sequence[ProviderLine] | None
    contradicted: Mapping[Owner, Collection[str]] = field(default_factory=dict)
    destination_before: str | None
    explanation: Explanation
    is_overdue: bool

    @property
    def is_explained(self) -> bool:
        return self.explanation is Explanation.EXPLAINED

    @property
    def is_finished(self) -> bool:
        """Whether nothing more is to be expected of it soon."""
        return self.theirs.status is not S.PENDING and self.explanation is not Explanation.WAITING

    @property
    def is_news(self) -> bool:
        """Whether something is otherwise than it was known."""
        known = self.known
        if known is None:
            return True
        was = known.status, known.arrives_at, known.explanation, known.is_overdue
        return was != (self.theirs.status, self.theirs.arrives_at, self.explanation, self.is_overdue)

    def build_known(self) -> KnownSweep:
        return KnownSweep(
            feed=self.feed,
            provider_sweep_id=self.theirs.sweep_id,
            provider=self.provider,
            amount_minor=self.theirs.amount.amount_minor,
            currency=self.theirs.amount.currency,
            status=self.theirs.status,
            arrives_at=self.theirs.arrives_at,
            made_at=self.theirs.made_at,
            destination=self.theirs.destination,
            explanation=self.explanation,
            is_overdue=self.is_overdue,
            version=0,
        )

    def list_troubles(self, owner: Owner, own_destination_before: str | None = None) -> list[Trouble]:
        """All that is wrong with it by now, as whoever this is hears of it.

        Args:
            own_destination_before: Of the sweep before it in which the same organization has a part: whoever had one
                without a part go elsewhere first hides nothing by that.
        """
        known, found = self.known, []
        if self.theirs.status is S.FAILED:
            found.append(self.build_failed())
        if redirected := self._explain_redirected(own_destination_before):
            found.append(Trouble(ExceptionKind.SWEEP_REDIRECTED, redirected, known is None))
        if self.explanation is Explanation.UNEXPLAINED:
            is_new = known is None or known.explanation is not self.explanation
            found.append(Trouble(ExceptionKind.SWEEP_NOT_EXPLAINED, self._explain_unexplained(owner), is_new))
        if self.is_overdue:
            cause = f"It should have arrived on {self.theirs.arrives_at.date()}, and is still on its way."
            found.append(Trouble(ExceptionKind.SWEEP_OVERDUE, cause, known is None or not known.is_overdue))
        return found

    def build_failed(self) -> Trouble:
        why = f" ({self.theirs.failure_code})" if self.theirs.failure_code else ""
        cause = f"The provider says that it did not arrive{why}."
        is_new = self.known is None or self.known.status is not S.FAILED
        return Trouble(ExceptionKind.SWEEP_FAILED, cause, is_new)

    def list_ended(self) -> list[tuple[ExceptionKind, str]]:
        """What is not wrong with it any more, and how it stands instead: what is open about it says so."""
        known, found = self.known, []
        if self.is_explained and (known is None or known.explanation is not Explanation.EXPLAINED):
            cause = "Its lines add up by now to what the provider says that it moved."
            found.append((ExceptionKind.SWEEP_NOT_EXPLAINED, cause))
        if self.theirs.status is not S.PENDING and (known is None or known.is_overdue):
            has_failed = self.theirs.status is S.FAILED
            cause = "The provider says by now that it did not arrive." if has_failed else "It has arrived by now."
            found.append((ExceptionKind.SWEEP_OVERDUE, cause))
        return found

    def _explain_redirected(self, own_before: str | None) -> str:
        """Empty where it goes where those before it went."""
        if self.destination_before not in (None, self.theirs.destination):
            return "It goes to another bank account than the one before it."
        if own_before not in (None, self.theirs.destination):
            return "It goes to another bank account than the one before it in which you have money."
        return ""

    def _explain_unexplained(self, owner: Owner) -> str:
        if self.lines is None:
            return "The provider does not say of which movements it consists: a person may have ordered it there."
        if wrong := self.contradicted.get(owner):
            named = ", ".join(sorted(wrong))
            return f"The provider says another amount than before, or another sweep, or no sweep any more, of {named}."
        missing = self.theirs.amount.amount_minor - sum_net(self.lines)
        if not missing:
            return "The provider says otherwise than before of lines of it that are not yours."
        difference = Money(missing, self.theirs.amount.currency)
        return f"Its lines differ from what the provider says that it moved by {difference}."


def explain(
    known: KnownSweep | None,
    theirs: ProviderSweep,
    lines: Sequence[ProviderLine] | None,
    now: datetime,
    *,
    is_contradicted: bool = False,
) -> Explanation:
    """Whether its lines add up.

    Args:
        lines: All of them; None where they were not read.
        is_contradicted: Whether these are not the lines that are kept.
    """
    if known is not None and known.explanation is Explanation.EXPLAINED:
        return Explanation.EXPLAINED
    if lines is not None and not is_contradicted and sum_net(lines) == theirs.amount.amount_minor:
        return Explanation.EXPLAINED
    # It has arrived, or should have: nothing that explains it is to come any more.
    is_late = theirs.status is not S.PENDING or theirs.arrives_at <= now
    was_told = known is not None and known.explanation is Explanation.UNEXPLAINED
    return Explanation.UNEXPLAINED if is_late or was_told or is_contradicted else Explanation.WAITING


def is_overdue(known: KnownSweep | None, theirs: ProviderSweep, now: datetime) -> bool:
    """Whether it is on its way for longer than any takes; whoever was called is not called off by a later day."""
    if theirs.status is not S.PENDING:
        return False
    if known is not None and known.is_overdue:
        return True
    return theirs.arrives_at <= now - _ARRIVES_WITHIN or theirs.made_at <= now - _ON_ITS_WAY_MAX


def find_contradiction(known: KnownSweep | None, theirs: ProviderSweep) -> str:
    """What the provider says otherwise than before, of what does not change; empty for nothing."""
    if known is None:
        return ""
    if (known.amount_minor, known.currency) != (theirs.amount.amount_minor, theirs.amount.currency):
        return "The provider says another amount of it than before."
    if not _may_be(known, theirs.status):
        return f"The provider says that it is {theirs.status}, and said before that it was {known.status}."
    if theirs.destination != known.destination:
        return "The provider says another bank account of it than before."
    return ""


def believe(known: KnownSweep | None, theirs: ProviderSweep) -> ProviderSweep:
    """What of it is believed: what does not change stays as it was read first. That it failed is believed all the same,
    whatever else is said otherwise than before.
    """
    if known is None:
        return theirs
    return replace(
        theirs,
        amount=Money(known.amount_minor, known.currency),
        destination=known.destination,
        status=theirs.status if _may_be(known, theirs.status) else known.status,
    )


def _may_be(known: KnownSweep, status: SweepStatus) -> bool:
    return status is known.status or status in SWEEP_MOVES[known.status]
