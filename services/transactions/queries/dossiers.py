"""What whoever decides reads of an account, and of what was paid before: the same may be about to be done once more."""

from __future__ import annotations

from datetime import datetime, timedelta

from services.chassis.calls.auth import current_principal
from services.chassis.data.heard_persons import list_parties_of
from services.chassis.data.transaction import Tx
from services.chassis.values.explanation import Explanation
from services.transactions.domain.bank_accounts import BankAccount, count_owners
from services.transactions.domain.explanations import (
    explain_account,
    explain_first_use,
    explain_forbidden,
    explain_look_alike,
    explain_makers,
    explain_more_look_alikes,
    explain_more_same_payments,
    explain_owners,
    explain_same_payment,
)
from services.transactions.domain.linked_accounts import explain_link
from services.transactions.domain.received_money import RECEIVED_WITHIN
from services.transactions.domain.replacements import explain_replacement
from services.transactions.domain.reversal_rules import explain_taken_back_payouts
from services.transactions.domain.transaction import Transaction
from services.transactions.store import bank_accounts as account_store
from services.transactions.store import transactions as store
from services.transactions.store.taken_back import list_taken_back
from services.transactions.vault import Vault

# So many accounts that read like another are told of one by one, and so many payments that were ordered lately.
_ALIKE_MAX = 10
_ALIKE_WITHIN = timedelta(days=30)


async def explain_account_of(tx: Tx, vault: Vault, account: BankAccount, now: datetime) -> list[Explanation]:
    """First what forbids it, then what reads the same: nobody sees more of a number than its last digits."""
    org_id = current_principal().org_id
    alike = await account_store.list_look_alikes(tx, account)
    same = await account_store.list_same(tx, account.account_number_digest)
    explanations = [
        explain_forbidden(other)
        for other in same
        if other.is_forbidden and other.bank_account_id != account.bank_account_id
    ][:_ALIKE_MAX]
    explanations += [
        explain_look_alike(account, other, is_same=vault.has_same_number(org_id, account, other))
        for other in alike[:_ALIKE_MAX]
    ]
    if len(alike) > _ALIKE_MAX:
        explanations.append(explain_more_look_alikes(len(alike) - _ALIKE_MAX))
    first = await store.list_first_payouts(tx, [(account.party_id, account.bank_account_id)])
    taken_back = await list_taken_back(tx, [account.party_id], now - RECEIVED_WITHIN)
    there = [row for row in taken_back.payouts if row.bank_account_id == account.bank_account_id]
    owners = explain_owners(count_owners(same))
    acting = {person: account.party_id in await list_parties_of(tx, person) for person in account.makers}
    age, makers = explain_account(account, now), explain_makers(account, acting)
    return [
        *explanations,
        *explain_link(account),
        age,
        explain_first_use(first.get(account.bank_account_id), there),
        owners,
        makers,
    ]


async def explain_past_payments(tx: Tx, row: Transaction, now: datetime) -> list[Explanation]:
    """Which others were ordered lately that are alike, and which payouts to its party were taken back, of any amount:
    while the debit that took one back may come back in its turn, who is paid again may have it twice.
    """
    alike = await store.list_alike(tx, row, now - _ALIKE_WITHIN, _ALIKE_MAX)
    more = explain_more_same_payments(alike.all_count - len(alike.rows), has_altered=alike.has_altered)
    told = [*map(explain_same_payment, alike.rows), *more]
    if row.replaced_transaction_id is not None:
        told += explain_replacement(await store.find_transaction(tx, row.replaced_transaction_id))
    if row.is_inbound:
        return told
    taken_back = await list_taken_back(tx, [row.party_id], now - RECEIVED_WITHIN)
    others = [each for each in taken_back.payouts if each.transaction_id != row.transaction_id]
    return told + explain_taken_back_payouts(taken_back._replace(payouts=others), now)
