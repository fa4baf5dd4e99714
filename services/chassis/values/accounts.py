"""What may be done with an escrow account or a bank account, by its status: one law for every service that asks.

What of it is refused stands in refusals.py.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from services.chassis.values.errors import Unavailable
from services.chassis.values.refusals import (
    BankAccountNotFound,
    BankAccountNotUsable,
    EscrowAccountClosed,
    EscrowAccountFrozen,
)

# Statuses of an escrow account in which people may move money; winding down is moving it.
_TAKES_MONEY = ("ACTIVE", "LIQUIDATING")


def takes_money(status: str) -> bool:
    """Whether money may move in an escrow account of that status, by people's will."""
    return status in _TAKES_MONEY


def check_takes_money(escrow_account_id: str, status: str, field: str | None = None) -> None:
    """As `takes_money`: escrow itself books no other.

    Args:
        field: The request's field that names the account, if one does.

    Raises:
        EscrowAccountFrozen, EscrowAccountClosed
        Unavailable: its status is of a newer release, and in such a one nothing is done.
    """
    if status == "FROZEN":
        raise EscrowAccountFrozen(escrow_account_id, field)
    if status == "CLOSED":
        raise EscrowAccountClosed(escrow_account_id, field)
    if not takes_money(status):
        raise Unavailable(f"The escrow account is {status}, a status that only a newer release knows.")


class NamedBankAccount(Protocol):
    """A bank account that somebody named, as far as a service knows it."""

    @property
    def bank_account_id(self) -> str: ...

    @property
    def party_id(self) -> str: ...

    @property
    def status(self) -> str: ...


Account = TypeVar("Account", bound=NamedBankAccount)

# By the status of a bank account: whether money may come from it, and whether it may go to it. A debit needs no second
# person: its bank can take it back.
_BANK_ACCOUNT_USES = {
    "PENDING": (True, False),
    "ACTIVE": (True, True),
    "SUSPENDED": (False, False),
    "BLOCKED": (False, False),
    "DELETED": (False, False),
}


def check_bank_account(
    account: Account | None, party_id: str, *, is_inbound: bool, field: str | None = None
) -> Account:
    """The account, if money of the party may come from it, or go to it.

    Args:
        field: The request's field that names the account, if one does.

    Raises:
        BankAccountNotFound: there is none, or it is another party's.
        BankAccountNotUsable
        Unavailable: its status is of a newer release, and in such a one nothing is done.
    """
    if account is None or account.party_id != party_id:
        raise BankAccountNotFound(field)
    status = account.status
    if status not in _BANK_ACCOUNT_USES:
        raise Unavailable(f"The bank account is {status}, a status that only a newer release knows.")
    may_come, may_go = _BANK_ACCOUNT_USES[status]
    if not (may_come if is_inbound else may_go):
        fields, account_id = {field: f"is {status}"} if field else None, account.bank_account_id
        message = f"The bank account is {status}."
        raise BankAccountNotUsable(message, fields=fields, bank_account_id=account_id, status=status)
    return account
