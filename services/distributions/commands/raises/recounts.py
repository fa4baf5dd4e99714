"""What the book says of an offering's contributions, counted anew from the first entry of the journal to the last.

The journal is read from escrow page by page, outside any transaction. All that is kept of it is what moves what parties
have or owe. In one transaction the sums then take the place of those that were there, unless more was told meanwhile
than was read: then what followed is read first. What transactions reports stays; so does what persons decided, as far
as what they saw is still there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from realco.distributions.v1 import events_pb2 as events
from realco.escrow.v1.journal_pb2 import JournalEntry

from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.data.database import Database
from services.chassis.data.seals import NotSealed
from services.chassis.data.transaction import Tx
from services.chassis.process.telemetry import log
from services.chassis.values.errors import AnswerWithheld, DomainError, Kind, Unavailable
from services.chassis.values.invariant import invariant, require_present
from services.distributions.clients import Escrow
from services.distributions.commands.raises.contributions import (
    add_entries,
    add_up,
    list_moved,
    sum_contributions,
    warn_of_unknown,
)
from services.distributions.commands.raises.refunds import pay_due_refunds
from services.distributions.dependencies import NAME, Dependencies
from services.distributions.domain.counted_journal import (
    CountedJournal,
    LastEntry,
    await_recount,
    finish_recount,
    is_read,
)
from services.distributions.domain.investment import Investment, forget_booked
from services.distributions.store.contributions import Contribution, lock_contributions_of, save_contributions
from services.distributions.store.counted_journals import (
    Recount,
    keep_recount,
    list_of_other_incarnations,
    list_oldest,
    lock_counted,
    lock_recount,
    postpone_recount,
    save_counted,
    take_recount,
)
from services.distributions.store.investments import lock_investments_of, save_investments
from services.distributions.store.offerings import lock_offering_of, save_offering
from services.distributions.store.sagas import Overtaken

_PAGE_SIZE = 1000
# How often what followed is read before it is left to a later try.
_READINGS_MAX = 10
# As many accounts are asked about, where a restored escrow has not the first ones.
_ASKED_MAX = 20


@dataclass(slots=True)
class _Reading:
    """What was read of a journal, and where it goes on."""

    escrow_account_id: str
    incarnation: str = ""
    journal_sequence: int = 0  # of the last entry
    entries: list[JournalEntry] = field(default_factory=list)  # those that move what parties have or owe
    page_token: str = ""  # of the last page: what followed since is on it, or after it

    @property
    def last(self) -> LastEntry:
        return LastEntry(self.incarnation, self.journal_sequence)

    async def read_page(self, escrow: Escrow) -> bool:
        """Whether there is another one. Where the journal is of another life than the pages before, it begins anew."""
        page = await escrow.list_journal_entries(self.escrow_account_id, self.page_token, _PAGE_SIZE)
        if page.incarnation != self.incarnation:
            is_first = not self.page_token
            self.incarnation, self.journal_sequence, self.entries, self.page_token = page.incarnation, 0, [], ""
            if not is_first:
                return True
        for entry in page.journal_entries:
            if entry.journal_sequence <= self.journal_sequence:
                continue  # read before
            is_next = entry.journal_sequence == self.journal_sequence + 1
            invariant(is_next and len(entry.ledger_entries) == entry.leg_count, "a journal is listed without gaps")
            self.journal_sequence = entry.journal_sequence
            if any(list_moved(entry)):
                self.entries.append(entry)
        if not page.next_page_token:
            return False
        self.page_token = page.next_page_token
        return True


async def recount_offering(dependencies: Dependencies) -> int:
    """Counts anew what waits for it the longest; 0 if nothing does."""
    database = dependencies.database
    recount = await take_recount(database)
    if recount is None:
        return 0
    with acting_as(service_principal(NAME, recount.org_id)):
        try:
            await _recount(recount, dependencies)
        except Overtaken:  # somebody else does it, and was faster
            return 1
        except DomainError as unknown:
            await _postpone(recount, database, unknown.reason)
        except Exception as fault:  # of our own: it goes on once that is mended
            await _postpone(recount, database, type(fault).__name__)
            raise
    return 1


async def _postpone(recount: Recount, database: Database, reason: str) -> None:
    escrow_account_id = recount.counted.escrow_account_id
    log.warning("recount_postponed", escrow_account_id=escrow_account_id, tries=recount.tries, reason=reason)
    async with database.begin() as tx:
        await postpone_recount(tx, recount)


async def _recount(recount: Recount, dependencies: Dependencies) -> None:
    """Raises: Overtaken; DomainError: it cannot be read now."""
    database, told = dependencies.database, recount.counted.told
    reading = _Reading(recount.counted.escrow_account_id)
    for _ in range(_READINGS_MAX):
        while await reading.read_page(dependencies.peers.escrow):
            async with database.begin() as tx:
                await keep_recount(tx, recount)
        async with database.begin() as tx:
            counted = await lock_recount(tx, recount)
            if is_read(counted, reading.last, told):
                outcome = await _count_anew(tx, counted, reading, dependencies.clock.now())
                break
            await keep_recount(tx, recount)
        told = counted.told
    else:
        raise Unavailable("Escrow tells more than it lists.")
    log.warning("offering_recounted", **outcome)


async def _count_anew(tx: Tx, counted: CountedJournal, reading: _Reading, now: datetime) -> dict[str, Any]:
    """What there was before, and what there is after it."""
    offering = await lock_offering_of(tx, counted.escrow_account_id)
    offering = require_present(offering, "the journal is counted of an offering that is there")
    held = await lock_investments_of(tx, offering.offering_id)
    known = await lock_contributions_of(tx, offering.offering_id)
    booked, after = add_entries(reading.entries, [forget_booked(each) for each in held], _forget(known))
    warn_of_unknown(counted.escrow_account_id, sum_contributions(reading.entries, booked).keys(), held)
    await save_contributions(tx, [each for each in booked.values() if each != known.get(each.transaction_id)])
    decided = _list_decided(counted, reading, held, known)
    changes = [
        (before, replace(each, refund_approved_minor=decided.get(each.investment_id, 0)))
        for before, each in zip(held, after, strict=True)
    ]
    changed = await save_investments(tx, changes, events.InvestmentFundingChanged, now)
    recounted = await save_offering(tx, offering, add_up(offering, changes), events.OfferingUpdated(), now)
    await save_counted(tx, finish_recount(counted, reading.last))
    # Nothing was sent back while it waited.
    await pay_due_refunds(tx, recounted, now)
    return {
        "offering_id": offering.offering_id,
        "escrow_account_id": counted.escrow_account_id,
        "incarnation_before": counted.incarnation,
        "incarnation_after": reading.incarnation,
        "journal_sequence_before": counted.journal_sequence,
        "journal_sequence_after": reading.journal_sequence,
        "funded_minor_before": offering.funded_minor,
        "funded_minor_after": recounted.funded_minor,
        "investments_changed": len(changed),
    }


def _forget(known: dict[str, Contribution]) -> dict[str, Contribution]:
    """The contributions as if the book had said nothing of them yet."""
    return {each: replace(contribution, booked_minor=0, came_back=False) for each, contribution in known.items()}


def _list_decided(
    counted: CountedJournal, reading: _Reading, held: Sequence[Investment], known: dict[str, Contribution]
) -> dict[str, int]:
    """What two persons decided that goes back, by investment: less what went of it since they saw it, as where each
    entry is counted as it is told. What they saw in a book that is no more covers nothing.
    """
    if counted.incarnation != reading.incarnation:
        return {}
    following = [entry for entry in reading.entries if entry.journal_sequence > counted.journal_sequence]
    _, after = add_entries(following, held, known)
    return {each.investment_id: each.refund_approved_minor for each in after}


async def follow_incarnation(dependencies: Dependencies) -> int:
    """Has all journals counted anew that were counted in another life of escrow's database than it is in.

    Else an offering of which nothing is booked after a restore would keep for ever what is booked no more. How many.
    """
    database = dependencies.database
    async with database.begin_for_all() as tx:
        asked = await list_oldest(tx, _ASKED_MAX)
    incarnation = await _ask_incarnation(dependencies.peers.escrow, asked)
    if not incarnation:
        return 0
    async with database.begin_for_all() as tx:
        found = await list_of_other_incarnations(tx, incarnation)
    done = 0
    for org_id, escrow_account_id in found:
        with acting_as(service_principal(NAME, org_id)):
            try:
                async with database.begin() as tx:
                    counted = await lock_counted(tx, escrow_account_id)
                    if counted is not None and not counted.waits and counted.incarnation != incarnation:
                        now = dependencies.clock.now()
                        await save_counted(tx, await_recount(counted, LastEntry(incarnation, 0), now))
                        done += 1
            except NotSealed:  # it is in the log, and holds up no other
                continue
    return done


async def _ask_incarnation(escrow: Escrow, accounts: Sequence[tuple[str, str]]) -> str:
    """In which escrow's database is; empty where that is not known now."""
    for org_id, escrow_account_id in accounts:
        with acting_as(service_principal(NAME, org_id)):
            try:
                return (await escrow.list_journal_entries(escrow_account_id, "", 1)).incarnation
            except AnswerWithheld:  # somebody altered the account
                continue
            except DomainError as unknown:
                # It may have been opened after the backup. Else escrow is away, or nobody has looked through its
                # restore yet: it is asked again soon.
                if unknown.kind is not Kind.NOT_FOUND:
                    return ""
    return ""
