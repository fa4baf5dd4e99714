"""INITIATED -> what compliance decides, where the request that made the transaction could not have it decided."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.process.telemetry import log
from services.chassis.values.errors import DomainError
from services.transactions.commands.evaluation import Evaluation, apply_decisions, evaluate_transactions
from services.transactions.dependencies import NAME, Dependencies
from services.transactions.domain.states import Status
from services.transactions.domain.transaction import Transaction
from services.transactions.jobs.batches import BATCH_MAX, ask_about, do_groups, group_by_person
from services.transactions.store import transactions as store

INITIATED = store.build_taking(Status.INITIATED, count_max=BATCH_MAX)


async def evaluate_initiated(dependencies: Dependencies) -> int:
    taken = await store.take_transactions(dependencies.database, INITIATED)
    await do_groups(group_by_person(taken), partial(_evaluate_rows, dependencies))
    return len(taken)


async def _evaluate_rows(dependencies: Dependencies, whose: tuple[str, str], rows: Sequence[Transaction]) -> None:
    org_id, person = whose
    with acting_as(service_principal(NAME, org_id, person)):
        async for asked, answer in ask_about(rows, partial(evaluate_transactions, dependencies)):
            await _apply_answer(dependencies, asked, answer)


async def _apply_answer(
    dependencies: Dependencies, rows: Sequence[Transaction], answer: Sequence[Evaluation] | DomainError
) -> None:
    if isinstance(answer, DomainError):
        log.warning("compliance_gives_no_decision", transactions=len(rows), reason=answer.reason)
        answer = [Evaluation.undecided(row) for row in rows]
    by_id = {each.result.transaction_id: each for each in answer}
    async with dependencies.database.begin() as tx:
        current = await store.lock_taken_transactions(tx, rows)
        outcomes = await apply_decisions(tx, current, by_id, dependencies.clock.now())
        for row in current:
            if row.transaction_id not in outcomes:
                await store.postpone_transaction(tx, row)
    dependencies.work_due.set()
