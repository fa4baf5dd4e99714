"""Where money is to go, asked of transactions before the transaction in which it is ordered."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from realco.distributions.v1 import distributions_pb2, offerings_pb2
from realco.escrow.v1.journal_pb2 import LedgerAccount
from realco.transactions.v1.transactions_pb2 import Transaction

from services.chassis.values.errors import InvalidField, Unavailable
from services.distributions.dependencies import Dependencies
from services.distributions.domain.destination import Destination, pays_to_account
from services.distributions.domain.refusals import AllocationNotFound
from services.distributions.store.allocations import ALLOCATIONS
from services.distributions.store.offerings import require_offering

Resend = (
    offerings_pb2.ResendRefundRequest | offerings_pb2.ResendProceedsRequest | distributions_pb2.ResendAllocationRequest
)


async def ask_destination(dependencies: Dependencies, request: offerings_pb2.ResendRefundRequest) -> Destination:
    """The account that is named, and the rail. Raises InvalidField."""
    return await _ask(dependencies, request.bank_account_id, _read_rail(request))


class OwedFacts(NamedTuple):
    """
    Args:
        destination: The account that is named, or that an earlier one named, and the rail.
        left_minor: What the book has of what is owed: entries by hand may have taken some.
    """

    destination: Destination
    left_minor: int


async def ask_about_proceeds(dependencies: Dependencies, request: offerings_pb2.ResendProceedsRequest) -> OwedFacts:
    """Raises: InvalidField, Unavailable."""
    rail = _read_rail(request)
    async with dependencies.database.begin() as tx:
        offering = await require_offering(tx, request.offering_id)
    kinds = [LedgerAccount.ISSUER_PROCEEDS]
    left = await dependencies.peers.escrow.list_balances(offering.escrow_account_id, kinds)
    destination = Destination(None, payment_method=rail)
    if pays_to_account(rail):
        destination = await _ask(dependencies, request.bank_account_id or offering.proceeds_bank_account_id, rail)
    return OwedFacts(destination, sum(each.posted.amount_minor for each in left))


async def ask_about_share(dependencies: Dependencies, request: distributions_pb2.ResendAllocationRequest) -> OwedFacts:
    """Raises: AllocationNotFound, InvalidField, Unavailable."""
    async with dependencies.database.begin() as tx:
        allocation = await ALLOCATIONS.find(tx, request.allocation_id)
        if allocation is None:
            raise AllocationNotFound
        offering = await require_offering(tx, allocation.offering_id)
    payable = await dependencies.peers.escrow.list_balances(offering.escrow_account_id, [LedgerAccount.PAYABLE])
    left = (each.posted.amount_minor for each in payable if each.ledger_account.party_id == allocation.party_id)
    return OwedFacts(await _ask(dependencies, request.bank_account_id, _read_rail(request)), sum(left))


async def ask_closing_destination(
    dependencies: Dependencies, request: offerings_pb2.CloseOfferingRequest
) -> Destination:
    """The account that is named; one that names none has none, whatever an earlier closing named."""
    return await _ask(dependencies, request.proceeds_bank_account_id)


async def ask_default(dependencies: Dependencies, destination: Destination, party_id: str) -> Destination:
    """For whoever decides: with the party's default as it is now, where no account is named. Raises: Unavailable."""
    if not destination.is_left_to_default:
        return destination
    found, altered = await dependencies.peers.transactions.batch_get_payout_accounts([party_id])
    if altered:
        raise Unavailable("The party's bank account was altered in the database: nobody can tell where it is paid.")
    return replace(destination, account=next((each.account for each in found), None))


def _read_rail(request: Resend) -> str | None:
    """The rail that is named, if one is. Raises InvalidField."""
    if not request.HasField("payment_method"):
        return None
    rail = Transaction.PaymentMethod.Name(request.payment_method)
    if request.bank_account_id and not pays_to_account(rail):
        fields = {"bank_account_id": f"must not be set for {rail}"}
        raise InvalidField(f"What is paid by {rail} goes to no bank account.", fields=fields)
    return rail


async def _ask(dependencies: Dependencies, named: str | None, payment_method: str | None = None) -> Destination:
    """
    Args:
        named: The id of the bank account that is named, if one is.
    """
    account = await dependencies.peers.transactions.get_bank_account(named) if named else None
    return Destination(named or None, account, payment_method)
