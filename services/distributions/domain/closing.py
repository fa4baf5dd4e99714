"""The gates an offering passes before escrow may release its investors' money to the issuer.

Every gate is answered by name, open or shut, so that a page can show what is missing; what is unknown is shut.
That two persons agree to the release is the payout's rule, not a gate.
Source: 17 CFR 227.303(e) and 227.304.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import Enum
from typing import Final

from services.chassis.values.calendar import add_banking_days
from services.chassis.values.explanation import HOUSE_RULE, Explanation
from services.chassis.values.money import Money
from services.distributions.domain.investment import CANCELLATION_STOPS_BEFORE_DEADLINE, Investment
from services.distributions.domain.offering import Exemption
from services.distributions.domain.refusals import ClosingGatesNotMet
from services.distributions.domain.states import InvestmentStatus

OPEN_DAYS_MIN: Final = timedelta(days=21)
EARLY_CLOSE_NOTICE_BUSINESS_DAYS: Final = 5
_REG_CF_303: Final = "17 CFR 227.303(e)"
_REG_CF_304: Final = "17 CFR 227.304"


class GateName(Enum):
    TARGET_REACHED = "TARGET_REACHED"
    WITHIN_MAXIMUM = "WITHIN_MAXIMUM"
    OPEN_21_DAYS = "OPEN_21_DAYS"
    CANCELLATION_WINDOW_OVER = "CANCELLATION_WINDOW_OVER"
    INVESTORS_CLEARED = "INVESTORS_CLEARED"
    RETURN_RISK_OVER = "RETURN_RISK_OVER"
    SUBSCRIPTIONS_AVAILABLE = "SUBSCRIPTIONS_AVAILABLE"
    RETURNS_RECOVERED = "RETURNS_RECOVERED"
    PROVIDER_FEES_COVERED = "PROVIDER_FEES_COVERED"
    ESCROW_ACTIVE = "ESCROW_ACTIVE"
    ESCROW_BALANCED = "ESCROW_BALANCED"
    BOOK_COUNTED = "BOOK_COUNTED"


@dataclass(frozen=True, slots=True)
class EarlyClose:
    """An earlier deadline, announced to the investors; it takes the place of the first one."""

    deadline: datetime
    noticed_on: date


@dataclass(frozen=True, slots=True)
class SubscriptionFacts:
    """One live investment as the gates see it."""

    party_id: str
    funded_minor: int  # settled in escrow, not merely committed
    cleared: bool  # by a fresh compliance check; not known is not cleared
    at_risk: bool  # the bank may still take some of it back


@dataclass(frozen=True, slots=True)
class SubscriptionHold:
    """Money of an investor's subscription that escrow does not let go, whoever held it and why."""

    hold_id: str
    party_id: str
    amount_minor: int


@dataclass(frozen=True, slots=True)
class ClosingFacts:
    """What the gates go by. ``None`` means not known, which never opens a gate."""

    exemption: Exemption
    currency: str
    target_minor: int
    maximum_minor: int
    disclosed_at: datetime | None  # when the offering's documents became public, as its maker says
    entered_at: datetime  # when it was entered here: nobody could invest before
    deadline: datetime
    subscriptions: Sequence[SubscriptionFacts]
    released: Mapping[str, int]  # by investor: what the closing takes of its subscription
    available: Mapping[str, int] | None  # by investor: what escrow has available of it
    holds: Sequence[SubscriptionHold]
    debts: Mapping[str, int] | None  # by party: what it owes escrow, which a bank took back after it had left
    provider_fees_minor: int | None  # what payment providers kept of what came in, and nobody has paid in since
    escrow_status: str | None
    escrow_balanced: bool | None  # by its trial balance
    is_counted: bool  # what its journal says of contributions, and not being counted anew
    early_close: EarlyClose | None = None


@dataclass(frozen=True, slots=True)
class Gate:
    name: GateName
    passed: bool
    explanation: Explanation


def find_earliest_early_close(noticed_on: date) -> date:
    """The first day on which an early close that is announced on this day may be."""
    return add_banking_days(noticed_on, EARLY_CLOSE_NOTICE_BUSINESS_DAYS)


def build_gates(facts: ClosingFacts, now: datetime) -> tuple[Gate, ...]:
    """Every gate, in the order of GateName, as it stands at ``now``."""
    return (
        _build_target_gate(facts),
        _build_maximum_gate(facts),
        _build_days_gate(facts, now),
        _build_cancellation_gate(facts, now),
        _build_clearance_gate(facts),
        _build_return_risk_gate(facts),
        _build_availability_gate(facts),
        _build_debts_gate(facts),
        _build_fees_gate(facts),
        _build_escrow_status_gate(facts),
        _build_balance_gate(facts),
        _build_count_gate(facts),
    )


def check_gates(gates: Sequence[Gate]) -> None:
    """Raises: ClosingGatesNotMet, with every shut gate and its reason."""
    shut = [gate for gate in gates if not gate.passed]
    if shut:
        reasons = " ".join(gate.explanation.statement for gate in shut)
        shut_by_name = {gate.name.value: gate.explanation.statement for gate in shut}
        raise ClosingGatesNotMet(f"The offering cannot close: {reasons}", fields=None, **shut_by_name)


