"""Transactions as they are found, locked and taken; moves.py changes them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.chassis.data import leases
from services.chassis.data.database import Database
from services.chassis.data.due import Due
from services.chassis.data.locks import lock_name
from services.chassis.data.reach import is_mine
from services.chassis.data.reads import Read, Source, fetch_row, fetch_rows
from services.chassis.data.seals import NotSealed, check_row, check_rows, keep_sealed
from services.chassis.data.sql import Row
from services.chassis.data.transaction import Tx
from services.chassis.values.failure import read_failure
from services.chassis.values.money import Money
from services.chassis.values.session import Session
from services.transactions.domain.disputes import DisputeStatus
from services.transactions.domain.rails import BY_HAND
from services.transactions.domain.reversals import read_reversal
from services.transactions.domain.states import ARRIVED, ENDED, Status
from services.transactions.domain.transaction import Transaction
from services.transactions.domain.types import INBOUND
from services.transactions.domain.verifications import Arrived
from services.transactions.tables import (
    KEEPS_REFERENCE,
    MAY_COME_BACK,
    PLAIN_REFERENCE,
    transaction_history,
    transactions,
)
from services.transactions.tables.ach import ach_entries

_c = transactions.c
_ENDED_ALIKE_MAX = 500
# Whether escrow has what the transaction needs of it before a provider is asked.
IS_BOOKED = sa.or_(_c.type.in_(INBOUND), _c.escrow_booked)
# What one person alone can have in any number: an order that nobody has approved, a wire or check that is announced.
_IS_ANYBODYS = sa.or_(
    _c.status.in_([Status.INITIATED, Status.PENDING_APPROVAL]),
    sa.and_(_c.payment_method.in_(BY_HAND), _c.type.in_(INBOUND)),
)
# Of so many of the oldest payouts to an account one is looked for that this service wrote, and of so many of what came
# from it last.
_OLDEST_MAX = 3
_LOOKED_AT_MAX = 100
_READ = [column for column in transactions.columns if column.name not in {"previous_status", "due_at"}]
# What a transaction has of its row as it stands there.
_BUILT = {"status", "announced_amount", "failure", "session", "dispute_status", "reversal"}
_AS_IT_STANDS = [field.name for field in fields(Transaction) if field.name not in _BUILT]


def build_transaction(row: Row) -> Transaction:
    return build_from_columns(row._mapping)


def build_from_columns(columns: Mapping[str, Any]) -> Transaction:
    return Transaction(
        **{name: columns[name] for name in _AS_IT_STANDS},
        status=Status(columns["status"]),
        dispute_status=DisputeStatus(columns["dispute_status"]),
        announced_amount=Money(columns["amount_minor"], columns["currency"]),
        reversal=read_reversal(columns),
        failure=read_failure(columns["failure"]),
        session=Session(columns["signed_in_at"], columns["api_key_id"]),
    )


# Of what two persons said had come back.
_OF_RETURN = "failure -> 'metadata' ->> 'bank_reference'"
# A query that runs all the time is built once: to build a statement costs more than to run it.
_SELECTED = sa.select(*_READ)
_MINE = _SELECTED.where(is_mine(transactions))
_FINDING = Read(_MINE.where(_c.transaction_id == sa.bindparam("transaction_id")))
_ARRIVED_FROM = Read(
    _MINE.where(
        _c.provider == sa.bindparam("provider"),
        _c.bank_account_id == sa.bindparam("bank_account_id"),
        _c.type.in_(sorted(INBOUND)),
        _c.status.in_(sorted(ARRIVED)),
    )
    .order_by(_c.settled_at.desc())
    .limit(_LOOKED_AT_MAX)
)
_LOCKING = _FINDING.select.with_for_update(key_share=True)
_LISTING = _MINE.where(_c.transaction_id == sa.any_(sa.bindparam("transaction_ids", type_=pg.ARRAY(sa.Text))))
_LISTED = Read(_LISTING)
_LOCKING_EACH = _LISTING.order_by(_c.transaction_id).with_for_update(key_share=True)
_ASKED, _SENT_BACK = (PLAIN_REFERENCE.replace("bank_reference", name) for name in (":reference", f"({_OF_RETURN})"))
_USING_REFERENCE = (
    sa.select(_c.transaction_id)
    .where(
        is_mine(transactions),
        *(_c.transaction_id != sa.bindparam("but"), _c.payment_method.in_(BY_HAND)),
        sa.or_(_c.escrow_account_id == sa.bindparam("account"), _c.to_escrow_account_id == sa.bindparam("account")),
        sa.text(f"({KEEPS_REFERENCE} AND {PLAIN_REFERENCE} = {_ASKED} OR {_SENT_BACK} = {_ASKED})"),
    )
    .limit(1)
)
_REPLACING = sa.select(_c.transaction_id).where(
    is_mine(transactions),
    _c.replaced_transaction_id == sa.bindparam("transaction_id"),
    _c.status.not_in(sorted(ENDED)),
)
_UNFINISHED = (
    sa.select(_c.transaction_id)
    .where(is_mine(transactions))
    .where(sa.or_(_c.escrow_account_id == sa.bindparam("account"), _c.to_escrow_account_id == sa.bindparam("account")))
    .where(sa.or_(_c.status.not_in([*ENDED, *ARRIVED]), sa.text(MAY_COME_BACK)))
    # What is still to move before what may come back, what goes out before what comes in, and the largest of each.
    .order_by(_c.status.in_(ARRIVED), _c.type.in_(sorted(INBOUND)), _c.amount_minor.desc(), _c.transaction_id)
    .limit(sa.bindparam("count_max", type_=sa.Integer))
)


def _build_first_payouts() -> sa.Select[Any]:
    """The oldest of each account that is asked for: the index of a party's transactions ends each search early.

    Some, for one may be altered.
    """
    ids = pg.ARRAY(sa.Text)
    pairs = sa.func.unnest(sa.bindparam("party_ids", type_=ids), sa.bindparam("account_ids", type_=ids))
    asked = pairs.table_valued("party_id", "bank_account_id").render_derived("asked")
    theirs = (_c.party_id == asked.c.party_id, _c.bank_account_id == asked.c.bank_account_id)
    paid = _MINE.where(*theirs, _c.type.not_in(sorted(INBOUND)), _c.status.in_(sorted(ARRIVED)))
    first = paid.order_by(_c.created_at, _c.transaction_id).limit(_OLDEST_MAX).lateral("first")
    return sa.select(first).select_from(asked.join(first, sa.true())).order_by(first.c.created_at)


_FIRST_PAYOUTS = _build_first_payouts()


def select_transactions() -> sa.Select[Any]:
    """Whole transactions, for `build_transaction`."""
    return _SELECTED


async def lock_transaction(tx: Tx, transaction_id: str) -> Transaction | None:
    """Raises: NotSealed."""
    row = (await tx.execute(_LOCKING, {"transaction_id": transaction_id})).one_or_none()
    return None if row is None else build_transaction(check_row(tx, transactions, row))


async def find_transaction(source: Source, transaction_id: str) -> Transaction | None:
    """As it is now; it is not locked. Raises: NotSealed."""
    row = await fetch_row(source, _FINDING, transaction_id=transaction_id)
    return None if row is None else build_transaction(check_row(source, transactions, row))


class Part(NamedTuple):
    """Who has a part in a payment, as its row stands: no login changes who that was."""

    created_by: str
    makers_and_checkers: Collection[str]
    party_id: str


async def list_parts(tx: Tx, transaction_id: str | None, ach_file_id: str | None) -> list[Part]:
    """Of a payment, and of all that were put into a file for the bank. Whoever is kept from something by it stays so
    where somebody altered the row.
    """
    of: list[sa.ColumnElement[bool]] = [] if transaction_id is None else [_c.transaction_id == transaction_id]
    if ach_file_id is not None:
        put = sa.select(ach_entries.c.transaction_id).where(
            is_mine(ach_entries), ach_entries.c.ach_file_id == ach_file_id
        )
        of.append(_c.transaction_id.in_(put))
    if not of:
        return []
    parts = sa.select(*(_c[name] for name in Part._fields)).where(is_mine(transactions), sa.or_(*of))
    return [Part(*row) for row in await tx.execute(parts)]


async def list_transactions(tx: Tx, transaction_ids: Collection[str]) -> dict[str, Transaction]:
    """Raises: NotSealed."""
    found = await tx.execute(_LISTING, {"transaction_ids": list(transaction_ids)})
    rows = check_rows(tx, transactions, found)
    return {row.transaction_id: build_transaction(row) for row in rows}


async def find_user_of_reference(
    tx: Tx, row: Transaction, bank_reference: str, *, or_itself: bool = False
) -> str | None:
    """Another transaction that a bank's reference confirmed, or said to have come back, in an account that the row is
    of: one line of its statement is one fact. Who else names one there waits.

    Args:
        or_itself: Or the row, which was confirmed by it.
    """
    but = "" if or_itself else row.transaction_id
    for escrow_account_id in sorted(row.escrow_account_ids):
        await lock_name(tx, "bank_references", escrow_account_id)
        asked = {"account": escrow_account_id, "reference": bank_reference, "but": but}
        found: str | None = await tx.scalar(_USING_REFERENCE, asked)
        if found is not None:
            return found
    return None


async def find_replacement(tx: Tx, transaction_id: str) -> str | None:
    """Another one that is paid, or was, instead of this one. Who else is about to order one waits."""
    await lock_name(tx, "replaced_transactions", transaction_id)
    found: str | None = await tx.scalar(_REPLACING, {"transaction_id": transaction_id})
    return found


async def list_unfinished(tx: Tx, escrow_account_id: str, count_max: int) -> list[str]:
    """The ids of some transactions of an escrow account of which money may still move: what leaves soonest first."""
    return list((await tx.execute(_UNFINISHED, {"account": escrow_account_id, "count_max": count_max})).scalars())


async def list_payouts_going_out(tx: Tx, transaction_ids: Collection[str]) -> list[Transaction]:
    """Those of them whose money leaves now, without the rows that do not say what this service wrote."""
    listed = await tx.execute(_LISTING, {"transaction_ids": list(transaction_ids)})
    found = map(build_transaction, keep_sealed(tx, transactions, listed))
    return [row for row in found if row.status is Status.PROCESSING and not row.is_inbound]


async def lock_taken_transactions(tx: Tx, taken: Sequence[Transaction]) -> list[Transaction]:
    """Locks those of the taken transactions that are still ours, in the order of their ids.

    Another one's lease ran out, or it moved.
    """
    rows = await leases.lock_taken(tx, transactions, [_lease(row) for row in taken], returning=_READ)
    return [build_transaction(row) for row in keep_sealed(tx, transactions, rows)]


async def list_each(source: Source, transaction_ids: Collection[str]) -> dict[str, Transaction | NotSealed]:
    """Those that are there, each as it is now or why nobody knows."""
    return _read_each(source, await fetch_rows(source, _LISTED, transaction_ids=list(transaction_ids)))


async def lock_each(tx: Tx, transaction_ids: Collection[str]) -> dict[str, Transaction | NotSealed]:
    """As `list_each`, locked in the order of their ids."""
    return _read_each(tx, await tx.execute(_LOCKING_EACH, {"transaction_ids": list(transaction_ids)}))


def _read_each(source: Source, rows: Iterable[Row]) -> dict[str, Transaction | NotSealed]:
    found: dict[str, Transaction | NotSealed] = {}
    for row in rows:
        try:
            found[row.transaction_id] = build_transaction(check_row(source, transactions, row))
        except NotSealed as error:
            found[row.transaction_id] = error
    return found


class Alike(NamedTuple):
    """Others of the same type, party, escrow account and amount that did not end without money.

    Args:
        rows: Some of them.
        all_count: How many there are.
        has_altered: Somebody altered one in the database: whether it was paid, nobody knows.
    """

    rows: Sequence[Transaction]
    all_count: int
    has_altered: bool


async def list_alike(tx: Tx, row: Transaction, since: datetime, count_max: int) -> Alike:
    """First those whose money arrived, then those that are on their way, and last those that wait.

    Of these one person can order any number, which must not hide the others. What ended is looked at as well, the
    newest first: a login of the database may have written that.
    """
    alike = (
        *(_c.party_id == row.party_id, _c.escrow_account_id == row.escrow_account_id, _c.type == row.type),
        *(_c.amount_minor == row.announced_amount.amount_minor, _c.currency == row.announced_amount.currency),
        *(_c.created_at >= since, _c.transaction_id != row.transaction_id),
    )
    has_ended = _c.status.in_(sorted(ENDED))
    by_weight = sa.case((_c.status.in_(sorted(ARRIVED)), 0), (_IS_ANYBODYS, 2), else_=1)
    found = select_transactions().where(is_mine(transactions), *alike)
    first = found.where(~has_ended).order_by(by_weight, _c.created_at.desc()).limit(count_max)
    ended = found.where(has_ended).order_by(_c.created_at.desc()).limit(_ENDED_ALIKE_MAX)
    count = await tx.scalar(found.where(~has_ended).with_only_columns(sa.func.count()))
    rows, over = (await tx.execute(first)).all(), (await tx.execute(ended)).all()
    ours = keep_sealed(tx, transactions, rows)
    has_altered = len(ours) < len(rows) or len(keep_sealed(tx, transactions, over)) < len(over)
    return Alike([build_transaction(one) for one in ours], count or 0, has_altered)


async def list_first_payouts(tx: Tx, accounts: Collection[tuple[str, str]]) -> dict[str, datetime | None]:
    """When money first arrived at each account, by its id, and by the rows that say what this service wrote.

    Without those at which none did.

    Args:
        accounts: Party and bank account.
    """
    party_ids, account_ids = [party_id for party_id, _ in accounts], [account_id for _, account_id in accounts]
    found = await tx.execute(_FIRST_PAYOUTS, {"party_ids": party_ids, "account_ids": account_ids})
    first: dict[str, datetime | None] = {}
    for row in keep_sealed(tx, transactions, found):  # the oldest of an account first
        first.setdefault(row.bank_account_id, row.settled_at)
    return first


async def find_arrived(source: Source, provider: str, bank_account_id: str) -> Arrived | None:
    """What arrived last from this account by this provider; None where nothing did that this service wrote."""
    found = await fetch_rows(source, _ARRIVED_FROM, provider=provider, bank_account_id=bank_account_id)
    rows = keep_sealed(source, transactions, found)
    return next((Arrived(row.provider_reference, row.created_at) for row in rows if row.provider_reference), None)


async def postpone_transaction(tx: Tx, taken: Transaction, *, least_ms: int = 0) -> None:
    """Gives a taken transaction back after a try without an outcome, to be due again later."""
    await leases.postpone(tx, transactions, _lease(taken), least_ms=least_ms)


async def schedule_transaction(tx: Tx, taken: Transaction, pause_ms: int | None) -> None:
    """Gives a taken transaction back, to be due again in so many milliseconds; None: no job takes it any more."""
    await leases.finish(tx, transactions, _lease(taken), due_ms=pause_ms, tries=taken.tries)


def _lease(taken: Transaction) -> dict[str, Any]:
    names = ("org_id", "transaction_id", "epoch", "tries")
    return {name: getattr(taken, name) for name in names}


def build_taking(status: Status, *, count_max: int, where: sa.ColumnElement[bool] | None = None) -> leases.Taking:
    """How a job takes transactions: which, and how many at a time."""
    in_status = _c.status == status
    condition = in_status if where is None else sa.and_(in_status, where)
    return leases.build_taking(transactions, count_max=count_max, where=condition, returning=_READ)


def build_looking(*, count_max: int) -> leases.Taking:
    """How a job takes what arrived and is to be looked at: at the business time `now`."""
    order = _c.next_look_at
    return leases.build_taking(transactions, count_max=count_max, where=LOOK_DUE.is_past, first=order, returning=_READ)


async def take_transactions(database: Database, taking: leases.Taking, **values: Any) -> list[Transaction]:
    """Takes due transactions of every organization for this worker: nobody else gets them until the lease runs out."""
    return [build_transaction(row) for row in await leases.take_sealed(database, transactions, taking, **values)]


def _find_last_move() -> sa.ColumnElement[datetime]:
    """When a transaction came into its status: a line of history is written once; a row may be altered."""
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
ANNOUNCEMENT_DUE = Due(
    transactions,
    sa.and_(_c.status == Status.PENDING_SETTLEMENT, _c.next_look_at.is_not(None)),
    _c.next_look_at,
)
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
