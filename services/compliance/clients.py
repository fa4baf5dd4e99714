"""The service this one asks: transactions knows what it has waiting for a decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from grpc import aio
from realco.transactions.v1 import evaluations_pb2, evaluations_pb2_grpc

from services.chassis.calls.peers import ask


class Transactions(Protocol):
    """Who has transactions decided on."""

    async def batch_get_evaluation_facts(
        self, transaction_ids: Sequence[str]
    ) -> Sequence[evaluations_pb2.EvaluationFacts]:
        """Of those of them that there are, in no order. Raises Unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class Peers:
    """Whom this service asks."""

    transactions: Transactions


class TransactionsClient:
    def __init__(self, channel: aio.Channel) -> None:
        self._evaluations: Any = evaluations_pb2_grpc.EvaluationsServiceStub(channel)

    async def batch_get_evaluation_facts(
        self, transaction_ids: Sequence[str]
    ) -> Sequence[evaluations_pb2.EvaluationFacts]:
        request = evaluations_pb2.BatchGetEvaluationFactsRequest(transaction_ids=transaction_ids)
        found: Sequence[evaluations_pb2.EvaluationFacts] = (
            await ask(self._evaluations.BatchGetEvaluationFacts, request)
        ).facts
        return found
