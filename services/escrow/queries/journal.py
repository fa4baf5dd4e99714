"""The journal and the ledger, read: entries with their legs, and legs with their entries."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Any

import sqlalchemy as sa
from realco.escrow.v1 import journal_pb2 as pb

from services.chassis.calls.wire import from_timestamp
from services.chassis.data.listings import Listing, read_time_bounds
from services.chassis.data.paging import Page, is_descending
from services.chassis.data.reach import is_mine
from services.chassis.data.reads import Read, Reader, fetch_row, fetch_rows
from services.escrow import actions, messages
from services.escrow.domain.chart import LedgerAccount, line_of
from services.escrow.domain.refusals import JournalEntryNotFound
from services.escrow.queries.escrow_accounts import require_account_row
from services.escrow.queries.filters import read_kinds
from services.escrow.tables import journal_entries, ledger_accounts, ledger_entries

_TIME = sa.TIMESTAMP(timezone=True)
LEGS_MAX = 5_000  # of a page of journal entries
LEGS_OF_ONE_MAX = 1_000  # of an entry that is got alone: 28,000 would not fit an answer

_head, _leg, _account = journal_entries.c, ledger_entries.c, ledger_accounts.c
_NOT_TOLD = {"escrow_no", "sequence", "org_id", "request_key", "fingerprint", "created_xid", "seal"}
_HEAD_COLUMNS = (
    _head.sequence.label("journal_sequence"),
    *(column for column in _head if column.name not in _NOT_TOLD),
)
_HEAD_NAMES = [column.name for column in _HEAD_COLUMNS]
# The columns of the journal entry, which are the last ones, in a row of both.
_Head: Any = namedtuple("_Head", _HEAD_NAMES)  # type: ignore[misc]  # which they are, the table says


async def list_ledger_entries(
    reader: Reader, request: pb.ListLedgerEntriesRequest, _: datetime
) -> pb.ListLedgerEntriesResponse:
    """In the order of booking. Times become numbers first, so the page is one range of one index, where it can be."""
    account = await require_account_row(reader, request.escrow_account_id)
    given: dict[str, Iterable[Any]] = {
        "transaction_id": request.transaction_id,
        "journal_entry_id": request.journal_entry_id,
    }
    place, only = _place(request, account), _only_account(request)
    if only is None:
        given |= {"kind": read_kinds(request), "party_id": request.party_id}
        page = await _LEDGER.fetch_page(reader, request, given, **place)
    else:
        page = await _LEDGER_OF_ONE.fetch_page(reader, request, given, **place, **only._asdict())
    entries = {row.journal_sequence: row for row in page.rows}
    heads = (_Head(*row[-len(_HEAD_NAMES) :]) for row in entries.values())
    return pb.ListLedgerEntriesResponse(
        ledger_entries=[messages.to_ledger_entry(row, account.currency) for row in page.rows],
        next_page_token=page.next_page_token,
        previous_page_token=page.previous_page_token,
        journal_entries=[messages.to_booked_journal_entry(head, (), account) for head in heads],
    )


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
        "escrow_no": account.escrow_no,
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
    return sa.func.public.journal_sequence_before(_ESCROW_NO, last, moment)


def _find_ledger_sequence(moment: sa.BindParameter[datetime]) -> sa.ColumnElement[int]:
    # Times are whole microseconds: before one is up to the one before it.
    before = moment - sa.text("interval '1 microsecond'")
    return sa.func.public.ledger_sequence_at(_ONE_NO, _ONE_LAST, before)


async def get_journal_entry(reader: Reader, request: pb.GetJournalEntryRequest, _: datetime) -> pb.JournalEntry:
    account = await require_account_row(reader, request.escrow_account_id)
    key = {"escrow_no": account.escrow_no, "journal_entry_id": request.journal_entry_id}
    row = await fetch_row(reader, _ENTRY, **key)
    if row is None:
        raise JournalEntryNotFound()
    legs = await _read_legs(reader, _LEGS_OF_ONE, account, [row.journal_sequence], leg_max=LEGS_OF_ONE_MAX)
    return actions.answer_journal_entry(row, legs[row.journal_sequence], account)


async def list_journal_entries(
    reader: Reader, request: pb.ListJournalEntriesRequest, _: datetime
) -> pb.ListJournalEntriesResponse:
    account = await require_account_row(reader, request.escrow_account_id)
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
        journal_entries=[messages.to_booked_journal_entry(row, legs[row.journal_sequence], account) for row in rows],
        next_page_token=token,
        previous_page_token=previous,
        incarnation=account.incarnation,
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
    rows = await fetch_rows(reader, read, escrow_no=account.escrow_no, sequences=sequences, **values)
    legs = groupby(rows, key=attrgetter("journal_sequence"))
    return {number: list(each) for number, each in legs}


# --- the statements ---------------------------------------------------------------------------------------------------

_ESCROW_NO = sa.bindparam("escrow_no", type_=sa.BigInteger)
_number = _head.sequence.label("journal_sequence")
_in_escrow_account = (
    is_mine(ledger_accounts),
    _account.escrow_account_id == sa.bindparam("escrow_account_id", type_=sa.Text),
)
# The one ledger account that a request is about.
_one = sa.select(ledger_accounts).where(
    *_in_escrow_account,
    _account.kind == sa.bindparam("kind", type_=sa.Text),
    _account.party_id == sa.bindparam("party_id", type_=sa.Text),
)
_ONE_NO, _ONE_LAST = (
    _one.with_only_columns(column).scalar_subquery() for column in (_account.account_no, _account.entry_sequence)
)
_LEG_COLUMNS = (
    *(_leg.journal_sequence, _leg.leg, _leg.sequence, _leg.debit, _leg.pending, _leg.amount_minor),
    *(_leg.posted_after, _leg.pending_after, _account.kind, _account.party_id),
)
_named_legs = sa.join(ledger_entries, ledger_accounts, _account.account_no == _leg.account_no)
_both = (
    sa.select(*_LEG_COLUMNS, *(column.label(f"head_{column.name}") for column in _HEAD_COLUMNS))
    .select_from(
        _named_legs.join(
            journal_entries, sa.and_(_head.escrow_no == _leg.escrow_no, _head.sequence == _leg.journal_sequence)
        )
    )
    .where(is_mine(ledger_entries), _leg.escrow_no == _ESCROW_NO)
)
_filters: dict[str, sa.ColumnElement[Any]] = {
    "kind": _account.kind,
    "party_id": _account.party_id,
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
    _both.where(_leg.account_no == _ONE_NO),
    (_leg.sequence,),
    _filters,
    bounds=_bound(_leg.sequence, _leg.effective_at, _find_ledger_sequence),
)

_heads = sa.select(*_HEAD_COLUMNS).where(is_mine(journal_entries), _head.escrow_no == _ESCROW_NO)
_of_parties = (
    sa.select(_leg.journal_sequence)
    .select_from(_named_legs)
    .where(*_in_escrow_account, _account.party_id == sa.any_(sa.bindparam("party_ids", type_=sa.ARRAY(sa.Text))))
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
    sa.select(*_LEG_COLUMNS)
    .select_from(_named_legs)
    .where(
        is_mine(ledger_entries),
        _leg.escrow_no == _ESCROW_NO,
        _leg.journal_sequence == sa.any_(sa.bindparam("sequences", type_=sa.ARRAY(sa.BigInteger))),
    )
    .order_by(_leg.journal_sequence, _leg.leg)
)
_LEGS, _LEGS_OF_ONE = Read(_legs), Read(_legs.where(_leg.leg <= sa.bindparam("leg_max", type_=sa.Integer)))
