"""Who gains where the money of a transaction arrives: nobody who acts for one of them says that it did."""

from __future__ import annotations

from services.transactions.clients import Peers
from services.transactions.domain.transaction import Transaction
from services.transactions.domain.types import TYPES


async def list_beneficiaries(row: Transaction, peers: Peers) -> frozenset[str]:
    """Its party; and whom the book owes more, now or at the closing, where that is not the party alone.

    Asks escrow, outside of any transaction. Raises Unavailable.
    """
    target = TYPES[row.type].shared_target
    others = await peers.escrow.list_beneficiaries(row.escrow_account_id, target) if target else ()
    return frozenset({row.party_id, *others})


async def list_approval_beneficiaries(row: Transaction, peers: Peers) -> frozenset[str]:
    """Who gains where it is approved: whoever pays is no beneficiary of that.

    Raises Unavailable.
    """
    gaining = await list_beneficiaries(row, peers)
    return gaining - {row.party_id} if row.is_debit else gaining
