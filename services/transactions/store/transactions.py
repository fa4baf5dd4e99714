"""Transactions and their moves.

A move is the row, its line of history and its event, written together: only `save_moves` changes a status. The caller
holds the row's lock; the database refuses an edge that is not allowed (c7).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from google.protobuf.message import Message
from realco.transactions.v1 import events_pb2 as events

from services.chassis.calls.auth import current_principal
from services.chassis.data import leases, outbox
from services.chassis.data.due import Due
from services.chassis.data.locks import lock_name
from services.chassis.data.reach import is_mine
from services.chassis.data.seals import check_row, check_rows, keep_sealed, seal_rows
from services.chassis.data.statements import Row
from services.chassis.data.transaction import Tx
from services.chassis.data.versions import VERSION
from services.chassis.values.failure import read_failure, write_failure
from services.chassis.values.invariant import invariant
from services.chassis.values.money import Money
from services.chassis.values.moves import check_move
from services.chassis.values.session import Session
from services.transactions import messages
from services.transactions.domain.states import ARRIVED, ENDED, NEXT, Status
from services.transactions.domain.transaction import FINAL, PROVISIONAL, Transaction
from services.transactions.domain.types import CONTRIBUTIONS, DEBITS
from services.transactions.tables import MAY_COME_BACK, transaction_history, transactions

_c = transactions.c
# Whether escrow has what the transaction needs of it before a provider is asked.
IS_BOOKED = sa.or_(_c.type.in_(DEBITS), _c.escrow_booked)
# Of so many payouts one is looked for that this service wrote.
_LOOKED_AT_MAX = 100
_READ = [column for column in transactions.columns if column.name not in {"previous_status", "due_at"}]

_EVENTS: dict[Status, type[Message]] = {
    Status.INITIATED: events.TransactionCreated,
    Status.PENDING_APPROVAL: events.TransactionApprovalRequested,
    Status.APPROVED: events.TransactionApproved,
    Status.QUEUED: events.TransactionQueued,
    Status.PROCESSING: events.TransactionProcessing,
    Status.PENDING_SETTLEMENT: events.TransactionSubmitted,
    Status.SETTLED: events.TransactionSettled,
    Status.COMPLETED: events.TransactionCompleted,
    Status.FAILED: events.TransactionFailed,
    Status.RETURNED: events.TransactionReturned,
    Status.PENDING_RETRY: events.TransactionRetryScheduled,
    Status.CANCELLED: events.TransactionCancelled,
    Status.REVERSED: events.TransactionReversed,
}


def build_transaction(row: Row) -> Transaction:
    values = dict(row._mapping)
    del values["seal"], values["escrow_booked"]
    values.pop(VERSION, None)
    failure = read_failure(values.pop("failure"))
    amount = Money(values.pop("amount_minor"), values.pop("currency"))
    session = Session(values.pop("signed_in_at"), values.pop("api_key_id"))
    values["status"] = Status(values["status"])
    return Transaction(**values, amount=amount, failure=failure, session=session)


# A query that runs all the time is built once: to build a statement costs more than to run it.
_SELECTED = sa.select(*_READ)


def select_transactions() -> sa.Select[Any]:
    """Whole transactions, for `build_transaction`."""
    return _SELECTED


async def lock_transaction(tx: Tx, transaction_id: str) -> Transaction | None:
    """Raises: NotSealed."""
    statement = select_transactions().where(is_mine(transactions), _c.transaction_id == transaction_id)
    row = (await tx.execute(statement.with_for_update(key_share=True))).one_or_none()
    return None if row is None else build_transaction(check_row(tx, transactions, row))


async def find_transaction(tx: Tx, transaction_id: str) -> Transaction | None:
    """As it is now; it is not locked. Raises: NotSealed."""
    return (await list_transactions(tx, [transaction_id])).get(transaction_id)


async def list_transactions(tx: Tx, transaction_ids: Collection[str]) -> dict[str, Transaction]:
    """Raises: NotSealed."""
    rows = check_rows(tx, transactions, await tx.execute(_select_by_ids(transaction_ids)))
    return {row.transaction_id: build_transaction(row) for row in rows}


async def list_payouts_going_out(tx: Tx, transaction_ids: Collection[str]) -> list[Transaction]:
    """Those of them whose money leaves now, without the rows that do not say what this service wrote."""
    rows = keep_sealed(tx, transactions, await tx.execute(_select_by_ids(transaction_ids)))
    found = map(build_transaction, rows)
    return [row for row in found if row.status is Status.PROCESSING and not row.is_debit]


def _select_by_ids(transaction_ids: Collection[str]) -> sa.Select[Any]:
    return select_transactions().where(is_mine(transactions), _c.transaction_id.in_(transaction_ids))


async def lock_taken_transaction(tx: Tx, taken: Transaction) -> Transaction | None:
    """Locks what a job took; None where it is no longer ours: the lease ran out, or the transaction moved."""
    return next(iter(await lock_taken_transactions(tx, [taken])), None)


async def lock_taken_transactions(tx: Tx, taken: Sequence[Transaction]) -> list[Transaction]:
    """Locks those of the taken transactions that are still ours, in the order of their ids."""
    rows = await leases.lock_taken(tx, transactions, [_lease(row) for row in taken], returning=_READ)
    return [build_transaction(row) for row in keep_sealed(tx, transactions, rows)]


async def lock_contributions(tx: Tx, party_id: str, investment_id: str) -> tuple[int, int]:
    """(minor units that did not fail or come back, the part of them that has not settled) of an investment.

    Whoever else adds to this investment waits for the end of this transaction.

    Raises:
        NotSealed: a contribution says what this service did not write, so nobody knows how much is left.
    """
    await lock_name(tx, "contributions", investment_id)
    theirs = _select_contributions([investment_id]).where(_c.party_id == party_id)
    rows = check_rows(tx, transactions, await tx.execute(theirs))
    counted = [row for row in map(build_transaction, rows) if row.status not in ENDED]
    unsettled = [row.amount.amount_minor for row in counted if row.status not in ARRIVED]
    return sum(row.amount.amount_minor for row in counted), sum(unsettled)


async def list_received(tx: Tx, investment_ids: Collection[str]) -> dict[tuple[str, str], list[Transaction] | None]:
    """The contributions that arrived for each (party, investment), the last first.

    None where one of its contributions says what this service did not write: nobody knows then what arrived, nor
    from where.
    """
    found: dict[tuple[str, str], list[Transaction] | None] = {}
    newest = (_c.settled_at.desc(), _c.transaction_id.desc())
    for row in await tx.execute(_select_contributions(investment_ids).order_by(*newest)):
        key = (row.party_id, row.investment_id)
        received = found.setdefault(key, [])
        if not keep_sealed(tx, transactions, [row]):
            found[key] = None
        elif received is not None and row.status in ARRIVED:
            received.append(build_transaction(row))
    return found


def _select_contributions(investment_ids: Collection[str]) -> sa.Select[Any]:
    """Whatever became of them: which of them count is asked of rows with a seal, and a status may be altered."""
    mine = (is_mine(transactions), _c.investment_id.in_(investment_ids), _c.type.in_(CONTRIBUTIONS))
    return select_transactions().where(*mine)


async def find_first_payout(tx: Tx, party_id: str, bank_account_id: str) -> datetime | None:
    """When money first arrived at a party's account, by the rows that say what this service wrote."""
    theirs = (is_mine(transactions), _c.party_id == party_id, _c.bank_account_id == bank_account_id)
    paid = (_c.type.not_in(DEBITS), _c.status.in_(ARRIVED))
    oldest = select_transactions().where(*theirs, *paid).order_by(_c.settled_at).limit(_LOOKED_AT_MAX)
    rows = keep_sealed(tx, transactions, await tx.execute(oldest))
    return rows[0].settled_at if rows else None


