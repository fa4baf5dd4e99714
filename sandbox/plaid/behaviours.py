"""What becomes of a transfer, by the account number. The numbers are ours: Plaid's own sandbox is told by calls alone,
which move here what stays pending.

Source of what each is like: plaid.com/docs/transfer/reconciling-transfers, plaid.com/docs/transfer/troubleshooting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType

ROUTING_NUMBER = "110000000"


class Reply(Enum):
    """How the answer to an order travels."""

    WELL = auto()
    AUTHORIZED_AND_ERROR = auto()
    CREATED_AND_ERROR = auto()
    WRONG_AMOUNT = auto()


@dataclass(frozen=True, slots=True)
class Behaviour:
    """
    Args:
        says: What it does, for a person.
        decision: What the authorization is.
        rationale: Its code.
        refused: The error code with which the transfer is refused once it is authorized.
        ends: The statuses that it goes through after `pending`, the last of which it keeps.
        return_code: The bank's, of one that comes back.
    """

    says: str
    decision: str = "approved"
    rationale: str = "MIGRATED_ACCOUNT_ITEM"
    refused: str = ""
    ends: tuple[str, ...] = ("posted", "settled", "funds_available")
    return_code: str = ""
    reply: Reply = Reply.WELL


_BACK, _LATE = ("posted", "returned"), ("posted", "settled", "funds_available", "returned")

BEHAVIOURS: Mapping[str, Behaviour] = MappingProxyType(
    {
        "000123456789": Behaviour("settles"),
        "000111111113": Behaviour("comes back: the account is closed", ends=_BACK, return_code="R02"),
        "000111111116": Behaviour("comes back: there is no account", ends=_BACK, return_code="R03"),
        "000222222227": Behaviour("comes back: insufficient funds", ends=_BACK, return_code="R01"),
        "000333333335": Behaviour("comes back: the debit is not authorized", ends=_BACK, return_code="R10"),
        "000555555559": Behaviour("settles, and comes back: R10", ends=_LATE, return_code="R10"),
        "000666666661": Behaviour("fails before it is posted", ends=("failed",)),
        "000777777771": Behaviour("is declined: insufficient funds", decision="declined", rationale="NSF"),
        "000777777773": Behaviour("is declined: the risk is too high", decision="declined", rationale="RISK"),
        "000777777775": Behaviour(
            "wants the holder to do something", decision="user_action_required", rationale="ITEM_LOGIN_REQUIRED"
        ),
        "000888888881": Behaviour("is authorized, and refused", refused="TRANSFER_NETWORK_LIMIT_EXCEEDED"),
        "000000000009": Behaviour("stays pending", ends=()),
        "000999999990": Behaviour("is made, and answered 500", reply=Reply.CREATED_AND_ERROR),
        "000999999991": Behaviour("is authorized, and answered 500", reply=Reply.AUTHORIZED_AND_ERROR),
        "000999999992": Behaviour("is made, and answered with another amount", reply=Reply.WRONG_AMOUNT),
    }
)
_ANY = Behaviour("settles")


def behaviour_of(account_number: str) -> Behaviour:
    return BEHAVIOURS.get(account_number, _ANY)
