"""Compliance decides on the transactions of a batch, so many at a time, as long as there is time for an answer.

What is left then is INITIATED in the answer, and the job that evaluates what nobody waits for decides it.
"""

from __future__ import annotations

from collections.abc import Sequence

from realco.transactions.v1 import transactions_pb2 as pb

from services.chassis.calls.batch import Outcome
from services.chassis.calls.deadline import remaining_seconds
from services.chassis.data.once_each import answered_each
from services.chassis.values.errors import DomainError
from services.transactions.commands.evaluation import (
    decide_initiated,
    rehearse_decisions,
)
from services.transactions.dependencies import Dependencies

Created = pb.Transaction | DomainError

# As the job that evaluates takes them.
_AT_ONCE = 100
# What an answer of 1000 transactions takes to be written and sent, after the last evaluation has ended.
_LEFT_SECONDS = 3.0


async def evaluate_created(
    dependencies: Dependencies,
    items: Sequence[pb.CreateTransactionRequest],
    outcomes: Sequence[Outcome[pb.Transaction]],
) -> list[Outcome[pb.Transaction]]:
    """The outcomes after the decisions, of what was recorded before, too. Asks compliance."""
    waiting = {
        answer.transaction_id: place
        for place, (answer, _) in enumerate(outcomes)
        if not isinstance(answer, DomainError) and answer.status == pb.Transaction.INITIATED
    }
    decided: dict[str, Created] = {}
    ids = list(waiting)
    for start in range(0, len(ids), _AT_ONCE):
        remaining = remaining_seconds()
        if remaining is not None and remaining < _LEFT_SECONDS:
            break
        found = await decide_initiated(dependencies, ids[start : start + _AT_ONCE])
        if found is None:
            break
        decided |= found
    told = list(outcomes)
    for transaction_id, answer in decided.items():
        place = waiting[transaction_id]
        told[place] = Outcome(answer, outcomes[place].replayed)
    if waiting:
        dependencies.work_due.set()
    # A job may have decided meanwhile: the caller gets the answer that a replay would.
    left = [waiting[each] for each in ids if each not in decided]
    kept = await answered_each(dependencies.database, [items[place] for place in left], pb.Transaction)
    for number, outcome in kept.items():
        told[left[number]] = Outcome(outcome.answer, outcomes[left[number]].replayed)
    return told


async def rehearse_created(
    dependencies: Dependencies,
    items: Sequence[pb.CreateTransactionRequest],
    outcomes: Sequence[Outcome[pb.Transaction]],
) -> list[Outcome[pb.Transaction]]:
    """The outcomes as the decisions would leave them."""
    told, made, places = list(outcomes), [], []
    for place, (answer, _) in enumerate(outcomes):
        if not isinstance(answer, DomainError):
            places.append(place)
            made.append((items[place], answer))
    if made:
        # All at once: what compliance would count of one it counts for those after it.
        rehearsed = await rehearse_decisions(dependencies, made)
        for place, answer in zip(places, rehearsed, strict=True):
            told[place] = Outcome(answer)
    return told