async def insert_transactions(
    tx: Tx, rows: Sequence[dict[str, Any]], *, due_ms: int, actor: str, now: datetime
) -> list[Transaction]:
    """Records new transactions, INITIATED, with their first line of history and TransactionCreated.

    Args:
        due_ms: In how many milliseconds a job has them evaluated.
    """
    initial = {"status": Status.INITIATED, "previous_status": None, "version": 1, "created_at": now, "updated_at": now}
    statement = sa.insert(transactions).values(due_at=leases.due_in(due_ms)).returning(*_READ)
    created = await _seal(tx, await tx.execute(statement, [row | initial for row in rows]))
    await _record(tx, created, None, actor=actor, now=now)
    return created


async def save_move(tx: Tx, row: Transaction, to: Status, **how: Any) -> Transaction:
    """Moves one locked transaction: see save_moves."""
    return (await save_moves(tx, [row], to, **how))[0]


async def save_moves(
    tx: Tx,
    rows: Sequence[Transaction],
    to: Status,
    *,
    actor: str,
    now: datetime,
    note: str | None = None,
    due_ms: int | None = None,
    **changes: Any,
) -> list[Transaction]:
    """Moves locked transactions of one organization and one status; moving them to where they are changes nothing.

    Args:
        due_ms: In how many milliseconds a job is to look at them; None: no job has anything to do.
        changes: Further columns, values or SQL expressions; `failure` is a Failure or None. What arrived is
            PROVISIONAL unless they say that it is FINAL, and then they say when it is looked at next.

    Raises:
        IllegalStatusChange: there is no such edge.
    """
    if not rows:
        return []
    before = rows[0].status
    invariant(all(row.status is before for row in rows), "transactions that move together are in one status")
    if before is to:
        return list(rows)
    check_move(NEXT, before, to)
    values: dict[str, Any] = {
        "status": to,
        "previous_status": _c.status,
        "version": _c.version + 1,
        "updated_at": now,
        "epoch": _c.epoch + 1,  # whoever took it before finds that it is not theirs any more
        "tries": 0,
        "due_at": None if due_ms is None else leases.due_in(due_ms),
        "finality": FINAL if to in (Status.CANCELLED, Status.REVERSED) else PROVISIONAL,
        "next_look_at": None,
        **_columns(changes),
    }
    keys = [(row.org_id, row.transaction_id, row.version) for row in rows]
    ours = sa.tuple_(_c.org_id, _c.transaction_id, _c.version).in_(keys)
    statement = sa.update(transactions).where(ours).values(values).returning(*_READ)
    found = {row.transaction_id: row for row in await _seal(tx, await tx.execute(statement))}
    invariant(len(found) == len(rows), "transactions are moved under their locks")
    moved = [found[row.transaction_id] for row in rows]
    await _record(tx, moved, before, note=note, actor=actor, now=now)
    return moved


