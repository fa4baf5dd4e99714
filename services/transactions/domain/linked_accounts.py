"""Bank accounts that were linked: what a bank says of one, and when its word is enough for money to go there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from services.chassis.values.approval_policy import ApprovalTerms
from services.chassis.values.explanation import HOUSE_RULE, Explanation
from services.transactions.domain.bank_accounts import (
    NATURAL_PERSONS,
    BankAccount,
    BankAccountStatus,
    Confirmation,
    HolderType,
    NameMatch,
)


@dataclass(frozen=True, slots=True)
class LinkedAccount:
    """An account as its bank tells of it to whoever has signed in there.

    Args:
        is_business: The bank calls it a business's, or there is a name of a business on it.
        is_token: The number stands for the account's own, for us alone: another sign-in has another one.
    """

    routing_number: str
    account_number: str
    account_type: str
    name_match: NameMatch
    is_business: bool = False
    is_token: bool = False

    def __repr__(self) -> str:
        return f"LinkedAccount(name_match={self.name_match!r})"  # the rest says which account it is


@dataclass(frozen=True, slots=True)
class Owner:
    """The party that an account is linked for, as compliance knows it.

    Args:
        kind: What it is by law.
        is_cleared: Its money may move, so a second person has passed its name.
    """

    party_id: str
    legal_name: str
    kind: str
    is_cleared: bool


def choose_holder_type(linked: LinkedAccount, owner: Owner) -> HolderType:
    """No account of a natural person is a company's, whatever its bank calls it."""
    is_company = linked.is_business and owner.kind not in NATURAL_PERSONS
    return HolderType.COMPANY if is_company else HolderType.PERSON


def is_confirmed_by_bank(
    account: BankAccount,
    linked: LinkedAccount,
    owner: Owner,
    *,
    same: Sequence[BankAccount],
    others: Sequence[BankAccount],
    terms: ApprovalTerms,
) -> bool:
    """Whether the bank's word is enough for an account that has just been linked. Else persons decide on it.

    Who acts for an entity, and whose account it may have, a bank does not say: only for natural persons it does.

    Where the same number stands already, persons were asked about it or will be, and perhaps said no. The default is a
    bank's to confirm only as long as no account of the party was ever changed since it was added: whoever has the
    session of an investor could take the default away first, or retire it, and then link. A bank's word stands for one
    person's: an organization that wants more of them, or a fresh sign-in, has a rule that a bank does not fulfil.

    Args:
        same: What stood for the same account before, of whatever party.
        others: The other accounts that the party ever had.
        terms: Of the persons who would have to confirm it.
    """
    is_known_as_theirs = linked.name_match is NameMatch.MATCHES and owner.is_cleared
    is_natural = owner.kind in NATURAL_PERSONS and not linked.is_business
    is_a_persons = account.holder_type is HolderType.PERSON and is_natural
    has_number_of_its_own = not linked.is_token and not same
    takes_a_place = account.default_for_payouts and any(map(_may_have_been_default, others))
    is_one_enough = terms.approvers_needed == 1 and terms.strong_sign_in_seconds_max is None
    is_enough = is_one_enough and not takes_a_place
    return is_known_as_theirs and is_a_persons and has_number_of_its_own and is_enough


def _may_have_been_default(other: BankAccount) -> bool:
    return other.version > 1 or other.status is not BankAccountStatus.PENDING


def confirm_by_bank(account: BankAccount, now: datetime) -> BankAccount:
    return replace(account, status=BankAccountStatus.ACTIVE, confirmed_at=now, confirmation=Confirmation.BANK)


_SAID = {
    NameMatch.MATCHES: "its bank says that who holds it, or one of them, has the name of the party",
    NameMatch.DIFFERS: "its bank says that NOBODY who holds it has the name of the party",
    NameMatch.SIMILAR: "its bank says that somebody who holds it has a name like the party's, and NOT the same",
    NameMatch.NOT_TOLD: "nobody knows who holds it: its bank did not tell, or who signed in there typed the number",
}


def explain_link(account: BankAccount) -> list[Explanation]:
    """What its bank said of an account; nothing of one that was typed."""
    if account.name_match is None:
        return []
    statement = f"It was linked, by a sign-in at its bank: {_SAID[account.name_match]}."
    if account.has_token_number:
        statement += (
            " Its number is a token of the bank's: the same account has other numbers, so nobody can tell here whether"
            " it is blocked, or another party's; and the bank may end it."
        )
    if account.confirmation is Confirmation.BANK:
        statement += " Nobody but the bank has confirmed it."
    operands = (("name", account.name_match), ("token", "yes" if account.has_token_number else "no"))
    return [Explanation(statement, "BANK_ACCOUNT_LINKED", operands, HOUSE_RULE)]
