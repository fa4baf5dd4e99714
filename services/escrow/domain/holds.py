"""The life of a hold: what may be held and until when, why, and how often by one person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from services.chassis.values.errors import InvalidField
from services.chassis.values.etags import digest_of
from services.chassis.values.explanation import Explanation
from services.chassis.values.money import Money
from services.chassis.values.times import write_time
from services.escrow.domain.account import Status, may_end_hold
from services.escrow.domain.chart import LedgerAccount, line_of
from services.escrow.domain.journal import may_be_posted_by_hand
from services.escrow.domain.refusals import InTransitNotByHand, TooManyHolds


class HoldStatus(StrEnum):
    """A hold is PLACED, and ends once: its money moves or is free again, its time runs out, or the bank takes it."""

    PLACED = "PLACED"
    CAPTURED = "CAPTURED"
    RELEASED = "RELEASED"
    EXPIRED = "EXPIRED"
    OVERRIDDEN = "OVERRIDDEN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A hold, and how its escrow account is."""

    org_id: str
    escrow_account_id: str
    hold_id: str
    ledger_account: LedgerAccount
    currency: str
    amount_minor: int
    captured_minor: int
    overridden_minor: int
    status: HoldStatus
    reason: str
    description: str
    transaction_id: str | None
    external_id: str | None
    metadata: Mapping[str, str]
    expires_at: datetime | None
    created_at: datetime
    created_by: str
    resolved_at: datetime | None
    resolved_by: str | None
    replaces_hold_id: str | None
    returned_transaction_id: str | None
    # Nobody ends it who cannot prove to be the service (chassis/data/seals.py).
    end_digest: bytes
    escrow_account_status: Status
    escrow_account_entries: int  # how many are booked there

    @property
    def amount(self) -> Money:
        return Money(self.amount_minor, self.currency)

    @property
    def may_end(self) -> bool:
        """Whether it may be captured or released, or may expire."""
        return self.status is HoldStatus.PLACED and may_end_hold(self.escrow_account_status)

    @property
    def etag(self) -> str:
        """What changes of a hold is when it ends: by itself at a time, or in a status that is its last."""
        return digest_of(self.hold_id, self.status, write_time(self.expires_at) if self.expires_at else "")


# Open ones of a person in an escrow account. Two persons release each of them before a closing takes the money, so one
# who places them without end would keep all others from it.
HOLDS_MAX = 20

# What each reason says, and where it comes from. Until when a payment is at risk, and by which rule of which rail, its
# transaction explains.
_REASONS = {
    "RETURN_RISK": (
        "The bank may still take the payment back.",
        "house rule: a contribution is held until the return-risk period of its transaction is over",
    ),
    "DISPUTE": ("A dispute about this money is open.", ""),
    "MANUAL": ("A person holds this money.", ""),
}


def explain_hold(reason: str, transaction_id: str | None) -> Explanation:
    """In the words of the rule: those of whoever placed the hold stand beside it."""
    statement, source = _REASONS[reason]
    operands = (("transaction", transaction_id),) if transaction_id else ()
    return Explanation(statement, rule=reason, operands=operands, source=source)


def check_may_be_held(account: LedgerAccount) -> None:
    """Raises InvalidField."""
    if not line_of(account.kind).may_be_held:
        fault = {"ledger_account.kind": "must be one of the credit side"}
        raise InvalidField("Only money that is owed to somebody can be held.", fields=fault)


def check_may_be_captured(held: LedgerAccount, receiving: LedgerAccount) -> None:
    """Raises InvalidField, InTransitNotByHand."""
    if not may_be_posted_by_hand({held.kind, receiving.kind}):
        raise InTransitNotByHand
    if receiving == held:
        fault = {"to_ledger_account": "must not be the one the hold is on"}
        raise InvalidField("A capture moves the money: it must go to another ledger account.", fields=fault)


def has_run_out(expires_at: datetime | None, now: datetime) -> bool:
    """Whether a hold that ends by itself then is over."""
    return expires_at is not None and expires_at <= now


def check_may_end_at(expires_at: datetime | None, now: datetime) -> None:
    """Raises InvalidField."""
    if has_run_out(expires_at, now):
        raise InvalidField(
            "The hold would end before it began: expire_time must be in the future.",
            fields={"expire_time": "must be in the future"},
        )


def check_may_hold_more(open_count: int) -> None:
    """
    Args:
        open_count: How many holds of the person are open in the escrow account.

    Raises: TooManyHolds.
    """
    if open_count >= HOLDS_MAX:
        message = f"You have {HOLDS_MAX} open holds in the escrow account: release one, or let it expire."
        raise TooManyHolds(message, holds_max=HOLDS_MAX)
