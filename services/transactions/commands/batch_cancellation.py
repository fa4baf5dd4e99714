"""Cancels up to 1000 transactions at once, each as a single request would: same rules, same keys, same answers.

What waits for its payers is ended at the providers first, some at a time, for as long as the caller waits.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial

from realco.transactions.v1 import transactions_pb2 as pb

from services.chassis.calls.auth import current_principal
from services.chassis.calls.batch import build_results
from services.chassis.calls.deadline import remaining_seconds
from services.chassis.data.once_each import Deed, answered_each, once_each, rehearse_each
from services.chassis.data.operations import do_whole
from services.chassis.data.seals import NotSealed, build_withheld
from services.chassis.data.transaction import Tx
from services.chassis.values.errors import DomainError, InvalidField, Unavailable
from services.transactions.actions import answer_transaction
from services.transactions.commands.approvals import TRANSACTION_APPROVALS
from services.transactions.commands.cancellation import (
    build_cancellation,
    end_at_provider,
    has_to_be_cancelled,
    note_stops,
)
from services.transactions.commands.decisions import check_as_read
from services.transactions.dependencies import Dependencies
from services.transactions.domain.decisions import check_may_cancel
from services.transactions.domain.states import Status
from services.transactions.domain.transaction import Transaction
from services.transactions.store import moves
from services.transactions.store import transactions as store

Item = pb.CancelTransactionRequest
Rows = Mapping[str, Transaction | NotSealed]
# What has ended at its provider, as that calls it, or why it has not, by the id of the transaction.
Ended = Mapping[str, str | DomainError]

# So many are ended at a time, and none once there is only the time to end it and to write what has become of all.
_AT_ONCE = 16
_LEFT_SECONDS = 6.0


async def batch_cancel_transactions(
    dependencies: Dependencies, request: pb.BatchCancelTransactionsRequest
) -> pb.BatchCancelTransactionsResponse:
    """Raises: RequestInFlight: another request with one of the keys still runs. InvalidField."""
    _check_named_once(request.items)
    return await do_whole(_cancel_batch(dependencies, request))


def _check_named_once(items: Sequence[Item]) -> None:
    """Raises: InvalidField."""
    first: dict[str, int] = {}
    faults = {
        f"items[{number}].transaction_id": f"is that of items[{first[item.transaction_id]}], too"
        for number, item in enumerate(items)
        if first.setdefault(item.transaction_id, number) != number
    }
    if faults:
        raise InvalidField("A batch names no transaction twice.", fields=faults)


async def _cancel_batch(
    dependencies: Dependencies, request: pb.BatchCancelTransactionsRequest
) -> pb.BatchCancelTransactionsResponse:
    items, database, now = request.items, dependencies.database, dependencies.clock.now()
    if request.validate_only:
        ended = await _end_each(dependencies, items, now, validate_only=True)
        outcomes = await rehearse_each(database, items, Deed(partial(_judge, ended), partial(_cancel, ended, now)))
    else:
        known = await answered_each(database, items, pb.Transaction)
        places = [place for place in range(len(items)) if place not in known]
        fresh = [items[place] for place in places]
        ended = await _end_each(dependencies, fresh, now, validate_only=False)
        deed = Deed(partial(_judge, ended), partial(_cancel, ended, now))
        done = await once_each(database, fresh, pb.Transaction, deed)
        decided = known | dict(zip(places, done, strict=True))
        outcomes = [decided[place] for place in range(len(items))]
    dependencies.work_due.set()
    return pb.BatchCancelTransactionsResponse(results=build_results(pb.TransactionResult, items, outcomes))


async def _end_each(
    dependencies: Dependencies, items: Sequence[Item], now: datetime, *, validate_only: bool
) -> dict[str, str | DomainError]:
    """Has what waits for its payer, and may be cancelled, ended at its provider."""
    database = dependencies.database
    rows = await store.list_each(database.reader, [item.transaction_id for item in items])
    there = [
        row
        for item in items
        if isinstance(row := rows.get(item.transaction_id), Transaction) and _may_be_ended(row, item)
    ]
    if not there:
        return {}
    async with database.begin_rehearsal() if validate_only else database.begin() as tx:
        ended: dict[str, str | DomainError] = dict(await note_stops(tx, there, now))
    slots = asyncio.Semaphore(_AT_ONCE)

    async def end(row: Transaction) -> str | DomainError:
        async with slots:
            remaining = remaining_seconds()
            if remaining is not None and remaining < _LEFT_SECONDS:
                return Unavailable("There was no time left to ask its provider: ask again.")
            try:
                return await end_at_provider(dependencies, row, validate_only=validate_only)
            except DomainError as refusal:
                return refusal

    asked = [row for row in there if row.transaction_id not in ended]
    answers = await asyncio.gather(*(end(row) for row in asked))
    return ended | {row.transaction_id: answer for row, answer in zip(asked, answers, strict=True)}


def _may_be_ended(row: Transaction, item: Item) -> bool:
    """Whether a provider has it, and nothing here speaks against its end; what does, is said when it is judged."""
    try:
        check_may_cancel(check_as_read(row, item.etag), current_principal().person)
    except DomainError:
        return False
    return row.is_at_provider


async def _judge(ended: Ended, tx: Tx, items: Sequence[Item]) -> list[DomainError | None]:
    rows = await store.list_each(tx, [item.transaction_id for item in items])
    return [_find_refusal(ended, rows, item) for item in items]


def _find_refusal(ended: Ended, rows: Rows, item: Item) -> DomainError | None:
    row, told = rows.get(item.transaction_id), ended.get(item.transaction_id)
    if isinstance(row, NotSealed):
        return build_withheld(row)
    if isinstance(told, DomainError):
        return told
    try:
        # Of what has ended at its provider the version was compared before.
        found = check_as_read(row, item.etag if told is None else "")
        has_to_be_cancelled(found, told)
    except DomainError as refusal:
        return refusal
    return None


async def _cancel(ended: Ended, now: datetime, tx: Tx, items: Sequence[Item]) -> list[pb.Transaction | DomainError]:
    rows = await store.lock_each(tx, [item.transaction_id for item in items])
    refusals = {
        item.transaction_id: refusal for item in items if (refusal := _find_refusal(ended, rows, item)) is not None
    }
    found = {each: row for each, row in rows.items() if isinstance(row, Transaction) and each not in refusals}
    told = {each: payment_id for each, payment_id in ended.items() if isinstance(payment_id, str)}
    left = {
        each: item
        for item in items
        if (each := item.transaction_id) in found and has_to_be_cancelled(found[each], told.get(each))
    }
    refusals |= await note_stops(tx, [found[each] for each in left], now)
    moving: dict[tuple[Status, str], list[Item]] = defaultdict(list)
    for transaction_id, item in left.items():
        row = found[transaction_id]
        if transaction_id not in refusals:
            moving[row.status, item.note].append(item)
            if row.status is Status.PENDING_APPROVAL:  # nothing else waits for a second person
                await TRANSACTION_APPROVALS.cancel(tx, row.transaction_id, now)
    for same in moving.values():
        before = [found[item.transaction_id] for item in same]
        step, person = build_cancellation(same[0]), current_principal().person
        moved = await moves.save_steps(tx, before, step, actor=person, now=now)
        found |= {row.transaction_id: row for row in moved}
    return [refusals.get(item.transaction_id) or answer_transaction(found[item.transaction_id], now) for item in items]
