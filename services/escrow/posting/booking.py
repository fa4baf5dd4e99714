"""Books entries inside a transaction: the database's verdicts, the answers, and the events that leave with the commit.

One JournalEntriesPosted an escrow account and transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from datetime import datetime
from functools import partial
from itertools import count
from typing import NamedTuple

from asyncpg import Connection, Record
from google.protobuf.message import Message
from realco.escrow.v1 import events_pb2 as events
from realco.escrow.v1 import journal_pb2 as pb

from services.chassis.calls import batch
from services.chassis.calls.auth import Principal, acting_as, current_principal
from services.chassis.data import outbox
from services.chassis.data.database import Database
from services.chassis.data.seals import Seals, seals_of
from services.chassis.data.sql import build_rows
from services.chassis.data.transaction import Rest, Tx
from services.chassis.values.errors import DomainError, InvalidField
from services.chassis.values.money import Money
from services.chassis.values.refusals import (
    CurrencyMismatch,
    EscrowAccountClosed,
    EscrowAccountFrozen,
    EscrowAccountNotFound,
    IdempotencyKeyReused,
)
from services.escrow import messages
from services.escrow.domain import refusals
from services.escrow.domain.chart import CASH, DISTRIBUTABLE, IN_TRANSIT, LedgerAccount, line_of
from services.escrow.domain.investments import Share, build_not_booked, list_taken
from services.escrow.domain.journal import NewEntry
from services.escrow.domain.open_items import list_changed_items
from services.escrow.posting.checks import Booked, Checks, check_entry, seal_entry, seal_refusal
from services.escrow.store import journal
from services.escrow.store.holds import check_all_open_holds, check_open_holds
from services.escrow.store.journal import Verdict

Outcome = batch.Outcome[pb.JournalEntry]

_POSTED = "realco_posted_entries"
_AT_ONCE = 250  # entries a call of the posting function
_OF_KEY = ("duplicate", "key_reused")
_OF_BALANCES = ("insufficient", "owing", "owing_at_source", "too_large")


async def book_in(tx: Tx, entries: Sequence[NewEntry], now: datetime) -> list[pb.JournalEntry]:
    """Books entries in the caller's transaction, all or none.

    Raises:
        DomainError: the first refusal; the caller's transaction must not commit.
    """
    outcomes, _, posted = await book(tx.driver, entries, seals_of(tx), now)
    tx.info.setdefault(_POSTED, []).extend(posted)
    tx.leave(Rest.ENTRIES, partial(_tell_all, tx, now, current_principal()))
    booked = []
    for answer, _ in outcomes:
        if isinstance(answer, DomainError):
            raise answer
        booked.append(answer)
    return booked


async def rehearse_booking(database: Database, entries: Sequence[NewEntry], now: datetime) -> list[Outcome]:
    """What booking these entries of one organization would answer; nothing is booked, and every key stays free."""
    async with database.begin_rehearsal() as tx:
        outcomes, _, _ = await book(tx.driver, entries, database.seals, now)
    return outcomes


async def give_up(database: Database, entry: NewEntry) -> None:
    """An entry that was not booked until now is not booked any more: whoever asks for it under its key is refused."""
    async with database.begin() as tx:
        await journal.give_up(tx, entry, seal_refusal(database.seals, entry))


async def book(
    connection: Connection,
    entries: Sequence[NewEntry],
    seals: Seals,
    now: datetime,
    checks: Checks | None = None,
) -> tuple[list[Outcome], Booked, list[Posted]]:
    """Books entries of one organization in the connection's transaction, each by itself, in this order.

    Args:
        checks: What is known to be ours of the book; by and by more. It is told what was booked after the commit.

    Returns: What became of each, and of what was booked the numbers, and what there is to tell (`build_events`).

    Raises:
        NotSealed: one of them asks for seals, and the book of its escrow account has an entry that is not ours; or one
            would be refused for what somebody else holds, or booked.
        InvalidField: one takes what was booked for another investment than it names: nothing of all is booked.
    """
    checks = checks or Checks(seals)
    outcomes: dict[int, Outcome] = {}
    posted: list[Posted] = []
    booked: Booked = {}
    refused: list[_Refused] = []
    if entries:
        numbers = count()
        async with aclosing(_post(connection, entries, seals, now)) as verdicts:
            async for entry, verdict in verdicts:
                number = next(numbers)
                if verdict.outcome == "posted":
                    message = messages.to_journal_entry(entry, verdict)
                    posted.append(Posted(entry, verdict, message))
                    place = entry.org_id, entry.escrow_account_id
                    first, _ = booked.get(place, (verdict.sequence, 0))
                    booked[place] = first, verdict.sequence
                    outcomes[number] = Outcome(message)
                else:
                    refused.append(_Refused(number, entry, verdict))
                    outcomes[number] = Outcome(_build_refusal(entry, verdict), verdict.replayed)
    await _check_balances(connection, checks, seals, refused, booked)
    await _look_at_entries(connection, seals, refused, outcomes)
    await _check_taken(connection, posted)
    if posted:
        leaving = {(entry.org_id, entry.escrow_account_id) for entry, _, _ in posted if entry.asks_for_seals}
        await checks.check_before(connection, booked, leaving)
    return [outcomes[number] for number in range(len(entries))], booked, posted


async def lock_accounts(connection: Connection, entries: Sequence[NewEntry]) -> None:
    """Locks all escrow accounts of a batch that is sent in several parts, so that no two batches wait for one another.

    Of what is sent at once the function does it.
    """
    places = {(entry.org_id, entry.escrow_account_id) for entry in entries} if len(entries) > _AT_ONCE else ()
    if len(places) > 1:
        await journal.lock_accounts(connection, sorted(places))


class Posted(NamedTuple):
    """An entry that was booked, and how it is told."""

    entry: NewEntry
    verdict: Verdict
    message: pb.JournalEntry


class _Refused(NamedTuple):
    """An entry that was not booked now, and its number in the batch."""

    number: int
    entry: NewEntry
    verdict: Verdict


async def _post(
    connection: Connection, entries: Sequence[NewEntry], seals: Seals, now: datetime
) -> AsyncGenerator[tuple[NewEntry, Verdict]]:
    """Each entry with its verdict, in order. While PostgreSQL books a part of the batch, the next one is made ready and
    the one before is answered.
    """
    parts = [entries[first : first + _AT_ONCE] for first in range(0, len(entries), _AT_ONCE)]
    answered: list[tuple[NewEntry, Verdict]] = []
    booked: asyncio.Task[Record] | None = None
    ready = _make_ready(parts[0], seals)
    try:
        for number, part in enumerate(parts, start=1):
            sent = ready
            booked = asyncio.create_task(journal.send(connection, sent, now))
            # The loop runs it in one turn, and sends what it wrote in another.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if number < len(parts):
                ready = _make_ready(parts[number], seals)
            for each in answered:
                yield each
            answered = list(zip(part, journal.read_verdicts(sent, await booked), strict=True))
        for each in answered:
            yield each
    finally:
        if booked is not None and not booked.done():
            booked.cancel()
            await asyncio.wait([booked])


def _make_ready(part: Sequence[NewEntry], seals: Seals) -> journal.Posting:
    return journal.build_posting(part, [(seal_entry(seals, entry), seal_refusal(seals, entry)) for entry in part])


async def _check_balances(
    connection: Connection, checks: Checks, seals: Seals, refused: Sequence[_Refused], booked: Booked
) -> None:
    """Returns if whatever holds or moved the money that is missing is ours. Raises: NotSealed."""
    short = [each for each in refused if each.verdict.outcome in _OF_BALANCES and not each.verdict.replayed]
    held, cash = [], set()
    for _, entry, verdict in short:
        assert verdict.ledger_account is not None
        if verdict.outcome == "too_large":
            continue  # whatever is held
        if verdict.ledger_account == CASH:  # of which all that is held in the escrow account is kept back
            cash.add((entry.org_id, entry.escrow_account_id))
        else:
            kind, party_id = verdict.ledger_account
            held.append((entry.org_id, entry.escrow_account_id, kind.value, party_id))
    await check_open_holds(connection, seals, held)
    await check_all_open_holds(connection, seals, sorted(cash))
    for _, entry, verdict in short:
        is_elsewhere = verdict.outcome == "owing_at_source"
        place = entry.org_id, verdict.subject if is_elsewhere else entry.escrow_account_id
        first, _ = booked.get(place, (verdict.sequence + 1, 0))
        await checks.check(connection, place, min(first - 1, verdict.sequence))


async def _look_at_entries(
    connection: Connection, seals: Seals, refused: Sequence[_Refused], outcomes: dict[int, Outcome]
) -> None:
    """Looks at the entries that refusals are decided by, and gives each repeated request the one it made before.

    Raises: NotSealed: one is not ours: nobody knows what the request is to be answered.
    """
    places = {}
    for number, entry, verdict in refused:
        if verdict.outcome in _OF_KEY and verdict.sequence:
            places[number] = entry.org_id, verdict.subject, verdict.sequence
        elif verdict.outcome == "already_reversed" and verdict.sequence:
            places[number] = entry.org_id, entry.escrow_account_id, verdict.sequence
    rows = await journal.list_booked_legs(connection, list(set(places.values()))) if places else []
    found: dict[tuple[str, str, int], list[Record]] = {}
    for row in rows:
        found.setdefault((row["org_id"], row["escrow_account_id"], row["journal_sequence"]), []).append(row)
    for legs in found.values():
        check_entry(seals, legs)
    for number, _, verdict in refused:
        if verdict.outcome == "duplicate" and number in places:
            rows_of_entry = build_rows(found[places[number]])
            answer = messages.to_booked_journal_entry(rows_of_entry[0], rows_of_entry, rows_of_entry[0])
            outcomes[number] = Outcome(answer, replayed=True)


async def _check_taken(connection: Connection, posted: Sequence[Posted]) -> None:
    """What persons took for an investment, or for none, was booked for that. Asked under the lock: what was true when
    they asked for it need not be by now. Raises: InvalidField.
    """
    taking: dict[tuple[str, str], dict[Share, Posted]] = {}
    for each in posted:
        if each.entry.named_field is not None:
            for share in list_taken(each.entry):
                taking.setdefault((each.entry.org_id, each.entry.escrow_account_id), {})[share] = each
    for place, by_share in taking.items():
        left = await journal.read_booked(connection, place, list(by_share))
        for share, each in by_share.items():
            if left.get(share, 0) < 0:
                raise build_not_booked(each.entry, share, left[share], each.verdict.subject)


def _build_refusal(entry: NewEntry, verdict: Verdict) -> DomainError:
    escrow_account_id = entry.escrow_account_id
    match verdict.outcome:
        case "not_found":
            return EscrowAccountNotFound()
        case "given_up":
            return refusals.MovementGivenUp(
                "It was refused before, and is not booked any more.", content_hash=entry.idempotency_key
            )
        case "closed":
            return EscrowAccountClosed(escrow_account_id)
        case "frozen":
            return EscrowAccountFrozen(escrow_account_id)
        case "currency_mismatch":
            # The legs of an entry are of one currency, so the first says what is wrong with all.
            return CurrencyMismatch(verdict.subject, entry.legs_path and f"{entry.legs_path}[0].amount.currency_code")
        case "reversal_not_found":
            return refusals.JournalEntryNotFound()
        case "already_reversed":
            return refusals.AlreadyReversed(verdict.subject)
        case "unbalanced":
            return refusals.JournalEntryUnbalanced(verdict.available_minor, verdict.requested_minor, verdict.subject)
        case "insufficient":
            assert verdict.ledger_account is not None
            short = f"The ledger account {verdict.ledger_account} has too little available."
            if verdict.ledger_account == CASH and entry.payee_party_id:
                short = "There is too little cash that nobody holds and no payout before takes."
            if verdict.ledger_account == IN_TRANSIT:
                short = "So much is not on its way out (IN_TRANSIT): payment providers and banks owe us nothing."
            return refusals.InsufficientAvailableBalance(
                short,
                fields=_name_taking_leg(entry, verdict.ledger_account),
                available_minor=verdict.available_minor,
                requested_minor=verdict.requested_minor,
                currency_code=verdict.subject,
                ledger_account_kind=verdict.ledger_account.kind.value,
                party_id=verdict.ledger_account.party_id,
            )
        case "owing" | "owing_at_source":
            return _build_debt(entry, verdict)
        case "too_large":
            return InvalidField(
                "A balance would become too large: the amounts must be smaller.",
                fields={entry.legs_path or "legs": "are too large together"},
            )
        case _:  # key_reused; a duplicate's refusal is replaced by its first answer
            return IdempotencyKeyReused(
                "The idempotency_key was used with another request.", idempotency_key=entry.idempotency_key
            )


def _build_debt(entry: NewEntry, verdict: Verdict) -> refusals.PartyOwes:
    assert verdict.ledger_account is not None
    where, currency = entry.escrow_account_id, verdict.subject
    if verdict.outcome == "owing_at_source":  # both accounts have one currency
        where, currency = verdict.subject, entry.currency or ""
    owed = Money(verdict.requested_minor, currency)
    if where != entry.escrow_account_id:
        came = f"in {where}, from where money was transferred, since the bank took it back"
        message = f"The party owes {owed} {came}: it is paid once that is settled."
        if any(leg.ledger_account == DISTRIBUTABLE for leg in entry.legs):
            # A transfer back is a payment to who owes, too. It is no circle: whose this money is, may give it there.
            message += (
                " With money of this account that is done by two entries by hand, once the custodian has moved it:"
                " DISTRIBUTABLE / CASH here, CASH / RETURNS_RECEIVABLE of the party there."
            )
    elif entry.forbids_debts:
        message = f"{owed} that banks took back is still owed: nothing is released before that is settled."
    else:
        message = f"The party owes {owed}, which the bank took back: it is paid once that is settled."
    return refusals.PartyOwes(
        message,
        party_id=verdict.ledger_account.party_id,
        escrow_account_id=where,
        owed_minor=owed.amount_minor,
        currency_code=owed.currency,
    )


def _name_taking_leg(entry: NewEntry, short: LedgerAccount) -> dict[str, str]:
    """The first leg of the request that takes from the ledger account which has too little."""
    grows = line_of(short.kind).normal_balance
    taking = (n for n, leg in enumerate(entry.legs) if leg.ledger_account == short and leg.direction is not grows)
    number = next(taking, None)
    if entry.legs_path is None or number is None:
        return {}
    return {f"{entry.legs_path}[{number}].amount.amount_minor": "is more than its ledger account has available"}


async def _tell_all(tx: Tx, now: datetime, principal: Principal) -> None:
    """What several calls have booked is told in one event: whoever hears it counts once."""
    with acting_as(principal):
        await outbox.enqueue_each(tx, list(build_events(tx.info.pop(_POSTED))), now=now, comes_first=True)


def build_events(posted: Sequence[Posted]) -> Iterator[tuple[Message, str]]:
    """The events of each escrow account, with their actor."""
    by_account: dict[str, list[Posted]] = {}
    for each in posted:
        by_account.setdefault(each.entry.escrow_account_id, []).append(each)
    for escrow_account_id, booked in by_account.items():
        actors = {each.entry.created_by for each in booked}
        actor = actors.pop() if len(actors) == 1 else "service:escrow"
        entries = [each.message for each in booked]
        yield events.JournalEntriesPosted(escrow_account_id=escrow_account_id, journal_entries=entries), actor
        balances = ((each.entry, [after for _, after in each.verdict.legs]) for each in booked)
        for item in list_changed_items(balances):
            yield messages.to_open_item_changed(item, booked[0].verdict.subject), actor
