"""What journal entries would do to the book, for whoever decides about them before; and what the money of an escrow
account rests on, for whoever has some leave it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from services.chassis.values.approval import Effect
from services.chassis.values.explanation import Explanation
from services.escrow.dependencies import Dependencies
from services.escrow.domain.account import Balance, EscrowAccount
from services.escrow.domain.beneficiaries import list_grown
from services.escrow.domain.chart import CASH, LedgerAccount
from services.escrow.domain.explanations import explain_altered_books, explain_available, explain_missing
from services.escrow.domain.journal import Leg, sum_changes
from services.escrow.domain.previews import build_effect
from services.escrow.posting.checks import list_altered_books
from services.escrow.queries.beneficiaries import list_gaining
from services.escrow.queries.previews import explain_origin
from services.escrow.store import escrow_accounts


class EntryPreview(NamedTuple):
    """What entries would do in an escrow account. Each is posted by itself, and any of them may be refused.

    Args:
        effects: To what is posted on each ledger account: by all that raise it, and by all that lower it.
        available: Whether all of them could be posted now, or what is too little for that.
        leaving: What whoever has cash leave reads of every payout, too; nothing where none leaves.
        altered: Where none leaves: that the balances may be made up.
        beneficiary_party_ids: Who gains by any of them.
    """

    account: EscrowAccount
    effects: tuple[Effect, ...]
    available: tuple[Explanation, ...]
    leaving: tuple[Explanation, ...]
    altered: tuple[Explanation, ...]
    beneficiary_party_ids: frozenset[str]


async def preview_entries(
    dependencies: Dependencies, escrow_account_id: str, entries: Sequence[Sequence[Leg]]
) -> EntryPreview:
    """Raises: EscrowAccountNotFound, NotSealed, Unavailable."""
    changes = _list_changes(entries)
    touched = list(dict.fromkeys(each for each, _ in changes))
    database, distributions = dependencies.database, dependencies.peers.distributions
    async with database.begin() as tx:
        account = await escrow_accounts.require_escrow_account(tx, escrow_account_id)
        found = await escrow_accounts.list_balances(tx, escrow_account_id, touched) if touched else []
        altered = explain_altered_books(await list_altered_books(tx, escrow_account_id))
    balances = {each: Balance(each, 0, 0, 0) for each in touched} | {one.ledger_account: one for one in found}
    effects = [
        build_effect(each.kind, each.party_id, balances[each].posted_minor, change, account.currency)
        for each, change in changes
    ]
    available = explain_available(balances, changes, account.currency)
    leaves = any(each == CASH and change < 0 for each, change in changes)
    leaving = await explain_money(dependencies, account) if leaves else []
    grown = {each for legs in entries for each in list_grown(legs)}
    gaining = await list_gaining(database, distributions, escrow_account_id, grown)
    return EntryPreview(
        account, tuple(effects), tuple(available), tuple(leaving), () if leaves else tuple(altered), gaining
    )


async def explain_money(dependencies: Dependencies, account: EscrowAccount) -> list[Explanation]:
    """What the money of an escrow account rests on: by the book, and by what transactions knows.

    Raises: Unavailable.
    """
    async with dependencies.database.begin() as tx:
        totals = await escrow_accounts.read_totals(tx, account.escrow_account_id)
        origin = await explain_origin(tx, account, dependencies.clock.now())
    received = await dependencies.peers.transactions.get_received_money(account.escrow_account_id)
    return [*explain_missing(totals.owed_minor, totals.kept_minor, account.currency), *origin, *received]


def _list_changes(entries: Iterable[Iterable[Leg]]) -> list[tuple[LedgerAccount, int]]:
    """By how much each balance grows by all the entries that raise it, and shrinks by all that lower it."""
    changes: dict[tuple[LedgerAccount, bool], int] = defaultdict(int)
    for legs in entries:
        for account, change in sum_changes(legs).items():
            changes[account, change > 0] += change
    return [(account, change) for (account, _), change in changes.items()]
