"""Where money is to go, asked of transactions before the transaction in which it is ordered."""

from __future__ import annotations

from realco.distributions.v1 import distributions_pb2, offerings_pb2

from services.distributions.dependencies import Dependencies
from services.distributions.domain.destination import Destination
from services.distributions.store.offerings import require_offering


async def ask_destination(
    dependencies: Dependencies,
    request: offerings_pb2.ResendRefundRequest | distributions_pb2.ResendAllocationRequest,
) -> Destination:
    """The account that is named."""
    return await _ask(dependencies, request.bank_account_id)


async def ask_proceeds_destination(
    dependencies: Dependencies, request: offerings_pb2.ResendProceedsRequest
) -> Destination:
    """The account that is named, or that an earlier one named."""
    async with dependencies.database.begin() as tx:
        offering = await require_offering(tx, request.offering_id)
    return await _ask(dependencies, request.bank_account_id or offering.proceeds_bank_account_id)


async def ask_closing_destination(
    dependencies: Dependencies, request: offerings_pb2.CloseOfferingRequest
) -> Destination:
    """The account that is named; one that names none has none, whatever an earlier closing named."""
    return await _ask(dependencies, request.proceeds_bank_account_id)


async def _ask(dependencies: Dependencies, named: str | None) -> Destination:
    """
    Args:
        named: The id of the bank account that is named, if one is.
    """
    if not named:
        return Destination(None)
    return Destination(named, await dependencies.peers.transactions.get_bank_account(named))
