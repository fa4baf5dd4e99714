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
from services.chassis.process.telemetry import log
from services.chassis.values.errors import AnswerWithheld, DomainError, Unavailable
from services.transactions.dependencies import NAME, Dependencies
from services.transactions.domain.transaction import Transaction
from services.transactions.store import transactions as store

BATCH_MAX = 100
# So many calls to a provider at a time: with their deadlines, a batch ends within its lease.
CALLS_MAX = 16

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


async def do_each(items: Sequence[T], work: Callable[[T], Awaitable[None]]) -> None:
    """Works on all at once; where one fails, its lease runs out, and the others go on."""
    outcomes = await asyncio.gather(*(work(item) for item in items), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            log.error("job_item_failed", error=type(outcome).__name__, exc_info=outcome)
        elif outcome is not None:
            raise outcome
