"""Keeps an organization's part of a sweep: its lines, once each, how far it is, and for what a person is called.

Nothing is booked by it (ADR 47), and nothing in it tells how much the whole sweep is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from services.chassis.calls.auth import current_principal
from services.chassis.data.transaction import Tx
from services.chassis.values.ids import new_id
from services.transactions.domain.exceptions import About, ExceptionKind
from services.transactions.domain.sweep_readings import Reading
from services.transactions.domain.sweeps import SWEEP_MOVES, OwnLine, Sweep, SweepLine, SweepStatus
from services.transactions.store import sweeps as store
from services.transactions.store.exception_reports import note_cause, report
from services.transactions.store.transactions import list_transactions


async def keep_part(tx: Tx, reading: Reading, lines: Sequence[OwnLine], now: datetime) -> None:
    """Brings the caller's organization's part to what the provider says. The same again changes nothing.

    What nobody was called for yet is told, also where the organization has no part; with its first line in the sweep it
    is told of all that is wrong with it.

    Args:
        lines: Those that are the organization's, were read now and are kept in no other sweep; those of before stay.

    Raises: NotSealed.
    """
    before = await store.lock_part(tx, reading.provider, reading.theirs.sweep_id)
    own_destination_before, is_new = None, before is None and bool(lines)
    if is_new:
        own_destination_before = await store.find_own_destination_before(tx, reading.feed, reading.theirs)
        before = _begin(reading, now)
        await store.SWEEPS.insert(tx, before)
    part = before
    if before is not None:
        part = await _bring_up_to_date(tx, reading, before, lines, now)
    about = _describe(reading, part)
    for kind, cause in reading.list_ended():
        note_cause(tx, kind, about, cause, now)
    for trouble in reading.list_troubles(current_principal().org_id, own_destination_before):
        is_told = trouble.is_new
        if trouble.kind is ExceptionKind.SWEEP_FAILED and before is not None and not is_new:
            # With the part that says so, also where the part was known later than that.
            is_told = before.status is not SweepStatus.FAILED
        if is_told or is_new:
            report(tx, trouble.kind, about, trouble.cause, now)
        elif trouble.kind is ExceptionKind.SWEEP_NOT_EXPLAINED and reading.lines is not None:
            note_cause(tx, trouble.kind, about, trouble.cause, now)


async def _bring_up_to_date(tx: Tx, reading: Reading, before: Sweep, lines: Sequence[OwnLine], now: datetime) -> Sweep:
    theirs, moves = reading.theirs, reading.theirs.status in SWEEP_MOVES[before.status]
    part = replace(
        before,
        amount_minor=before.amount_minor + await _add_lines(tx, before, lines, now),
        status=theirs.status if moves else before.status,
        arrives_at=theirs.arrives_at,
        is_explained=reading.is_explained,
        failure_code=(theirs.failure_code or None) if moves else before.failure_code,
    )
    return part if part == before else await store.SWEEPS.save(tx, before, part, now)


def _describe(reading: Reading, part: Sweep | None) -> About:
    """How much the whole is stands nowhere."""
    amount = None if part is None else part.amount
    return About(provider=reading.provider, provider_payment_id=reading.theirs.sweep_id, amount=amount)


def _begin(reading: Reading, now: datetime) -> Sweep:
    theirs = reading.theirs
    return Sweep(
        sweep_id=new_id("swp"),
        feed=reading.feed,
        provider=reading.provider,
        provider_sweep_id=theirs.sweep_id,
        status=theirs.status,
        currency=theirs.amount.currency,
        arrives_at=theirs.arrives_at,
        destination=theirs.destination,
        failure_code=theirs.failure_code or None,
        made_at=theirs.made_at,
        created_at=now,
        updated_at=now,
    )


async def _add_lines(tx: Tx, part: Sweep, lines: Sequence[OwnLine], now: datetime) -> int:
    """How much those are that were not there, in minor units."""
    kept = await store.list_lines(tx, part.sweep_id)
    news = [each for each in lines if each.line.movement_id not in kept]
    about = await list_transactions(tx, {each.transaction_id for each in news if each.transaction_id is not None})
    for line, transaction_id in news:
        escrow_account_id = None if transaction_id is None else about[transaction_id].escrow_account_id
        new = SweepLine(
            sweep_line_id=new_id("swl"),
            sweep_id=part.sweep_id,
            provider=part.provider,
            provider_movement_id=line.movement_id,
            kind=line.kind,
            transaction_id=transaction_id,
            escrow_account_id=escrow_account_id,
            gross_minor=line.gross_minor,
            fee_minor=line.fee_minor,
            net_minor=line.net_minor,
            currency=part.currency,
            created_at=now,
        )
        # Where another reading has put it into another sweep meanwhile, all of this is tried again.
        await store.LINES.insert(tx, new)
    return sum(each.line.net_minor for each in news)
