"""The gates an offering passes before escrow may release its investors' money to the issuer.

Every gate is answered by name, open or shut, so that a page can show what is missing; what is unknown is shut.
That two persons agree to the release is the payout's rule, not a gate.
Source: 17 CFR 227.303(e) and 227.304.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import Enum
from typing import ClassVar, Final

from services.chassis.values.calendar import add_banking_days
from services.chassis.values.errors import DomainError, Kind
from services.chassis.values.money import spelled

OPEN_DAYS_MIN: Final = timedelta(days=21)
CANCELLATION_STOPS_BEFORE_DEADLINE: Final = timedelta(hours=48)
EARLY_CLOSE_NOTICE_BUSINESS_DAYS: Final = 5


class Exemption(Enum):
    REG_CF = "REG_CF"
    REG_D_506B = "REG_D_506B"
    REG_D_506C = "REG_D_506C"


class GateName(Enum):
    TARGET_REACHED = "TARGET_REACHED"
    OPEN_21_DAYS = "OPEN_21_DAYS"
    CANCELLATION_WINDOW_OVER = "CANCELLATION_WINDOW_OVER"
    NO_UNRESOLVED_MATERIAL_CHANGE = "NO_UNRESOLVED_MATERIAL_CHANGE"
    INVESTORS_CLEARED = "INVESTORS_CLEARED"
    RETURN_RISK_OVER = "RETURN_RISK_OVER"
    ESCROW_ACTIVE = "ESCROW_ACTIVE"
    ESCROW_BALANCED = "ESCROW_BALANCED"


class GatesShut(DomainError):
    """The offering may not close yet. Metadata: each shut gate by name, with its working."""

    kind: ClassVar[Kind] = Kind.FAILED_PRECONDITION
    reason: ClassVar[str] = "CLOSING_GATES_NOT_MET"


@dataclass(frozen=True, slots=True)
class EarlyClose:
    """An earlier deadline, announced to the investors; it takes the place of the first one."""

    deadline: datetime
    noticed_on: date


@dataclass(frozen=True, slots=True)
class Subscription:
    """One live investment as the gates see it. ``None`` means not known, which never opens a gate."""

    party_id: str
    funded_minor: int  # settled in escrow, not merely committed
    compliance_passed: bool
    compliance_fresh_until: datetime | None
    return_risk_until: datetime | None  # until then the bank may take the contribution back
    reconfirm_required: bool = False


@dataclass(frozen=True, slots=True)
class ClosingFacts:
    exemption: Exemption
    target_minor: int
    disclosed_at: datetime | None  # when the offering's documents became public
    deadline: datetime
    subscriptions: Sequence[Subscription]
    escrow_status: str | None
    escrow_balanced: bool | None  # the last daily certificate, or the trial balance at hand
    early_close: EarlyClose | None = None


@dataclass(frozen=True, slots=True)
class Gate:
    name: GateName
    passed: bool
    detail: str


def earliest_early_close(noticed_on: date) -> date:
    """The first day on which an early close that is announced on this day may be."""
    return add_banking_days(noticed_on, EARLY_CLOSE_NOTICE_BUSINESS_DAYS)


def release_gates(facts: ClosingFacts, now: datetime) -> tuple[Gate, ...]:
    """Every gate, in the order of GateName, as it stands at ``now``."""
    return (
        _target_reached(facts),
        _open_21_days(facts, now),
        _cancellation_window_over(facts, now),
        _no_unresolved_material_change(facts),
        _investors_cleared(facts, now),
        _return_risk_over(facts, now),
        _escrow_active(facts),
        _escrow_balanced(facts),
    )


def require_open(gates: Sequence[Gate]) -> None:
    """Raises: GatesShut, with every shut gate and its reason."""
    shut = [gate for gate in gates if not gate.passed]
    if shut:
        reasons = " ".join(gate.detail for gate in shut)
        shut_by_name = {gate.name.value: gate.detail for gate in shut}
        raise GatesShut(f"The offering cannot close: {reasons}", fields=None, **shut_by_name)


def _target_reached(facts: ClosingFacts) -> Gate:
    # Stricter than "committed": a promise that has not settled cannot be released.
    funded = sum(subscription.funded_minor for subscription in facts.subscriptions)
    detail = f"{spelled(funded)} of the target of {spelled(facts.target_minor)} is funded."
    return Gate(GateName.TARGET_REACHED, funded >= max(facts.target_minor, 1), detail)


def _open_21_days(facts: ClosingFacts, now: datetime) -> Gate:
    name = GateName.OPEN_21_DAYS
    if facts.exemption is not Exemption.REG_CF:
        return Gate(name, True, "Regulation CF alone requires 21 days; this offering is made under another exemption.")
    if facts.disclosed_at is None:
        return Gate(name, False, "The offering has not been disclosed.")
    until = facts.disclosed_at + OPEN_DAYS_MIN
    return Gate(name, now >= until, f"Regulation CF keeps an offering open for 21 days, until {_instant(until)}.")


def _cancellation_window_over(facts: ClosingFacts, now: datetime) -> Gate:
    name = GateName.CANCELLATION_WINDOW_OVER
    if facts.exemption is not Exemption.REG_CF:
        return Gate(name, True, "Regulation CF alone gives a right to cancel; none applies here.")
    deadline = facts.deadline
    if facts.early_close is not None:
        deadline, noticed_on = facts.early_close.deadline, facts.early_close.noticed_on
        earliest = earliest_early_close(noticed_on)
        if deadline.date() < earliest:
            detail = f"The early close was announced on {noticed_on}; five business days' notice ends on {earliest}."
            return Gate(name, False, detail)
    # Investors may cancel until 48 hours before the deadline; the money is the issuer's to take at the deadline.
    last_call = deadline - CANCELLATION_STOPS_BEFORE_DEADLINE
    detail = f"Investors may cancel until {_instant(last_call)}; the deadline is {_instant(deadline)}."
    return Gate(name, now >= deadline, detail)


def _no_unresolved_material_change(facts: ClosingFacts) -> Gate:
    waiting = [subscription.party_id for subscription in facts.subscriptions if subscription.reconfirm_required]
    detail = _named(waiting, "has still to reconfirm after a material change", "Nobody has to reconfirm.")
    return Gate(GateName.NO_UNRESOLVED_MATERIAL_CHANGE, not waiting, detail)


def _investors_cleared(facts: ClosingFacts, now: datetime) -> Gate:
    uncleared = [
        subscription.party_id
        for subscription in facts.subscriptions
        if not subscription.compliance_passed
        or subscription.compliance_fresh_until is None
        or subscription.compliance_fresh_until <= now
    ]
    detail = _named(uncleared, "has no fresh passed compliance check", "Every investor has a fresh passed check.")
    return Gate(GateName.INVESTORS_CLEARED, not uncleared, detail)


def _return_risk_over(facts: ClosingFacts, now: datetime) -> Gate:
    risky = [
        subscription.party_id
        for subscription in facts.subscriptions
        if subscription.funded_minor > 0
        and (subscription.return_risk_until is None or subscription.return_risk_until > now)
    ]
    detail = _named(risky, "has money the bank may still take back", "All funded money is past its hold.")
    return Gate(GateName.RETURN_RISK_OVER, not risky, detail)


def _escrow_active(facts: ClosingFacts) -> Gate:
    detail = f"The escrow account is {facts.escrow_status or 'not known'}."
    return Gate(GateName.ESCROW_ACTIVE, facts.escrow_status == "ACTIVE", detail)


def _escrow_balanced(facts: ClosingFacts) -> Gate:
    if facts.escrow_balanced is None:
        detail = "Whether the escrow account balances is not known."
    else:
        detail = f"The escrow account {'balances' if facts.escrow_balanced else 'does not balance'}."
    return Gate(GateName.ESCROW_BALANCED, facts.escrow_balanced is True, detail)


def _named(party_ids: Sequence[str], what: str, nobody: str) -> str:
    """Names the first few: a detail is a sentence, not a list of a thousand investors."""
    if not party_ids:
        return nobody
    ids = sorted(set(party_ids))
    more = f" and {len(ids) - 3} more" if len(ids) > 3 else ""
    return f"{', '.join(ids[:3])}{more}: {what}."


def _instant(when: datetime) -> str:
    return when.strftime("%Y-%m-%d %H:%M UTC")
