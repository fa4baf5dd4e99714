"""Who gains where something is credited in an escrow account, by the book and by what distributions knows."""

from __future__ import annotations

from collections.abc import Collection

from realco.escrow.v1 import postings_pb2 as postings_pb

from services.chassis.data.database import Database
from services.escrow.clients import Distributions
from services.escrow.domain.beneficiaries import Beneficiaries
from services.escrow.domain.chart import LedgerAccount, Owner, line_of
from services.escrow.messages import read_ledger_account
from services.escrow.store.escrow_accounts import list_parties, require_escrow_account


async def list_beneficiaries(
    database: Database, distributions: Distributions, request: postings_pb.ListBeneficiariesRequest
) -> postings_pb.ListBeneficiariesResponse:
    """Raises: as `list_gaining`."""
    credited = [read_ledger_account(request.ledger_account, "ledger_account")]
    gaining = await list_gaining(database, distributions, request.escrow_account_id, credited)
    return postings_pb.ListBeneficiariesResponse(party_ids=sorted(gaining))


async def list_gaining(
    database: Database, distributions: Distributions, escrow_account_id: str, credited: Collection[LedgerAccount]
) -> frozenset[str]:
    """The parties that gain where these ledger accounts are credited.

    Whoever has committed counts before any money of theirs is in the book. Distributions is asked only where that
    matters, outside of any transaction.

    Raises:
        EscrowAccountNotFound, NotSealed
        Unavailable: distributions cannot tell.
    """
    committed = frozenset[str]()
    if any(line_of(account.kind).owner is Owner.PAYEES for account in credited):
        committed = frozenset(await distributions.list_committed_parties(escrow_account_id))
    async with database.begin() as tx:
        account = await require_escrow_account(tx, escrow_account_id)
        parties = await list_parties(tx, escrow_account_id)
    beneficiaries = Beneficiaries(account.sponsor_party_id, parties | committed)
    return frozenset[str]().union(*map(beneficiaries.list_owners, credited))
