"""Cancels up to 1000 transactions at once, each as a single request would: same rules, same keys, same answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial

from realco.transactions.v1 import transactions_pb2 as pb

from services.chassis.calls.auth import current_principal
from services.chassis.calls.batch import build_results
from services.chassis.data.heard_persons import acts_for
from services.chassis.data.once_each import Deed, answered_each, once_each, rehearse_each
from services.chassis.data.seals import NotSealed, build_withheld
from services.chassis.data.stops import note_stop
from services.chassis.data.transaction import Tx
from services.chassis.values.errors import DomainError
from services.transactions.actions import answer_transaction
from services.transactions.commands.approvals import TRANSACTION_APPROVALS
from services.transactions.commands.decisions import CANCELS, build_cancellation, check_as_read, is_own
from services.transactions.dependencies import Dependencies
from services.transactions.domain.decisions import check_may_cancel
from services.transactions.domain.states import Status
from services.transactions.domain.transaction import Transaction
from services.transactions.store import moves
from services.transactions.store import transactions as store

Item = pb.CancelTransactionRequest
Rows = Mapping[str, Transaction | NotSealed]


async def batch_cancel_transactions(
    dependencies: Dependencies, request: pb.BatchCancelTransactionsRequest
) -> pb.BatchCancelTransactionsResponse:
    """Raises: RequestInFlight: another request with one of the keys still runs."""
    items, database = request.items, dependencies.database
    deed = Deed(_judge, partial(_cancel, dependencies.clock.now()))
    if request.validate_only:
        outcomes = await rehearse_each(database, items, deed)
    else:
        known = await answered_each(database, items, pb.Transaction)
        fresh = [place for place in range(len(items)) if place not in known]
        done = await once_each(database, [items[place] for place in fresh], pb.Transaction, deed)
        decided = known | dict(zip(fresh, done, strict=True))
        outcomes = [decided[place] for place in range(len(items))]
    dependencies.work_due.set()
    return pb.BatchCancelTransactionsResponse(results=build_results(pb.TransactionResult, items, outcomes))


async def _judge(tx: Tx, items: Sequence[Item]) -> list[DomainError | None]:
    rows = await store.list_each(tx, [item.transaction_id for item in items])
    return [_find_refusal(rows, item) for item in items]


def _find_refusal(rows: Rows, item: Item) -> DomainError | None:
    row = rows.get(item.transaction_id)
    if isinstance(row, NotSealed):
        return build_withheld(row)
    try:
        found = check_as_read(row, item.etag)
        if found.status is not Status.CANCELLED:
            check_may_cancel(found, current_principal().person)
    except DomainError as refusal:
        return refusal
    return None


async def _cancel(now: datetime, tx: Tx, items: Sequence[Item]) -> list[pb.Transaction | DomainError]:
    rows = await store.lock_each(tx, [item.transaction_id for item in items])
    refusals = {item.transaction_id: refusal for item in items if (refusal := _find_refusal(rows, item)) is not None}
    found = {each: row for each, row in rows.items() if isinstance(row, Transaction) and each not in refusals}
    named = [found[item.transaction_id] for item in items if item.transaction_id in found]
    refusals |= await _note_stops(tx, [row for row in named if row.status is not Status.CANCELLED], now)
    moving: dict[tuple[Status, str], list[Item]] = defaultdict(list)
    for item in items:
        row = found.get(item.transaction_id)
        if row is not None and row.status is not Status.CANCELLED and item.transaction_id not in refusals:
            moving[row.status, item.note].append(item)
            if row.status is Status.PENDING_APPROVAL:  # nothing else waits for a second person
                await TRANSACTION_APPROVALS.cancel(tx, row.transaction_id, now)
    for same in moving.values():
        before = [found[item.transaction_id] for item in same]
        step, person = build_cancellation(same[0]), current_principal().person
        moved = await moves.save_steps(tx, before, step, actor=person, now=now)
        found |= {row.transaction_id: row for row in moved}
    return [refusals.get(item.transaction_id) or answer_transaction(found[item.transaction_id], now) for item in items]


async def _note_stops(tx: Tx, rows: Sequence[Transaction], now: datetime) -> dict[str, DomainError]:
    """Counts what stops others: why some may not. Party by party, so that no two wait for each other."""
    refusals: dict[str, DomainError] = {}
    by_party: dict[str, list[Transaction]] = defaultdict(list)
    for row in rows:
        by_party[row.party_id].append(row)
    for party_id, of_party in sorted(by_party.items()):
        others = [row for row in of_party if not is_own(row)]
        if others and not await acts_for(tx, party_id):
            for row in others:
                try:
                    await note_stop(tx, CANCELS, party_id, now)
                except NotSealed as error:
                    refusals[row.transaction_id] = build_withheld(error)
                except DomainError as refusal:
                    refusals[row.transaction_id] = refusal
    return refusals
