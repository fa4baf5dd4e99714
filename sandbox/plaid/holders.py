"""Who signs in to a bank by Link, and what that bank says, by the user name: of a person, or of more than one account.

`user_good` is a name of Plaid's own sandbox; the others are ours. Source of what each answer is like:
plaid.com/docs/api/products/auth, plaid.com/docs/api/products/identity, plaid.com/docs/auth/#tokenized-account-numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from sandbox.plaid.behaviours import ROUTING_NUMBER

# Of whoever names no other one.
ACCOUNT_NUMBER = "1111222233330000"


@dataclass(frozen=True, slots=True)
class Account:
    """
    Args:
        name_score: How well the name that is asked about is that of its holder, of 100; None: its bank does not tell.
        is_business_name: Whether a name of a business was compared.
        number: Where it is not the one that whoever signs in names.
        has_number: Whether it has a number for ACH at all.
    """

    name: str
    kind: str = "depository"
    subtype: str = "checking"
    name_score: int | None = 100
    is_business_name: bool = False
    holder_category: str = "personal"
    is_tokenized: bool = False
    routing_number: str = ROUTING_NUMBER
    number: str = ""
    has_number: bool = True


@dataclass(frozen=True, slots=True)
class Holder:
    """
    Args:
        says: What its bank says, for a person.
        has_identity: Whether the bank can be asked for the holder's name.
        auth_method: How Plaid learned of the account, where that was not by signing in at the bank.
    """

    says: str
    accounts: tuple[Account, ...] = (Account("Plaid Checking"),)
    has_identity: bool = True
    auth_method: str = "INSTANT_AUTH"


def _with(**values: object) -> tuple[Account, ...]:
    return (Account("Plaid Checking", **values),)  # type: ignore[arg-type]


HOLDERS: Mapping[str, Holder] = MappingProxyType(
    {
        "user_good": Holder("the name matches"),
        "user_savings": Holder("the name matches, of a savings account", _with(subtype="savings")),
        "user_strong_name": Holder("the name matches well enough: 85 of 100", _with(name_score=85)),
        "user_similar_name": Holder("the name is only similar: 84 of 100", _with(name_score=84)),
        "user_other_name": Holder("the name is another one", _with(name_score=12)),
        "user_no_name": Holder("the bank knows no name", _with(name_score=None)),
        "user_no_identity": Holder("the bank cannot be asked for the name", has_identity=False),
        "user_business": Holder(
            "the account is a business's, and the name matches",
            _with(holder_category="business", is_business_name=True),
        ),
        "user_tokenized": Holder(
            "the number is a token of the bank's, another one for each sign-in", _with(is_tokenized=True)
        ),
        "user_typed": Holder("the number was typed at Plaid, and the bank was not asked", auth_method="DATABASE_MATCH"),
        "user_credit_card": Holder(
            "it is a credit card",
            (Account("Plaid Credit Card", "credit", "credit card", has_number=False),),
        ),
        "user_loan_with_number": Holder(
            "it is a loan, and has a number all the same", (Account("Plaid Loan", "loan", "student"),)
        ),
        "user_money_market": Holder("it is neither a checking nor a savings account", _with(subtype="money market")),
        "user_several": Holder(
            "there are two accounts: one has to be named",
            (Account("Plaid Checking"), Account("Plaid Saving", subtype="savings", number="1111222233331111")),
        ),
        "user_bad_routing": Holder("the routing number has a wrong check digit", _with(routing_number="110000001")),
        "user_bad_number": Holder("the account number is none", _with(number="12-34 56")),
        "user_no_number": Holder("the bank tells no number", _with(has_number=False)),
    }
)
