"""What the jobs share: how much one takes, and how a batch is cut by organization and person."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.data.database_errors import is_away
from services.chassis.data.due import Due, list_pages
from services.chassis.data.transaction import Tx
from services.chassis.process.loops import GATHERING_SECONDS
from services.chassis.process.telemetry import log
from services.chassis.values.errors import AnswerWithheld, DomainError, Unavailable
from services.transactions.dependencies import NAME, Dependencies
from services.transactions.domain.transaction import Transaction
from services.transactions.store import transactions as store

BATCH_MAX = 100
# So many calls to a provider at a time: with their deadlines, a batch ends within its lease.
CALLS_MAX = 16

A = TypeVar("A")
K = TypeVar("K")
T = TypeVar("T")


def group_by_organization(rows: Sequence[Transaction]) -> dict[str, list[Transaction]]:
    groups: dict[str, list[Transaction]] = defaultdict(list)
    for row in rows:
        groups[row.org_id].append(row)
    return groups


def group_by_person(rows: Sequence[Transaction]) -> dict[tuple[str, str], list[Transaction]]:
    """By (organization, person acted for): rows that may go to another service in one call."""
    groups: dict[tuple[str, str], list[Transaction]] = defaultdict(list)
    for row in rows:
        groups[row.org_id, row.created_by].append(row)
    return groups


async def ask_about(
    rows: Sequence[Transaction], ask: Callable[[Sequence[Transaction]], Awaitable[T]]
) -> AsyncIterator[tuple[Sequence[Transaction], T | DomainError]]:
    """What another service answers about all of them at once, or why it does not.

    If it refuses them all it is asked about each by itself: one that it cannot read, or cannot answer for because of a
    row that it did not write, must not stop the others.
    """
    try:
        yield rows, await ask(rows)
    except DomainError as error:
        is_gone = isinstance(error, Unavailable) and not isinstance(error, AnswerWithheld)
        if len(rows) == 1 or is_gone:
            yield rows, error
            return
        for row in rows:
            async for answer in ask_about([row], ask):
                yield answer


async def move_due(
    dependencies: Dependencies,
    due: Due,
    step: Callable[[Tx, Sequence[Transaction], datetime], Awaitable[None]],
) -> int:
    """Runs a step that asks nobody on the transactions that are due by business time; how many moved."""
    now, moved = dependencies.clock.now(), 0

    async def move(org_id: str, transaction_ids: Sequence[str]) -> None:
        nonlocal moved
        with acting_as(service_principal(NAME, org_id)):
            async with dependencies.database.begin() as tx:
                rows = await store.lock_due(tx, transaction_ids, due, now)
                if rows:
                    await step(tx, rows, now)
        moved += len(rows)

    async for page in list_pages(dependencies.database, due, now, BATCH_MAX):
        ids: dict[str, list[str]] = defaultdict(list)
        for row in page:
            ids[row.org_id].append(row.transaction_id)
        await do_groups(ids, move)
    if moved:
        dependencies.work_due.set()
    return moved


async def do_groups(groups: Mapping[K, Sequence[T]], work: Callable[[K, Sequence[T]], Awaitable[None]]) -> None:
    """Works on one group after the other; where that fails, on each of its items by itself.

    So one that cannot be worked on, since it or what it names is not sealed, must not stop the others.
    """
    for key, items in groups.items():
        try:
            await work(key, items)
        except Exception as error:
            if is_away(error):
                raise
            if len(items) > 1:
                for item in items:
                    await do_groups({key: [item]}, work)
            else:
                log.error("job_item_failed", error=type(error).__name__, exc_info=error)


async def ask_each(
    items: Sequence[T], ask: Callable[[T], Awaitable[A]], write: Callable[[Sequence[tuple[T, A]]], Awaitable[None]]
) -> None:
    """Asks about all at once, and has written together what is answered within a moment: so nobody waits for the
    slowest. Where asking fails, the item's lease runs out.
    """
    asking = {asyncio.ensure_future(ask(item)): item for item in items}
    left = set(asking)
    try:
        while left:
            await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
            done, left = await asyncio.wait(left, timeout=GATHERING_SECONDS)
            await write([(asking[each], each.result()) for each in done if not _has_failed(each)])
    finally:
        for each in left:
            each.cancel()


def _has_failed(asked: asyncio.Future[A]) -> bool:
    error = asked.exception()
    if error is None:
        return False
    if not isinstance(error, Exception):
        raise error
    log.error("job_item_failed", error=type(error).__name__, exc_info=error)
    return True


async def record_each(
    dependencies: Dependencies,
    taken: Sequence[Transaction],
    ask: Callable[[Transaction], Awaitable[A]],
    record: Callable[[Tx, Transaction, A], Awaitable[None]],
) -> None:
    """Asks about each transaction, and records the answers about those that are still ours: one database transaction
    an organization for what is answered together."""

    async def write(answered: Sequence[tuple[Transaction, A]]) -> None:
        answers = {(row.org_id, row.transaction_id): answer for row, answer in answered}

        async def write_rows(org_id: str, rows: Sequence[Transaction]) -> None:
            with acting_as(service_principal(NAME, org_id)):
                async with dependencies.database.begin() as tx:
                    for row in await store.lock_taken_transactions(tx, rows):
                        await record(tx, row, answers[org_id, row.transaction_id])

        await do_groups(group_by_organization([row for row, _ in answered]), write_rows)

    await ask_each(taken, ask, write)
