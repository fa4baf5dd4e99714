"""What becomes of a debit, by the account number; those of 0009 are ours: an API that answers badly.

Source: docs.stripe.com/payments/ach-direct-debit#test-account-numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType

ROUTING_NUMBER = "110000000"
# Either shows that the holder saw the deposits.
AMOUNTS = (32, 45)
DESCRIPTOR_CODE = "SM11AA"


class Reply(Enum):
    """How the answer to an order travels."""

    WELL = auto()
    ERROR_AFTER_EFFECT = auto()  # and again for the same key: Stripe keeps the first answer, also a 500
    WRONG_AMOUNT = auto()


@dataclass(frozen=True, slots=True)
class Behaviour:
    """
    Args:
        says: What it does, for a person.
        refused: The decline code of an order that is refused at once.
        returned: (what Stripe calls it, the bank's code) of a debit that comes back while it is under way.
        disputed: The same of one that comes back after it has succeeded.
        unverified: The holder never sees deposits, so that the account is never confirmed.
        endless: It stays under way.
    """

    says: str
    refused: str = ""
    returned: tuple[str, str] | None = None
    disputed: tuple[str, str] | None = None
    unverified: bool = False
    endless: bool = False
    reply: Reply = Reply.WELL


BEHAVIOURS: Mapping[str, Behaviour] = MappingProxyType(
    {
        "000123456789": Behaviour("succeeds"),
        "000111111113": Behaviour("fails: the account is closed", returned=("account_closed", "R02")),
        "000111111116": Behaviour("fails: there is no account", returned=("no_account", "R03")),
        "000222222227": Behaviour("fails: insufficient funds", returned=("insufficient_funds", "R01")),
        "000333333335": Behaviour("fails: the debit is not authorized", returned=("debit_not_authorized", "R10")),
        "000555555559": Behaviour("succeeds, and is disputed", disputed=("debit_not_authorized", "R10")),
        "000666666661": Behaviour("the deposits cannot be sent", unverified=True),
        "000777777771": Behaviour("is refused: the weekly limit", refused="charge_exceeds_weekly_limit"),
        "000000000009": Behaviour("stays under way", endless=True),
        "000999999990": Behaviour("is taken, and answered 500", reply=Reply.ERROR_AFTER_EFFECT),
        "000999999992": Behaviour("is taken, and answered with another amount", reply=Reply.WRONG_AMOUNT),
    }
)
_ANY = Behaviour("succeeds")


def behaviour_of(account_number: str) -> Behaviour:
    return BEHAVIOURS.get(account_number, _ANY)
