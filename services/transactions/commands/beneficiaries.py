"""Who gains where the money of a transaction arrives: nobody who acts for one of them says that it did."""

from __future__ import annotations

from services.transactions.clients import Peers
from services.transactions.domain.transaction import Transaction
from services.transactions.domain.types import TYPES


async def list_beneficiaries(row: Transaction, peers: Peers) -> frozenset[str]:
    """Its party, and the others. Raises Unavailable."""
    return await list_others(row, peers) | {row.party_id}


async def list_approval_beneficiaries(row: Transaction, peers: Peers) -> frozenset[str]:
    """Who gains where it is approved. Raises Unavailable."""
    return choose_approval_beneficiaries(row, await list_others(row, peers))


async def list_others(row: Transaction, peers: Peers) -> frozenset[str]:
    """Whom the book owes more, now or at the closing, where that is not the party alone.

    The same for all transactions of its type in its escrow accounts. Asks escrow, outside of any transaction. Raises
    Unavailable.
    """
    kind = TYPES[row.type]
    where, target = row.escrow_account_id, kind.shared_target
    if row.to_escrow_account_id:
        where, target = row.to_escrow_account_id, kind.source
    return frozenset(await peers.escrow.list_beneficiaries(where, target) if target else ())


def choose_approval_beneficiaries(row: Transaction, others: frozenset[str]) -> frozenset[str]:
    """Whoever pays is no beneficiary of an approval."""
    return others - {row.party_id} if row.is_inbound else others | {row.party_id}
