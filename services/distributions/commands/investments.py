"""Investments: committed, withdrawn, and what the book and the rails say of their money."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

import sqlalchemy as sa
from realco.distributions.v1 import events_pb2 as events
from realco.distributions.v1 import offerings_pb2 as pb
from realco.escrow.v1 import escrow_pb2 as escrow
from realco.transactions.v1 import transactions_pb2 as transactions
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import Principal, current_principal
from services.chassis.data.outbox import enqueue
from services.chassis.process.telemetry import log
from services.chassis.values.errors import InvalidField
from services.chassis.values.ids import new_id
from services.chassis.values.invariant import invariant
from services.distributions import messages
from services.distributions.commands import refunds
from services.distributions.domain.closing import CANCELLATION_STOPS_BEFORE_DEADLINE
from services.distributions.domain.states import IllegalState, OfferingStatus
from services.distributions.domain.waterfall import SPONSOR
from services.distributions.errors import (
    CancellationWindowOver,
    CurrencyMismatch,
    InvestmentNotFound,
    OfferingFull,
    OfferingNotFound,
    OfferingNotOpen,
)
from services.distributions.store import investments as investments_store
from services.distributions.store import rows
from services.distributions.tables import contributions, investments, offerings

_ENTRY, _LEG = escrow.JournalEntry, escrow.LedgerEntry
_UNDOING = (_ENTRY.RETURN, _ENTRY.REVERSAL)


async def create(tx: AsyncConnection, request: pb.CreateInvestmentRequest, now: datetime) -> pb.Investment:
    party_id = current_principal().choose_party(request.party_id)
    if party_id == SPONSOR:
        raise InvalidField("Whose investment is it?", fields={"party_id": "must name an investor"})
    offering = await rows.find(tx, offerings, request.offering_id, lock=True)
    if offering is None:
        raise OfferingNotFound("No such offering.")
    if offering.status != OfferingStatus.OPEN.value or not offering.open_at <= now < offering.deadline_at:
        raise OfferingNotOpen(
            "The offering takes no investments now.",
            status=offering.status,
            deadline_time=offering.deadline_at.isoformat(),
        )
    if request.amount.currency_code != offering.currency:
        fields = {"amount.currency_code": "is not the offering's currency"}
        raise CurrencyMismatch("The offering is in another currency.", fields=fields, expected=offering.currency)
    amount_minor = request.amount.amount_minor
    remaining_minor = offering.maximum_minor - offering.committed_minor
    if amount_minor > remaining_minor:
        raise OfferingFull("The investment would pass the offering's maximum.", remaining_minor=remaining_minor)
    await rows.save(
        tx, offerings, offering.offering_id, committed_minor=offering.committed_minor + amount_minor, updated_at=now
    )
    row = await rows.insert(
        tx,
        investments,
        investment_id=new_id("inv"),
        offering_id=offering.offering_id,
        party_id=party_id,
        currency=offering.currency,
        amount_minor=amount_minor,
        status="PENDING",
        created_at=now,
        updated_at=now,
    )
    invariant(row is not None, "a new investment has a new id")
    assert row is not None
    message = messages.investment(row)
    await enqueue(tx, events.InvestmentCommitted(investment=message), now=now)
    return message


async def cancel(tx: AsyncConnection, request: pb.CancelInvestmentRequest, now: datetime) -> pb.Investment:
    """Withdraws a commitment; what was contributed goes back first.

    Where a refund failed it asks for that refund again: of a withdrawn investment, and of money that came after the
    closing to one that stays active. Nothing else would ever send it.
    """
    seen = visible(await rows.find(tx, investments, request.investment_id), current_principal())
    offering = await rows.find(tx, offerings, seen.offering_id, lock=True)
    row = await rows.find(tx, investments, request.investment_id, lock=True)
    assert offering is not None
    assert row is not None
    if row.refund_requested_by is None and not await refunds.failed(tx, row):
        _check_window(offering, row, now)
        await rows.save(
            tx, investments, row.investment_id, refund_requested_by=current_principal().person, updated_at=now
        )
    await refunds.advance(tx, offering, now, investment_ids=[row.investment_id], again=True)
    after = await rows.find(tx, investments, row.investment_id)
    return messages.investment(after or row)


def visible(row: rows.Row | None, principal: Principal) -> rows.Row:
    """The investment, unless it is not there or another investor's: both look the same. Raises: InvestmentNotFound."""
    if row is None or not principal.may_reach(row.party_id):
        raise InvestmentNotFound("No such investment.")
    return row


def _check_window(offering: rows.Row, row: rows.Row, now: datetime) -> None:
    if row.status not in ("PENDING", "RECONFIRM_REQUIRED") or row.released_minor:
        raise IllegalState(row.status, "CANCELLED")
    cancel_until = offering.deadline_at - CANCELLATION_STOPS_BEFORE_DEADLINE
    # Source: 17 CFR 227.304(a). After a material change the investor may still decide.
    if now > cancel_until and row.status == "PENDING":
        raise CancellationWindowOver("Less than 48 hours are left.", cancel_until=cancel_until.isoformat())


