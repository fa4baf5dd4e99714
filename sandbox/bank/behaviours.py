"""The test values: which account number makes the bank do what. This table is their only source.

It is served at `GET /v1/test-values`, printed as the table of `docs/sandbox.md` (`python -m sandbox.bank.behaviours`),
and read by the bank when it accepts a payment. A number that is not in it behaves as ORDINARY does.

The scheme is in the last two digits: 01-05 the everyday cases, 06-39 the ACH return code of that number,
51-59 the return codes R01-R09 that found their own number taken, 60-69 payouts that go wrong, 90-99 a bank that
answers or reports badly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from types import MappingProxyType

from sandbox.bank.calendar import add_banking_days

TEST_ROUTING_NUMBER = "021000021"


class Direction(StrEnum):
    DEBIT = "debit"  # pulls from the customer's account
    CREDIT = "credit"  # pushes to the customer's account


class Status(StrEnum):
    PENDING = "pending"
    SETTLED = "settled"
    RETURNED = "returned"
    FAILED = "failed"
    CANCELLED = "cancelled"


# Every move a payment can make; what is not here cannot happen.
NEXT_STATUSES: Mapping[Status, frozenset[Status]] = MappingProxyType(
    {
        Status.PENDING: frozenset({Status.SETTLED, Status.RETURNED, Status.FAILED, Status.CANCELLED}),
        Status.SETTLED: frozenset({Status.RETURNED}),
        Status.RETURNED: frozenset(),
        Status.FAILED: frozenset(),
        Status.CANCELLED: frozenset(),
    }
)

# Source: Nacha Operating Rules, Appendix Four (return reason codes), in our own words.
RETURN_REASONS: Mapping[str, str] = MappingProxyType(
    {
        "R01": "insufficient funds",
        "R02": "account closed",
        "R03": "no account, or the holder cannot be located",
        "R04": "account number is not valid",
        "R05": "consumer account debited as a corporate one without authorization",
        "R07": "authorization revoked by the customer",
        "R08": "payment stopped",
        "R09": "uncollected funds",
        "R10": "originator not known or not authorized",
        "R11": "entry not in accordance with the authorization",
        "R12": "branch sold to another bank",
        "R14": "representative payee deceased",
        "R15": "account holder deceased",
        "R16": "account frozen",
        "R17": "entry questioned by the receiving bank",
        "R20": "account does not allow this transaction",
        "R23": "credit refused by the receiver",
        "R29": "corporate customer says the entry is not authorized",
    }
)


@dataclass(frozen=True, slots=True)
class Step:
    """One move of a payment, so many days after the move before it (or after its acceptance)."""

    status: Status
    banking_days: int = 0
    calendar_days: int = 0
    return_code: str | None = None

    def due_at(self, previous: datetime) -> datetime:
        """The business time of this move. A move on a later day is due when that day opens, at 00:00 UTC."""
        if self.banking_days:
            day = add_banking_days(previous.date(), self.banking_days)
        elif self.calendar_days:
            day = previous.date() + timedelta(days=self.calendar_days)
        else:
            return previous
        return datetime.combine(day, time(), UTC)

    def __str__(self) -> str:
        days, kind = (self.banking_days, "banking day") if self.banking_days else (self.calendar_days, "day")
        when = f"{days} {kind}{'s' if days > 1 else ''} later" if days else "at once"
        verb = {Status.SETTLED: "settles", Status.RETURNED: "comes back", Status.FAILED: "fails"}[self.status]
        return f"{verb} {when}" + (f" as {self.return_code}" if self.return_code else "")


Script = tuple[Step, ...]


class Reply(StrEnum):
    """How the bank answers the POST. The value is the documented line."""

    ACCEPTED = "201"
    ERROR_AFTER_EFFECT = "accepts it, yet answers 500"
    SILENCE_AFTER_EFFECT = "accepts it, answers nothing, closes the connection after 30 s"
    TOO_MANY_REQUESTS = "429 with Retry-After twice, then 201"
    DECLINED = "422 `declined`, no payment"
    UNAVAILABLE_BEFORE_EFFECT = "503 once without effect, then 201"
    JUNK_AFTER_EFFECT = "accepts it, answers 201 with a body that is not JSON"
    WRONG_AMOUNT = "201 that names one cent too many (a GET tells the truth)"


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What the bank does with one account number."""

    account_number: str
    debits: tuple[Script, ...]  # by presentment; the last one serves all later presentments
    credit: Script
    reply: Reply = Reply.ACCEPTED
    unruly_events: bool = False  # each event is delivered twice, and `payment.pending` after its successor

    def script(self, direction: Direction, presentment: int) -> Script:
        if direction is Direction.CREDIT:
            return self.credit
        return self.debits[min(presentment, len(self.debits)) - 1]


def _make_settlement(banking_days: int = 0) -> Script:
    return (Step(Status.SETTLED, banking_days=banking_days),)


def _make_return(code: str) -> Script:
    return (Step(Status.RETURNED, banking_days=1, return_code=code),)


def _make_late_return(code: str) -> Script:
    """Settles, and is undone inside the 60 calendar days that a customer has to disown a debit."""
    return (Step(Status.SETTLED), Step(Status.RETURNED, calendar_days=30, return_code=code))


def _account(suffix: str) -> str:
    return f"0001111111{suffix}"


_AT_ONCE = _make_settlement()

