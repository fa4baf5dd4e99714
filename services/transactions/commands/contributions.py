"""Contributions that nobody wants any more: what waits is cancelled, what a bank has is followed to its end."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from realco.transactions.v1 import contributions_pb2 as pb

from services.chassis.data.transaction import Tx
from services.chassis.values.errors import DomainError
from services.chassis.values.failure import make_failure
from services.transactions import messages
from services.transactions.commands import inflow
from services.transactions.commands.approvals import TRANSACTION_APPROVALS
from services.transactions.dependencies import ACTOR, Dependencies
from services.transactions.domain.states import WAITING, Status
from services.transactions.domain.transaction import Transaction
from services.transactions.store import contributions as store
from services.transactions.store import moves


async def ask_about_contributions(
    dependencies: Dependencies, request: pb.CancelContributionsRequest
) -> Mapping[str, DomainError]:
    """Why each of the investments takes no contributions; none of one that does. Raises Unavailable."""
    return await inflow.ask_about_investments(dependencies.peers, request.investment_ids, dependencies.clock.now())


async def cancel_contributions(
    tx: Tx, request: pb.CancelContributionsRequest, refusals: Mapping[str, DomainError], now: datetime
) -> pb.CancelContributionsResponse:
    """
    Args:
        refusals: Why each of the investments takes no contributions, by id.
    """
    answer = pb.CancelContributionsResponse()
    for investment_id, rows in (await store.lock_contributions_of(tx, request.investment_ids)).items():
        if rows is None:
            answer.unknown_investment_ids.append(investment_id)
            continue
        if (refusal := refusals.get(investment_id)) is not None:
            for row in rows:
                await _cancel(tx, row, refusal, now)
        answer.on_their_way.extend(messages.to_transaction(row) for row in rows if row.is_on_its_way)
    return answer


async def _cancel(tx: Tx, row: Transaction, refusal: DomainError, now: datetime) -> None:
    """Where it waits: a job that has just taken it finds that it moved."""
    if row.status not in WAITING:
        return
    await TRANSACTION_APPROVALS.cancel(tx, row.transaction_id, now)
    failure = make_failure(refusal)
    changes: dict[str, Any] = {"next_attempt_at": None, "failure": failure}
    await moves.save_move(tx, row, Status.CANCELLED, actor=ACTOR, now=now, note=failure.message, **changes)
