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
    INCIDENT = auto()  # we sent a duplicate: a person looks


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
    ReturnCode("R31", "sent back with our permission", Action.AGREED),
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
