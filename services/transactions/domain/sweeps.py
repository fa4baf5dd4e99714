"""Sweeps: what a provider moves at once between its balance and the custodian's bank account, and of what it consists.

A sweep is explained once its lines add up to what the provider says that it moved, to the cent. Organizations that
share an account at the provider have a part of it each. What is in nobody's transaction is nobody's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

from services.chassis.values.money import Money
from services.chassis.values.moves import Moves
from services.transactions.domain.exception_kinds import ExceptionKind

# What an amount of the contracts may be.
AMOUNT_MAX: Final = 10**15


class SweepStatus(StrEnum):
    PENDING = "PENDING"
    SETTLED = "SETTLED"
    FAILED = "FAILED"


S = SweepStatus
# What has arrived may turn out not to have. Source: docs.stripe.com/api/payouts/object#payout_object-status.
SWEEP_MOVES: Final[Moves[SweepStatus]] = {
    S.PENDING: frozenset({S.SETTLED, S.FAILED}),
    S.SETTLED: frozenset({S.FAILED}),
    S.FAILED: frozenset(),
}


class LineKind(StrEnum):
    PAYMENT = "PAYMENT"
    RETURN = "RETURN"
    REFUND = "REFUND"
    DISPUTE = "DISPUTE"
    FEE = "FEE"
    OTHER = "OTHER"
    FAILED_SWEEP = "FAILED_SWEEP"


class Explanation(StrEnum):
    """Whether the lines of a sweep add up to it."""

    WAITING = "WAITING"  # not all are known yet, and there is time
    EXPLAINED = "EXPLAINED"
    UNEXPLAINED = "UNEXPLAINED"  # a person was called


@dataclass(frozen=True, slots=True)
class ProviderSweep:
    """A sweep as its provider has it.

    Args:
        amount: What goes to the custodian; negative where it comes from there.
        arrives_at: The midnight in UTC of the day.
        destination: The provider's id of the bank account.
        is_listed: Whether the provider says of which movements it consists: not yet, or of one that a person ordered
            there never.
        failure_code: In the provider's word; empty for none.
    """

    sweep_id: str
    status: SweepStatus
    amount: Money
    arrives_at: datetime
    made_at: datetime
    destination: str
    is_listed: bool
    failure_code: str = ""


@dataclass(frozen=True, slots=True)
class ProviderLine:
    """A movement of the provider's balance that is in a sweep, in minor units of the sweep's currency.

    Args:
        payment_ids: The provider's ids of what it is about, the narrowest first: the first that is one of ours counts.
        failed_sweep_id: The provider's id of the sweep whose money had not arrived; empty for none.
    """

    movement_id: str
    kind: LineKind
    gross_minor: int
    fee_minor: int
    net_minor: int
    payment_ids: tuple[str, ...] = ()
    failed_sweep_id: str = ""

    def __post_init__(self) -> None:
        if self.net_minor != self.gross_minor - self.fee_minor:
            raise ValueError("what is left of a movement is not what moved less its fee")
        if max(map(abs, (self.gross_minor, self.fee_minor, self.net_minor))) > AMOUNT_MAX:
            raise ValueError("no amount that can be")


class SweepList(NamedTuple):
    """
    Args:
        unread_ids: What the provider calls those that cannot be read, as far as it says.
    """

    sweeps: Sequence[ProviderSweep]
    unread_ids: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownSweep:
    """The whole of a sweep as it was last read, which is no organization's.

    Args:
        feed: Whose sweeps these are: another key has others.
        version: Of what stands there, whoever wrote it.
    """

    feed: str
    provider_sweep_id: str
    provider: str
    amount_minor: int
    currency: str
    status: SweepStatus
    arrives_at: datetime
    made_at: datetime
    destination: str
    explanation: Explanation
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """An organization's part of a sweep.

    Args:
        amount_minor: The sum of its lines.
    """

    sweep_id: str
    provider: str
    provider_sweep_id: str
    status: SweepStatus = S.PENDING
    amount_minor: int = 0
    currency: str
    arrives_at: datetime
    is_explained: bool = False
    failure_code: str | None = None
    made_at: datetime
    created_at: datetime
    updated_at: datetime
    version: int = 1

    @property
    def amount(self) -> Money:
        return Money(self.amount_minor, self.currency)


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepLine:
    sweep_line_id: str
    sweep_id: str
    provider: str
    provider_movement_id: str
    kind: LineKind
    transaction_id: str | None = None
    escrow_account_id: str | None = None
    gross_minor: int
    fee_minor: int
    net_minor: int
    currency: str
    created_at: datetime

    def is_of(self, line: ProviderLine) -> bool:
        """Whether the provider says the same of the movement as when it was read first."""
        theirs = line.kind, line.gross_minor, line.fee_minor, line.net_minor
        return (self.kind, self.gross_minor, self.fee_minor, self.net_minor) == theirs


class OwnLine(NamedTuple):
    """A line, and which transaction of its owner's it is about; None for none."""

    line: ProviderLine
    transaction_id: str | None


