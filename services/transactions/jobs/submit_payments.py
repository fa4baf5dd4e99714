"""PROCESSING -> PENDING_SETTLEMENT, or FAILED where the provider declines.

An outcome that is not known is never called a failure: the payment is looked up at the provider by our reference, and
only if it is not there is it ordered again, under the same key. So a crash at any point pays at most once.

Whether an earlier try may have sent the order is read from a row that is committed before the provider is asked and
that nobody can delete, and never from `tries`, which whoever may write to the database could set back.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple

from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.data.reads import Source
from services.chassis.data.seals import NotSealed
from services.chassis.data.transaction import Tx
from services.chassis.data.versions import find_restored_at
from services.chassis.process.telemetry import log
from services.chassis.values.errors import DomainError
from services.chassis.values.failure import Failure
from services.chassis.values.invariant import require_present
from services.transactions.commands.attempts import ask_about_attempts
from services.transactions.commands.bank_accounts import block_altered_account
from services.transactions.commands.exceptions import describe_transaction, report_apart
from services.transactions.commands.settlement import PaymentNotOurs, follow_payment, report_not_ours
from services.transactions.commands.verifications import read_debit_basis
from services.transactions.dependencies import ACTOR, NAME, Dependencies
from services.transactions.domain.bank_accounts import BankAccount, check_usable
from services.transactions.domain.exceptions import ExceptionKind
from services.transactions.domain.payments import FormerLife, Payment, PaymentStatus
from services.transactions.domain.rails import PROVIDERS
from services.transactions.domain.refusals import build_altered
from services.transactions.domain.states import Status
from services.transactions.domain.transaction import ATTEMPTS_MAX, Transaction
from services.transactions.jobs.batches import CALLS_MAX, group_by_organization, record_each
from services.transactions.providers.protocols import Declined, NotAsOrdered, OutcomeUnknown, PaymentOrder
from services.transactions.store import bank_accounts, moves, provider_payments
from services.transactions.store import transactions as store
from services.transactions.store.exception_reports import report
from services.transactions.vault import KeyMissing, SealedFor, VaultError

# An order that the provider does not have so long after it may last have been sent never reached it.
LOST_AFTER = timedelta(hours=1)


# What was asked when the attempt began is asked again before an order that is sent later than so.
ASKED_LATELY = timedelta(minutes=1)


class NotOrdered(Declined):
    """We order nothing, whatever the provider would say."""

    def __init__(self, refusal: DomainError) -> None:
        super().__init__(refusal.reason, refusal.message, retryable=refusal.kind.transient, metadata=refusal.metadata)


class AccountAltered(NotOrdered):
    """Nothing is ordered for a bank account that somebody changed in the database."""

    def __init__(self, bank_account_id: str) -> None:
        super().__init__(build_altered())
        self.bank_account_id = bank_account_id


class OrderForgotten(NotOrdered):
    """It may have been ordered, is not found, and the provider would take the same order for another one by now."""

    def __init__(self) -> None:
        message = "Its order had no answer, and the provider has no such payment: make a new transaction."
        Declined.__init__(self, "NOT_FOUND_AT_PROVIDER", message, retryable=False)


# Money moves by it, or has moved.
MOVES_MONEY = (PaymentStatus.PENDING, PaymentStatus.SETTLED)
READY = store.build_taking(Status.PROCESSING, count_max=CALLS_MAX, where=store.IS_BOOKED)


async def submit_payments(dependencies: Dependencies) -> int:
    taken = await store.take_transactions(dependencies.database, READY)
    never_sent = await provider_payments.insert_attempts(dependencies.database, taken, dependencies.clock.now())

    objections = await _ask_again(dependencies, taken)

    async def submit(row: Transaction) -> _Tried:
        key = (row.org_id, row.transaction_id)
        return await _submit_row(dependencies, row, objections.get(key), maybe_sent=key not in never_sent)

    async def record(tx: Tx, row: Transaction, tried: _Tried) -> None:
        await _record_outcome(tx, row, tried.outcome, dependencies.clock.now(), maybe_sent=tried.maybe_sent)

    await record_each(dependencies, taken, submit, record)
    return len(taken)


async def _ask_again(
    dependencies: Dependencies, taken: Sequence[Transaction]
) -> dict[tuple[str, str], NotOrdered | OutcomeUnknown]:
    """Why those must not be ordered now whose attempt began a while ago, by organization and transaction.

    No worker came to it, or the provider was away.
    """
    now = dependencies.clock.now()
    late = [row for row in taken if now - row.updated_at > ASKED_LATELY]
    found: dict[tuple[str, str], NotOrdered | OutcomeUnknown] = {}
    for org_id, rows in group_by_organization(late).items():
        with acting_as(service_principal(NAME, org_id)):
            refusals, unanswered = await ask_about_attempts(dependencies, rows, now)
        found |= {(org_id, each): NotOrdered(refusal) for each, refusal in refusals.items()}
        found |= {(org_id, each): OutcomeUnknown("nobody says whether it is wanted") for each in unanswered}
    return found


class _Tried(NamedTuple):
    """One try.

    Args:
        maybe_sent: An earlier try may have sent the order: somebody did not live to record the outcome.
    """

    outcome: Payment | Declined | OutcomeUnknown
    maybe_sent: bool


async def _submit_row(
    dependencies: Dependencies, taken: Transaction, objection: NotOrdered | OutcomeUnknown | None, *, maybe_sent: bool
) -> _Tried:
    with acting_as(service_principal(NAME, taken.org_id, taken.created_by)):
        try:
            return _Tried(await _order_or_find(dependencies, taken, objection, maybe_sent=maybe_sent), maybe_sent)
        except (Declined, OutcomeUnknown) as error:
            return _Tried(error, maybe_sent)


async def _order_or_find(
    dependencies: Dependencies, row: Transaction, objection: NotOrdered | OutcomeUnknown | None, *, maybe_sent: bool
) -> Payment:
    """Orders the payment, or finds the one that was ordered. Raises Declined, OutcomeUnknown.

    Args:
        objection: Why nothing is ordered now.
    """
    reader = dependencies.database.reader
    earlier = await provider_payments.list_earlier_references(reader, row)
    refunded = await _read_refunded(reader, row)
    # The bank may have it, whatever became of the account since. That nobody noted that it was sent is believed of what
    # has just begun alone: a note can be altered, and then removed by whoever puts that right.
    now = dependencies.clock.now()
    if maybe_sent or now - row.updated_at > ASKED_LATELY:
        # What was made of it after a backup is in no table of ours.
        restored_at = await find_restored_at(reader, row.transaction_id)
        former_life = None if restored_at is None else FormerLife(row.created_at, restored_at)
        found = await _find_payment(dependencies, row, earlier, refunded, former_life)
        if found is not None:
            return found
        _check_remembered(row, now)
    account = await _find_account(reader, row)
    order = replace(_build_order(dependencies, row, account), refunded_payment_id=refunded)
    if row.bank_account_id:
        _check_account(row, account)
    if objection is not None:
        raise objection
    if PROVIDERS[row.provider].is_confirmed_by_payers and row.bank_account_id:
        basis = await read_debit_basis(reader, row.provider, row.bank_account_id, row.account_number_digest or "")
        order = replace(order, earlier_payment_ids=sorted(earlier), **basis._asdict())
    elif PROVIDERS[row.provider].is_asked_for_payments:
        await _check_ended(dependencies, row, earlier)
    if maybe_sent:
        await _save_sending(dependencies, row)
    try:
        return await dependencies.providers.require_orders(row.provider).submit(order)
    except OutcomeUnknown:
        found = await _find_payment(dependencies, row, earlier, refunded)
        if found is None:
            raise
        return found


async def _check_ended(dependencies: Dependencies, row: Transaction, earlier: Collection[str]) -> None:
    """Whether the attempts before this one have ended at the provider, as we were told: else money moves twice.

    Where payers confirm payments, the provider's package ends them.

    Raises:
        NotAsOrdered, OutcomeUnknown
    """
    look_ups = dependencies.providers.require_look_ups(row.provider)
    for payment_id in sorted(earlier):
        payment = await look_ups.get_payment(payment_id)
        if payment is not None and payment.status in MOVES_MONEY:
            raise NotAsOrdered("an earlier attempt goes on at the provider", payment_id)


def _check_remembered(row: Transaction, now: datetime) -> None:
    """Whether ordering it again would still be the same order.

    Raises: OrderForgotten: a person compares with what the provider has.
    """
    forgets = PROVIDERS[row.provider].forgets_orders_after
    if forgets is not None and now - row.updated_at > forgets:
        raise OrderForgotten


async def _find_account(source: Source, row: Transaction) -> BankAccount | None:
    """The bank account that is paid or drawn from; None where there is none. Raises AccountAltered."""
    if not row.bank_account_id:
        return None
    try:
        return await bank_accounts.find_bank_account(source, row.bank_account_id)
    except NotSealed:
        raise AccountAltered(row.bank_account_id) from None


async def _save_sending(dependencies: Dependencies, row: Transaction) -> None:
    """Notes that it is sent once more, behind the lock under which another worker would fail it as lost.

    Raises:
        OutcomeUnknown: another worker has taken it meanwhile.
    """
    async with dependencies.database.begin() as tx:
        if not await store.lock_taken_transactions(tx, [row]):
            raise OutcomeUnknown("another worker has taken it")
        await provider_payments.save_sending(tx, row, dependencies.clock.now())


def _check_account(row: Transaction, account: BankAccount | None) -> None:
    """Whether the account may still be used, asked whenever the provider is about to be sent an order.

    Raises:
        NotOrdered
    """
    try:
        check_usable(account, row.party_id, is_inbound=row.is_inbound)
    except DomainError as refusal:
        raise NotOrdered(refusal) from None


def _build_order(dependencies: Dependencies, row: Transaction, account: BankAccount | None) -> PaymentOrder:
    """Raises: AccountAltered, KeyMissing."""
    number = ""
    if account is not None:
        vault = dependencies.vault
        try:
            number = vault.open(account.account_number_encrypted, SealedFor.of(row.org_id, account))
        except KeyMissing:  # for an operator to mend; until then nothing is decided about the account
            raise
        except VaultError:
            raise AccountAltered(account.bank_account_id) from None
        if not vault.is_digest(row.account_number_digest or "", account.routing_number, number):
            raise AccountAltered(account.bank_account_id)  # not the one that the transaction was approved for
    return PaymentOrder(
        key=row.provider_key,
        reference=row.transaction_id,
        payment_method=row.payment_method,
        party_id=row.party_id,
        bank_account_id=row.bank_account_id or "",
        amount=row.amount,
        is_inbound=row.is_inbound,
        presentment=max(row.presentments, 1),
        routing_number=account.routing_number if account else "",
        account_number=number,
        account_type=account.account_type if account else "",
        holder_type=account.holder_type if account else "",
        account_holder_name=account.account_holder_name if account else "",
        # Source: Nacha Operating Rules, Subsection 2.13.4.2: a reinitiated entry says so.
        description="RETRY PYMT" if row.presentments > 1 else row.type.replace("_", " "),
    )


async def _read_refunded(source: Source, row: Transaction) -> str:
    """The provider's id of what a refund to a card gives back; empty where it is none. Raises: NotSealed."""
    if row.refunded_transaction_id is None:
        return ""
    paid = require_present(await store.find_transaction(source, row.refunded_transaction_id), "a key says so")
    return paid.provider_reference or ""


