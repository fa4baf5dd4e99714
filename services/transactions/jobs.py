"""What moves transactions when nobody asks: evaluation, the next attempt, the end of the return risk.

Each job does a bounded batch and says how much it did. It commits what it intends before it asks anybody, and what it
learned afterwards; a claim is a lease that runs out, so what a crash left is found again (reliability rule c23). The
jobs that talk to providers are in provider_jobs.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import ALL_ORGANIZATIONS, acting_as, service_principal
from services.chassis.process.jobs import Job
from services.chassis.process.telemetry import log
from services.chassis.values.errors import DomainError
from services.transactions.batches import BATCH_MAX, LEASE_MS, by_asker, by_organization, jitter
from services.transactions.clients import Decision
from services.transactions.commands.decisions import queue_again
from services.transactions.commands.evaluation import apply_decisions, item_of
from services.transactions.domain.errors import NotRetryable
from services.transactions.domain.schedule import backoff_ms, watch_ms
from services.transactions.domain.states import Status
from services.transactions.domain.transaction import DEBIT_TYPES, Failure, Transaction, check_window
from services.transactions.provider_jobs import ProviderJobs
from services.transactions.store import bank_accounts
from services.transactions.store import transactions as store
from services.transactions.tables import transactions
from services.transactions.wiring import ACTOR, NAME, Parts

IDLE_SECONDS = 0.25
_TO_EVALUATE = store.claiming(Status.INITIATED, lease_ms=LEASE_MS, count_max=BATCH_MAX)
_TO_START = store.claiming(Status.QUEUED, lease_ms=LEASE_MS, count_max=BATCH_MAX)
WATCH_IDLE_SECONDS = 5  # nobody waits for what comes back late


def jobs(parts: Parts) -> list[Job]:
    own, provider = TransactionJobs(parts), ProviderJobs(parts)
    return [
        Job("evaluate", own.evaluate, IDLE_SECONDS),
        Job("retries", own.queue_retries, IDLE_SECONDS),
        Job("start", own.start, IDLE_SECONDS),
        Job("book", provider.book, IDLE_SECONDS),
        Job("submit", provider.submit, IDLE_SECONDS),
        Job("apply_webhooks", provider.apply_webhooks, IDLE_SECONDS),
        Job("poll", provider.poll, IDLE_SECONDS),
        Job("watch", provider.watch, WATCH_IDLE_SECONDS),
        Job("complete", own.complete, IDLE_SECONDS),
    ]


class TransactionJobs:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._database = parts.database
        self._clock = parts.clock

    async def evaluate(self) -> int:
        """INITIATED -> what compliance decides. What the request that made it did not live to do."""
        async with self._database.begin(ALL_ORGANIZATIONS) as tx:
            claimed = await store.claim(tx, _TO_EVALUATE)
        for (org_id, person), rows in by_asker(claimed).items():
            with acting_as(service_principal(NAME, org_id, person)):
                await self._evaluate(rows)
        return len(claimed)

    async def _evaluate(self, rows: Sequence[Transaction]) -> None:
        try:
            decisions: Sequence[Decision] = await self._parts.compliance.evaluate([item_of(row) for row in rows])
        except DomainError as error:
            if not error.kind.transient and len(rows) > 1:
                for row in rows:  # one that compliance cannot read must not stop the others
                    await self._evaluate([row])
                return
            log.warning("compliance_away", transactions=len(rows), reason=error.reason)
            decisions = [Decision(transaction_id=row.transaction_id) for row in rows]
        made = {row.transaction_id: decision for row, decision in zip(rows, decisions, strict=True)}
        async with self._database.begin() as tx:
            current = await store.lock_all_claimed(tx, rows)
            outcomes = await apply_decisions(tx, current, made, self._clock.now())
            for row in current:
                if row.transaction_id not in outcomes:
                    await store.put_off(tx, row, backoff_ms(row.tries, jitter()))
        self._parts.nudge.set()

    async def queue_retries(self) -> int:
        """PENDING_RETRY -> QUEUED when its time has come; FAILED if the bank account was blocked meanwhile."""
        return await self._move_due(Status.PENDING_RETRY, self._queue_retries)

    async def _queue_retries(self, tx: AsyncConnection, rows: Sequence[Transaction], now: datetime) -> None:
        for row in await self._usable(tx, rows, now, {}):  # whether the party is cleared is asked at the start
            await queue_again(tx, row, actor=ACTOR, now=now)

    async def start(self) -> int:
        """QUEUED -> PROCESSING: the attempt is counted and its key fixed before anybody outside is asked.

        Days may have passed since compliance decided: a party that is not cleared any more ends the attempt.
        """
        async with self._database.begin(ALL_ORGANIZATIONS) as tx:
            claimed = await store.claim(tx, _TO_START)
        for org_id, rows in by_organization(claimed).items():
            with acting_as(service_principal(NAME, org_id)):
                await self._start(rows)
        return len(claimed)

    async def _start(self, rows: Sequence[Transaction]) -> None:
        uncleared: Mapping[str, str] | None
        try:
            uncleared = await self._parts.compliance.uncleared({row.party_id for row in rows})
        except DomainError as error:
            log.warning("compliance_away", transactions=len(rows), reason=error.reason)
            uncleared = None
        async with self._database.begin() as tx:
            current = await store.lock_all_claimed(tx, rows)
            if uncleared is None:
                for row in current:
                    await store.put_off(tx, row, backoff_ms(row.tries, jitter()))
            elif current:
                await self._process(tx, current, uncleared)
        self._parts.nudge.set()

    async def _process(self, tx: AsyncConnection, rows: Sequence[Transaction], uncleared: Mapping[str, str]) -> None:
        t, now = transactions.c, self._clock.now()
        started = await store.move_all(
            tx,
            await self._usable(tx, rows, now, uncleared),
            Status.PROCESSING,
            actor=ACTOR,
            now=now,
            due_ms=0,
            attempts=t.attempts + 1,
            presentments=t.presentments + sa.case((t.type.in_(sorted(DEBIT_TYPES)), 1), else_=0),
            first_presented_at=sa.func.coalesce(t.first_presented_at, now),
            provider_reference="",
            escrow_booked=False,
        )
        await store.insert_attempts(tx, started, now)

    async def complete(self) -> int:
        """SETTLED -> COMPLETED when the return risk is over."""
        return await self._move_due(Status.SETTLED, self._complete)

    async def _complete(self, tx: AsyncConnection, rows: Sequence[Transaction], now: datetime) -> None:
        reason = "the return risk is over"
        for by_hand in (True, False):  # a check has no provider that could be asked whether it came back
            group = [row for row in rows if (row.provider == "manual") is by_hand]
            due_ms = None if by_hand else watch_ms(0)
            await store.move_all(tx, group, Status.COMPLETED, actor=ACTOR, now=now, reason=reason, due_ms=due_ms)

    async def _move_due(
        self, status: Status, step: Callable[[AsyncConnection, Sequence[Transaction], datetime], Awaitable[None]]
    ) -> int:
        """Runs a step that asks nobody on a batch of due transactions, in one transaction."""
        now = self._clock.now()
        async with self._database.begin(ALL_ORGANIZATIONS) as tx:
            rows = await store.lock_due(tx, status, now, BATCH_MAX)
            for org_id, group in by_organization(rows).items():
                with acting_as(service_principal(NAME, org_id)):
                    await step(tx, group, now)
        if rows:
            self._parts.nudge.set()
        return len(rows)

    async def _usable(
        self, tx: AsyncConnection, rows: Sequence[Transaction], now: datetime, uncleared: Mapping[str, str]
    ) -> list[Transaction]:
        """Rows whose attempt may be made; the others end. A retired account still serves what is under way."""
        ids = {row.bank_account_id for row in rows if row.bank_account_id}
        accounts = await bank_accounts.by_id(tx, rows[0].org_id, ids)
        usable = []
        for row in rows:
            failure = _obstacle(row, accounts.get(row.bank_account_id), now, uncleared)
            if failure is None:
                usable.append(row)
                continue
            changes = {"failure": failure, "next_attempt_at": None}
            await store.move(tx, row, Status.FAILED, actor=ACTOR, now=now, reason=failure.message, **changes)
        return usable


def _obstacle(
    row: Transaction, account: sa.Row[Any] | None, now: datetime, uncleared: Mapping[str, str]
) -> Failure | None:
    """Why the next attempt must not be made: the party is not cleared, a return has blocked the account, or the timer
    came too late.
    """
    if (missing := uncleared.get(row.party_id)) is not None:
        facts = {"party_id": row.party_id, "missing": missing}
        return Failure("PARTY_NOT_CLEARED", f"The party is not cleared any more: {missing}.", False, facts)
    # The reason, not the status: an account may be blocked and then retired, or retired and then blocked.
    if account is not None and account.block_reason:
        facts = {"bank_account_id": row.bank_account_id, "status": account.status}
        return Failure("BANK_ACCOUNT_NOT_USABLE", f"The account is blocked ({account.block_reason}).", False, facts)
    try:
        check_window(row, now)
    except NotRetryable as error:
        return Failure(error.reason, error.message, False, error.metadata)
    return None
