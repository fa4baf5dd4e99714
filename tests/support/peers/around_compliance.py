"""Whom compliance asks, in memory, as its client answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from realco.compliance.v1.clearances_pb2 import BatchEvaluateTransactionsRequest
from realco.transactions.v1.evaluations_pb2 import EvaluationFacts


class Transactions:
    """Has waiting what a test says is to be decided on."""

    def __init__(self) -> None:
        self.facts: dict[str, EvaluationFacts] = {}

    def initiate(self, items: Iterable[BatchEvaluateTransactionsRequest.Item]) -> None:
        for item in items:
            self.facts[item.transaction_id] = EvaluationFacts(
                transaction_id=item.transaction_id,
                party_id=item.party_id,
                direction=item.direction,
                amount=item.amount,
                is_contribution=item.is_contribution,
                is_waiting=True,
            )

    async def batch_get_evaluation_facts(self, transaction_ids: Sequence[str]) -> list[EvaluationFacts]:
        return [self.facts[each] for each in transaction_ids if each in self.facts]
