"""What a bank asks us to correct of an account: another account is added beside it, and no money goes there by itself.

Whoever writes a file into the folder of the bank could ask for any number. So nothing that is paid goes elsewhere by
it: the new account waits, and nobody is even asked about it. One person has to want payouts there, another to confirm
it, and only then is the old one retired. Debits are drawn from the new one, by whoever names it, as from every account
that was just added; the old one is drawn from no more.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from services.chassis.calls.auth import current_principal
from services.chassis.data.transaction import Tx
from services.chassis.values.ids import new_id
from services.chassis.values.refusals import BankAccountNotUsable
from services.transactions.commands.added_accounts import build_bank_account
from services.transactions.dependencies import ACTOR
from services.transactions.domain.ach import AchEntry
from services.transactions.domain.ach_changes import Change
from services.transactions.domain.bank_accounts import (
    LIVE,
    BankAccount,
    BankAccountStatus,
    check_is_allowed,
    check_may_add_another,
)
from services.transactions.domain.refusals import BankAccountBlocked, TooManyBankAccounts
from services.transactions.store import bank_accounts as store
from services.transactions.vault import KeyMissing, SealedFor, Vault, VaultError


async def replace_bank_account(tx: Tx, vault: Vault, entry: AchEntry, change: Change, now: datetime) -> str:
    """Adds the account that the bank asks for, beside the one of the entry.

    Returns: What came of it, for a person to read. Raises: NotSealed, KeyMissing.
    """
    org_id = current_principal().org_id
    try:
        number = change.account_number or vault.open(entry.account_number_encrypted, SealedFor.of(org_id, entry))
    except KeyMissing:  # for an operator to mend; until then nothing is said of it
        raise
    except VaultError:
        return "Its number does not open, so nothing was added."
    routing_number = change.routing_number or entry.routing_number
    digest = vault.digest(routing_number, number)
    await store.lock_number(tx, digest)
    await store.lock_default(tx, entry.party_id)
    before = await store.lock_bank_account(tx, entry.bank_account_id)
    if before is None or before.status not in LIVE or before.replaced_by_bank_account_id is not None:
        return "Its account is used no more, or is replaced already: nothing was added."
    same = await store.list_same(tx, digest)
    account_type = change.account_type or before.account_type
    if before in same and account_type == before.account_type:
        return "The account has just what the bank asks for: nothing was added."
    others = [each for each in same if (each.party_id, each.account_type) == (before.party_id, account_type)]
    after = next((each for each in others if each.status in LIVE), None)
    try:
        if after is None:
            check_is_allowed(same, tells_which=True)
            check_may_add_another(await store.list_accounts_of(tx, before.party_id))
    except (BankAccountBlocked, TooManyBankAccounts) as refusal:
        return f"{refusal.message} Nothing was added."
    if after is None:
        sealed_for = SealedFor(
            org_id, new_id("ba"), before.party_id, before.account_holder_name, routing_number, account_type
        )
        after = build_bank_account(
            vault,
            sealed_for,
            number,
            holder_type=before.holder_type,
            default_for_payouts=False,
            external_id=None,
            metadata={},
            created_by=ACTOR,
            makers=(ACTOR,),
            replaces_bank_account_id=before.bank_account_id,
            created_at=now,
            updated_at=now,
        )
        await store.insert_bank_account(tx, after)
    await store.save_bank_account(tx, before, replace(before, replaced_by_bank_account_id=after.bank_account_id), now)
    return f"{after.bank_account_id} has what it asks for; it is drawn from that one, and paid to this one still."


def check_is_wanted(account: BankAccount) -> None:
    """Raises: BankAccountNotUsable: a file alone asked for it, and who confirms it might have written that."""
    if account.replaces_bank_account_id is not None and set(account.makers) == {ACTOR}:
        message = "No person has asked that money goes there: have somebody else make it the default first."
        raise BankAccountNotUsable(message, bank_account_id=account.bank_account_id, status=account.status)


async def retire_replaced(tx: Tx, confirmed: BankAccount, now: datetime) -> None:
    """Two persons say that money goes to this one: the one that it replaces is used no more. Raises: NotSealed."""
    if confirmed.replaces_bank_account_id is None:
        return
    former = await store.lock_bank_account(tx, confirmed.replaces_bank_account_id)
    if former is not None and former.status in LIVE and former.replaced_by_bank_account_id == confirmed.bank_account_id:
        retired = replace(former, status=BankAccountStatus.DELETED, default_for_payouts=False)
        await store.save_bank_account(tx, former, retired, now)


async def forget_replacement(tx: Tx, retired: BankAccount, now: datetime) -> None:
    """Somebody does not believe what the bank asked for: the old one is drawn from again. Raises: NotSealed."""
    for former in await store.lock_replaced(tx, retired):
        await store.save_bank_account(tx, former, replace(former, replaced_by_bank_account_id=None), now)
