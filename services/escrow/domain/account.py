"""The life of an escrow account, and when it may end."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Final, NamedTuple

from services.chassis.values.moves import Moves
from services.escrow.domain.chart import LedgerAccount
from services.escrow.domain.refusals import BalancesNotZero, spell_account


class Status(Enum):
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


class Balance(NamedTuple):
    """What one ledger account holds, on its normal side."""

    ledger_account: LedgerAccount
    posted_minor: int
    pending_minor: int
    held_minor: int


def may_move(current: Status, wanted: Status) -> bool:
    """Whether an account goes from the one status to the other."""
    return wanted in MOVES[current]


def may_change(status: Status) -> bool:
    """Whether what is written about the account may change: a closed one stays what was closed."""
    return status is not Status.CLOSED


def may_post(status: Status) -> bool:
    """Whether people and services may post; what the rails have done is booked in a frozen account, too."""
    return status not in (Status.FROZEN, Status.CLOSED)


def may_place_hold(status: Status) -> bool:
    """Whether money may be held."""
    return status is not Status.CLOSED


def may_end_hold(status: Status) -> bool:
    """Whether a hold may be captured, released or expire."""
    return status is not Status.FROZEN


def check_empty(balances: Iterable[Balance], currency: str) -> None:
    """Raises BalancesNotZero, naming the first ledger account with a balance or a hold."""
    for balance in balances:
        if balance.posted_minor or balance.pending_minor or balance.held_minor:
            raise BalancesNotZero(
                "An escrow account closes when every balance and hold is zero.",
                posted_minor=balance.posted_minor,
                currency_code=currency,
                **spell_account(balance.ledger_account),
            )