def _build_gate(name: GateName, passed: bool, statement: str, source: str, *operands: tuple[str, str | Money]) -> Gate:
    return Gate(name, passed, Explanation(statement, name.value, operands, source))


def _build_target_gate(facts: ClosingFacts) -> Gate:
    # Stricter than "committed": a promise that has not settled cannot be released.
    funded = Money(sum(subscription.funded_minor for subscription in facts.subscriptions), facts.currency)
    target = Money(facts.target_minor, facts.currency)
    return _build_gate(
        GateName.TARGET_REACHED,
        funded.amount_minor >= max(facts.target_minor, 1),
        f"{funded} of the target of {target} is funded.",
        _REG_CF_304 if facts.exemption is Exemption.REG_CF else HOUSE_RULE,
        ("funded", funded),
        ("target", target),
    )


def _build_maximum_gate(facts: ClosingFacts) -> Gate:
    """What a bank brought counts, whatever was announced: what is too much goes back before the offering closes."""
    funded = Money(sum(subscription.funded_minor for subscription in facts.subscriptions), facts.currency)
    maximum = Money(facts.maximum_minor, facts.currency)
    is_within = funded <= maximum
    statement = f"{funded} is funded, of at most {maximum}."
    if not is_within:
        statement = f"{funded} is funded, and the offering takes no more than {maximum}: end investments first."
    return _build_gate(
        GateName.WITHIN_MAXIMUM,
        is_within,
        statement,
        _REG_CF_304 if facts.exemption is Exemption.REG_CF else HOUSE_RULE,
        ("funded", funded),
        ("maximum", maximum),
    )


def _build_days_gate(facts: ClosingFacts, now: datetime) -> Gate:
    name = GateName.OPEN_21_DAYS
    if facts.exemption is not Exemption.REG_CF:
        statement = "Regulation CF alone requires 21 days; this offering is made under another exemption."
        return _build_gate(name, True, statement, _REG_CF_303)
    if facts.disclosed_at is None:
        return _build_gate(name, False, "The offering has not been disclosed.", _REG_CF_303)
    until = max(facts.disclosed_at, facts.entered_at) + OPEN_DAYS_MIN
    return _build_gate(
        name,
        now >= until,
        f"Regulation CF keeps an offering open for 21 days, until {_spell_instant(until)}.",
        _REG_CF_303,
        ("disclosed", _spell_instant(facts.disclosed_at)),
        ("entered", _spell_instant(facts.entered_at)),
        ("open until", _spell_instant(until)),
    )


def _build_cancellation_gate(facts: ClosingFacts, now: datetime) -> Gate:
    name = GateName.CANCELLATION_WINDOW_OVER
    if facts.exemption is not Exemption.REG_CF:
        return _build_gate(name, True, "Regulation CF alone gives a right to cancel; none applies here.", _REG_CF_304)
    deadline = facts.deadline
    if facts.early_close is not None:
        deadline, noticed_on = facts.early_close.deadline, facts.early_close.noticed_on
        earliest = find_earliest_early_close(noticed_on)
        if deadline.date() < earliest:
            statement = f"The early close was announced on {noticed_on}; five business days' notice ends on {earliest}."
            operands = ("announced", str(noticed_on)), ("notice ends", str(earliest))
            return _build_gate(name, False, statement, _REG_CF_304, *operands)
    # Investors may cancel until 48 hours before the deadline; the money is the issuer's to take at the deadline.
    last_call = deadline - CANCELLATION_STOPS_BEFORE_DEADLINE
    return _build_gate(
        name,
        now >= deadline,
        f"Investors may cancel until {_spell_instant(last_call)}; the deadline is {_spell_instant(deadline)}.",
        _REG_CF_304,
        ("cancellation until", _spell_instant(last_call)),
        ("deadline", _spell_instant(deadline)),
    )


def _build_clearance_gate(facts: ClosingFacts) -> Gate:
    uncleared = [subscription.party_id for subscription in facts.subscriptions if not subscription.cleared]
    return _build_parties_gate(
        GateName.INVESTORS_CLEARED,
        uncleared,
        "has no fresh passed compliance check",
        "Every investor has a fresh passed check.",
    )


def _build_return_risk_gate(facts: ClosingFacts) -> Gate:
    risky = [
        subscription.party_id
        for subscription in facts.subscriptions
        if subscription.funded_minor > 0 and subscription.at_risk
    ]
    return _build_parties_gate(
        GateName.RETURN_RISK_OVER,
        risky,
        "has money the bank may still take back",
        "All funded money is past its hold.",
    )