async def book(tx: AsyncConnection, escrow_account_id: str, entries: list[escrow.JournalEntry], now: datetime) -> None:
    """Counts what journal entries say about contributions: sums, so their order does not matter."""
    said = contributions_in(entries, await _contributed(tx, entries))
    if not said:
        return
    find = sa.select(offerings).where(offerings.c.escrow_account_id == escrow_account_id)
    offering = (await tx.execute(find.with_for_update(key_share=True))).one_or_none()
    if offering is None:
        log.warning("entries_of_no_offering", escrow_account_id=escrow_account_id)
        return
    investor_of = await investments_store.investors_of(tx, offering.offering_id, {key for key, _ in said})
    booked = {key: found for (key, party), found in said.items() if investor_of.get(key) == party}
    if len(booked) < len(said):
        # Entries by hand may name an investment of somebody else, or of another offering.
        log.warning("entries_of_no_investment", escrow_account_id=escrow_account_id)
    changed = await investments_store.add_booked(tx, offering.offering_id, booked, now)
    funded_minor = sum(booked[row.investment_id].funded for row in changed)
    offering = await rows.save(
        tx, offerings, offering.offering_id, funded_minor=offering.funded_minor + funded_minor, updated_at=now
    )
    for row in changed:
        await enqueue(tx, events.InvestmentFunded(investment=messages.investment(row)), now=now)
    await refunds.advance(tx, offering, now, investment_ids=[row.investment_id for row in changed])


async def _contributed(tx: AsyncConnection, entries: list[escrow.JournalEntry]) -> Collection[str]:
    """The transactions of these entries that are known to be contributions."""
    named = {entry.transaction_id for entry in entries if entry.type in _UNDOING and entry.transaction_id}
    if not named:
        return ()
    return set(
        await tx.scalars(sa.select(contributions.c.transaction_id).where(contributions.c.transaction_id.in_(named)))
    )


def contributions_in(
    entries: list[escrow.JournalEntry], contributed: Collection[str] = ()
) -> Mapping[tuple[str, str], investments_store.Booked]:
    """Investment and party -> what entries add, of the posted legs on subscriptions. A release gives nothing back.

    `contributed` are transactions known to be contributions: the rails undo those by a debit. A credit that does so
    reverses, by hand, a return that was none.
    """
    booked: dict[tuple[str, str], investments_store.Booked] = {}
    for entry in entries:
        if not entry.investment_id or entry.type == _ENTRY.RELEASE:
            continue
        for leg in entry.ledger_entries:
            account = leg.ledger_account
            if leg.layer != _LEG.POSTED or account.kind != escrow.LedgerAccount.SUBSCRIPTION:
                continue
            credit = leg.direction == _LEG.CREDIT
            amount = leg.amount.amount_minor if credit else -leg.amount.amount_minor
            found = booked.setdefault((entry.investment_id, account.party_id), investments_store.Booked())
            found.funded += amount
            undone = credit and entry.type in _UNDOING
            # By hand: no rail moves it, neither to its end nor back.
            if not entry.transaction_id or (undone and entry.transaction_id in contributed):
                found.completed += amount
            # A refund, or the undoing of one; else a contribution, or the undoing of one.
            elif entry.type == _ENTRY.REFUND or undone:
                found.refunded -= amount
    return booked


async def count_contribution(
    tx: AsyncConnection, transaction: transactions.Transaction, completed: bool, now: datetime
) -> None:
    """Counts a contribution as cleared once it completed, and not after it came back. The newest report wins."""
    found = await rows.find(tx, investments, transaction.investment_id)
    if found is None:
        log.warning("contribution_to_no_investment", transaction_id=transaction.transaction_id)
        return
    offering = await rows.find(tx, offerings, found.offering_id, lock=True)
    assert offering is not None
    known = await rows.find(tx, contributions, transaction.transaction_id, lock=True)
    if known is not None and known.version >= transaction.version:
        return
    amount_minor = transaction.amount.amount_minor
    facts = {"amount_minor": amount_minor, "version": transaction.version, "counted": completed}
    if known is None:
        await rows.insert(
            tx,
            contributions,
            transaction_id=transaction.transaction_id,
            investment_id=transaction.investment_id,
            **facts,
        )
    else:
        await rows.save(tx, contributions, transaction.transaction_id, **facts)
    before_minor = known.amount_minor if known is not None and known.counted else 0
    change = (amount_minor if completed else 0) - before_minor
    await rows.save(
        tx,
        investments,
        transaction.investment_id,
        completed_minor=investments.c.completed_minor + change,
        updated_at=now,
    )
    await refunds.advance(tx, offering, now, investment_ids=[transaction.investment_id])
