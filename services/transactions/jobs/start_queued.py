"""QUEUED -> PROCESSING: the attempt is counted and its key fixed before anybody outside is asked.

Days may have passed since compliance decided, so each attempt asks again whether the party is cleared, whether its
escrow account takes money, and, for a contribution, whether its investment and its raise do, and, of what staff draws,
whether the commitment still has room. Where nobody answers, or
the account is frozen, it stays QUEUED.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.data.transaction import Tx
from services.chassis.values.errors import DomainError
from services.transactions.commands.attempts import ask_about_attempts, ask_about_commitments, refuse_exceeding
from services.transactions.dependencies import ACTOR, NAME, Dependencies
from services.transactions.domain.states import Status
from services.transactions.domain.transaction import Transaction
from services.transactions.jobs.batches import BATCH_MAX, do_groups, group_by_organization
from services.transactions.jobs.obstacles import end_hopeless, postpone_cooling_payouts
from services.transactions.store import moves
from services.transactions.store import transactions as store

QUEUED = store.build_taking(Status.QUEUED, count_max=BATCH_MAX)


async def start_queued(dependencies: Dependencies) -> int:
    taken = await store.take_transactions(dependencies.database, QUEUED)
    await do_groups(group_by_organization(taken), partial(_start_rows, dependencies))
    return len(taken)


async def _start_rows(dependencies: Dependencies, org_id: str, rows: Sequence[Transaction]) -> None:
    with acting_as(service_principal(NAME, org_id)):
        refusals, unanswered = await ask_about_attempts(dependencies, rows, dependencies.clock.now())
        answered = [row for row in rows if row.transaction_id not in unanswered]
        commitments, unknown = await ask_about_commitments(dependencies.peers, answered)
        async with dependencies.database.begin() as tx:
            asked = []
            for row in await store.lock_taken_transactions(tx, rows):
                if row.transaction_id in unanswered | unknown:
                    await store.postpone_transaction(tx, row)
                else:
                    asked.append(row)
            if asked:
                refusals = await refuse_exceeding(tx, asked, commitments) | refusals
                await _begin_attempts(tx, dependencies, asked, refusals)


async def _begin_attempts(
    tx: Tx, dependencies: Dependencies, rows: Sequence[Transaction], refusals: Mapping[str, DomainError]
) -> None:
    now = dependencies.clock.now()
    possible = await end_hopeless(tx, rows, now, refusals)
    ready = await postpone_cooling_payouts(tx, possible, now) if possible else []
    await moves.save_attempts(tx, ready, actor=ACTOR, now=now)