async def postpone_transaction(tx: Tx, taken: Transaction, *, least_ms: int = 0) -> None:
    """Gives a taken transaction back after a try without an outcome, to be due again later."""
    await leases.postpone(tx, transactions, _lease(taken), least_ms=least_ms)


async def schedule_transaction(tx: Tx, taken: Transaction, pause_ms: int | None) -> None:
    """Gives a taken transaction back, to be due again in so many milliseconds; None: no job takes it any more."""
    due_at = None if pause_ms is None else leases.due_in(pause_ms)
    await leases.finish(tx, transactions, _lease(taken), tries=taken.tries, due_at=due_at)


async def save_booked(tx: Tx, locked: Sequence[Transaction]) -> None:
    """Escrow has taken the money of these locked payouts: the provider may be asked, at once."""
    keys = [(row.org_id, row.transaction_id) for row in locked]
    statement = sa.update(transactions).where(sa.tuple_(_c.org_id, _c.transaction_id).in_(keys))
    booked = statement.values(escrow_booked=True, tries=0, due_at=leases.due_in(0)).returning(*_READ)
    await _seal(tx, await tx.execute(booked))


def _lease(taken: Transaction) -> dict[str, Any]:
    names = ("org_id", "transaction_id", "epoch", "tries")
    return {name: getattr(taken, name) for name in names}


async def save_attempts(tx: Tx, rows: Sequence[Transaction], *, actor: str, now: datetime) -> None:
    """Begins an attempt of each locked transaction: counted, not booked, and not asked of a provider yet."""
    await save_moves(
        tx,
        rows,
        Status.PROCESSING,
        actor=actor,
        now=now,
        due_ms=0,
        attempts=_c.attempts + 1,
        presentments=_c.presentments + sa.case((_c.type.in_(DEBITS), 1), else_=0),
        first_presented_at=sa.func.coalesce(_c.first_presented_at, now),
        provider_reference=None,
        escrow_booked=False,
    )


def build_taking(status: Status, *, count_max: int, where: sa.ColumnElement[bool] | None = None) -> leases.Taking:
    """How a job takes transactions: which, and how many at a time."""
    in_status = _c.status == status
    condition = in_status if where is None else sa.and_(in_status, where)
    return leases.build_taking(transactions, count_max=count_max, where=condition, returning=_READ)


def build_looking(*, count_max: int) -> leases.Taking:
    """How a job takes what arrived and is to be looked at: at the business time `now`."""
    order = _c.next_look_at
    return leases.build_taking(transactions, count_max=count_max, where=LOOK_DUE.is_past, first=order, returning=_READ)


