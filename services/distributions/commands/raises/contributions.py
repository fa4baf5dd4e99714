"""What the book and the rails say of contributions: sums, so that the order of events does not matter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from realco.distributions.v1 import events_pb2 as events
from realco.escrow.v1 import events_pb2 as escrow_events
from realco.escrow.v1 import journal_pb2
from realco.transactions.v1 import events_pb2 as transactions_events
from realco.transactions.v1 import transactions_pb2 as transactions
from realco.type.v1.money_pb2 import Money

from services.chassis.calls.wire import from_timestamp
from services.chassis.data.transaction import Tx
from services.chassis.process.telemetry import log
from services.chassis.values.invariant import require_present
from services.distributions.commands.mandates import mandate_of_service
from services.distributions.commands.raises.journals import follow_journal
from services.distributions.commands.raises.refunds import pay_due_refunds
from services.distributions.domain.counted_journal import CountedJournal
from services.distributions.domain.investment import Investment, share_shortfalls
from services.distributions.domain.offering import Offering
from services.distributions.domain.sagas import SagaKind
from services.distributions.store.contributions import Contribution, lock_contributions, save_contributions
from services.distributions.store.counted_journals import lock_counted, save_counted
from services.distributions.store.investments import INVESTMENTS, lock_investments_of_parties, save_investments
from services.distributions.store.offerings import OFFERINGS, find_offering_of, lock_offering_of, save_offering
from services.distributions.store.sagas import insert_saga

_ENTRY, _LEG = journal_pb2.JournalEntry, journal_pb2.LedgerEntry
_KIND = journal_pb2.LedgerAccount
OF_INVESTORS = (_KIND.SUBSCRIPTION, _KIND.UNAPPLIED, _KIND.RETURNS_RECEIVABLE)
_OF_REFUNDS = (_ENTRY.REFUND, _ENTRY.RETURN, _ENTRY.REVERSAL)
_TXN = transactions.Transaction
_DISPUTED = (_TXN.NEEDS_RESPONSE, _TXN.UNDER_REVIEW, _TXN.MONEY_AWAITED)
# A bank has it, and may yet take it back: what comes of it is not known.
_ON_ITS_WAY = (_TXN.PROCESSING, _TXN.PENDING_SETTLEMENT, _TXN.SETTLED)


@dataclass(slots=True)
class Booked:
    """What journal entries add to an investment, in minor units."""

    funded: int = 0
    refunded: int = 0
    unapplied: int = 0  # brought while the escrow account was frozen, until somebody applies it by hand
    receivable: int = 0  # of contributions, taken back by the bank when they were not there
    undone: int = 0  # of contributions, taken back: by the bank, or by hand
    by_hand: int = 0  # of what was funded: posted by persons


async def record_entries(tx: Tx, event: escrow_events.JournalEntriesPosted, now: datetime) -> None:
    """Counts what journal entries say about contributions, each once; or has all of the journal counted anew."""
    escrow_account_id = event.escrow_account_id
    counted = await lock_counted(tx, escrow_account_id)
    if counted is None:
        if await find_offering_of(tx, escrow_account_id) is None:
            if sum_contributions(event.journal_entries):
                log.warning("entries_of_no_offering", escrow_account_id=escrow_account_id)
            return
        counted = CountedJournal(escrow_account_id=escrow_account_id, incarnation=event.meta.incarnation)
    entries, after = follow_journal(counted, event.meta.incarnation, event.journal_entries, now)
    if after != counted:
        await save_counted(tx, after)
    if named := sum_contributions(entries):
        await _count_entries(tx, escrow_account_id, entries, {party_id for _, party_id in named}, named.keys(), now)


async def _count_entries(
    tx: Tx,
    escrow_account_id: str,
    entries: Sequence[journal_pb2.JournalEntry],
    party_ids: Collection[str],
    named: Collection[tuple[str, str]],
    now: datetime,
) -> None:
    """
    Args:
        named: Of each investment that an entry names, and whose money it is.
    """
    offering = await lock_offering_of(tx, escrow_account_id)
    offering = require_present(offering, "the journal is counted of an offering that is there")
    held = await lock_investments_of_parties(tx, offering.offering_id, party_ids)
    warn_of_unknown(escrow_account_id, named, held)
    known = await lock_contributions(tx, {entry.transaction_id for entry in entries} - {""})
    booked, after = add_entries(entries, held, known)
    await save_contributions(tx, booked.values())
    changes = list(zip(held, after, strict=True))
    changed = await save_investments(tx, changes, events.InvestmentFundingChanged, now)
    offering = await save_offering(tx, offering, add_up(offering, changes), events.OfferingUpdated(), now)
    await _pay_due_refunds(tx, offering, changed, now)


def warn_of_unknown(escrow_account_id: str, named: Collection[tuple[str, str]], held: Sequence[Investment]) -> None:
    """Entries by hand may name an investment of somebody else, or of another offering."""
    if not set(named) <= {(each.investment_id, each.party_id) for each in held}:
        log.warning("entries_of_no_investment", escrow_account_id=escrow_account_id)


def add_entries(
    entries: Sequence[journal_pb2.JournalEntry], held: Sequence[Investment], known: Mapping[str, Contribution]
) -> tuple[dict[str, Contribution], list[Investment]]:
    """The contributions that the entries are about, and the investments, after them.

    Args:
        held: All investments in the offering of those whom the entries name.
        known: Those of the entries' transactions that were known before.
    """
    booked = book_contributions(entries, known, {each.investment_id for each in held})
    sums, at_risk = sum_contributions(entries, booked.keys()), Counter[str]()
    for each in booked.values():
        before = known.get(each.transaction_id)
        at_risk[each.investment_id] += each.at_risk_minor - (before.at_risk_minor if before else 0)
    after = [
        _add_booked(each, sums.get((each.investment_id, each.party_id), Booked()), at_risk[each.investment_id])
        for each in held
    ]
    return booked, share_shortfalls(after)


def _add_booked(investment: Investment, added: Booked, at_risk_minor: int) -> Investment:
    return replace(
        investment,
        funded_minor=investment.funded_minor + added.funded,
        unapplied_minor=investment.unapplied_minor + added.unapplied,
        at_risk_minor=investment.at_risk_minor + at_risk_minor,
        receivable_minor=investment.receivable_minor + added.receivable,
        refunded_minor=investment.refunded_minor + added.refunded,
        has_entries_by_hand=investment.has_entries_by_hand or added.by_hand > 0,
        # Two persons decided on what they saw: nothing that arrives later takes the place of what went.
        refund_approved_minor=max(0, investment.refund_approved_minor - added.undone),
    )


def add_up(offering: Offering, changes: Sequence[tuple[Investment, Investment]]) -> Offering:
    """The offering with what these changes of its investments add to its sums of them."""
    return replace(
        offering,
        funded_minor=offering.funded_minor + sum(after.funded_minor - before.funded_minor for before, after in changes),
        incoming_minor=offering.incoming_minor
        + sum(after.incoming_minor - before.incoming_minor for before, after in changes),
    )


async def _pay_due_refunds(tx: Tx, offering: Offering, told_of: Sequence[Investment], now: datetime) -> None:
    """Where some is due: of a live one nothing goes back, and it keeps the raise from being refunded."""
    if ending := [each.investment_id for each in told_of if not each.is_live]:
        await pay_due_refunds(tx, offering, now, investment_ids=ending)


def book_contributions(
    entries: Sequence[journal_pb2.JournalEntry], known: Mapping[str, Contribution], investment_ids: Collection[str]
) -> dict[str, Contribution]:
    """The contributions that the entries are about, after them, by transaction. One is known from its DEPOSIT on.

    Args:
        known: Those of the entries' transactions that were known before.
        investment_ids: For which there may be contributions.
    """
    found = dict(known)
    for entry in entries:
        transaction_id, is_new = entry.transaction_id, entry.type == _ENTRY.DEPOSIT
        if is_new and transaction_id and entry.investment_id in investment_ids:
            found.setdefault(transaction_id, Contribution(transaction_id, entry.investment_id))
        if (before := found.get(transaction_id)) is not None and (moved := list(list_moved(entry))):
            found[transaction_id] = replace(
                before,
                booked_minor=before.booked_minor + sum(amount for _, amount in moved),
                # It may be presented again after its return.
                came_back=not is_new and (before.came_back or entry.type == _ENTRY.RETURN),
            )
    return found


def sum_contributions(
    entries: Sequence[journal_pb2.JournalEntry], contributed: Collection[str] = ()
) -> Mapping[tuple[str, str], Booked]:
    """Investment and party -> what entries add, of posted legs on what the party has, or owes. A release gives nothing
    back.

    Args:
        contributed: Transactions known to be contributions: what undoes one of those undoes no refund.
    """
    booked: dict[tuple[str, str], Booked] = {}
    for entry in entries:
        if not entry.investment_id or entry.type == _ENTRY.RELEASE:
            continue
        is_refund = bool(entry.transaction_id) and entry.transaction_id not in contributed
        for account, amount in list_moved(entry):
            found = booked.setdefault((entry.investment_id, account.party_id), Booked())
            if account.kind == _KIND.RETURNS_RECEIVABLE:
                found.receivable -= amount
                continue
            if account.kind == _KIND.UNAPPLIED:
                found.unapplied += amount
                continue
            found.funded += amount
            found.by_hand += amount if entry.by_hand and amount > 0 else 0
            if entry.type == _ENTRY.SET_OFF or (is_refund and entry.type in _OF_REFUNDS):
                found.refunded -= amount
            elif amount < 0 and entry.type != _ENTRY.REFUND:
                found.undone -= amount
    return booked


def list_moved(entry: journal_pb2.JournalEntry) -> Iterator[tuple[journal_pb2.LedgerAccount, int]]:
    """The posted legs on what a party has or owes: what each adds for it, in minor units."""
    for leg in entry.ledger_entries:
        if leg.layer == _LEG.POSTED and leg.ledger_account.kind in OF_INVESTORS:
            minor = leg.amount.amount_minor
            yield leg.ledger_account, minor if leg.direction == _LEG.CREDIT else -minor


def is_contribution(transaction: transactions.Transaction) -> bool:
    """Whether it brings money in for an investment, whatever its type: one added tomorrow counts too."""
    return transaction.direction == Money.Direction.IN and transaction.HasField("investment_id")


def is_of_disputed_contribution(event: transactions_events.TransactionUpdated) -> bool:
    """Whether it tells of a dispute, or of its end, of what paid for an investment."""
    return is_contribution(event.transaction) and event.transaction.HasField("dispute_reference")


async def record_contribution(tx: Tx, transaction: transactions.Transaction, version: int, now: datetime) -> None:
    """A contribution is at risk until it completed, and while it is disputed. The newest report wins."""
    found = await INVESTMENTS.find(tx, transaction.investment_id)
    if found is None:
        log.warning("contribution_to_no_investment", transaction_id=transaction.transaction_id)
        return
    offering = await OFFERINGS.lock_known(tx, found.offering_id)
    investment = await INVESTMENTS.lock_known(tx, found.investment_id)
    transaction_id = transaction.transaction_id
    known = (await lock_contributions(tx, [transaction_id])).get(transaction_id)
    before = known or Contribution(transaction_id, transaction.investment_id)
    if before.reported_version >= version:
        return
    reported = replace(
        before,
        amount_minor=transaction.amount.amount_minor,
        reported_version=version,
        counted=transaction.status == _TXN.COMPLETED and transaction.dispute_status not in _DISPUTED,
        on_its_way=transaction.status in _ON_ITS_WAY,
    )
    await save_contributions(tx, [reported])
    on_its_way_minor = investment.on_its_way_minor + reported.on_its_way_minor - before.on_its_way_minor
    after = replace(
        investment,
        at_risk_minor=investment.at_risk_minor + reported.at_risk_minor - before.at_risk_minor,
        on_its_way_minor=on_its_way_minor,
        clears_at=_find_clearing(investment, transaction) if on_its_way_minor else None,
    )
    if transaction.status == _TXN.RETURNED and not investment.is_live:
        # It may wait to be presented again, of which what transactions answered before says nothing.
        mandate = investment.refund_mandate or mandate_of_service()
        saga_id = await insert_saga(tx, SagaKind.REFUND, offering.offering_id, mandate)
        after = replace(after, cancelling_saga_id=saga_id)
    await save_investments(tx, [(investment, after)], events.InvestmentUpdated, now)
    counted = add_up(offering, [(investment, after)])
    offering = await save_offering(tx, offering, counted, events.OfferingUpdated(), now)
    await _pay_due_refunds(tx, offering, [after], now)


def _find_clearing(investment: Investment, transaction: transactions.Transaction) -> datetime | None:
    """When all that had arrived is past its return risk: the latest of what is known."""
    if transaction.status != _TXN.SETTLED or not transaction.HasField("return_risk_end_time"):
        return investment.clears_at
    clears_at = from_timestamp(transaction.return_risk_end_time)
    return max(clears_at, investment.clears_at or clears_at)