async def _find_payment(
    dependencies: Dependencies,
    row: Transaction,
    earlier: frozenset[str],
    refunded: str,
    former_life: FormerLife | None = None,
) -> Payment | None:
    """The payment of the current attempt, where the provider has it and can be asked.

    Raises:
        NotAsOrdered: of another attempt, of which we know nothing, money moves or has moved.
        OutcomeUnknown
    """
    payments: Sequence[Payment] = []
    if PROVIDERS[row.provider].is_asked_for_payments:
        look_ups = dependencies.providers.require_look_ups(row.provider)
        payments = await look_ups.list_payments(row.transaction_id, refunded, former_life)
    wanted = max(row.presentments, 1)
    unknown = [each for each in payments if each.payment_id not in earlier]
    found = [each for each in unknown if each.presentment == wanted]
    if len(found) > 1:
        cause = f"The provider has {len(found)} payments under one attempt."
        await report_apart(dependencies, row.org_id, ExceptionKind.PAID_TWICE, describe_transaction(row), cause)
    if found:
        return found[-1]
    for other in unknown:
        if other.status in MOVES_MONEY:
            raise NotAsOrdered("another attempt of it goes on at the provider", other.payment_id)
    return None


async def _record_outcome(
    tx: Tx,
    row: Transaction,
    outcome: Payment | Declined | OutcomeUnknown,
    now: datetime,
    *,
    maybe_sent: bool,
) -> None:
    if isinstance(outcome, Declined):
        await _record_decline(tx, row, outcome, now, maybe_sent=maybe_sent)
    elif isinstance(outcome, OutcomeUnknown):
        log.warning("outcome_unknown", transaction_id=row.transaction_id, tries=row.tries, cause=str(outcome))
        if isinstance(outcome, NotAsOrdered):
            about = describe_transaction(row, outcome.payment_id)
            report(tx, ExceptionKind.PAYMENT_NOT_OURS, about, str(outcome), now)
        await store.postpone_transaction(tx, row, least_ms=outcome.retry_after_seconds * 1000)
    else:
        try:
            await follow_payment(tx, row, outcome, now)
        except PaymentNotOurs as error:
            await report_not_ours(tx, row, outcome, error, now)
            await store.postpone_transaction(tx, row)


async def _record_decline(tx: Tx, row: Transaction, declined: Declined, now: datetime, *, maybe_sent: bool) -> None:
    if isinstance(declined, AccountAltered):
        await block_altered_account(tx, declined.bank_account_id, row.transaction_id, now)
    if maybe_sent and isinstance(declined, NotOrdered):  # we refused, not the provider: it may have it already
        sent_at = (await provider_payments.read_attempt(tx, row)).sent_at
        if now < sent_at + LOST_AFTER:
            await store.postpone_transaction(tx, row)
            return
    if isinstance(declined, OrderForgotten):
        report(tx, ExceptionKind.ORDER_GIVEN_UP, describe_transaction(row), declined.message, now)
    retryable = declined.retryable and row.is_inbound and row.attempts < ATTEMPTS_MAX
    presentments = row.presentments - row.is_inbound  # the bank never saw this one
    await moves.save_move(
        tx,
        row,
        Status.FAILED,
        actor=ACTOR,
        now=now,
        note=declined.message,
        failure=Failure(declined.code, declined.message, retryable, declined.metadata),
        presentments=presentments,
        first_presented_at=row.first_presented_at if presentments else None,
    )
