"""Bank accounts: at most one ACTIVE default for payouts a party. Every change is published with its state."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from realco.transactions.v1 import events_pb2 as events
from sqlalchemy.dialects import postgresql as pg

from services.chassis.data import outbox
from services.chassis.data.aggregates import Aggregate, list_columns, read_fields
from services.chassis.data.locks import lock_name
from services.chassis.data.reads import Source
from services.chassis.data.seals import NotSealed, keep_sealed
from services.chassis.data.sql import Row
from services.chassis.data.transaction import Tx
from services.transactions import messages
from services.transactions.domain.bank_accounts import (
    BANK_ACCOUNT_MOVES,
    BankAccount,
    BankAccountStatus,
    BlockReason,
    Confirmation,
    HolderType,
    NameMatch,
    list_payee_makers,
    reads_like,
)
from services.transactions.domain.transaction import Transaction
from services.transactions.tables import bank_accounts

# Of what a login of the database altered or made up, so many are blocked when a bank forbids an account.
ALTERED_MAX = 20

_c = bank_accounts.c
_EVENTS = {
    BankAccountStatus.ACTIVE: events.BankAccountConfirmed,
    BankAccountStatus.SUSPENDED: events.BankAccountSuspended,
    BankAccountStatus.BLOCKED: events.BankAccountBlocked,
    BankAccountStatus.DELETED: events.BankAccountDeleted,
}


def _read_bank_account(row: Row) -> BankAccount:
    reason = row.block_reason and BlockReason(row.block_reason)
    status, makers = BankAccountStatus(row.status), tuple(row.makers)
    holder = HolderType(row.holder_type)
    told = row.name_match and NameMatch(row.name_match)
    confirmation = row.confirmation and Confirmation(row.confirmation)
    enums = {"status": status, "block_reason": reason, "holder_type": holder, "name_match": told}
    return read_fields(BankAccount, row, **enums, confirmation=confirmation, makers=makers)


def _list_columns(account: BankAccount) -> dict[str, Any]:
    return list_columns(bank_accounts, account, metadata=dict(account.metadata), makers=list(account.makers))


BANK_ACCOUNTS = Aggregate(bank_accounts, "bank_account_id", _read_bank_account, _list_columns, BANK_ACCOUNT_MOVES)
_THESE = BANK_ACCOUNTS.select().where(
    _c.bank_account_id == sa.any_(sa.bindparam("bank_account_ids", type_=pg.ARRAY(sa.Text)))
)


async def find_bank_account(source: Source, bank_account_id: str) -> BankAccount | None:
    """Raises: NotSealed."""
    return await BANK_ACCOUNTS.find(source, bank_account_id)


async def lock_bank_account(tx: Tx, bank_account_id: str) -> BankAccount | None:
    """Raises: NotSealed."""
    return await BANK_ACCOUNTS.lock(tx, bank_account_id)


async def lock_to_block(tx: Tx, bank_account_id: str) -> BankAccount | None:
    """Nobody uses it afterwards, so whatever it says now may be sealed."""
    query = BANK_ACCOUNTS.select().where(_c.bank_account_id == bank_account_id).with_for_update(key_share=True)
    row = (await tx.execute(query)).one_or_none()
    return None if row is None else BANK_ACCOUNTS.read(row)


async def list_bank_accounts(tx: Tx, bank_account_ids: Collection[str]) -> dict[str, BankAccount]:
    """Those of them that say what this service wrote."""
    found = await list_each(tx, bank_account_ids)
    return {account_id: each for account_id, each in found.items() if isinstance(each, BankAccount)}


async def list_each(tx: Tx, bank_account_ids: Collection[str]) -> dict[str, BankAccount | NotSealed]:
    """Those that are there, each as it is now or why nobody knows."""
    found: dict[str, BankAccount | NotSealed] = {}
    rows = await tx.execute(_THESE, {"bank_account_ids": list(bank_account_ids)}) if bank_account_ids else ()
    for row in rows:
        try:
            found[row.bank_account_id] = BANK_ACCOUNTS.read_sealed(tx, row)
        except NotSealed as error:
            found[row.bank_account_id] = error
    return found


async def list_default_accounts(tx: Tx, party_ids: Collection[str]) -> tuple[dict[str, BankAccount], dict[str, str]]:
    """Where each party is paid, by party: nobody is paid elsewhere. And the id of an account of each party of which
    that cannot be said, since this account may be the one: it says what this service did not write.

    Each account that they ever had is read: whose it is cannot be altered, and which is the default can.
    """
    found, altered = {}, {}
    for row in await tx.execute(BANK_ACCOUNTS.select().where(_c.party_id.in_(party_ids))):
        try:
            account = BANK_ACCOUNTS.read_sealed(tx, row)
        except NotSealed:
            altered[row.party_id] = row.bank_account_id
            continue
        if _is_default(account):
            found[account.party_id] = account
    return found, {party_id: account_id for party_id, account_id in altered.items() if party_id not in found}


async def find_default_account(tx: Tx, party_id: str) -> BankAccount | None:
    """Where the party is paid. Raises: NotSealed: one of its accounts says what this service did not write."""
    accounts = await list_accounts_of(tx, party_id)
    return next((each for each in accounts if _is_default(each)), None)


async def lock_default_account(tx: Tx, party_id: str) -> BankAccount | None:
    """As `find_default_account`."""
    found = await find_default_account(tx, party_id)
    locked = None if found is None else await BANK_ACCOUNTS.lock(tx, found.bank_account_id)
    return locked if locked is not None and _is_default(locked) else None


def _is_default(account: BankAccount) -> bool:
    return account.default_for_payouts and account.status is BankAccountStatus.ACTIVE


async def list_makers_of_payee(tx: Tx, row: Transaction) -> frozenset[str]:
    """By now: somebody may have changed the account since the payout waits. Raises: NotSealed."""
    if row.is_inbound or row.bank_account_id is None:
        return frozenset()
    return list_payee_makers(await find_bank_account(tx, row.bank_account_id), is_inbound=row.is_inbound)


async def list_accounts_of(tx: Tx, party_id: str) -> list[BankAccount]:
    """All that the party ever had. Raises: NotSealed."""
    return await BANK_ACCOUNTS.list_all(tx, _c.party_id == party_id)


_RANK = {BankAccountStatus.ACTIVE: 0, BankAccountStatus.PENDING: 1}


async def list_look_alikes(tx: Tx, account: BankAccount) -> list[BankAccount]:
    """The other accounts that its party ever had whose last digits read alike, at whatever bank.

    First those that money may go to, last those that are retired, and of each the oldest first: who adds many adds none
    before them.

    Raises: NotSealed.
    """
    others = await list_accounts_of(tx, account.party_id)
    alike = [each for each in others if each.bank_account_id != account.bank_account_id and reads_like(each, account)]
    return sorted(alike, key=lambda each: (_RANK.get(each.status, len(_RANK)), each.created_at))


async def lock_default(tx: Tx, party_id: str) -> None:
    """Lets requests that make a default of the party go one by one. Who locks an account, too, does so first."""
    await lock_name(tx, "bank_accounts", party_id)


async def lock_number(tx: Tx, digest: str) -> None:
    """Lets whoever adds an account at a bank, or forbids it, go one by one. Taken before any other lock of these."""
    await lock_name(tx, "bank_account_numbers", digest)


async def list_same(tx: Tx, digest: str) -> list[BankAccount]:
    """All that ever stood for one account at one bank, whichever party they are of. Raises: NotSealed."""
    return await BANK_ACCOUNTS.list_all(tx, _c.account_number_digest == digest)


class SameAccounts(NamedTuple):
    """What stands for the same account at its bank.

    Args:
        found: By id, each with whether it says what this service wrote.
        is_all: There are no more that do not.
    """

    found: list[tuple[BankAccount, bool]]
    is_all: bool


async def lock_same(tx: Tx, bank_account_id: str, digest: str) -> SameAccounts:
    """The account, and all others that stand for the same one at its bank.

    For whoever forbids them, whatever they say: one that was altered could be put right afterwards. However many a
    login of the database makes up, they keep nobody from that.
    """
    same = sa.or_(_c.bank_account_id == bank_account_id, _c.account_number_digest == digest)
    rows = (await tx.execute(BANK_ACCOUNTS.locking.where(same))).all()
    ours = {row.bank_account_id for row in keep_sealed(tx, bank_accounts, rows)}
    others = [row.bank_account_id for row in rows if row.bank_account_id not in ours]
    altered = set(sorted(others, key=lambda each: each != bank_account_id)[:ALTERED_MAX])
    kept = [row for row in rows if row.bank_account_id in ours | altered]
    found = [(BANK_ACCOUNTS.read(row), row.bank_account_id in ours) for row in kept]
    return SameAccounts(found, len(others) <= ALTERED_MAX)


async def lock_replaced(tx: Tx, account: BankAccount) -> list[BankAccount]:
    """Those of its party whose banks asked for this one. Raises: NotSealed."""
    by_this = _c.replaced_by_bank_account_id == account.bank_account_id
    return await BANK_ACCOUNTS.lock_all(tx, _c.party_id == account.party_id, by_this)


async def insert_bank_account(tx: Tx, account: BankAccount) -> None:
    """Adds an account, and publishes it."""
    await BANK_ACCOUNTS.insert(tx, account)
    event = events.BankAccountCreated(bank_account=messages.to_bank_account(account))
    await outbox.enqueue(tx, event, now=account.created_at)


async def save_bank_account(tx: Tx, before: BankAccount, after: BankAccount, now: datetime) -> BankAccount:
    """Changes a locked account, and publishes it. Raises: IllegalStatusChange."""
    saved = await BANK_ACCOUNTS.save(tx, before, after, now)
    moved = saved.status is not before.status
    event = _EVENTS.get(saved.status, events.BankAccountUpdated) if moved else events.BankAccountUpdated
    await outbox.enqueue(tx, event(bank_account=messages.to_bank_account(saved)), now=now)
    return saved
