"""The journal and the ledger, read: entries with their legs, and legs with their entries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from realco.escrow.v1 import journal_pb2 as pb

from services.chassis.calls.wire import from_timestamp
from services.chassis.data.listings import Listing, read_time_bounds
from services.chassis.data.paging import Page, is_descending
from services.chassis.data.reach import caller, is_mine
from services.chassis.data.reads import Read, Reader, fetch_row, fetch_rows
from services.escrow import actions, messages
from services.escrow.domain.chart import LedgerAccount, line_of
from services.escrow.domain.refusals import JournalEntryNotFound
from services.escrow.queries.escrow_accounts import require_escrow_account
from services.escrow.queries.filters import read_kinds
from services.escrow.tables import journal_entries, ledger_entries

_TIME = sa.TIMESTAMP(timezone=True)
LEGS_MAX = 5_000  # of a page of journal entries
LEGS_OF_ONE_MAX = 1_000  # of an entry that is got alone: 28,000 would not fit an answer

_head, _leg = journal_entries.c, ledger_entries.c
_NOT_TOLD = {"sequence", "org_id", "request_key", "fingerprint", "created_xid", "seal"}
_HEAD_COLUMNS = (
    _head.sequence.label("journal_sequence"),
    *(column for column in _head if column.name not in _NOT_TOLD),
)
_HEAD_NAMES = [column.name for column in _HEAD_COLUMNS]


async def list_ledger_entries(
    reader: Reader, request: pb.ListLedgerEntriesRequest, _: datetime
) -> pb.ListLedgerEntriesResponse:
    """In the order of booking. Times become numbers first, so the page is one range of one index, where it can be."""
    account = await require_escrow_account(reader, request.escrow_account_id)
    only = _only_account(request)
    listing = _LEDGER if only is None else _LEDGER_OF_ONE
    given = {
        "kind": read_kinds(request),
        "party_id": request.party_id if only is None else [only.party_id],
        "transaction_id": request.transaction_id,
        "journal_entry_id": request.journal_entry_id,
    }
    page = await listing.fetch_page(reader, request, given, **_place(request, account))
    entries = {row.journal_sequence: row for row in page.rows}
    return pb.ListLedgerEntriesResponse(
        ledger_entries=[messages.to_ledger_entry(row._asdict(), account.currency) for row in page.rows],
        next_page_token=page.next_page_token,
        previous_page_token=page.previous_page_token,
        journal_entries=[messages.to_booked_journal_entry(_read_head(row, account), ()) for row in entries.values()],
    )


def _read_head(row: Any, account: Any) -> dict[str, Any]:
    """The columns of the journal entry, which are the last ones, in a row of both."""
    head = dict(zip(_HEAD_NAMES, row[-len(_HEAD_NAMES) :], strict=True))
    head["currency"] = account.currency
    return head


def _only_account(request: pb.ListLedgerEntriesRequest) -> LedgerAccount | None:
    """The one ledger account the request is about, if it is about one."""
    kinds, parties = read_kinds(request), set(request.party_id)
    if len(kinds) != 1 or len(parties) > 1:
        return None
    [kind] = kinds
    return LedgerAccount(kind, *parties) if line_of(kind).of_party == bool(parties) else None


def _place(request: pb.ListLedgerEntriesRequest | pb.ListJournalEntriesRequest, account: Any) -> dict[str, Any]:
    """Where in the book, and of when."""
    effective_from, effective_to = (
        from_timestamp(getattr(request, name), name) if request.HasField(name) else None
        for name in ("effective_from", "effective_to")
    )
    return {
        "escrow_account_id": account.escrow_account_id,
        "entry_sequence": account.entry_sequence,
        "effective_from": effective_from,
        "effective_to": effective_to,
        **read_time_bounds(request),
    }


def _bound(
    number: sa.ColumnElement[int],
    effective_at: sa.Column[datetime],
    find_before: Callable[[sa.BindParameter[datetime]], sa.ColumnElement[int]],
) -> dict[str, sa.ColumnElement[bool]]:
    """The times of booking as a range of numbers, and those of effect.

    Args:
        number: Of the one ledger account's entries, or of the journal's.
        find_before: The number of the last entry that was booked before the moment.
    """
    first, last = (
        sa.select(sa.func.coalesce(find_before(sa.bindparam(name, type_=_TIME)), 0)).scalar_subquery()
        for name in ("from_time", "to_time")
    )
    return {
        "from_time": number > first,
        "to_time": number <= last,
        "effective_from": effective_at >= sa.bindparam("effective_from", type_=_TIME),
        "effective_to": effective_at < sa.bindparam("effective_to", type_=_TIME),
    }


def _find_journal_sequence(moment: sa.BindParameter[datetime]) -> sa.ColumnElement[int]:
    last = sa.bindparam("entry_sequence", type_=sa.BigInteger)
    return sa.func.public.journal_sequence_before(caller(), _ACCOUNT_ID, last, moment)


def _find_ledger_sequence(moment: sa.BindParameter[datetime]) -> sa.ColumnElement[int]:
    kind, party_id = (sa.bindparam(name, type_=sa.Text) for name in ("kind", "party_id"))
    last = sa.select(sa.func.coalesce(sa.func.max(_last.c.sequence), 0)).where(
        is_mine(_last), _last.c.escrow_account_id == _ACCOUNT_ID, _last.c.kind == kind, _last.c.party_id == party_id
    )
    # Times are whole microseconds: before one is up to the one before it.
    before = moment - sa.text("interval '1 microsecond'")
    return sa.func.public.ledger_sequence_at(caller(), _ACCOUNT_ID, kind, party_id, last.scalar_subquery(), before)


async def get_journal_entry(reader: Reader, request: pb.GetJournalEntryRequest, _: datetime) -> pb.JournalEntry:
    account = await require_escrow_account(reader, request.escrow_account_id)
    key = {"escrow_account_id": account.escrow_account_id, "journal_entry_id": request.journal_entry_id}
    row = await fetch_row(reader, _ENTRY, **key)
    if row is None:
        raise JournalEntryNotFound()
    head = {**row._asdict(), "currency": account.currency}
    legs = await _read_legs(reader, _LEGS_OF_ONE, account, [row.journal_sequence], leg_max=LEGS_OF_ONE_MAX)
    return actions.answer_journal_entry(head, legs[row.journal_sequence], account.status)


async def list_journal_entries(
    reader: Reader, request: pb.ListJournalEntriesRequest, _: datetime
) -> pb.ListJournalEntriesResponse:
    account = await require_escrow_account(reader, request.escrow_account_id)
    given = {
        "transaction_id": request.transaction_id,
        "type": map(pb.JournalEntry.Type.Name, request.type),
        "ids": request.ids,
        "external_id": request.external_id,
    }
    page, descending = Page.of(request), is_descending(request)
    party_ids = list(request.party_id) or None
    place = _place(request, account)
    found = await _JOURNAL.fetch_beside(reader, page, given, descending=descending, party_ids=party_ids, **place)
    page = replace(page, size=_fitting(found, page.size))
    rows, token, previous = page.cut(found, _JOURNAL.key_of)
    legs = await _read_legs(reader, _LEGS, account, [row.journal_sequence for row in rows])
    return pb.ListJournalEntriesResponse(
        journal_entries=[
            messages.to_booked_journal_entry(
                {**row._asdict(), "currency": account.currency}, legs[row.journal_sequence]
            )
            for row in rows
        ],
        next_page_token=token,
        previous_page_token=previous,
    )


def _fitting(found: Sequence[Any], size: int) -> int:
    """How many of these entries make a page, the first one always."""
    legs = 0
    for number, row in enumerate(found[:size]):
        legs += row.leg_count
        if legs > LEGS_MAX:
            return max(1, number)
    return size


async def _read_legs(
    reader: Reader, read: Read, account: Any, sequences: list[int], **values: int
) -> dict[int, list[Any]]:
    """The legs of journal entries, by the entry's number, in order."""
    key = {"escrow_account_id": account.escrow_account_id, "sequences": sequences}
    rows = await fetch_rows(reader, read, **key, **values)
    legs = groupby((row._asdict() for row in rows), key=itemgetter("journal_sequence"))
    return {number: list(each) for number, each in legs}


