"""The journal and the ledger, read: entries with their legs, and legs with their entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from realco.escrow.v1 import journal_pb2 as pb
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.wire import from_timestamp
from services.chassis.data.paging import Page, is_descending, one_of, time_range, within
from services.escrow import actions, messages
from services.escrow.domain.chart import LedgerAccount, line_of
from services.escrow.domain.refusals import JournalEntryNotFound
from services.escrow.queries.escrow_accounts import require_escrow_account
from services.escrow.queries.filters import match_account, read_kinds
from services.escrow.tables import journal_entries, ledger_entries

_TIME = sa.TIMESTAMP(timezone=True)
LEGS_MAX = 5_000  # of a page of journal entries
LEGS_OF_ONE_MAX = 1_000  # of an entry that is got alone: 28,000 would not fit an answer

_head, _leg = journal_entries.c, ledger_entries.c
_HEAD_COLUMNS = (
    _head.sequence.label("journal_sequence"),
    *(_head[column.name] for column in _head if column.name not in ("sequence", "org_id")),
)


async def list_ledger_entries(
    tx: AsyncConnection, request: pb.ListLedgerEntriesRequest, _: datetime
) -> pb.ListLedgerEntriesResponse:
    """In the order of booking. Times become numbers first, so the page is one range of one index, where it can be."""
    account = await require_escrow_account(tx, request.escrow_account_id)
    only = _only_account(request)
    same_entry = sa.and_(
        _head.org_id == _leg.org_id,
        _head.escrow_account_id == _leg.escrow_account_id,
        _head.sequence == _leg.journal_sequence,
    )
    heads = [column.label(f"head_{column.name}") for column in _HEAD_COLUMNS]
    query = (
        sa.select(ledger_entries, *heads)
        .join_from(ledger_entries, journal_entries, same_entry)
        .where(
            _leg.org_id == account.org_id,
            _leg.escrow_account_id == account.escrow_account_id,
            *match_account(request, _leg.kind, _leg.party_id),
            *within(_leg.effective_at, _effective_range(request)),
        )
    )
    query = query.where(
        *one_of(_head.transaction_id, request.transaction_id), *one_of(_head.journal_entry_id, request.journal_entry_id)
    )
    key: tuple[sa.Column[Any], ...] = (_leg.journal_sequence, _leg.leg) if only is None else (_leg.sequence,)
    query = query.where(*await _in_time(tx, request, account, only))
    page = Page.of(request)
    found = (await tx.execute(page.of_query(query, key, descending=is_descending(request)))).mappings().all()
    rows, token, previous = page.cut(found, lambda row: tuple(row[column.name] for column in key))
    entries = {row["journal_sequence"]: _unlabel(row, account.currency) for row in rows}
    return pb.ListLedgerEntriesResponse(
        ledger_entries=[messages.to_ledger_entry(row, account.currency) for row in rows],
        next_page_token=token,
        previous_page_token=previous,
        journal_entries=[messages.to_booked_journal_entry(head, ()) for head in entries.values()],
    )


def _unlabel(row: Any, currency: str) -> dict[str, Any]:
    """The columns of the journal entry in a row of both."""
    return {"currency": currency} | {column.name: row[f"head_{column.name}"] for column in _HEAD_COLUMNS}


def _only_account(request: pb.ListLedgerEntriesRequest) -> LedgerAccount | None:
    """The one ledger account the request is about, if it is about one."""
    kinds, parties = read_kinds(request), set(request.party_id)
    if len(kinds) != 1 or len(parties) > 1:
        return None
    [kind] = kinds
    return LedgerAccount(kind, *parties) if line_of(kind).of_party == bool(parties) else None


async def _in_time(
    tx: AsyncConnection,
    request: pb.ListLedgerEntriesRequest | pb.ListJournalEntriesRequest,
    account: sa.Row[Any],
    only: LedgerAccount | None,
) -> list[sa.ColumnElement[bool]]:
    """The request's times of booking as a range of numbers: of the one ledger account's entries, or of the journal's.

    The journal's numbers are those of ledger_entries, unless the request lists journal entries.
    """
    first, last = time_range(request)
    if isinstance(request, pb.ListJournalEntriesRequest):
        number: sa.Column[int] = _head.sequence
    else:
        number = _leg.journal_sequence if only is None else _leg.sequence
    conditions = []
    if first is not None:
        conditions.append(number > await _number_before(tx, account, only, first))
    if last is not None:
        conditions.append(number <= await _number_before(tx, account, only, last))
    return conditions


async def _number_before(
    tx: AsyncConnection, account: sa.Row[Any], only: LedgerAccount | None, moment: datetime
) -> int:
    """The number of the last entry that was booked before the moment."""
    if only is None:
        call = sa.func.journal_sequence_before(
            account.org_id,
            account.escrow_account_id,
            sa.cast(account.entry_sequence, sa.BigInteger),
            sa.literal(moment, _TIME),
        )
    else:
        last = sa.select(sa.func.coalesce(sa.func.max(_leg.sequence), 0)).where(
            _leg.org_id == account.org_id,
            _leg.escrow_account_id == account.escrow_account_id,
            _leg.kind == only.kind.value,
            _leg.party_id == only.party_id,
        )
        # Times are whole microseconds: before one is up to the one before it.
        call = sa.func.ledger_sequence_at(
            account.org_id,
            account.escrow_account_id,
            only.kind.value,
            only.party_id,
            last.scalar_subquery(),
            sa.literal(moment, _TIME) - sa.text("interval '1 microsecond'"),
        )
    return int(await tx.scalar(sa.select(call)) or 0)


async def get_journal_entry(tx: AsyncConnection, request: pb.GetJournalEntryRequest, _: datetime) -> pb.JournalEntry:
    account = await require_escrow_account(tx, request.escrow_account_id)
    reversal = journal_entries.alias("reversal")
    reversed_by = sa.select(reversal.c.journal_entry_id).where(
        reversal.c.org_id == _head.org_id, reversal.c.reverses_journal_entry_id == _head.journal_entry_id
    )
    query = sa.select(*_heads_of(account), reversed_by.exists().label("is_reversed")).where(
        *_in_account(account), _head.journal_entry_id == request.journal_entry_id
    )
    head = (await tx.execute(query)).mappings().one_or_none()
    if head is None:
        raise JournalEntryNotFound()
    legs = await _read_legs(tx, account, [head["journal_sequence"]], _leg.leg <= LEGS_OF_ONE_MAX)
    return actions.answer_journal_entry(head, legs[head["journal_sequence"]], account.status)


async def list_journal_entries(
    tx: AsyncConnection, request: pb.ListJournalEntriesRequest, _: datetime
) -> pb.ListJournalEntriesResponse:
    account = await require_escrow_account(tx, request.escrow_account_id)
    query = sa.select(*_heads_of(account)).where(
        *_in_account(account),
        *await _in_time(tx, request, account, None),
        *within(_head.effective_at, _effective_range(request)),
        *_matches(request, account),
    )
    page = Page.of(request)
    ordered = page.of_query(query, (_head.sequence,), descending=is_descending(request))
    found = (await tx.execute(ordered)).mappings().all()
    page = replace(page, size=_fitting(found, page.size))
    rows, token, previous = page.cut(found, lambda row: (row["journal_sequence"],))
    legs = await _read_legs(tx, account, [row["journal_sequence"] for row in rows])
    return pb.ListJournalEntriesResponse(
        journal_entries=[messages.to_booked_journal_entry(row, legs[row["journal_sequence"]]) for row in rows],
        next_page_token=token,
        previous_page_token=previous,
    )


def _matches(request: pb.ListJournalEntriesRequest, account: sa.Row[Any]) -> list[sa.ColumnElement[bool]]:
    conditions = [
        *one_of(_head.transaction_id, request.transaction_id),
        *one_of(_head.type, [pb.JournalEntry.Type.Name(type_) for type_ in request.type]),
        *one_of(_head.journal_entry_id, request.ids),
        *one_of(_head.external_id, request.external_id),
    ]
    if request.party_id:
        theirs = sa.select(_leg.journal_sequence).where(
            _leg.org_id == account.org_id,
            _leg.escrow_account_id == account.escrow_account_id,
            _leg.party_id.in_(list(request.party_id)),
        )
        conditions.append(_head.sequence.in_(theirs))
    return conditions


def _effective_range(
    request: pb.ListLedgerEntriesRequest | pb.ListJournalEntriesRequest,
) -> tuple[datetime | None, datetime | None]:
    first, last = (
        from_timestamp(getattr(request, name), name) if request.HasField(name) else None
        for name in ("effective_from", "effective_to")
    )
    return first, last


def _fitting(found: Sequence[Any], size: int) -> int:
    """How many of these entries make a page, the first one always."""
    legs = 0
    for number, row in enumerate(found[:size]):
        legs += row["leg_count"]
        if legs > LEGS_MAX:
            return max(1, number)
    return size


def _heads_of(account: sa.Row[Any]) -> list[sa.ColumnElement[Any]]:
    return [*_HEAD_COLUMNS, sa.literal(account.currency).label("currency")]


def _in_account(account: sa.Row[Any]) -> tuple[sa.ColumnElement[bool], ...]:
    return _head.org_id == account.org_id, _head.escrow_account_id == account.escrow_account_id


async def _read_legs(
    tx: AsyncConnection, account: sa.Row[Any], sequences: Sequence[int], *conditions: sa.ColumnElement[bool]
) -> dict[int, list[Any]]:
    """The legs of journal entries, by the entry's number, in order."""
    query = (
        sa.select(ledger_entries)
        .where(
            _leg.org_id == account.org_id,
            _leg.escrow_account_id == account.escrow_account_id,
            _leg.journal_sequence.in_(sequences),
            *conditions,
        )
        .order_by(_leg.journal_sequence, _leg.leg)
    )
    rows = (await tx.execute(query)).mappings()
    return {number: list(legs) for number, legs in groupby(rows, key=lambda row: row["journal_sequence"])}
