"""What transactions, or a movement, would do to the book, for whoever decides about them before."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from realco.compliance.v1.notary_pb2 import Movement
from realco.escrow.v1 import postings_pb2 as postings_pb
from realco.transactions.v1.transactions_pb2 import Transaction

from services.chassis.approvals.messages import to_effect
from services.chassis.calls.wire import from_enum, from_timestamp, to_explanation
from services.chassis.data.transaction import Tx
from services.chassis.values.approval import Preview
from services.chassis.values.errors import DomainError, InvalidField
from services.chassis.values.explanation import Explanation, explain_at_source
from services.chassis.values.refusals import check_currency
from services.escrow.domain.account import EscrowAccount
from services.escrow.domain.chart import LedgerAccount
from services.escrow.domain.explanations import (
    explain_altered_books,
    explain_debts_at_sources,
    explain_missing_at_sources,
)
from services.escrow.domain.journal import EntryType, Leg, NewEntry, check_balanced
from services.escrow.domain.movements import MOVEMENT_KINDS
from services.escrow.domain.posted_by_hand import POSTED_WITHIN, explain_more_by_hand, explain_posted_by_hand
from services.escrow.domain.previews import Book, list_touched, preview_movement, preview_transactions
from services.escrow.domain.refusals import AlreadyReversed
from services.escrow.domain.stages import Moving, Stage
from services.escrow.domain.types import require_type
from services.escrow.messages import check_sum, read_parts
from services.escrow.posting.checks import check_entries, list_altered_books
from services.escrow.store import escrow_accounts, journal
from services.escrow.store.holds import list_holds_of_persons
from services.escrow.store.posted_by_hand import read_posted_by_hand
from services.escrow.store.sources import list_debts_at_sources, list_missing_at_sources, list_sources_by_hand

# Of so many escrow accounts that money was transferred from it is told what persons posted there.
_SOURCES_MAX = 10
Outcome = postings_pb.GetTransactionPreviewRequest.Outcome


async def get_transaction_preview(
    tx: Tx, request: postings_pb.GetTransactionPreviewRequest, now: datetime
) -> postings_pb.BookPreview:
    """Raises: EscrowAccountNotFound, CurrencyMismatch, InvalidField, NotSealed."""
    account = await escrow_accounts.require_escrow_account(tx, request.escrow_account_id)
    wanted = read_movings(request, account.currency)
    booked = await _list_booked(tx, request)
    touched = list_touched(wanted[0], booked) if len(wanted) == 1 else None
    found = await escrow_accounts.list_balances(tx, request.escrow_account_id, touched)
    unbound = await _read_unbound(tx, request, [each.ledger_account for each in found if each.held_minor])
    balances = {each.ledger_account: each for each in found}
    totals = await escrow_accounts.read_totals(tx, request.escrow_account_id)
    book = Book(account.status, account.currency, balances, *totals, booked, unbound)
    answer = answer_preview(request, book, wanted)
    if request.outcome == postings_pb.GetTransactionPreviewRequest.SETTLED and not wanted[0].type.is_inbound:
        told = await explain_origin(tx, account, now)
        if not booked and wanted[0].type.entry_type is not EntryType.REFUND:
            told += await _explain_debts_at_sources(tx, account, {moving.party_id for moving in wanted})
        answer.explanations.extend(map(to_explanation, told))
    return answer


def read_movings(request: postings_pb.GetTransactionPreviewRequest, currency: str) -> list[Moving]:
    """Raises: CurrencyMismatch, InvalidField."""
    if request.HasField("transaction_id") and len(request.parts) != 1:
        raise InvalidField("One transaction has one part.", fields={"parts": "must be one: that of transaction_id"})
    check_sum(request.parts, "parts")
    type_ = require_type(from_enum(Transaction.Type, request.type))
    if request.arrives:
        if type_.arrives_as is None:
            raise InvalidField("Only a transfer goes to an escrow account.", fields={"arrives": "is of TRANSFER alone"})
        type_ = type_.arrives_as
    for part in request.parts:
        check_currency(part.amount.currency_code, currency)
    return [Moving(type_, part.party_id, part.amount.amount_minor) for part in request.parts]


def answer_preview(
    request: postings_pb.GetTransactionPreviewRequest, book: Book, wanted: Sequence[Moving]
) -> postings_pb.BookPreview:
    stage = Stage[from_enum(Outcome, request.outcome)]
    return _to_book_preview(preview_transactions(book, stage, wanted, sets_off=request.sets_off_receivables))


async def get_movement_preview(
    tx: Tx, request: postings_pb.GetMovementPreviewRequest, now: datetime
) -> postings_pb.BookPreview:
    """Raises: EscrowAccountNotFound, CurrencyMismatch, InvalidField."""
    account = await escrow_accounts.require_escrow_account(tx, request.escrow_account_id)
    found = await escrow_accounts.list_balances(tx, request.escrow_account_id)
    totals = await escrow_accounts.read_totals(tx, request.escrow_account_id)
    book = Book(account.status, account.currency, {each.ledger_account: each for each in found}, *totals)
    answer = answer_movement_preview(request, book)
    deadline = from_timestamp(request.deadline_time) if request.HasField("deadline_time") else None
    told = await explain_origin(tx, account, now, deadline)
    told += await _explain_debts_at_sources(tx, account, {part.party_id for part in request.parts})
    answer.explanations.extend(map(to_explanation, told))
    return answer


async def explain_origin(
    tx: Tx, account: EscrowAccount, now: datetime, deadline: datetime | None = None
) -> list[Explanation]:
    """Whether what the book says is ours; what of an account's money is there because persons posted it, here or in the
    accounts that it was transferred from, and what is missing in those.
    """
    since, account_id = now - POSTED_WITHIN, account.escrow_account_id
    told = explain_altered_books(await list_altered_books(tx, account_id))
    found = await read_posted_by_hand(tx, account_id, min(since, deadline or since), deadline)
    told += explain_posted_by_hand(found, account.currency, deadline)
    sources = await list_sources_by_hand(tx, account_id, since, _SOURCES_MAX + 1)
    for source in sources[:_SOURCES_MAX]:
        there = await read_posted_by_hand(tx, source, since, None)
        told += (explain_at_source(source, each) for each in explain_posted_by_hand(there, account.currency))
    told += [explain_more_by_hand()] if len(sources) > _SOURCES_MAX else []
    return told + explain_missing_at_sources(await list_missing_at_sources(tx, account_id), account.currency)


async def _explain_debts_at_sources(tx: Tx, account: EscrowAccount, party_ids: Collection[str]) -> list[Explanation]:
    debts = await list_debts_at_sources(tx, account.escrow_account_id, party_ids)
    return explain_debts_at_sources(debts, account.currency)


def answer_movement_preview(request: postings_pb.GetMovementPreviewRequest, book: Book) -> postings_pb.BookPreview:
    for part in request.parts:
        check_currency(part.amount.currency_code, book.currency)
    kind = MOVEMENT_KINDS[from_enum(Movement.Kind, request.kind)]
    legs = kind.build_legs(read_parts(request.parts, "parts"))
    return _to_book_preview(preview_movement(book, legs, sets_off=request.sets_off_receivables))


def _to_book_preview(preview: Preview) -> postings_pb.BookPreview:
    return postings_pb.BookPreview(
        effects=map(to_effect, preview.effects), explanations=map(to_explanation, preview.explanations)
    )


async def _list_booked(tx: Tx, request: postings_pb.GetTransactionPreviewRequest) -> list[Leg]:
    """What this service booked of it, as the stages see it. Raises: NotSealed."""
    if not request.HasField("transaction_id"):
        return []
    found = await journal.list_payment_entries(tx, request.escrow_account_id, request.transaction_id)
    return [leg for entry in check_entries(tx, found) for leg in entry.legs]


async def _read_unbound(
    tx: Tx, request: postings_pb.GetTransactionPreviewRequest, held: Sequence[LedgerAccount]
) -> dict[LedgerAccount, int]:
    """What persons hold, or the transaction itself, does not keep the bank from taking money back."""
    if not held or request.outcome != postings_pb.GetTransactionPreviewRequest.RETURNED:
        return {}
    found = await list_holds_of_persons(tx, request.escrow_account_id, held, request.transaction_id or None)
    return {account: sum(hold.amount_minor for hold in holds) for account, holds in found.items()}


async def list_refused_for_good(
    tx: Tx, wanted: Sequence[NewEntry | DomainError], currency: str
) -> dict[int, DomainError]:
    """Which of a batch can never be posted, by their numbers, and why: whatever else keeps them from it today.

    Args:
        currency: Of the escrow account.
    """
    refused: dict[int, DomainError] = {}
    entries = [each for each in wanted if isinstance(each, NewEntry)]
    originals = {each.reverses_journal_entry_id for each in entries if each.reverses_journal_entry_id}
    reversed_by_now = await journal.list_reversed(tx, originals) if originals else set()
    for number, entry in enumerate(wanted):
        if isinstance(entry, DomainError):
            refused[number] = entry
            continue
        original = entry.reverses_journal_entry_id
        try:
            check_currency(entry.currency or currency, currency)
            check_balanced(entry.legs, currency)
            if original and original in reversed_by_now:
                raise AlreadyReversed(original)
        except DomainError as refusal:
            refused[number] = refusal
        else:
            reversed_by_now.update([original] if original else [])
    return refused