# --- the statements ---------------------------------------------------------------------------------------------------

_ACCOUNT_ID = sa.bindparam("escrow_account_id", type_=sa.Text)
_number = _head.sequence.label("journal_sequence")
_last = ledger_entries.alias("last")
_both = (
    sa.select(ledger_entries, *(column.label(f"head_{column.name}") for column in _HEAD_COLUMNS))
    .join_from(
        ledger_entries,
        journal_entries,
        sa.and_(
            _head.org_id == _leg.org_id,
            _head.escrow_account_id == _leg.escrow_account_id,
            _head.sequence == _leg.journal_sequence,
        ),
    )
    .where(is_mine(ledger_entries), _leg.escrow_account_id == _ACCOUNT_ID)
)
_filters: dict[str, sa.ColumnElement[Any]] = {
    "kind": _leg.kind,
    "party_id": _leg.party_id,
    "transaction_id": _head.transaction_id,
    "journal_entry_id": _head.journal_entry_id,
}
_LEDGER = Listing(
    _both,
    (_leg.journal_sequence, _leg.leg),
    _filters,
    named={"kind"},
    bounds=_bound(_leg.journal_sequence, _leg.effective_at, _find_journal_sequence),
)
_LEDGER_OF_ONE = Listing(
    _both, (_leg.sequence,), _filters, bounds=_bound(_leg.sequence, _leg.effective_at, _find_ledger_sequence)
)

_heads = sa.select(*_HEAD_COLUMNS).where(is_mine(journal_entries), _head.escrow_account_id == _ACCOUNT_ID)
_of_parties = sa.select(_leg.journal_sequence).where(
    is_mine(ledger_entries),
    _leg.escrow_account_id == _ACCOUNT_ID,
    _leg.party_id == sa.any_(sa.bindparam("party_ids", type_=sa.ARRAY(sa.Text))),
)
_JOURNAL = Listing(
    _heads,
    (_number,),
    {
        "transaction_id": _head.transaction_id,
        "type": _head.type,
        "ids": _head.journal_entry_id,
        "external_id": _head.external_id,
    },
    named={"type"},
    bounds={
        **_bound(_head.sequence, _head.effective_at, _find_journal_sequence),
        "party_ids": _head.sequence.in_(_of_parties),
    },
)
_reversal = journal_entries.alias("reversal")
_reversed_by = sa.select(_reversal.c.journal_entry_id).where(
    _reversal.c.org_id == _head.org_id, _reversal.c.reverses_journal_entry_id == _head.journal_entry_id
)
_ENTRY = Read(
    _heads.add_columns(_reversed_by.exists().label("is_reversed")).where(
        _head.journal_entry_id == sa.bindparam("journal_entry_id")
    )
)
_legs = (
    sa.select(ledger_entries)
    .where(
        is_mine(ledger_entries),
        _leg.escrow_account_id == _ACCOUNT_ID,
        _leg.journal_sequence == sa.any_(sa.bindparam("sequences", type_=sa.ARRAY(sa.BigInteger))),
    )
    .order_by(_leg.journal_sequence, _leg.leg)
)
_LEGS, _LEGS_OF_ONE = Read(_legs), Read(_legs.where(_leg.leg <= sa.bindparam("leg_max", type_=sa.Integer)))
