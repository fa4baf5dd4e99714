"""Exceptions: one for each thing that was found. Each opening, each resolution and each change of hands is told."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import datetime
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import sqlalchemy as sa
from realco.transactions.v1 import events_pb2 as events

from services.chassis.calls.auth import current_principal
from services.chassis.data import outbox
from services.chassis.data.aggregates import Aggregate, list_columns, read_fields, seal_columns
from services.chassis.data.heard_persons import acts_for_any
from services.chassis.data.locks import lock_names
from services.chassis.data.reach import is_mine
from services.chassis.data.rows import insert_many
from services.chassis.data.seals import NotSealed, keep_readable, keep_sealed, seals_of
from services.chassis.data.sql import Row
from services.chassis.data.transaction import Tx
from services.chassis.values.ids import coded_id
from services.transactions import messages
from services.transactions.domain.ach import find_file_id
from services.transactions.domain.exceptions import (
    EXCEPTION_MOVES,
    KINDS,
    ExceptionKind,
    ExceptionStatus,
    Involved,
    PaymentException,
    Severity,
)
from services.transactions.domain.open_questions import Exceptions
from services.transactions.domain.refusals import PaymentExceptionNotFound
from services.transactions.store.bank_accounts import find_bank_account
from services.transactions.store.transactions import list_parts
from services.transactions.tables.exceptions import payment_exception_history, payment_exceptions
from services.transactions.tables.transactions import transactions

_c = payment_exceptions.c
# So many are read where money is about to leave: more than an organization ever has.
_GRAVE_MAX = 5_000
_GRAVE = sorted(kind.value for kind, each in KINDS.items() if each.severity is not Severity.LOW and each.doubts_money)
# Of lists in a column PostgreSQL makes no rows, so each row is sent by itself, all at once.
_INSERT = sa.insert(payment_exceptions)
_EVENTS = {
    ExceptionStatus.OPEN: events.PaymentExceptionOpened,
    ExceptionStatus.RESOLVED: events.PaymentExceptionResolved,
}


def _read_exception(row: Row) -> PaymentException:
    kind, status = ExceptionKind(row.kind), ExceptionStatus(row.status)
    return read_fields(PaymentException, row, kind=kind, status=status, makers=tuple(row.makers))


EXCEPTIONS = Aggregate(
    payment_exceptions,
    "payment_exception_id",
    _read_exception,
    lambda found: list_columns(
        payment_exceptions, found, kind=found.kind.value, status=found.status.value, makers=list(found.makers)
    ),
    EXCEPTION_MOVES,
)


async def require_locked(tx: Tx, exception_id: str) -> PaymentException:
    """Raises: PaymentExceptionNotFound, NotSealed."""
    found = await EXCEPTIONS.lock(tx, exception_id)
    if found is None:
        raise PaymentExceptionNotFound()
    return found


async def require_exception(tx: Tx, exception_id: str) -> PaymentException:
    """Raises: PaymentExceptionNotFound, NotSealed."""
    found = await EXCEPTIONS.find(tx, exception_id)
    if found is None:
        raise PaymentExceptionNotFound()
    return found


async def read_involved(tx: Tx, found: PaymentException) -> Involved:
    """Of a file for the bank all that had a part in the payments in it, or whose they are.

    A bank account that somebody altered in the database names nobody: an exception may be about just that.
    """
    makers, party_ids = set(found.makers), {found.party_id} if found.party_id else set[str]()
    for row in await list_parts(tx, found.transaction_id, find_file_id(found.file_name or "") or None):
        makers.update({row.created_by, *row.makers_and_checkers})
        party_ids.add(row.party_id)
    with suppress(NotSealed):
        account = await find_bank_account(tx, found.bank_account_id) if found.bank_account_id else None
        if account is not None:
            makers.update(account.makers)
            party_ids.add(account.party_id)
    return Involved(frozenset(makers), frozenset(party_ids), await acts_for_any(tx, party_ids))


async def was_reported(tx: Tx, kind: ExceptionKind, file_name: str, *, since: datetime) -> bool:
    """Whether one of the kind about a file was found since then, whatever became of it."""
    which = (_c.kind == kind, _c.file_name == file_name, _c.last_seen_at >= since)
    return bool(await tx.scalar(sa.select(sa.exists().where(is_mine(payment_exceptions), *which))))


async def lock_subjects(tx: Tx, subjects: Collection[tuple[ExceptionKind, str]]) -> None:
    """Lets those who find the same things go one by one. Taken after the locks of what they are about."""
    await lock_names(tx, "payment_exceptions", [f"{kind}|{subject}" for kind, subject in subjects])


async def lock_reported(tx: Tx, kind: ExceptionKind, subject: str) -> tuple[PaymentException | None, str]:
    """As `lock_each_reported`, of one."""
    return (await lock_each_reported(tx, [(kind, subject)]))[kind, subject]


async def lock_each_reported(
    tx: Tx, subjects: Collection[tuple[ExceptionKind, str]]
) -> dict[tuple[ExceptionKind, str], tuple[PaymentException | None, str]]:
    """Of each what was found before, and its id, or the one that it has once it is found; the caller has
    `lock_subjects`.

    Nobody foretells these ids, so however many rows somebody writes by SQL, none is in the way. What was altered is in
    the log, and stepped over: whoever hides an exception has it opened anew beside it, and keeps no fact from being
    recorded.
    """
    seals, org_id = seals_of(tx), current_principal().org_id
    found: dict[tuple[ExceptionKind, str], tuple[PaymentException | None, str]] = {}
    for number in count():
        ids = {
            (kind, subject): [
                coded_id("exc", code)
                for code in seals.list_codes(payment_exceptions.name, org_id, kind.value, subject, number)
            ]
            for kind, subject in subjects
            if (kind, subject) not in found
        }
        if not ids:
            return found
        wanted = sorted(each for of_one in ids.values() for each in of_one)
        rows = (await tx.execute(EXCEPTIONS.locking.where(_c.payment_exception_id.in_(wanted)))).all()
        there = {row.payment_exception_id for row in rows}
        ours = {each.payment_exception_id: each for each in keep_readable(rows, partial(EXCEPTIONS.read_sealed, tx))}
        for key, of_one in ids.items():
            known = next((ours[each] for each in of_one if each in ours), None)
            if known is not None:
                found[key] = known, known.payment_exception_id
            elif not there.intersection(of_one):
                found[key] = None, of_one[0]
    raise AssertionError("there is always a next number")


async def list_exceptions_of(tx: Tx, escrow_account_id: str) -> Exceptions:
    """Those of an escrow account's payments that are more than LOW, and put its money in doubt."""
    return await _list_grave(tx, is_of_accounts([escrow_account_id]))


