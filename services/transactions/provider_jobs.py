"""The jobs that talk to escrow about payouts, and to payment providers.

An outcome that is not known is never called a failure: the payment is looked up at the provider by our reference, and
only if it is not there is it ordered again, under the same key. So a crash at any point pays at most once. A result is
written only under the epoch of the claim it came from; a worker whose lease ran out writes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from realco.escrow.v1 import escrow_pb2
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import ALL_ORGANIZATIONS, acting_as, service_principal
from services.chassis.calls.wire import to_money
from services.chassis.process.telemetry import log
from services.chassis.values.errors import DomainError
from services.transactions.batches import BATCH_MAX, LEASE_MS, by_asker, jitter
from services.transactions.clients import SubmitItem, SubmitResult
from services.transactions.commands.settlement import PaymentNotOurs, apply_payment
from services.transactions.domain.payments import Payment
from services.transactions.domain.schedule import backoff_ms, poll_ms, watch_ms
from services.transactions.domain.states import Status
from services.transactions.domain.transaction import ATTEMPTS_MAX, DEBIT_TYPES, Failure, Transaction
from services.transactions.providers.base import Declined, OutcomeUnknown, PaymentOrder
from services.transactions.store import bank_accounts, webhooks
from services.transactions.store import transactions as store
from services.transactions.tables import transactions
from services.transactions.wiring import ACTOR, NAME, Parts

# One call each at a time to the provider: with its deadlines, a batch ends within its lease.
CONCURRENT_MAX = 16
_OVERTAKEN_MS, _OVERTAKEN_MS_MAX = 100, 5_000

T = TypeVar("T")
_Source = escrow_pb2.SubmitPayoutsRequest.Source
_SOURCES = {
    "DISTRIBUTION": _Source.PAYABLE,
    "ESCROW_WITHDRAWAL": _Source.ISSUER_PROCEEDS,
    "REFUND": _Source.SUBSCRIPTION,
}
_IS_DEBIT = transactions.c.type.in_(sorted(DEBIT_TYPES))
_BOOKED = transactions.c.escrow_booked
_TO_BOOK = store.claiming(
    Status.PROCESSING, lease_ms=LEASE_MS, count_max=BATCH_MAX, where=sa.not_(sa.or_(_IS_DEBIT, _BOOKED))
)
_TO_SUBMIT = store.claiming(
    Status.PROCESSING, lease_ms=LEASE_MS, count_max=CONCURRENT_MAX, where=sa.or_(_IS_DEBIT, _BOOKED)
)
_TO_LOOK_UP = {
    status: store.claiming(status, lease_ms=LEASE_MS, count_max=CONCURRENT_MAX)
    for status in (Status.PENDING_SETTLEMENT, Status.SETTLED, Status.COMPLETED)
}
_TO_APPLY = webhooks.claiming(lease_ms=LEASE_MS, count_max=CONCURRENT_MAX)


class ProviderJobs:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._database = parts.database
        self._clock = parts.clock

    async def book(self) -> int:
        """Has escrow take the money of payouts in PROCESSING, before any provider is asked."""
        async with self._database.begin(ALL_ORGANIZATIONS) as tx:
            claimed = await store.claim(tx, _TO_BOOK)
        for (org_id, person), rows in by_asker(claimed).items():
            with acting_as(service_principal(NAME, org_id, person)):
                await self._book(rows)
        return len(claimed)

    async def _book(self, rows: Sequence[Transaction]) -> None:
        refusals: dict[str, Failure | None] = {}
        try:
            results = await self._parts.escrow.submit_payouts([_submit_item(row) for row in rows])
        except DomainError as error:
            if error.kind.transient:
                log.warning("escrow_away", transactions=len(rows), reason=error.reason)
            elif len(rows) > 1:
                for row in rows:  # one that escrow cannot read must not stop the others
                    await self._book([row])
                return
            else:
                refusals = {rows[0].transaction_id: Failure(error.reason, error.message, False, error.metadata)}
        else:
            for row, result in zip(rows, results, strict=True):
                refusals[row.transaction_id] = _refusal(result)
        async with self._database.begin() as tx:
            await self._record_bookings(tx, await store.lock_all_claimed(tx, rows), refusals)
        self._parts.nudge.set()

    async def _record_bookings(
        self, tx: AsyncConnection, rows: Sequence[Transaction], refusals: dict[str, Failure | None]
    ) -> None:
        """Writes what escrow said of each payout; those it said nothing of are asked about again."""
        booked = []
        for row in rows:
            if row.transaction_id not in refusals:
                await store.put_off(tx, row, backoff_ms(row.tries, jitter()))
            elif (failure := refusals[row.transaction_id]) is None:
                booked.append(row)
            else:
                now = self._clock.now()
                await store.move(tx, row, Status.FAILED, actor=ACTOR, now=now, reason=failure.message, failure=failure)
        await store.mark_booked(tx, booked)

    async def submit(self) -> int:
        """PROCESSING -> PENDING_SETTLEMENT, or FAILED where the provider says no."""
        async with self._database.begin(ALL_ORGANIZATIONS) as tx:
            claimed = await store.claim(tx, _TO_SUBMIT)
        await _each(claimed, self._submit)
        return len(claimed)

    async def _submit(self, claimed: Transaction) -> None:
        with acting_as(service_principal(NAME, claimed.org_id, claimed.created_by)):
            outcome: Payment | Declined | OutcomeUnknown
            try:
                outcome = await self._order(claimed)
            except (Declined, OutcomeUnknown) as error:
                outcome = error
            async with self._database.begin() as tx:
                row = await store.lock_claimed(tx, claimed)
                if row is not None:
                    await self._record_outcome(tx, row, outcome)
            self._parts.nudge.set()

    async def _order(self, row: Transaction) -> Payment:
        """Orders the payment, or finds the one that was ordered. Raises Declined, OutcomeUnknown."""
        async with self._database.begin() as tx:
            earlier = await store.earlier_references(tx, row)
            order = await self._payment_order(tx, row)
        provider = self._parts.providers[row.provider]
        if row.tries > 1:  # somebody tried before, and did not live to tell
            found = _found(await provider.look_up(row.transaction_id), row, earlier)
            if found is not None:
                return found
        try:
            return await provider.submit(order)
        except OutcomeUnknown:
            found = _found(await provider.look_up(row.transaction_id), row, earlier)
            if found is None:
                raise
            return found

    async def _payment_order(self, tx: AsyncConnection, row: Transaction) -> PaymentOrder:
        account = await bank_accounts.get(tx, row.org_id, row.bank_account_id) if row.bank_account_id else None
        number = ""
        if account is not None:
            sealed, account_id = account.account_number_encrypted, account.bank_account_id
            number = self._parts.vault.open(sealed, org_id=row.org_id, bank_account_id=account_id)
        return PaymentOrder(
            key=row.provider_key,
            reference=row.transaction_id,
            amount=row.amount,
            is_debit=row.is_debit,
            presentment=max(row.presentments, 1),
            routing_number=account.routing_number if account else "",
            account_number=number,
            account_holder_name=account.account_holder_name if account else "",
            # Source: Nacha Operating Rules, Subsection 2.13.4.2: a reinitiated entry says so.
            description="RETRY PYMT" if row.presentments > 1 else row.type.replace("_", " "),
        )

    async def _record_outcome(
        self, tx: AsyncConnection, row: Transaction, outcome: Payment | Declined | OutcomeUnknown
    ) -> None:
        now = self._clock.now()
        if isinstance(outcome, Declined):
            again = outcome.retryable and row.is_debit and row.attempts < ATTEMPTS_MAX
            presentments = row.presentments - row.is_debit  # the bank never saw this one
            await store.move(
                tx,
                row,
                Status.FAILED,
                actor=ACTOR,
                now=now,
                reason=outcome.message,
                failure=Failure(outcome.code, outcome.message, again),
                presentments=presentments,
                first_presented_at=row.first_presented_at if presentments else None,
            )
        elif isinstance(outcome, OutcomeUnknown):
            log.warning("outcome_unknown", transaction_id=row.transaction_id, tries=row.tries, cause=str(outcome))
            pause_ms = max(backoff_ms(row.tries, jitter()), outcome.retry_after_seconds * 1000)
            await store.put_off(tx, row, pause_ms)
        else:
            try:
                await apply_payment(tx, row, outcome, now)
            except PaymentNotOurs as error:
                log.error("payment_not_ours", transaction_id=row.transaction_id, cause=str(error))
                await store.put_off(tx, row, backoff_ms(row.tries, jitter()))

    async def poll(self) -> int:
        """Looks up payments nobody has told us about: a lost webhook costs time, not truth."""
        return await self._look_up(Status.PENDING_SETTLEMENT)

    async def watch(self) -> int:
        """Looks up what arrived and may still come back: that webhook may be lost, too."""
        return await self._look_up(Status.SETTLED) + await self._look_up(Status.COMPLETED)

    async def _look_up(self, status: Status) -> int:
        async with self._database.begin(ALL_ORGANIZATIONS) as tx:
            claimed = await store.claim(tx, _TO_LOOK_UP[status])
        await _each(claimed, self._poll)
        return len(claimed)

    async def _poll(self, claimed: Transaction) -> None:
        try:
            payment = await self._parts.providers[claimed.provider].get(claimed.provider_reference)
        except OutcomeUnknown as error:
            log.warning("outcome_unknown", transaction_id=claimed.transaction_id, cause=str(error))
            payment = None
        with acting_as(service_principal(NAME, claimed.org_id, claimed.created_by)):
            async with self._database.begin() as tx:
                row = await store.lock_claimed(tx, claimed)
                if row is None:
                    return
                try:
                    moved = row if payment is None else await apply_payment(tx, row, payment, self._clock.now())
                except PaymentNotOurs as error:
                    log.error("payment_not_ours", transaction_id=row.transaction_id, cause=str(error))
                    moved = row
                if moved.status is not row.status:
                    return
                if row.is_final(self._clock.now()):
                    await store.let_go(tx, row)
                else:
                    wait_ms = poll_ms if row.status is Status.PENDING_SETTLEMENT else watch_ms
                    await store.put_off(tx, row, wait_ms(row.tries))

    async def apply_webhooks(self) -> int:
        """Applies what came in, by what the provider says now: the webhook itself is only a hint (c25)."""
        async with self._database.begin(ALL_ORGANIZATIONS) as tx:
            claimed = await webhooks.claim(tx, _TO_APPLY)
        await _each(claimed, self._apply_webhook)
        return len(claimed)

    async def _apply_webhook(self, hook: sa.Row[Any]) -> None:
        try:
            payment = await self._parts.providers[hook.provider].get(hook.provider_reference)
        except OutcomeUnknown:
            async with self._database.begin(ALL_ORGANIZATIONS) as tx:
                await webhooks.put_off(tx, hook, backoff_ms(hook.tries, jitter()))
            return
        async with self._database.begin(ALL_ORGANIZATIONS) as tx:
            now = self._clock.now()
            if payment is None:
                await webhooks.finish(tx, hook, "IGNORED", now, failure="the provider has no such payment")
                return
            owner = await store.find_payment(tx, hook.provider, payment.payment_id, payment.reference)
            if owner is None:
                await webhooks.finish(tx, hook, "IGNORED", now, failure="not a payment of ours")
                return
            with acting_as(service_principal(NAME, owner[0])):
                await self._apply_to(tx, hook, payment, owner)
        self._parts.nudge.set()

    async def _apply_to(self, tx: AsyncConnection, hook: sa.Row[Any], payment: Payment, owner: tuple[str, str]) -> None:
        org_id, transaction_id = owner
        now = self._clock.now()
        row = await store.lock(tx, org_id, transaction_id)
        if row is None or row.status is Status.PROCESSING:
            # The webhook overtook the answer to the order: whoever is asking will know the payment in a moment.
            await webhooks.put_off(tx, hook, min(_OVERTAKEN_MS << min(hook.tries, 16), _OVERTAKEN_MS_MAX))
            return
        outcome, failure = "APPLIED", ""
        try:
            if payment.payment_id == row.provider_reference:
                await apply_payment(tx, row, payment, now)
            elif payment.payment_id not in await store.earlier_references(tx, row):
                raise PaymentNotOurs("the provider has a payment under our reference that is none of its attempts")
        except PaymentNotOurs as error:
            log.error("payment_not_ours", transaction_id=transaction_id, cause=str(error))
            outcome, failure = "FAILED", str(error)
        await webhooks.finish(tx, hook, outcome, now, failure=failure, org_id=org_id, transaction_id=transaction_id)


def _submit_item(row: Transaction) -> SubmitItem:
    return SubmitItem(
        idempotency_key=row.escrow_key,
        escrow_account_id=row.escrow_account_id,
        transaction_id=row.transaction_id,
        source=_SOURCES[row.type],
        party_id=row.party_id,
        amount=to_money(row.amount),
        investment_id=row.investment_id,
        distribution_id=row.distribution_id,
    )


def _refusal(result: SubmitResult) -> Failure | None:
    if result.WhichOneof("outcome") != "refusal":
        return None
    return Failure(result.refusal.reason, result.refusal.message, False, dict(result.refusal.metadata))


def _found(payments: Sequence[Payment], row: Transaction, earlier: frozenset[str]) -> Payment | None:
    """The payment of the current attempt among those under the transaction's reference."""
    wanted = max(row.presentments, 1)
    mine = [each for each in payments if each.payment_id not in earlier and each.presentment == wanted]
    if len(mine) > 1:
        log.error("paid_twice", transaction_id=row.transaction_id, payments=len(mine))
    return mine[-1] if mine else None


async def _each(items: Sequence[T], work: Callable[[T], Awaitable[None]]) -> None:
    """Works on all at once; one that breaks leaves its claim to run out, and the others go on."""
    outcomes = await asyncio.gather(*(work(item) for item in items), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            log.error("job_item_failed", error=type(outcome).__name__, exc_info=outcome)
        elif outcome is not None:
            raise outcome