async def take_transactions(tx: Tx, taking: leases.Taking, **values: Any) -> list[Transaction]:
    """Takes due transactions of every organization for this worker: nobody else gets them until the lease runs out."""
    return [build_transaction(row) for row in await leases.take_sealed(tx, transactions, taking, **values)]


def _find_last_move() -> sa.ColumnElement[datetime]:
    """When a transaction came into its status: its line of history is written once, and `updated_at` is not sealed."""
    h = transaction_history.c
    mine = (h.org_id == _c.org_id, h.transaction_id == _c.transaction_id, h.version == _c.version)
    return sa.select(h.occurred_at).where(*mine).correlate(transactions).scalar_subquery()


# What a job is to move on as soon as it can, and what a provider has not told the end of.
UNMOVED = Due(
    transactions,
    sa.and_(_c.status.in_([Status.INITIATED, Status.QUEUED, Status.PROCESSING]), _c.due_at.is_not(None)),
    _find_last_move(),
)
UNSETTLED = Due(
    transactions,
    sa.and_(_c.status == Status.PENDING_SETTLEMENT, _c.due_at.is_not(None)),
    _find_last_move(),
    patience=timedelta(days=10),  # longer than any rail takes over a row of holidays
)
# What is due by business time.
RETRY_DUE = Due(transactions, _c.status == Status.PENDING_RETRY, _c.next_attempt_at)
# What arrived, and no provider has said since that it is still there.
LOOK_DUE = Due(transactions, sa.text(MAY_COME_BACK), _c.next_look_at)


async def lock_due(tx: Tx, transaction_ids: Sequence[str], what: Due, now: datetime) -> list[Transaction]:
    """Locks those of one organization's transactions that are still due, passing over those that are busy."""
    statement = (
        select_transactions()
        .where(is_mine(transactions), _c.transaction_id.in_(transaction_ids))
        .where(what.condition, what.moment <= now)
        .order_by(_c.transaction_id)
    )
    rows = await tx.execute(statement.with_for_update(skip_locked=True, key_share=True))
    return [build_transaction(row) for row in keep_sealed(tx, transactions, rows)]


async def save_final(tx: Tx, locked: Transaction, *, actor: str, now: datetime) -> None:
    """Records that a locked transaction can no longer come back, and publishes it."""
    changes = {"finality": FINAL, "version": _c.version + 1, "updated_at": now, "next_look_at": None, "due_at": None}
    row = await _change(tx, locked, **changes)
    updated = events.TransactionUpdated(transaction=messages.to_transaction(row))
    await outbox.enqueue_all(tx, [updated], now=now, actor=actor)


async def save_look(tx: Tx, locked: Transaction, next_look_at: datetime) -> None:
    """The money of a locked transaction is still there: it is looked at again when that is due."""
    await _change(tx, locked, next_look_at=next_look_at, tries=0, due_at=leases.due_in(0))


async def _change(tx: Tx, locked: Transaction, **changes: Any) -> Transaction:
    mine = (_c.org_id == locked.org_id, _c.transaction_id == locked.transaction_id)
    statement = sa.update(transactions).where(*mine).values(changes).returning(*_READ)
    return (await _seal(tx, await tx.execute(statement)))[0]


async def _seal(tx: Tx, written: Iterable[Row]) -> list[Transaction]:
    """Transactions as they have just been written, sealed."""
    rows = list(written)
    await seal_rows(tx, transactions, rows)
    return [build_transaction(row) for row in rows]


def _columns(changes: dict[str, Any]) -> dict[str, Any]:
    return changes | {"failure": write_failure(changes["failure"])} if "failure" in changes else changes


async def _record(
    tx: Tx,
    rows: Sequence[Transaction],
    before: Status | None,
    *,
    actor: str,
    now: datetime,
    note: str | None = None,
) -> None:
    """Writes a move's line of history and its event."""
    lines = [
        {
            "org_id": row.org_id,
            "transaction_id": row.transaction_id,
            "version": row.version,
            "from_status": before,
            "to_status": row.status,
            "note": note,
            "actor": actor,
            "occurred_at": now,
        }
        for row in rows
    ]
    await tx.execute(sa.insert(transaction_history), lines)
    event = _EVENTS[rows[0].status]
    previous = {} if before is None else {"previous_status": before}
    invariant(all(row.org_id == current_principal().org_id for row in rows), "an event bears its own organization")
    changed = [event(transaction=messages.to_transaction(row), **previous) for row in rows]
    await outbox.enqueue_all(tx, changed, now=now, actor=actor)