class Trouble(NamedTuple):
    """What a person is called for."""

    kind: ExceptionKind
    cause: str


def sum_net(lines: Iterable[ProviderLine]) -> int:
    return sum(line.net_minor for line in lines)


def split_failed(line: ProviderLine, parts: Mapping[str, int], rest_of: str | None) -> dict[str | None, ProviderLine]:
    """What an earlier sweep had left at the provider, by whose it is.

    Args:
        parts: How much of that sweep was whose, by organization, in minor units.
        rest_of: Whose that is which was nobody's part.
    """
    shares: dict[str | None, int] = dict(parts.items())
    shares[rest_of] = shares.get(rest_of, 0) + line.net_minor - sum(parts.values())
    return {
        owner: ProviderLine(line.movement_id, LineKind.FAILED_SWEEP, share, 0, share)
        for owner, share in shares.items()
        if share
    }


def explain(
    known: KnownSweep | None, theirs: ProviderSweep, lines: Sequence[ProviderLine] | None, now: datetime
) -> Explanation:
    """Whether its lines add up.

    Args:
        lines: All of them; None where they were not read.
    """
    if known is not None and known.explanation is Explanation.EXPLAINED:
        return Explanation.EXPLAINED
    if lines is not None and sum_net(lines) == theirs.amount.amount_minor:
        return Explanation.EXPLAINED
    # It has arrived, or should have: nothing that explains it is to come any more.
    is_late = theirs.status is not S.PENDING or theirs.arrives_at <= now
    was_told = known is not None and known.explanation is Explanation.UNEXPLAINED
    return Explanation.UNEXPLAINED if is_late or was_told else Explanation.WAITING


def find_contradiction(known: KnownSweep | None, theirs: ProviderSweep) -> str:
    """What the provider says otherwise than before, of what does not change; empty for nothing."""
    if known is None:
        return ""
    if (known.amount_minor, known.currency) != (theirs.amount.amount_minor, theirs.amount.currency):
        return "The provider says another amount of it than before."
    if theirs.status is not known.status and theirs.status not in SWEEP_MOVES[known.status]:
        return f"The provider says that it is {theirs.status}, and said before that it was {known.status}."
    if theirs.destination != known.destination:
        return "The provider says another bank account of it than before."
    return ""


def find_troubles(
    known: KnownSweep | None,
    theirs: ProviderSweep,
    lines: Sequence[ProviderLine] | None,
    explanation: Explanation,
    destination_before: str | None,
) -> list[Trouble]:
    """What nobody was called for yet.

    Args:
        known: As it was last read; None: it is new.
        lines: None where they were not read.
        destination_before: Of the sweep before it in this currency; None where there was none.
    """
    found = []
    if theirs.status is S.FAILED and (known is None or known.status is not S.FAILED):
        found.append(build_failed(theirs))
    if known is None and destination_before is not None and theirs.destination != destination_before:
        cause = "It goes to another bank account than the one before it."
        found.append(Trouble(ExceptionKind.SWEEP_REDIRECTED, cause))
    was = None if known is None else known.explanation
    if explanation is Explanation.UNEXPLAINED and was is not explanation:
        found.append(Trouble(ExceptionKind.SWEEP_NOT_EXPLAINED, _explain_unexplained(theirs, lines)))
    return found


def build_failed(theirs: ProviderSweep) -> Trouble:
    why = f" ({theirs.failure_code})" if theirs.failure_code else ""
    return Trouble(ExceptionKind.SWEEP_FAILED, f"The provider says that it did not arrive{why}.")


def _explain_unexplained(theirs: ProviderSweep, lines: Sequence[ProviderLine] | None) -> str:
    if lines is None:
        return "The provider does not say of which movements it consists: a person may have ordered it there."
    missing = theirs.amount.amount_minor - sum_net(lines)
    return f"Its lines differ from what the provider says that it moved by {Money(missing, theirs.amount.currency)}."


def name_before(sweeps: Collection[ProviderSweep]) -> dict[str, str]:
    """Of each sweep, by its id, the bank account of the one before it in its currency, as far as there is one."""
    last: dict[str, str] = {}
    before: dict[str, str] = {}
    for each in sorted(sweeps, key=lambda sweep: (sweep.made_at, sweep.sweep_id)):
        currency = each.amount.currency
        if currency in last:
            before[each.sweep_id] = last[currency]
        last[currency] = each.destination
    return before