def is_of_accounts(escrow_account_ids: Collection[str]) -> sa.ColumnElement[bool]:
    """Whether one is about a payment of one of these escrow accounts; of a transfer, of either of its."""
    paid = transactions.c
    of_accounts = [each.in_(escrow_account_ids) for each in (paid.escrow_account_id, paid.to_escrow_account_id)]
    mine = (paid.org_id == _c.org_id, paid.transaction_id == _c.transaction_id)
    return sa.exists().where(*mine, sa.or_(*of_accounts))


async def list_exceptions_of_nobody(tx: Tx) -> Exceptions:
    """The same of those that are about no payment of ours that is known."""
    return await _list_grave(tx, _c.transaction_id.is_(None))


async def list_questioned(tx: Tx, transaction_ids: Collection[str]) -> frozenset[str]:
    """The transactions about which one that is more than LOW, and puts money in doubt, is open, or one person alone has
    said that it is not.
    """
    query = (
        sa.select(_c.transaction_id)
        .distinct()
        .where(is_mine(payment_exceptions), _c.transaction_id.in_(transaction_ids), _c.kind.in_(_GRAVE))
    )
    return frozenset(await tx.scalars(query))


async def _list_grave(tx: Tx, which: sa.ColumnElement[bool]) -> Exceptions:
    """Read whatever they say of themselves: how one stands counts once its seal is known."""
    query = sa.select(payment_exceptions).where(is_mine(payment_exceptions), which, _c.kind.in_(_GRAVE))
    largest_first = _c.amount_minor.desc().nulls_first(), _c.created_at.desc(), _c.payment_exception_id
    query = query.order_by(_c.status != ExceptionStatus.OPEN, *largest_first)
    query = query.limit(_GRAVE_MAX + 1)
    rows = (await tx.execute(query)).all()
    ours = keep_sealed(tx, payment_exceptions, rows[:_GRAVE_MAX])
    has_altered = len(ours) < min(len(rows), _GRAVE_MAX)
    return Exceptions([_read_exception(row) for row in ours], len(rows) <= _GRAVE_MAX, has_altered)


class Opened(NamedTuple):
    """One that is opened.

    Args:
        acting: Inside it, what tells it is queued: in whose name it was found.
    """

    found: PaymentException
    actor: str
    acting: Callable[[], AbstractContextManager[object]]


async def insert_exceptions(tx: Tx, opened: Sequence[Opened]) -> None:
    """Opens each, and tells it: in so many round trips however many there are."""
    org_id = current_principal().org_id
    columns = [EXCEPTIONS.columns(each.found) for each in opened]
    rows = [{"org_id": org_id, **seal_columns(tx, payment_exceptions, each)} for each in columns]
    await tx.execute(_INSERT, rows)
    lines = [_build_line(None, each.found, each.found.cause, each.actor) for each in opened]
    await insert_many(tx, payment_exception_history, lines)
    for each in opened:
        with each.acting():
            await _tell(tx, each.found, each.actor)


async def save_exception(
    tx: Tx, before: PaymentException, after: PaymentException, now: datetime, *, note: str = "", actor: str = ""
) -> PaymentException:
    """Changes a locked one. What a person would decide otherwise upon is told; that it was found once more is not.

    Args:
        note: What was found, where its status changes.
        actor: Who changes it, if it is not the caller.
    """
    saved = await EXCEPTIONS.save(tx, before, after, now)
    if saved.status is not before.status:
        await _record(tx, before, saved, note, actor)
    elif saved.etag != before.etag:
        event = events.PaymentExceptionUpdated(payment_exception=messages.to_payment_exception(saved))
        await outbox.enqueue_all(tx, [event], now=now, actor=actor)
    return saved


async def _record(tx: Tx, before: PaymentException, after: PaymentException, note: str, actor: str) -> None:
    await insert_many(tx, payment_exception_history, [_build_line(before, after, note, actor)])
    await _tell(tx, after, actor)


def _build_line(before: PaymentException | None, after: PaymentException, note: str, actor: str) -> dict[str, Any]:
    return {
        "payment_exception_id": after.payment_exception_id,
        "version": after.version,
        "from_status": None if before is None else before.status.value,
        "to_status": after.status.value,
        "note": note,
        "actor": actor or current_principal().person,
        "occurred_at": after.updated_at,
    }


async def _tell(tx: Tx, after: PaymentException, actor: str) -> None:
    event = _EVENTS[after.status](payment_exception=messages.to_payment_exception(after))
    await outbox.enqueue_all(tx, [event], now=after.updated_at, actor=actor)
