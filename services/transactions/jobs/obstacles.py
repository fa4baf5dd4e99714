"""Why the next attempt must not be made: what may have changed in the days since compliance decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from services.chassis.data.transaction import Tx
from services.chassis.values.errors import DomainError
from services.chassis.values.failure import Failure, make_failure
from services.transactions.commands.bank_accounts import block_altered_accounts
from services.transactions.dependencies import ACTOR
from services.transactions.domain.bank_accounts import BankAccount, check_usable
from services.transactions.domain.decisions import check_window
from services.transactions.domain.states import Status
from services.transactions.domain.transaction import Transaction
from services.transactions.store import bank_accounts, moves
from services.transactions.store import transactions as store


async def end_hopeless(
    tx: Tx, rows: Sequence[Transaction], now: datetime, refusals: Mapping[str, DomainError]
) -> list[Transaction]:
    """Ends those of one organization's locked transactions whose attempt must not be made; returns the others.

    Args:
        refusals: What other services refuse by now, by the id of the transaction.
    """
    ids = {row.bank_account_id for row in rows if row.bank_account_id}
    accounts = await bank_accounts.list_bank_accounts(tx, ids)
    hidden = ids - accounts.keys()
    used = {row.transaction_id: row.bank_account_id for row in rows if row.bank_account_id in hidden}
    altered = await block_altered_accounts(tx, used, now)
    possible = []
    for row in rows:
        account = accounts.get(row.bank_account_id) if row.bank_account_id else None
        refusal = refusals.get(row.transaction_id)
        failure = altered.get(row.transaction_id) or _find_obstacle(row, account, now, refusal)
        if failure is None:
            possible.append(row)
            continue
        changes: dict[str, Any] = {"failure": failure, "next_attempt_at": None}
        await moves.save_move(tx, row, Status.FAILED, actor=ACTOR, now=now, note=failure.message, **changes)
    return possible


async def postpone_cooling_payouts(tx: Tx, rows: Sequence[Transaction], now: datetime) -> list[Transaction]:
    """Gives payouts back to accounts that were confirmed less than a day ago, or that nobody knows that of now; returns
    the others.
    """
    ids = {row.bank_account_id for row in rows if row.bank_account_id and not row.is_inbound}
    accounts = await bank_accounts.list_bank_accounts(tx, ids) if ids else {}
    old_enough = {each.bank_account_id for each in accounts.values() if not each.is_cooling_down(now)}
    ready = []
    for row in rows:
        if row.bank_account_id in ids - old_enough and not row.is_inbound:
            await store.postpone_transaction(tx, row)
        else:
            ready.append(row)
    return ready


def _find_obstacle(
    row: Transaction, account: BankAccount | None, now: datetime, refusal: DomainError | None
) -> Failure | None:
    """Another service refuses it by now, the account is not what it was, or the 180 days are over."""
    if refusal is not None:
        return make_failure(refusal)
    try:
        # Whatever was ordered or approved before, by now it may be blocked, retired, or wait for a second person again.
        if account is not None:
            check_usable(account, row.party_id, is_inbound=row.is_inbound)
        check_window(row, now)
    except DomainError as obstacle:
        return make_failure(obstacle)
    return None
