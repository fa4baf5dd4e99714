"""What changes a transaction: the row with its seal, its line of history, and its event, written together.

Only what is here changes a status. The caller holds the row's lock, so the row as it will be is known before it is
written, and is sealed as that; the database refuses an edge that is not allowed (c7).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from google.protobuf.message import Message
from realco.transactions.v1 import events_pb2 as events

from services.chassis.calls.auth import current_principal
from services.chassis.data import leases, outbox
from services.chassis.data.aggregates import list_columns
from services.chassis.data.reach import is_mine
from services.chassis.data.rows import build_given, name_given
from services.chassis.data.seals import seal_of
from services.chassis.data.transaction import Tx
from services.chassis.values.failure import write_failure
from services.chassis.values.invariant import invariant
from services.chassis.values.moves import check_move
from services.chassis.values.session import Asker
from services.transactions import messages
from services.transactions.domain.disputes import Dispute, DisputeStatus
from services.transactions.domain.reversals import Reversal, list_reversal_columns
from services.transactions.domain.states import MOVES, Status
from services.transactions.domain.transaction import FINAL, PROVISIONAL, Transaction
from services.transactions.store.provider_payments import save_ends
from services.transactions.store.transactions import build_from_columns
from services.transactions.store.unpaid_payouts import follow_payouts
from services.transactions.tables import transaction_history, transactions

_c = transactions.c
# What changes; all else of a transaction is written once. Where nothing changes, the row is written as it was read.
_CHANGING = (
    *("status", "version", "failure", "attempts", "presentments", "next_attempt_at", "first_presented_at"),
    *("provider_reference", "payer_action_url", "bank_reference", "corrected_minor", "correction_note", "corrected_by"),
    *("card_brand", "card_last4", "dispute_status", "dispute_reference", "dispute_reason", "dispute_due_at"),
    *("reversal_status", "reversal_reason", "reversal_ordered_at", "reversal_settled_at", "reversal_risk_end_at"),
    *("reversal_ended_at", "reversal_failure"),
    *("provider_fee_minor", "earlier_fees_minor"),
    *("corrected_signed_in_at", "corrected_api_key_id", "former_correctors"),
    *("finality", "approved_by", "makers_and_checkers", "confirmed_by", "updated_at", "settled_at"),
    *("return_risk_end_at", "final_at", "next_look_at", "epoch", "tries", "escrow_booked", "seal"),
)
_BORN = {column.name: None for column in transactions.columns} | {
    "status": Status.INITIATED,
    "version": 1,
    "finality": PROVISIONAL,
    "metadata": {},
    "makers_and_checkers": [],
    "former_correctors": [],
    "is_corporate": False,
    "escrow_booked": False,
    "dispute_status": DisputeStatus.NONE,
    "earlier_fees_minor": 0,
    "reconciliation_status": "UNRECONCILED",
    "attempts": 0,
    "presentments": 0,
    "epoch": 0,
    "tries": 0,
}
# What is given of a row: besides its columns, when a job is to look at it, and from which version it is changed.
_KINDS: dict[str, Any] = {column.name: column.type for column in transactions.columns} | {
    "due_ms": sa.BigInteger(),
    "from_version": sa.BigInteger(),
}
_GIVEN_OF_NEW = tuple(name for name in _KINDS if name not in ("due_at", "from_version"))
_GIVEN_OF_CHANGED = ("transaction_id", *_CHANGING, "due_ms", "from_version")

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


@dataclass(frozen=True, slots=True)
class Step:
    """One move.

    Args:
        due_ms: In how many milliseconds a job is to look at it; None: no job has anything to do.
        changes: What else becomes of the transaction. What arrived is PROVISIONAL unless they say that it is FINAL, and
            then they say when it is looked at next.
    """

    to: Status
    note: str | None = None
    due_ms: int | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)

    def take(self, row: Transaction, now: datetime) -> Transaction:
        """The transaction after it. Raises: IllegalStatusChange: there is no such edge."""
        check_move(MOVES, row.status, self.to)
        left = {
            "finality": FINAL if self.to in (Status.CANCELLED, Status.REVERSED) else PROVISIONAL,
            "next_look_at": None,
            "epoch": row.epoch + 1,  # whoever took it before finds that it is not theirs any more
            "tries": 0,
        }
        changes = left | dict(self.changes)
        return replace(row, status=self.to, version=row.version + 1, updated_at=now, **changes)


async def insert_transactions(
    tx: Tx, rows: Sequence[dict[str, Any]], *, due_ms: int, actor: str, now: datetime
) -> list[Transaction]:
    """Records new transactions, INITIATED, with their first line of history and TransactionCreated.

    Args:
        due_ms: In how many milliseconds a job has them evaluated.
    """
    born = [_BORN | {"created_at": now, "updated_at": now} | row for row in rows]
    written = [row | {"seal": seal_of(tx, transactions, row), "due_ms": due_ms} for row in born]
    await _write(tx, _build_insert, _GIVEN_OF_NEW, written, line_note=None, line_actor=actor)
    created = [build_from_columns(row) for row in born]
    await _tell(tx, [(None, row) for row in created], actor=actor, now=now)
    follow_payouts(tx, [(None, row) for row in created], actor=actor, now=now)
    return created


async def save_move(
    tx: Tx,
    row: Transaction,
    to: Status,
    *,
    actor: str,
    now: datetime,
    note: str | None = None,
    due_ms: int | None = None,
    **changes: Any,
) -> Transaction:
    """Moves one locked transaction: see save_steps."""
    return (await save_steps(tx, [row], Step(to, note, due_ms, changes), actor=actor, now=now))[0]


async def save_steps(tx: Tx, rows: Sequence[Transaction], *steps: Step, actor: str, now: datetime) -> list[Transaction]:
    """Moves locked transactions of one organization and one status, and then on: their events are written together.

    A move to where they are changes nothing.

    Raises:
        IllegalStatusChange: there is no such edge.
    """
    if not rows:
        return []
    told: list[tuple[Transaction | None, Transaction]] = []
    moved = list(rows)
    for step in steps:
        before = moved
        if before[0].status is not step.to:
            moved = [step.take(row, now) for row in before]
            await _save_moved(tx, before, moved, step, actor)
            await save_ends(tx, before, moved, now)
            told += zip(before, moved, strict=True)
    if told:
        await _tell(tx, told, actor=actor, now=now)
        follow_payouts(tx, told, actor=actor, now=now)
    return moved


async def save_attempts(tx: Tx, rows: Sequence[Transaction], *, actor: str, now: datetime) -> None:
    """Begins an attempt of each locked transaction: counted, not booked, and not asked of a provider yet."""
    if not rows:
        return
    step = Step(Status.PROCESSING, due_ms=0)
    moved = [
        replace(
            step.take(row, now),
            attempts=row.attempts + 1,
            presentments=row.presentments + row.is_inbound,
            first_presented_at=row.first_presented_at or now,
            provider_reference=None,
            payer_action_url=None,
            earlier_fees_minor=row.provider_fee_minor or 0,
            escrow_booked=False,
        )
        for row in rows
    ]
    await _save_moved(tx, rows, moved, step, actor)
    await _tell(tx, list(zip(rows, moved, strict=True)), actor=actor, now=now)


async def save_booked(tx: Tx, locked: Sequence[Transaction]) -> None:
    """Escrow has taken the money of these locked payouts: the provider may be asked, at once."""
    await _save(tx, locked, [replace(row, escrow_booked=True, tries=0) for row in locked], due_ms=0)


async def save_final(tx: Tx, locked: Transaction, *, actor: str, now: datetime) -> None:
    """Records that a locked transaction can no longer come back, and publishes it."""
    row = replace(locked, finality=FINAL, version=locked.version + 1, updated_at=now, next_look_at=None)
    await _save(tx, [locked], [row], due_ms=None)
    updated = events.TransactionUpdated(transaction=messages.to_transaction(row))
    await outbox.enqueue_all(tx, [updated], now=now, actor=actor)


async def save_dispute(tx: Tx, locked: Transaction, dispute: Dispute, *, actor: str, now: datetime) -> Transaction:
    """Records how a dispute of a locked transaction stands, and publishes it. Its status stays as it is."""
    row = replace(locked, version=locked.version + 1, updated_at=now, tries=0, **dispute.list_changes())
    await _save(tx, [locked], [row], due_ms=None if row.next_look_at is None else 0)
    updated = events.TransactionUpdated(transaction=messages.to_transaction(row))
    await outbox.enqueue_all(tx, [updated], now=now, actor=actor)
    return row


async def save_reversal(
    tx: Tx, locked: Transaction, reversal: Reversal, *, actor: str, now: datetime, **changes: Any
) -> Transaction:
    """Records how the reversal of a locked payout stands, and publishes it. Its status stays as it is.

    Args:
        changes: What else becomes of it.
    """
    row = replace(locked, reversal=reversal, version=locked.version + 1, updated_at=now, tries=0, **changes)
    await _save(tx, [locked], [row], due_ms=None if row.next_look_at is None else 0)
    updated = events.TransactionUpdated(transaction=messages.to_transaction(row))
    await outbox.enqueue_all(tx, [updated], now=now, actor=actor)
    return row


async def save_provider_fee(
    tx: Tx, locked: Transaction, provider_fee_minor: int, *, actor: str, now: datetime
) -> Transaction:
    """Records what the provider of a locked transaction has kept for itself, and publishes it."""
    row = replace(locked, provider_fee_minor=provider_fee_minor, version=locked.version + 1, updated_at=now, tries=0)
    await _save(tx, [locked], [row], due_ms=None if row.next_look_at is None else 0)
    updated = events.TransactionUpdated(transaction=messages.to_transaction(row))
    await outbox.enqueue_all(tx, [updated], now=now, actor=actor)
    return row


async def save_correction(
    tx: Tx,
    locked: Transaction,
    corrected_minor: int | None,
    note: str | None,
    corrector: Asker,
    *,
    former: Collection[str],
    waits_until: datetime | None,
    now: datetime,
) -> Transaction:
    """Records what the bank of a locked wire or check brings, and publishes it.

    Args:
        corrected_minor: None: what was announced.
        former: Who said before that another amount comes.
        waits_until: How long it is waited for.
    """
    actor, session = corrector
    row = replace(
        locked,
        corrected_minor=corrected_minor,
        correction_note=note,
        corrected_by=actor,
        corrected_signed_in_at=session.signed_in_at,
        corrected_api_key_id=session.api_key_id,
        former_correctors=sorted(former),
        version=locked.version + 1,
        updated_at=now,
        next_look_at=waits_until,
    )
    await _save(tx, [locked], [row], due_ms=None)
    updated = events.TransactionUpdated(transaction=messages.to_transaction(row))
    await outbox.enqueue_all(tx, [updated], now=now, actor=actor)
    return row


async def save_look(tx: Tx, locked: Transaction, next_look_at: datetime) -> None:
    """The money of a locked transaction is still there: it is looked at again when that is due."""
    await _save(tx, [locked], [replace(locked, next_look_at=next_look_at, tries=0)], due_ms=0)


async def _save(tx: Tx, before: Sequence[Transaction], after: Sequence[Transaction], *, due_ms: int | None) -> None:
    """Writes what is no move."""
    if before:
        await _write(tx, _build_update, _GIVEN_OF_CHANGED, _list_written(tx, before, after, due_ms))


async def _save_moved(
    tx: Tx, before: Sequence[Transaction], after: Sequence[Transaction], step: Step, actor: str
) -> None:
    same = {row.status for row in before}
    invariant(len(same) == 1, "transactions that move together are in one status")
    written = _list_written(tx, before, after, step.due_ms)
    await _write(tx, _build_move, _GIVEN_OF_CHANGED, written, line_note=step.note, line_actor=actor)


def _list_written(
    tx: Tx, before: Sequence[Transaction], after: Sequence[Transaction], due_ms: int | None
) -> list[dict[str, Any]]:
    columns = [_list_columns(row) for row in after]
    return [
        row | {"seal": seal_of(tx, transactions, row), "due_ms": due_ms, "from_version": from_row.version}
        for from_row, row in zip(before, columns, strict=True)
    ]


def _list_columns(row: Transaction) -> dict[str, Any]:
    return list_columns(
        transactions,
        row,
        amount_minor=row.announced_amount.amount_minor,
        currency=row.announced_amount.currency,
        failure=write_failure(row.failure),
        **list_reversal_columns(row.reversal),
        **row.session._asdict(),
    )


async def _write(
    tx: Tx, build: Callable[[bool], Any], given: Sequence[str], rows: Sequence[dict[str, Any]], **line: Any
) -> None:
    """
    Args:
        build: Makes the statement, for one row or for many.
        line: What their lines of history say.
    """
    is_one, values = name_given(given, rows)
    written = (await tx.execute(build(is_one), values | line)).rowcount
    invariant(written == len(rows), "transactions are changed under their locks")


@cache
def _build_insert(is_one: bool) -> sa.Insert:
    row = _build_source(_GIVEN_OF_NEW, is_one)
    names = [column.name for column in transactions.columns if column.name != "due_at"]
    source = sa.select(*(row[name] for name in names), leases.due_in(row["due_ms"]))
    return _record(sa.insert(transactions).from_select([*names, "due_at"], source))


@cache
def _build_move(is_one: bool) -> sa.Insert:
    return _record(_build_update(is_one).values(previous_status=_c.status))


@cache
def _build_update(is_one: bool) -> sa.Update:
    row = _build_source(_GIVEN_OF_CHANGED, is_one)
    ours = (is_mine(transactions), _c.transaction_id == row["transaction_id"], _c.version == row["from_version"])
    changed = {name: row[name] for name in _CHANGING}
    return sa.update(transactions).where(*ours).values(changed | {"due_at": leases.due_in(row["due_ms"])})


def _build_source(names: Sequence[str], is_one: bool) -> Any:
    return build_given(((name, _KINDS[name]) for name in names), is_one)


def _record(write: sa.Insert | sa.Update) -> sa.Insert:
    """The same statement writes each row's line of history."""
    told = (_c.org_id, _c.transaction_id, _c.version, _c.previous_status, _c.status, _c.updated_at)
    row = write.returning(*told).cte("written").c
    note, actor = (sa.bindparam(name, type_=sa.Text) for name in ("line_note", "line_actor"))
    columns = ("org_id", "transaction_id", "version", "from_status", "to_status", "occurred_at", "note", "actor")
    return sa.insert(transaction_history).from_select(columns, sa.select(*row, note, actor))


async def _tell(tx: Tx, moved: Sequence[tuple[Transaction | None, Transaction]], *, actor: str, now: datetime) -> None:
    """Publishes moves, each with the transaction as it was then."""
    invariant(all(row.org_id == current_principal().org_id for _, row in moved), "an event bears its own organization")
    changed = [
        _EVENTS[row.status](
            transaction=messages.to_transaction(row),
            **({} if before is None else {"previous_status": before.status}),
        )
        for before, row in moved
    ]
    await outbox.enqueue_all(tx, changed, now=now, actor=actor)
