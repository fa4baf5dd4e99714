"""Journal entries that people and services ask for: built from their requests, and handed to the poster.

The form of a request is checked here; whether its entries may be booked is decided in the book. They are idempotent by
the journal's own keys, and committed together with what others ask for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from realco.escrow.v1 import journal_pb2 as journal_pb
from realco.escrow.v1.bulk_postings_pb2 import StreamPostJournalEntriesRequest

from services.chassis.calls.auth import current_principal
from services.chassis.calls.batch import build_results
from services.chassis.calls.wire import from_timestamp
from services.chassis.data.database import Database
from services.chassis.values.errors import DomainError, InvalidField, Unavailable
from services.chassis.values.explanation import Explanation
from services.chassis.values.ids import new_id
from services.chassis.values.refusals import PartyNotFound
from services.escrow.clients import Compliance, Distributions
from services.escrow.domain.chart import (
    Direction,
)
from services.escrow.domain.investments import (
    check_investment,
    check_taken,
    explain_uncounted,
    is_counted,
    list_taken,
)
from services.escrow.domain.journal import (
    AMOUNT_MINOR_MAX,
    BATCH_BYTES_MAX,
    BATCH_LEGS_MAX,
    EntryType,
    Leg,
    NewEntry,
    build_key,
    may_be_posted_by_hand,
    mirror,
    sum_moved,
)
from services.escrow.domain.refusals import InTransitNotByHand, JournalEntryNotFound
from services.escrow.messages import read_currency, read_ledger_account
from services.escrow.posting.checks import check_entries
from services.escrow.posting.group_commit import Poster
from services.escrow.store import journal
from services.escrow.store.escrow_accounts import require_escrow_account

Batch = journal_pb.BatchPostJournalEntriesRequest | StreamPostJournalEntriesRequest

# Clocks of callers may be ahead of ours by so much.
_CLOCK_SKEW = timedelta(seconds=5)


async def post_journal_entry(
    poster: Poster, database: Database, request: journal_pb.PostJournalEntryRequest, now: datetime
) -> journal_pb.JournalEntry:
    entry = await build_entry(database, request.escrow_account_id, request.idempotency_key, request.journal_entry, now)
    return await poster.post_one(entry, validate_only=request.validate_only)


async def post_items(
    poster: Poster, database: Database, request: Batch, now: datetime, *, validate_only: bool = False
) -> journal_pb.PostingResults:
    """What became of each item of a batch, however it came: all that are booked are committed together."""
    entries = await build_entries(database, request, now)
    outcomes = await poster.post(entries, validate_only=validate_only)
    return journal_pb.PostingResults(results=build_results(journal_pb.PostingResult, request.items, outcomes))


async def build_entry(
    database: Database,
    escrow_account_id: str,
    idempotency_key: str,
    new: journal_pb.NewJournalEntry,
    now: datetime,
) -> NewEntry:
    """What PostJournalEntry asks for. An item of its batch has the same key.

    Raises:
        InvalidField: the legs cannot make an entry, or the time is still to come.
        JournalEntryNotFound: there is no entry to reverse.
        NotSealed: this service did not book what is to be reversed.
        InTransitNotByHand
    """
    originals = await _read_originals(database, escrow_account_id, [new])
    return _build_entry(escrow_account_id, idempotency_key, new, originals, now)


async def _read_originals(
    database: Database, escrow_account_id: str, wanted: Iterable[journal_pb.NewJournalEntry]
) -> Mapping[str, journal.BookedEntry]:
    """What is to be reversed, as far as it is there. Entries are never edited, so what is read here is still true when
    its mirror is booked. Raises: NotSealed."""
    reversed_ids = {each.reverses_journal_entry_id for each in wanted if each.reverses_journal_entry_id}
    if not reversed_ids:
        return {}
    async with database.begin() as tx:
        found = await journal.list_journal_entries_by_id(tx, escrow_account_id, reversed_ids)
        check_entries(tx, list(found.values()))
    return found


def _build_entry(
    escrow_account_id: str,
    idempotency_key: str,
    new: journal_pb.NewJournalEntry,
    originals: Mapping[str, journal.BookedEntry],
    now: datetime,
    item: str = "",
) -> NewEntry:
    """As `build_entry`.

    Args:
        item: Where a batch has it, with a dot.
    """
    principal, path = current_principal(), "journal_entry"
    effective_at = (
        from_timestamp(new.effective_time, f"{path}.effective_time") if new.HasField("effective_time") else None
    )
    if effective_at is not None and effective_at > now + _CLOCK_SKEW:
        raise InvalidField(
            "What has not happened cannot be booked: effective_time must not be in the future.",
            fields={f"{path}.effective_time": "is in the future"},
        )
    _check_reversal(new, path)
    original = currency = None
    type_, reverses = EntryType(journal_pb.JournalEntry.Type.Name(new.type)), new.reverses_journal_entry_id or None
    body = escrow_account_id.encode() + b"\0" + new.SerializeToString(deterministic=True)
    if reverses:
        original = originals.get(reverses)
        if original is None:
            raise JournalEntryNotFound(f"{path}.reverses_journal_entry_id")
        legs: Sequence[Leg] = mirror(original.legs)
    else:
        legs = _read_legs(new.legs, path)
        currency = read_currency([leg.amount for leg in new.legs], f"{path}.legs")
    if not may_be_posted_by_hand({leg.ledger_account.kind for leg in legs}):
        raise InTransitNotByHand
    return NewEntry(
        org_id=principal.org_id,
        escrow_account_id=escrow_account_id,
        journal_entry_id=new_id("je"),
        key=build_key("rpc", principal.key_owner, idempotency_key, body=body),
        idempotency_key=idempotency_key,
        type=type_,
        description=new.description,
        legs=legs,
        created_by=principal.person,
        effective_at=effective_at,
        currency=currency,
        external_id=new.external_id or None,
        metadata=dict(new.metadata),
        legs_path=None if original else f"{path}.legs",
        named_field=name_field(f"{item}{path}.{'reverses_journal_entry_id' if original else 'investment_id'}"),
        # A reversal belongs to what its original belongs to.
        transaction_id=original.transaction_id if original else None,
        investment_id=original.investment_id if original else new.investment_id or None,
        distribution_id=original.distribution_id if original else None,
        reverses_journal_entry_id=reverses,
    )


def name_field(field: str) -> str | None:
    """The field, where persons ask. A service that was granted an RPC brings what was decided elsewhere."""
    return None if current_principal().service else field


def _check_reversal(new: journal_pb.NewJournalEntry, path: str) -> None:
    """An entry reverses one if and only if it says so twice, and then has nothing of its own."""
    is_reversal = new.type == journal_pb.JournalEntry.REVERSAL
    if is_reversal and not new.reverses_journal_entry_id:
        fault = {f"{path}.reverses_journal_entry_id": "is required of a REVERSAL"}
        raise InvalidField("A REVERSAL says which journal entry it reverses.", fields=fault)
    if not new.reverses_journal_entry_id:
        return
    if not is_reversal:
        raise InvalidField("What reverses a journal entry is a REVERSAL.", fields={f"{path}.type": "must be REVERSAL"})
    if new.legs:
        fault = {f"{path}.legs": "must be empty"}
        raise InvalidField("A reversal has the legs of its original: leave them out.", fields=fault)
    if new.investment_id:
        fault = {f"{path}.investment_id": "must be empty"}
        raise InvalidField("A reversal has the investment of its original: leave it out.", fields=fault)


async def build_entries(database: Database, request: Batch, now: datetime) -> list[NewEntry | DomainError]:
    """What each item of a batch asks for; one that may not be is refused by itself.

    Raises:
        InvalidField: an item is malformed, or they are too much together: in bytes, or in legs, mirrored ones included.
    """
    if request.ByteSize() > BATCH_BYTES_MAX:
        raise _build_too_many(f"have more than {BATCH_BYTES_MAX} bytes together")
    originals = await _read_originals(
        database, request.escrow_account_id, [each.journal_entry for each in request.items]
    )
    found: list[NewEntry | DomainError] = []
    legs = 0
    for number, item in enumerate(request.items):
        try:
            entry = _build_entry(
                *(request.escrow_account_id, item.idempotency_key, item.journal_entry, originals, now),
                item=f"items[{number}].",
            )
        except InvalidField as refusal:  # of the whole batch, in which the item has a place
            fields = {f"items[{number}].{path}": fault for path, fault in refusal.fields.items()}
            raise InvalidField(refusal.message, fields=fields) from None
        except (JournalEntryNotFound, InTransitNotByHand) as refusal:
            found.append(refusal)
            continue
        found.append(entry)
        legs += len(entry.legs)
        if legs > BATCH_LEGS_MAX:
            raise _build_too_many(f"have more than {BATCH_LEGS_MAX} legs together")
    return found


def _build_too_many(fault: str) -> InvalidField:
    return InvalidField("Send it as several batches.", fields={"items": fault})


def _read_legs(legs: Sequence[journal_pb.Leg], path: str) -> tuple[Leg, ...]:
    if len(legs) < 2:
        raise InvalidField("A journal entry has at least two legs.", fields={f"{path}.legs": "must be at least two"})
    if sum(leg.amount.amount_minor for leg in legs) > AMOUNT_MINOR_MAX:
        raise InvalidField("The amounts are too large.", fields={f"{path}.legs": "are too large together"})
    found = tuple(
        Leg(
            read_ledger_account(leg.ledger_account, f"{path}.legs[{number}].ledger_account"),
            Direction.DEBIT if leg.direction == journal_pb.LedgerEntry.DEBIT else Direction.CREDIT,
            leg.amount.amount_minor,
        )
        for number, leg in enumerate(legs)
    )
    if sum_moved(found) == 0:
        fault = {f"{path}.legs": "give back to each ledger account what they take from it"}
        raise InvalidField("The journal entry moves nothing.", fields=fault)
    return found


def list_named_parties(entry: journal_pb.NewJournalEntry, path: str) -> list[tuple[str, str]]:
    """The party of each leg, and the field that names it."""
    return [
        (leg.ledger_account.party_id, f"{path}.legs[{number}].ledger_account.party_id")
        for number, leg in enumerate(entry.legs)
    ]


async def check_parties(compliance: Compliance, named: Iterable[tuple[str, str]]) -> None:
    """No money is booked for a party that does not exist: nobody acts for such a party.

    Args:
        named: Parties, each with the field that names it.

    Raises: PartyNotFound.
    """
    fields = {party_id: field for party_id, field in reversed(list(named)) if party_id}
    if not fields:
        return
    try:
        found = await compliance.batch_get_clearances(list(fields))
    except Unavailable:
        return
    for party_id, each in zip(fields, found, strict=True):
        if not each.known:
            raise PartyNotFound(fields[party_id])


async def check_investments(
    database: Database, distributions: Distributions, escrow_account_id: str, entries: Sequence[NewEntry]
) -> list[Explanation]:
    """No money is posted for an investment that would not count it, and none is taken that was booked for another one.
    Distributions is asked only where one counts. The book asks the second once more as it books them.

    Returns: That some of it counts for no investment, where that is so and might not be meant.

    Raises:
        InvalidField: an entry takes what was booked for another investment than it names.
        InvestmentNotFound
        Unavailable: distributions cannot tell.
    """
    told = await _check_named(distributions, escrow_account_id, [each for each in entries if is_counted(each)])
    if taken := sorted({share for each in entries for share in list_taken(each)}, key=str):
        async with database.begin() as tx:
            account = await require_escrow_account(tx, escrow_account_id)
            place = current_principal().org_id, escrow_account_id
            booked = await journal.read_booked(tx.driver, place, taken)
        check_taken(entries, booked, account.currency)
    return told


async def _check_named(
    distributions: Distributions, escrow_account_id: str, counted: Sequence[NewEntry]
) -> list[Explanation]:
    if not counted:
        return []
    named = sorted({each.investment_id for each in counted if each.investment_id})
    found = await distributions.get_commitments(escrow_account_id, named)
    parties = {each.investment_id: each.party_id for each in found.commitments}
    for each in counted:
        check_investment(each, parties)
    return explain_uncounted(counted, found.offering_id or None)
