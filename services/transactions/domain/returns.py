"""What a NACHA return code means, and what follows from it.

Source: Nacha Operating Rules, Appendix Four (return reason codes) and Subsection 2.13.4 (reinitiation): a debit
returned R01 or R09 may be presented twice more, within 180 days of the original settlement.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from types import MappingProxyType

from services.chassis.values.failure import Failure

PRESENTMENTS_MAX = 3
# What a failure's metadata calls the bank's own code.
NETWORK_CODE = "network_code"
REPRESENT_WITHIN = timedelta(days=180)


class Action(Enum):
    """What may be done after a return."""

    REPRESENT = auto()  # the same entry again, twice at most
    NEW_AUTHORIZATION = auto()  # nothing, until the customer authorizes anew
    CORRECT_AND_RESEND = auto()  # our error: a corrected new entry within 60 days, no new authorization
    FIX_DATA = auto()  # correct the data, then a new entry
    STOP = auto()  # no further entry to this account
    CREDIT_REFUSED = auto()  # a payout came back: owed again, never sent to the same account by itself
    AGREED = auto()  # sent back by agreement with us or our bank
    INCIDENT = auto()  # we sent a duplicate, or banks dispute a return: a person looks


@dataclass(frozen=True, slots=True)
class ReturnCode:
    """One code. `blocks`: the bank account is not used again. `review`: a person looks, it may be a legal matter."""

    code: str
    name: str
    action: Action
    blocks: bool = False
    review: bool = False


_TABLE = (
    ReturnCode("R01", "insufficient funds", Action.REPRESENT),
    ReturnCode("R02", "account closed", Action.STOP, blocks=True),
    ReturnCode("R03", "no account, or the holder cannot be located", Action.FIX_DATA),
    ReturnCode("R04", "account number is not valid", Action.FIX_DATA),
    ReturnCode("R05", "consumer account debited with a corporate code", Action.NEW_AUTHORIZATION, blocks=True),
    ReturnCode("R06", "recalled by our bank", Action.AGREED),
    ReturnCode("R07", "authorization revoked by the customer", Action.NEW_AUTHORIZATION, blocks=True),
    ReturnCode("R08", "payment stopped by the customer", Action.NEW_AUTHORIZATION),
    ReturnCode("R09", "funds not collected yet", Action.REPRESENT),
    ReturnCode("R10", "originator unknown or not authorized", Action.NEW_AUTHORIZATION, blocks=True),
    ReturnCode("R11", "entry not as authorized", Action.CORRECT_AND_RESEND),
    ReturnCode("R12", "branch sold to another bank", Action.STOP, blocks=True),
    ReturnCode("R13", "bank does not take part in ACH", Action.FIX_DATA),
    ReturnCode("R14", "representative payee deceased", Action.STOP, blocks=True),
    ReturnCode("R15", "account holder deceased", Action.STOP, blocks=True),
    ReturnCode("R16", "account frozen", Action.STOP, blocks=True, review=True),
    ReturnCode("R17", "entry questioned by the bank", Action.FIX_DATA, review=True),
    ReturnCode("R18", "effective date not acceptable", Action.FIX_DATA),
    ReturnCode("R19", "amount field in error", Action.FIX_DATA),
    ReturnCode("R20", "account does not allow transactions", Action.STOP, blocks=True),
    ReturnCode("R21", "company identification not valid", Action.FIX_DATA),
    ReturnCode("R22", "individual identification not valid", Action.FIX_DATA),
    ReturnCode("R23", "credit refused by the receiver", Action.CREDIT_REFUSED),
    ReturnCode("R24", "duplicate entry", Action.INCIDENT, review=True),
    ReturnCode("R25", "addenda in error", Action.FIX_DATA),
    ReturnCode("R26", "mandatory field in error", Action.FIX_DATA),
    ReturnCode("R27", "trace number in error", Action.FIX_DATA),
    ReturnCode("R28", "routing number check digit in error", Action.FIX_DATA),
    ReturnCode("R29", "corporate customer says not authorized", Action.NEW_AUTHORIZATION, blocks=True),
    ReturnCode("R30", "truncated check: not for us", Action.STOP, review=True),
    ReturnCode("R31", "sent back with our permission", Action.AGREED),
    ReturnCode("R32", "receiving bank cannot settle", Action.FIX_DATA, review=True),
    ReturnCode("R33", "return of a truncated check: not for us", Action.STOP, review=True),
    ReturnCode("R34", "bank takes part in ACH for some customers alone", Action.STOP, blocks=True),
    ReturnCode("R35", "debits are not allowed to this account", Action.STOP, blocks=True),
    ReturnCode("R36", "credit of a kind that is not allowed", Action.STOP, review=True),
    ReturnCode("R37", "check behind the entry was presented, too", Action.STOP, review=True),
    ReturnCode("R38", "check behind the entry was stopped", Action.STOP, review=True),
    ReturnCode("R39", "check behind the entry is not proper", Action.STOP, review=True),
    ReturnCode("R40", "enrolment with a federal agency: not for us", Action.STOP, review=True),
    ReturnCode("R41", "enrolment with a wrong transaction code: not for us", Action.STOP, review=True),
    ReturnCode("R42", "enrolment with a wrong routing number: not for us", Action.STOP, review=True),
    ReturnCode("R43", "enrolment with a wrong account number: not for us", Action.STOP, review=True),
    ReturnCode("R44", "enrolment with a wrong individual id: not for us", Action.STOP, review=True),
    ReturnCode("R45", "enrolment with a wrong name: not for us", Action.STOP, review=True),
    ReturnCode("R46", "enrolment with a wrong payee indicator: not for us", Action.STOP, review=True),
    ReturnCode("R47", "enrolment was made twice: not for us", Action.STOP, review=True),
    ReturnCode("R50", "state law keeps the check from being collected by ACH", Action.STOP, review=True),
    ReturnCode("R51", "check may not be collected by ACH", Action.STOP, review=True),
    ReturnCode("R52", "check behind the entry was stopped", Action.STOP, review=True),
    ReturnCode("R53", "check behind the entry was presented, too", Action.STOP, review=True),
    ReturnCode("R61", "return came to the wrong bank", Action.INCIDENT, review=True),
    ReturnCode("R62", "return of an entry that corrected an error", Action.INCIDENT, review=True),
    ReturnCode("R67", "return was sent twice", Action.INCIDENT, review=True),
    ReturnCode("R68", "return came too late", Action.INCIDENT, review=True),
    ReturnCode("R69", "return has wrong fields", Action.INCIDENT, review=True),
    ReturnCode("R70", "return that was permitted is not accepted", Action.INCIDENT, review=True),
    ReturnCode("R71", "dishonored return came to the wrong bank", Action.INCIDENT, review=True),
    ReturnCode("R72", "dishonored return came too late", Action.INCIDENT, review=True),
    ReturnCode("R73", "return was in time after all", Action.INCIDENT, review=True),
    ReturnCode("R74", "return was corrected", Action.INCIDENT, review=True),
    ReturnCode("R75", "return was sent once after all", Action.INCIDENT, review=True),
    ReturnCode("R76", "return had no errors after all", Action.INCIDENT, review=True),
    ReturnCode("R77", "dishonored return is not accepted", Action.INCIDENT, review=True),
    ReturnCode("R80", "international entry with wrong codes: not for us", Action.STOP, review=True),
    ReturnCode("R81", "bank takes no international entries", Action.STOP, review=True),
    ReturnCode("R82", "foreign bank's identification is not valid", Action.STOP, review=True),
    ReturnCode("R83", "foreign bank cannot settle", Action.STOP, review=True),
    ReturnCode("R84", "gateway did not process the entry", Action.STOP, review=True),
    ReturnCode("R85", "international payment with wrong codes", Action.STOP, review=True),
)

RETURN_CODES: Mapping[str, ReturnCode] = MappingProxyType({row.code: row for row in _TABLE})


def find_return_code(code: str) -> ReturnCode:
    """The row of a code. One we do not know is never presented again, and a person looks."""
    return RETURN_CODES.get(code) or ReturnCode(code, "sent back by the bank", Action.STOP, review=True)


def is_known(code: str, heard: Collection[str]) -> bool:
    """Whether a return says of a bank account nothing that earlier ones have not said.

    Whoever is drawn from can disown one debit after another, by one code or another: that is known after the first.
    What the bank says of the account itself, that it is frozen or its holder has died, is new with each code.

    Args:
        heard: The codes with which what was drawn from it was sent back before.
    """
    is_disowned = find_return_code(code).action is Action.NEW_AUTHORIZATION
    return code in heard or (is_disowned and bool(heard))


def network_code_of(failure: Failure | None) -> str:
    """The code with which the bank sent it back or refused it; empty where it said none."""
    return failure.metadata.get(NETWORK_CODE, "") if failure else ""


def spell_failure(failure: Failure) -> str:
    """For the history of a transaction."""
    return f"{network_code_of(failure) or failure.code}: {failure.message}"


def spell_end(failure: Failure | None) -> str:
    """Why a transaction ended otherwise than paid: one that was cancelled has no failure."""
    return "it was cancelled" if failure is None else spell_failure(failure)


def may_represent(
    code: str, *, is_inbound: bool, presentments: int, first_presented_at: datetime, next_attempt_at: datetime
) -> bool:
    """Whether this return may be answered by presenting the same debit again at `next_attempt_at`."""
    return (
        is_inbound
        and find_return_code(code).action is Action.REPRESENT
        and presentments < PRESENTMENTS_MAX
        and not is_too_late(first_presented_at, next_attempt_at)
    )


def is_too_late(first_presented_at: datetime, at: datetime) -> bool:
    """Whether a debit first presented then may no longer be presented at `at`, whoever asks for it."""
    return at > first_presented_at + REPRESENT_WITHIN
