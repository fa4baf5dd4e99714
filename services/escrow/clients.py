"""The services this one asks: compliance heard what persons decided, distributions knows what it has ordered, who has
committed to invest and which raise goes on, and transactions what it is about to pay and what is unfinished.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from grpc import aio
from realco.compliance.v1 import (
    clearances_pb2,
    clearances_pb2_grpc,
    notary_pb2,
    notary_pb2_grpc,
    persons_pb2,
    persons_pb2_grpc,
)
from realco.distributions.v1 import (
    commitments_pb2,
    commitments_pb2_grpc,
    payout_orders_pb2,
    payout_orders_pb2_grpc,
)
from realco.transactions.v1 import payouts_pb2, payouts_pb2_grpc, unfinished_pb2, unfinished_pb2_grpc

from services.chassis.calls.parties import Ask, AskAboutParties, AskByRpc
from services.chassis.calls.peers import ask
from services.chassis.calls.wire import from_explanation
from services.chassis.values.explanation import Explanation

Clearance = clearances_pb2.BatchGetClearancesResponse.Clearance


class Compliance(Protocol):
    """Who knows the parties, and heard both persons."""

    async def batch_get_clearances(self, party_ids: Sequence[str]) -> Sequence[Clearance]:
        """Of each party, whether there is such a one. Raises Unavailable."""
        ...

    list_parties_of_person: Ask

    async def check_movement(self, movement: notary_pb2.Movement) -> None:
        """Returns if two persons decided that exactly this moves. Raises MovementNotDecided, Unavailable."""
        ...


class Transactions(Protocol):
    """Who has money paid."""

    async def batch_get_payouts(self, transaction_ids: Sequence[str]) -> Sequence[payouts_pb2.Payout]:
        """Those of them that it is about to pay, in no order. Raises Unavailable."""
        ...

    async def get_received_money(self, escrow_account_id: str) -> Sequence[Explanation]:
        """How much of what came into the account its banks may still take back, and what is there by whose word.

        Raises Unavailable.
        """
        ...

    async def list_unfinished_transactions(self, escrow_account_id: str) -> Sequence[str]:
        """Some transactions of which money may still come in, go out or come back. Raises Unavailable."""
        ...


class Distributions(Protocol):
    """Who runs raises."""

    async def list_committed_parties(self, escrow_account_id: str) -> Collection[str]:
        """The parties with an investment in the offering whose money the account keeps. Raises Unavailable."""
        ...

    async def get_commitments(
        self, escrow_account_id: str, investment_ids: Collection[str]
    ) -> commitments_pb2.Commitments:
        """The account's offering, and whose those of the investments are that are in it. Raises Unavailable."""
        ...

    async def list_open_offerings(self, escrow_account_id: str) -> commitments_pb2.ListOpenOfferingsResponse:
        """The offerings of the account whose raise has not ended, or that still distribute. Raises Unavailable."""
        ...

    async def check_movement_order(self, movement: notary_pb2.Movement) -> str:
        """Who ordered that exactly this moves now. Raises MovementNotOrdered, Unavailable."""
        ...

    async def batch_get_payout_orders(self, keys: Sequence[str]) -> Sequence[payout_orders_pb2.PayoutOrder]:
        """What it has ordered of transactions under these keys, in no order. Raises Unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class Peers:
    """Whom this service asks."""

    compliance: Compliance
    transactions: Transactions
    distributions: Distributions


class ComplianceClient:
    def __init__(self, channel: aio.Channel) -> None:
        clearances: Any = clearances_pb2_grpc.ClearancesServiceStub(channel)
        self.batch_get_clearances = AskAboutParties(
            clearances.BatchGetClearances, clearances_pb2.BatchGetClearancesRequest
        )
        persons: Any = persons_pb2_grpc.PersonsServiceStub(channel)
        self.list_parties_of_person: Ask = AskByRpc(persons.ListPartiesOfPerson, persons_pb2.ListPartiesOfPersonRequest)
        self._notary: Any = notary_pb2_grpc.NotaryServiceStub(channel)

    async def check_movement(self, movement: notary_pb2.Movement) -> None:
        await ask(self._notary.CheckMovement, notary_pb2.CheckMovementRequest(movement=movement))


class TransactionsClient:
    def __init__(self, channel: aio.Channel) -> None:
        self._payouts: Any = payouts_pb2_grpc.PayoutsServiceStub(channel)
        self._unfinished: Any = unfinished_pb2_grpc.UnfinishedTransactionsServiceStub(channel)

    async def batch_get_payouts(self, transaction_ids: Sequence[str]) -> Sequence[payouts_pb2.Payout]:
        request = payouts_pb2.BatchGetPayoutsRequest(transaction_ids=transaction_ids)
        found: Sequence[payouts_pb2.Payout] = (await ask(self._payouts.BatchGetPayouts, request)).payouts
        return found

    async def get_received_money(self, escrow_account_id: str) -> Sequence[Explanation]:
        request = payouts_pb2.GetReceivedMoneyRequest(escrow_account_id=escrow_account_id)
        found: payouts_pb2.ReceivedMoney = await ask(self._payouts.GetReceivedMoney, request)
        return [from_explanation(each) for each in found.explanations]

    async def list_unfinished_transactions(self, escrow_account_id: str) -> Sequence[str]:
        request = unfinished_pb2.ListUnfinishedTransactionsRequest(escrow_account_id=escrow_account_id)
        found: Sequence[str] = (await ask(self._unfinished.ListUnfinishedTransactions, request)).transaction_ids
        return found


class DistributionsClient:
    def __init__(self, channel: aio.Channel) -> None:
        self._commitments: Any = commitments_pb2_grpc.CommitmentsServiceStub(channel)
        self._orders: Any = payout_orders_pb2_grpc.PayoutOrdersServiceStub(channel)

    async def list_committed_parties(self, escrow_account_id: str) -> Collection[str]:
        request = commitments_pb2.ListCommittedPartiesRequest(escrow_account_id=escrow_account_id)
        found: Collection[str] = (await ask(self._commitments.ListCommittedParties, request)).party_ids
        return found

    async def get_commitments(
        self, escrow_account_id: str, investment_ids: Collection[str]
    ) -> commitments_pb2.Commitments:
        request = commitments_pb2.GetCommitmentsRequest(
            escrow_account_id=escrow_account_id, investment_ids=investment_ids
        )
        found: commitments_pb2.Commitments = await ask(self._commitments.GetCommitments, request)
        return found

    async def list_open_offerings(self, escrow_account_id: str) -> commitments_pb2.ListOpenOfferingsResponse:
        request = commitments_pb2.ListOpenOfferingsRequest(escrow_account_id=escrow_account_id)
        found: commitments_pb2.ListOpenOfferingsResponse = await ask(self._commitments.ListOpenOfferings, request)
        return found

    async def check_movement_order(self, movement: notary_pb2.Movement) -> str:
        request = payout_orders_pb2.CheckMovementOrderRequest(movement=movement)
        ordered_by: str = (await ask(self._orders.CheckMovementOrder, request)).ordered_by
        return ordered_by

    async def batch_get_payout_orders(self, keys: Sequence[str]) -> Sequence[payout_orders_pb2.PayoutOrder]:
        request = payout_orders_pb2.BatchGetPayoutOrdersRequest(idempotency_keys=keys)
        found: Sequence[payout_orders_pb2.PayoutOrder] = (
            await ask(self._orders.BatchGetPayoutOrders, request)
        ).payout_orders
        return found
