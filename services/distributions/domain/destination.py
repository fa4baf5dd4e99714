"""Where money is to go: the bank account that an order names, as transactions knew it a moment before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from services.chassis.values.accounts import check_bank_account
from services.chassis.values.errors import DomainError, Unavailable
from services.chassis.values.explanation import Explanation

# The rails that pay to no bank account, as transactions names them in its table of rails.
WITHOUT_ACCOUNT: Final = frozenset({"CARD", "CHECK", "INTERNAL_TRANSFER"})


def pays_to_account(payment_method: str | None) -> bool:
    """Whether a payout by this rail goes to a bank account; where none is named, transactions chooses one that does."""
    return payment_method not in WITHOUT_ACCOUNT


@dataclass(frozen=True, slots=True)
class BankAccount:
    """What transactions says of an account that money is to go to."""

    bank_account_id: str
    party_id: str
    holder: str
    last4: str
    status: str
    added_at: datetime
    added_by: str
    makers: frozenset[str]  # who added it, or, as far as that is asked, changed where its money goes


@dataclass(frozen=True, slots=True)
class PayoutAccount:
    """Where a party is paid if no account is named.

    Args:
        first_paid_at: When money first arrived there that was not taken back; None: it never has.
        taken_back_at: When a debit last took back what was paid to the party; None: none did within a year.
    """

    account: BankAccount
    first_paid_at: datetime | None
    taken_back_at: datetime | None = None


class PayoutAccounts(NamedTuple):
    """Of several parties.

    Args:
        altered: The parties of which nobody can tell: somebody altered a row in the database.
    """

    found: Sequence[PayoutAccount]
    altered: frozenset[str]


@dataclass(frozen=True, slots=True)
class RefundPreview:
    """Where refunds go that name no account, and how much of what was paid in the bank may take back."""

    accounts: Sequence[BankAccount]
    explanations: Sequence[Explanation]
    by_card: frozenset[str]  # the parties whose money goes back to cards, all of it or some


@dataclass(frozen=True, slots=True)
class Destination:
    """
    Args:
        bank_account_id: The one that is named; None: the party's default, or where the money came from.
        account: What is known of it; None where it is not known. Of one that is not named, for whoever decides alone:
            the party's default as it is now.
        payment_method: The rail, if one is named.
    """

    bank_account_id: str | None
    account: BankAccount | None = None
    payment_method: str | None = None

    @property
    def makers(self) -> frozenset[str]:
        """Who made the account what it is, and so does not approve what is paid there."""
        return frozenset() if self.account is None else self.account.makers

    @property
    def is_left_to_default(self) -> bool:
        """Whether transactions chooses the account, when it pays."""
        return self.bank_account_id is None and self.pays_to_account

    @property
    def pays_to_account(self) -> bool:
        return pays_to_account(self.payment_method)

    def check(self, bank_account_id: str | None, party_id: str, *, field: str | None) -> None:
        """Whether the party can be paid there. An account that is not named transactions chooses when it pays.

        Args:
            bank_account_id: Which one is named, by what is locked.
            field: The request's field that names it, if one does.

        Raises:
            BankAccountNotFound, BankAccountNotUsable
            Unavailable: it was asked about another one than is named by now, or nobody can tell.
        """
        if bank_account_id != self.bank_account_id:
            raise Unavailable("Another bank account was named meanwhile.")
        if bank_account_id is not None:
            check_bank_account(self.account, party_id, is_inbound=False, field=field)

    def takes_payouts(self, party_id: str) -> bool:
        """Whether `check` would let the party be paid there."""
        try:
            self.check(self.bank_account_id, party_id, field=None)
        except DomainError:
            return False
        return True
