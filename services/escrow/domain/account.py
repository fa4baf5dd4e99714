"""An escrow account: its life, and when it may end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

from services.chassis.values.etags import etag_of
from services.chassis.values.moves import Moves
from services.escrow.domain.chart import CASH, IN_TRANSIT, LedgerAccount
from services.escrow.domain.refusals import BalancesNotZero, EscrowAccountStillNeeded, TooManyFreezes


class Status(StrEnum):
    """ACTIVE and LIQUIDATING take postings; FROZEN takes only facts of the rails; CLOSED takes nothing, for ever."""

    ACTIVE = "ACTIVE"
    FROZEN = "FROZEN"
    LIQUIDATING = "LIQUIDATING"
    CLOSED = "CLOSED"


MOVES: Final[Moves[Status]] = {
    Status.ACTIVE: frozenset({Status.FROZEN, Status.LIQUIDATING, Status.CLOSED}),
    Status.FROZEN: frozenset({Status.ACTIVE}),
    Status.LIQUIDATING: frozenset({Status.ACTIVE, Status.FROZEN, Status.CLOSED}),
    Status.CLOSED: frozenset(),
}


# Reasons for which one account is frozen: of one person, so that others are heard, and of all.
FREEZES_OF_ONE_MAX = 5
FREEZES_MAX = 50


class Freeze(NamedTuple):
    """A reason for which nothing leaves an escrow account."""

    note: str
    frozen_by: str
    frozen_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class EscrowAccount:
    """What people say of an escrow account. What is booked in it stands in its row besides."""

    escrow_account_id: str
    display_name: str
    currency: str
    sponsor_party_id: str
    status: Status = Status.ACTIVE
    custodian_name: str
    custodian_account_last4: str
    freezes: tuple[Freeze, ...] = ()  # the oldest first
    unfrozen_at: datetime | None = None
    unfrozen_by: str | None = None
    # Nobody changes it who cannot prove to be the service (chassis/data/seals.py).
    change_digest: bytes | None = None
    change_proof: bytes | None = None
    closed_at: datetime | None = None
    closed_by: str | None = None
    external_id: str | None
    metadata: Mapping[str, str]
    created_at: datetime
    created_by: str
    updated_at: datetime
    version: int = 1

    @property
    def etag(self) -> str:
        return etag_of(self.escrow_account_id, self.version)


class Balance(NamedTuple):
    """What one ledger account holds, on its normal side."""

    ledger_account: LedgerAccount
    posted_minor: int
    pending_minor: int
    held_minor: int

    @property
    def available_minor(self) -> int:
        return self.posted_minor - self.held_minor


def freeze(account: EscrowAccount, note: str, person: str, now: datetime) -> EscrowAccount:
    """It is frozen for this reason, too. Raises: TooManyFreezes."""
    own = sum(each.frozen_by == person for each in account.freezes)
    if own >= FREEZES_OF_ONE_MAX or len(account.freezes) >= FREEZES_MAX:
        message = "It is frozen for as many reasons as one person may give, or all: it stays frozen for those."
        raise TooManyFreezes(message, freezes_max=FREEZES_OF_ONE_MAX if own >= FREEZES_OF_ONE_MAX else FREEZES_MAX)
    return replace(account, status=Status.FROZEN, freezes=(*account.freezes, Freeze(note, person, now)))


def is_frozen_so(account: EscrowAccount, note: str, person: str) -> bool:
    """Whether this person has frozen it already, in these words: to say so again is nothing new."""
    return any((each.note, each.frozen_by) == (note, person) for each in account.freezes)


def unfreeze(account: EscrowAccount, person: str, now: datetime) -> EscrowAccount:
    return replace(account, status=Status.ACTIVE, freezes=(), unfrozen_at=now, unfrozen_by=person)


@dataclass(frozen=True, slots=True)
class AccountUse:
    """What an escrow account is still needed for, and in no balance of it yet: some of it, by its ids.

    Args:
        paying_offering_ids: Of offerings that closed: what they distribute is paid from it. Whether they ever will is
            for persons to know, so this keeps nobody from closing it.
    """

    offering_ids: Sequence[str] = ()
    transaction_ids: Sequence[str] = ()
    paying_offering_ids: Sequence[str] = ()


def check_unused(use: AccountUse) -> None:
    """Raises: EscrowAccountStillNeeded."""
    if use.offering_ids:
        message = "The raise of an offering has not ended: close it, or refund it, first."
    elif use.transaction_ids:
        message = "Money may still come in, go out or come back: wait until its transactions are final, or end them."
    else:
        return
    raise EscrowAccountStillNeeded(message, offering_ids=[*use.offering_ids], transaction_ids=[*use.transaction_ids])


def close(account: EscrowAccount, person: str, now: datetime) -> EscrowAccount:
    return replace(account, status=Status.CLOSED, closed_at=now, closed_by=person)


def may_move(current: Status, wanted: Status) -> bool:
    """Whether an account goes from the one status to the other."""
    return wanted in MOVES[current]


def may_freeze(status: Status) -> bool:
    """Whether somebody may freeze it: a frozen one for another reason."""
    return status is Status.FROZEN or may_move(status, Status.FROZEN)


def may_change(status: Status) -> bool:
    """Whether what is written about the account may change: a closed one stays what was closed."""
    return status is not Status.CLOSED


def may_post(status: Status) -> bool:
    """Whether people and services may post; what the rails have done is booked in a frozen account, too."""
    return status in (Status.ACTIVE, Status.LIQUIDATING)


def may_place_hold(status: Status) -> bool:
    """Whether money may be held."""
    return status is not Status.CLOSED


def may_end_hold(status: Status) -> bool:
    """Whether a hold may be captured, released or expire."""
    return status is not Status.FROZEN


def check_empty(balances: Iterable[Balance], currency: str) -> None:
    """Raises BalancesNotZero, naming the first ledger account with a balance or a hold.

    What the bank has, or is to pay, is named last: it is somebody's, or owed by somebody, and that is to be ended.
    """
    for balance in sorted(balances, key=lambda each: each.ledger_account in (CASH, IN_TRANSIT)):
        if balance.posted_minor or balance.pending_minor or balance.held_minor:
            raise BalancesNotZero(
                "An escrow account closes when every balance and hold is zero.",
                posted_minor=balance.posted_minor,
                currency_code=currency,
                ledger_account_kind=balance.ledger_account.kind.value,
                party_id=balance.ledger_account.party_id,
            )