ORDINARY = Behaviour(_account("02"), debits=(_make_settlement(2),), credit=_make_settlement(2))

TEST_VALUES: tuple[Behaviour, ...] = (
    Behaviour(_account("01"), debits=(_AT_ONCE,), credit=_AT_ONCE),
    ORDINARY,
    Behaviour(_account("03"), debits=(_make_return("R01"), _make_settlement(1)), credit=_AT_ONCE),
    Behaviour(_account("04"), debits=(_make_return("R02"),), credit=_make_return("R02")),
    Behaviour(_account("05"), debits=(_make_return("R03"),), credit=_make_return("R03")),
    Behaviour(_account("07"), debits=(_make_late_return("R07"),), credit=_AT_ONCE),
    Behaviour(_account("08"), debits=(_make_return("R08"),), credit=_AT_ONCE),
    Behaviour(_account("09"), debits=(_make_return("R09"), _make_settlement(1)), credit=_AT_ONCE),
    Behaviour(_account("10"), debits=(_make_late_return("R10"),), credit=_AT_ONCE),
    Behaviour(_account("11"), debits=(_make_late_return("R11"),), credit=_AT_ONCE),
    Behaviour(_account("12"), debits=(_make_return("R12"),), credit=_make_return("R12")),
    Behaviour(_account("14"), debits=(_make_return("R14"),), credit=_make_return("R14")),
    Behaviour(_account("15"), debits=(_make_return("R15"),), credit=_make_return("R15")),
    Behaviour(_account("16"), debits=(_make_return("R16"),), credit=_make_return("R16")),
    Behaviour(_account("17"), debits=(_make_return("R17"),), credit=_make_return("R17")),
    Behaviour(_account("20"), debits=(_make_return("R20"),), credit=_make_return("R20")),
    Behaviour(_account("23"), debits=(_make_settlement(2),), credit=_make_return("R23")),
    # R29 belongs to the two-day window; it comes late here as it does with the originating bank's consent.
    Behaviour(_account("29"), debits=(_make_late_return("R29"),), credit=_AT_ONCE),
    Behaviour(_account("51"), debits=(_make_return("R01"),), credit=_AT_ONCE),
    Behaviour(_account("54"), debits=(_make_return("R04"),), credit=_make_return("R04")),
    Behaviour(_account("55"), debits=(_make_late_return("R05"),), credit=_AT_ONCE),
    Behaviour(_account("60"), debits=(_make_settlement(2),), credit=(Step(Status.FAILED, return_code="R03"),)),
    Behaviour(
        _account("61"),
        debits=(_make_settlement(2),),
        credit=(Step(Status.SETTLED), Step(Status.RETURNED, banking_days=2, return_code="R02")),
    ),
    Behaviour(_account("90"), debits=(_AT_ONCE,), credit=_AT_ONCE, reply=Reply.ERROR_AFTER_EFFECT),
    Behaviour(_account("91"), debits=(_AT_ONCE,), credit=_AT_ONCE, reply=Reply.SILENCE_AFTER_EFFECT),
    Behaviour(_account("92"), debits=(_AT_ONCE,), credit=_AT_ONCE, reply=Reply.TOO_MANY_REQUESTS),
    Behaviour(_account("93"), debits=((),), credit=(), reply=Reply.DECLINED),
    Behaviour(_account("94"), debits=(_AT_ONCE,), credit=_AT_ONCE, reply=Reply.UNAVAILABLE_BEFORE_EFFECT),
    Behaviour(_account("95"), debits=(_AT_ONCE,), credit=_AT_ONCE, unruly_events=True),
    Behaviour(_account("96"), debits=(_AT_ONCE,), credit=_AT_ONCE, reply=Reply.JUNK_AFTER_EFFECT),
    Behaviour(_account("97"), debits=(_AT_ONCE,), credit=_AT_ONCE, reply=Reply.WRONG_AMOUNT),
)

_BY_DIGITS = {behaviour.account_number[-2:]: behaviour for behaviour in TEST_VALUES}


def behaviour_of(account_number: str) -> Behaviour:
    """By the last two digits: what comes before them tells accounts apart."""
    return _BY_DIGITS.get(account_number[-2:], ORDINARY)


def describe_behaviour(behaviour: Behaviour) -> dict[str, str]:
    """One line of the documented table."""
    debit = "; ".join(
        f"{_ORDINALS[number]}{_describe_script(script)}" if len(behaviour.debits) > 1 else _describe_script(script)
        for number, script in enumerate(behaviour.debits)
    )
    events = "each twice, `payment.pending` last" if behaviour.unruly_events else "as usual"
    return {
        "account_number": behaviour.account_number,
        "debit": debit,
        "credit": _describe_script(behaviour.credit),
        "reply": behaviour.reply.value,
        "events": events,
    }


_ORDINALS = ("first presentment ", "re-presentment ")


def _describe_script(script: Script) -> str:
    return ", then ".join(str(step) for step in script) or "-"


def markdown_table() -> str:
    """The table of `docs/sandbox.md`."""
    lines = [
        "| account number | debit (money in) | credit (payout) | answer to the POST | events |",
        "|---|---|---|---|---|",
    ]
    line = "| `{account_number}` | {debit} | {credit} | {reply} | {events} |"
    return "\n".join([*lines, *(line.format(**describe_behaviour(value)) for value in TEST_VALUES)])


if __name__ == "__main__":
    print(markdown_table())
