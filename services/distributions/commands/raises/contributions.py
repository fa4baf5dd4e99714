"""What the book and the rails say of contributions: sums, so that the order of events does not matter."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from realco.distributions.v1 import events_pb2 as events
from realco.escrow.v1 import journal_pb2
from realco.transactions.v1 import transactions_pb2 as transactions
from realco.type.v1.money_pb2 import Money

from services.chassis.calls.auth import current_principal
from services.chassis.calls.wire import from_timestamp
from services.chassis.data.transaction import Tx
from services.chassis.process.telemetry import log
from services.distributions.commands.raises.refunds import pay_due_refunds
from services.distributions.domain.investment import Investment, share_shortfalls
from services.distributions.domain.offering import Offering
from services.distributions.domain.sagas import SagaKind
from services.distributions.store.contributions import (
    Contribution,
    list_contribution_ids,
    lock_contribution,
    save_contribution,
)
from services.distributions.store.investments import INVESTMENTS, lock_investments_of_parties, save_investments
from services.distributions.store.offerings import OFFERINGS, lock_offering_of, save_offering
from services.distributions.store.sagas import insert_saga

_ENTRY, _LEG = journal_pb2.JournalEntry, journal_pb2.LedgerEntry
_KIND = journal_pb2.LedgerAccount
_OF_INVESTORS = (_KIND.SUBSCRIPTION, _KIND.UNAPPLIED, _KIND.RETURNS_RECEIVABLE)
_UNDOING = (_ENTRY.RETURN, _ENTRY.REVERSAL)
_TXN = transactions.Transaction
# A bank has it, and may yet take it back: what comes of it is not known.
_ON_ITS_WAY = (_TXN.PROCESSING, _TXN.PENDING_SETTLEMENT, _TXN.SETTLED)


@dataclass(slots=True)
class Booked:
    """What journal entries add to an investment, in minor units."""

    funded: int = 0
    refunded: int = 0
    unapplied: int = 0  # brought while the escrow account was frozen, until somebody applies it by hand
    undone: int = 0  # of contributions, taken back: by the bank, or by hand
    completed: int = 0  # past its return risk though no transaction says so: booked by hand, or owed since
    owed: int = 0  # of contributions, taken back by the bank when they were not there


async def record_entries(
    tx: Tx, escrow_account_id: str, entries: Sequence[journal_pb2.JournalEntry], now: datetime
) -> None:
    """Counts what journal entries say about contributions."""
    reversed_by_hand = {entry.transaction_id for entry in entries if entry.type == _ENTRY.REVERSAL}
    booked = sum_contributions(entries, await list_contribution_ids(tx, reversed_by_hand - {""}))
    if not booked:
        return
    offering = await lock_offering_of(tx, escrow_account_id)
    if offering is None:
        log.warning("entries_of_no_offering", escrow_account_id=escrow_account_id)
        return
    await _count_booked(tx, offering, booked, now)


async def _count_booked(tx: Tx, offering: Offering, booked: Mapping[tuple[str, str], Booked], now: datetime) -> None:
    held = await lock_investments_of_parties(tx, offering.offering_id, {party_id for _, party_id in booked})
    counted = [_add_booked(each, booked.get((each.investment_id, each.party_id), Booked())) for each in held]
    if not booked.keys() <= {(each.investment_id, each.party_id) for each in held}:
        # Entries by hand may name an investment of somebody else, or of another offering.
        log.warning("entries_of_no_investment", escrow_account_id=offering.escrow_account_id)
    changes = list(zip(held, share_shortfalls(counted), strict=True))
    changed = await save_investments(tx, changes, events.InvestmentFundingChanged, now)
    offering = await save_offering(tx, offering, add_up(offering, changes), events.OfferingUpdated(), now)
    await _pay_due_refunds(tx, offering, changed, now)


def _add_booked(investment: Investment, added: Booked) -> Investment:
    return replace(
        investment,
        funded_minor=investment.funded_minor + added.funded,
        unapplied_minor=investment.unapplied_minor + added.unapplied,
        refunded_minor=investment.refunded_minor + added.refunded,
        completed_minor=investment.completed_minor + added.completed,
        owed_minor=investment.owed_minor + added.owed,
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


def sum_contributions(
    entries: Sequence[journal_pb2.JournalEntry], contributed: Collection[str] = ()
) -> Mapping[tuple[str, str], Booked]:
    """Investment and party -> what entries add, of posted legs on what the party has, or owes. A release gives nothing
    back.

    `contributed` are transactions known to be contributions: no rail reverses what is posted of one, so a person did.
    """
    booked: dict[tuple[str, str], Booked] = {}
    for entry in entries:
        if not entry.investment_id or entry.type == _ENTRY.RELEASE:
            continue
        is_reversed = entry.type == _ENTRY.REVERSAL and entry.transaction_id in contributed
        # By hand: no rail moves it, neither to its end nor back.
        by_hand = not entry.transaction_id or is_reversed
        for leg in entry.ledger_entries:
            account = leg.ledger_account
            if leg.layer != _LEG.POSTED or account.kind not in _OF_INVESTORS:
                continue
            credit = leg.direction == _LEG.CREDIT
            amount = leg.amount.amount_minor if credit else -leg.amount.amount_minor
            found = booked.setdefault((entry.investment_id, account.party_id), Booked())
            if account.kind == _KIND.RETURNS_RECEIVABLE:
                found.owed -= amount
                # Its transaction says that it is completed no longer. But no bank takes it back once more.
                found.completed -= 0 if by_hand else amount
                continue
            if account.kind == _KIND.UNAPPLIED:
                found.unapplied += amount
                # Whoever applies it by hand counts it, so it must not count once more when its transaction completes.
                found.completed -= 0 if by_hand else amount
                continue
            found.funded += amount
            if amount < 0 and entry.type != _ENTRY.REFUND:
                found.undone -= amount
            if by_hand:
                found.completed += amount
            # A refund, or the undoing of one; else a contribution, or the undoing of one.
            elif entry.type == _ENTRY.REFUND or (credit and entry.type in _UNDOING):
                found.refunded -= amount
    return booked


def is_contribution(transaction: transactions.Transaction) -> bool:
    """Whether it brings money in for an investment, whatever its type: one added tomorrow counts too."""
    return transaction.direction == Money.Direction.IN and transaction.HasField("investment_id")


async def record_contribution(tx: Tx, transaction: transactions.Transaction, version: int, now: datetime) -> None:
    """Counts a contribution as cleared once it completed, and not after it came back. The newest report wins."""
    found = await INVESTMENTS.find(tx, transaction.investment_id)
    if found is None:
        log.warning("contribution_to_no_investment", transaction_id=transaction.transaction_id)
        return
    offering = await OFFERINGS.lock_known(tx, found.offering_id)
    investment = await INVESTMENTS.lock_known(tx, found.investment_id)
    known = await lock_contribution(tx, transaction.transaction_id)
    if known is not None and known.version >= version:
        return
    reported = Contribution(
        transaction_id=transaction.transaction_id,
        investment_id=transaction.investment_id,
        amount_minor=transaction.amount.amount_minor,
        version=version,
        counted=transaction.status == _TXN.COMPLETED,
        on_its_way=transaction.status in _ON_ITS_WAY,
    )
    await save_contribution(tx, reported)
    before = known or replace(reported, counted=False, on_its_way=False)
    on_its_way_minor = investment.on_its_way_minor + reported.on_its_way_minor - before.on_its_way_minor
    after = replace(
        investment,
        completed_minor=investment.completed_minor + reported.counted_minor - before.counted_minor,
        on_its_way_minor=on_its_way_minor,
        clears_at=_find_clearing(investment, transaction) if on_its_way_minor else None,
    )
    if transaction.status == _TXN.RETURNED and not investment.is_live:
        # It may wait to be presented again, of which what transactions answered before says nothing.
        asked_by = investment.refund_requested_by or current_principal().subject
        saga_id = await insert_saga(tx, SagaKind.REFUND, offering.offering_id, asked_by, investment.refund_session)
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