def _build_availability_gate(facts: ClosingFacts) -> Gate:
    """Escrow decides last, and lets nothing go that is held: what it would refuse is refused before anybody decides."""
    name = GateName.SUBSCRIPTIONS_AVAILABLE
    total = Money(sum(facts.released.values()), facts.currency)
    if facts.available is None:
        statement = "What escrow has available of the subscriptions is not known."
        return _build_gate(name, False, statement, HOUSE_RULE, ("to release", total))
    missing = find_missing(facts.released, facts.available)
    short = Money(sum(missing.values()), facts.currency)
    holds = [each for each in facts.holds if each.party_id in missing]
    statement = "Escrow has all available that is to be released."
    if missing:
        why = f"held by {name_some([each.hold_id for each in holds])}" if holds else "no hold says why"
        statement = f"{short} of the {total} to be released is not available, of {name_some(missing)}: {why}."
    operands = (("to release", total), ("not available", short))
    held = ((each.hold_id, Money(each.amount_minor, facts.currency)) for each in holds)
    return _build_gate(name, not missing, statement, HOUSE_RULE, *operands, *held)


def _build_debts_gate(facts: ClosingFacts) -> Gate:
    """What a bank took back of money that had been paid out is missing in the cash that is there for all others."""
    name = GateName.RETURNS_RECOVERED
    if facts.debts is None:
        return _build_gate(name, False, "What parties owe the escrow account is not known.", HOUSE_RULE)
    owed = Money(sum(facts.debts.values()), facts.currency)
    statement = "Nobody owes what a bank took back."
    if facts.debts:
        statement = f"{owed} that a bank took back after it had been paid out is owed by {name_some(facts.debts)}."
    return _build_gate(name, not facts.debts, statement, HOUSE_RULE, ("owed", owed))


def _build_fees_gate(facts: ClosingFacts) -> Gate:
    """All that was contributed becomes the issuer's, and the provider has paid out less."""
    name = GateName.PROVIDER_FEES_COVERED
    if facts.provider_fees_minor is None:
        return _build_gate(name, False, "What payment providers have kept is not known.", HOUSE_RULE)
    kept = Money(facts.provider_fees_minor, facts.currency)
    statement = "Nothing is missing that payment providers kept."
    if facts.provider_fees_minor:
        statement = f"{kept} that payment providers kept of the contributions has to be paid in, or taken from FEES."
    return _build_gate(name, not facts.provider_fees_minor, statement, HOUSE_RULE, ("provider_fees", kept))


def find_missing(released: Mapping[str, int], available: Mapping[str, int]) -> dict[str, int]:
    """Investor -> how much of what is to be released escrow has not available; nobody of whom it has all."""
    missing = {party_id: minor - available.get(party_id, 0) for party_id, minor in released.items()}
    return {party_id: minor for party_id, minor in missing.items() if minor > 0}


def _build_escrow_status_gate(facts: ClosingFacts) -> Gate:
    status = facts.escrow_status or "not known"
    statement = f"The escrow account is {status}."
    return _build_gate(
        GateName.ESCROW_ACTIVE, facts.escrow_status == "ACTIVE", statement, HOUSE_RULE, ("status", status)
    )


def _build_balance_gate(facts: ClosingFacts) -> Gate:
    if facts.escrow_balanced is None:
        statement = "Whether the escrow account balances is not known."
    else:
        statement = f"The escrow account {'balances' if facts.escrow_balanced else 'does not balance'}."
    return _build_gate(GateName.ESCROW_BALANCED, facts.escrow_balanced is True, statement, HOUSE_RULE)


def _build_count_gate(facts: ClosingFacts) -> Gate:
    statement = "What escrow has booked of contributions is counted."
    if not facts.is_counted:
        statement = "What escrow has booked of contributions is being counted anew."
    return _build_gate(GateName.BOOK_COUNTED, facts.is_counted, statement, HOUSE_RULE)


def _build_parties_gate(name: GateName, party_ids: Sequence[str], what: str, nobody: str) -> Gate:
    """Open where no party is named."""
    ids = set(party_ids)
    statement = f"{name_some(ids)}: {what}." if ids else nobody
    return _build_gate(name, not ids, statement, HOUSE_RULE, ("parties", str(len(ids))))


def name_some(those: Collection[str]) -> str:
    """The first few ids: a statement is a sentence, not a list of a thousand."""
    ids = sorted(those)
    more = f" and {len(ids) - 3} more" if len(ids) > 3 else ""
    return f"{', '.join(ids[:3])}{more}"


def _spell_instant(when: datetime) -> str:
    return when.strftime("%Y-%m-%d %H:%M UTC")


def sum_releases(investments: Iterable[Investment]) -> dict[str, int]:
    """Investor -> what a closing now would take of its subscription."""
    released: dict[str, int] = defaultdict(int)
    for each in investments:
        if is_released(each):
            released[each.party_id] += each.funded_minor
    return dict(released)


def sum_released(investments: Iterable[Investment]) -> dict[str, int]:
    """Investor -> what the closing that is under way takes of its subscription."""
    released = Counter[str]()
    for each in investments:
        released[each.party_id] += each.released_minor
    return dict(+released)


def is_released(investment: Investment) -> bool:
    """Whether a closing takes it: it is funded, and not on its way back."""
    return investment.status is InvestmentStatus.PENDING and investment.funded_minor > 0
