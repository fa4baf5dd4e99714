"""What adding a bank account takes, however its number came here: typed, or told by its bank."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from google.protobuf.message import Message

from services.chassis.calls.auth import current_principal
from services.chassis.calls.wire import copy_without
from services.chassis.data.transaction import Tx
from services.chassis.values.errors import Unavailable
from services.transactions.domain.bank_accounts import BankAccount, check_is_allowed, check_may_add_another
from services.transactions.store import bank_accounts as store
from services.transactions.vault import KeyMissing, SealedFor, Vault

Request = TypeVar("Request", bound=Message)


class Added(NamedTuple):
    """An account that was just added.

    Args:
        same: What stood for the same account at its bank before, of whatever party.
        others: The other accounts that its party ever had.
    """

    account: BankAccount
    same: list[BankAccount]
    others: list[BankAccount]


def blind_request(request: Request, vault: Vault, secret: str) -> Request:
    """The request with a stand-in for its secret, as idempotency remembers it: equal for equal secrets.

    Args:
        secret: The field that has it.

    Raises: Unavailable: no number can be sealed now.
    """
    try:
        vault.check_complete()
    except KeyMissing:
        raise Unavailable("No account number can be kept now: an operator has to bring a key back.") from None
    copy = copy_without(request)
    setattr(copy, secret, vault.blind(getattr(request, secret)))
    return copy


def build_bank_account(vault: Vault, sealed_for: SealedFor, account_number: str, **others: Any) -> BankAccount:
    """An account with its number sealed.

    Args:
        others: The fields that are not bound to the number.

    Raises: KeyMissing.
    """
    return BankAccount(
        bank_account_id=sealed_for.bank_account_id,
        party_id=sealed_for.party_id,
        account_holder_name=sealed_for.account_holder_name,
        routing_number=sealed_for.routing_number,
        account_type=sealed_for.account_type,
        account_number_encrypted=vault.seal(account_number, sealed_for),
        account_number_digest=vault.digest(sealed_for.routing_number, account_number),
        account_number_last4=account_number[-4:],
        **others,
    )


async def add_bank_account(tx: Tx, account: BankAccount, *, field: str = "account_number") -> Added:
    """Adds it. The first of a party is its default, once it is confirmed.

    Args:
        field: The request's field that says which account it is.

    Raises: BankAccountBlocked, TooManyBankAccounts.
    """
    digest = account.account_number_digest
    await store.lock_number(tx, digest)
    same = await store.list_same(tx, digest)
    check_is_allowed(same, tells_which=not current_principal().confined, field=field)
    await store.lock_default(tx, account.party_id)
    others = await store.list_accounts_of(tx, account.party_id)
    check_may_add_another(others)
    # One that waits becomes the default when it is confirmed.
    if not any(each.default_for_payouts for each in others):
        account = replace(account, default_for_payouts=True)
    await store.insert_bank_account(tx, account)
    return Added(account, same, others)
