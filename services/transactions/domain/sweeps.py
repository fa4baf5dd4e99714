"""Sweeps: what a provider moves at once between its balance and the custodian's bank account, and of what it consists.

Organizations that share an account at the provider have a part of a sweep each. What is in nobody's transaction is
nobody's. Whether a sweep adds up, and for what a person is called, is in sweep_readings.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

from services.chassis.values.money import Money
from services.chassis.values.moves import Moves

Owner = str | None  # an organization; None for nobody

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
        is_overdue: Whether it is on its way for so long that a person was called.
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
    is_overdue: bool = False
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """An organization's part of a sweep.

    Args:
        feed: As that of the whole.
        amount_minor: The sum of its lines.
        destination: As that of the whole, when the part was first read.
    """

    sweep_id: str
    feed: str
    provider: str
    provider_sweep_id: str
    status: SweepStatus = S.PENDING
    amount_minor: int = 0
    currency: str
    arrives_at: datetime
    destination: str
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


class KeptLine(NamedTuple):
    """A line that was kept, whose it is, and the provider's id of the sweep that it was kept in."""

    owner: str
    provider_sweep_id: str
    line: SweepLine


def sum_net(lines: Iterable[ProviderLine]) -> int:
    return sum(line.net_minor for line in lines)


def split_failed(line: ProviderLine, parts: Mapping[str, int], rest_of: Owner) -> dict[Owner, ProviderLine]:
    """What an earlier sweep had left at the provider, by whose it is.

    Args:
        parts: How much of that sweep was whose, by organization, in minor units.
        rest_of: Whose that is which was nobody's part.
    """
    shares: dict[Owner, int] = dict(parts.items())
    shares[rest_of] = shares.get(rest_of, 0) + line.net_minor - sum(parts.values())
    return {owner: _share(line, share) for owner, share in shares.items() if share}


def _share(line: ProviderLine, net_minor: int) -> ProviderLine:
    return ProviderLine(line.movement_id, LineKind.FAILED_SWEEP, net_minor, 0, net_minor)


def list_first_owners(line: ProviderLine, kept: Sequence[KeptLine]) -> dict[Owner, OwnLine]:
    """Whose the movement is where it was kept before: whoever had it first keeps it, else it would count twice.

    Nobody's where it was not, and where an earlier sweep had left it and not all shares of it are kept.

    Args:
        kept: All that was kept of the movement.
    """
    if not kept:
        return {}
    if not line.failed_sweep_id:
        return {kept[0].owner: OwnLine(line, kept[0].line.transaction_id)}
    if sum(each.line.net_minor for each in kept) != line.net_minor:
        return {}
    shares = [(owner, was.gross_minor, was.fee_minor, was.net_minor) for owner, _, was in kept]
    return {
        owner: OwnLine(ProviderLine(line.movement_id, line.kind, gross, fee, net), None)
        for owner, gross, fee, net in shares
    }


def list_contradicted(
    owned: Mapping[Owner, Sequence[OwnLine]], kept: Sequence[KeptLine], provider_sweep_id: str
) -> dict[Owner, set[str]]:
    """Of which movements the provider says otherwise than what is kept, by whose they are.

    It says another amount, has them in another sweep as well, or in the sweep no more.

    Args:
        owned: All lines of the sweep, as the provider has them now.
        kept: All that is kept of the sweep, and of these movements in any sweep.
    """
    now = {(owner, own.line.movement_id): own.line for owner, lines in owned.items() for own in lines}
    found: dict[Owner, set[str]] = {}
    for each in kept:
        movement_id = each.line.provider_movement_id
        theirs = now.get((each.owner, movement_id))
        is_here = each.provider_sweep_id == provider_sweep_id
        if not is_here or theirs is None or not each.line.is_of(theirs):
            found.setdefault(each.owner, set()).add(movement_id)
    return found
