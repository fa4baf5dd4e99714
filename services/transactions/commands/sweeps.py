"""Keeps an organization's part of a sweep: its lines, once each, how far it is, and for what a person is called.

Nothing is booked by it (ADR 47), and nothing in it tells how much the whole sweep is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from services.chassis.data.transaction import Tx
from services.chassis.values.ids import new_id
from services.transactions.commands.exceptions import note_cause, report
from services.transactions.domain.exceptions import About, ExceptionKind
from services.transactions.domain.sweeps import (
    SWEEP_MOVES,
    Explanation,
    OwnLine,
    ProviderSweep,
    Sweep,
    SweepLine,
    SweepStatus,
    Trouble,
    build_failed,
)
from services.transactions.store import sweeps as store
from services.transactions.store.transactions import list_transactions

_MOVED_ON = "Its lines add up by now to what the provider says that it moved."


async def keep_part(
    tx: Tx,
    provider: str,
    theirs: ProviderSweep,
    lines: Sequence[OwnLine],
    explanation: Explanation,
    troubles: Sequence[Trouble],
    now: datetime,
) -> None:
    """Brings the caller's organization's part to what the provider says. The same again changes nothing.

    Args:
        lines: Those that are the organization's and were read now; those of before stay.
        troubles: Nobody was called for them yet. They are told also where the organization has no part.

    Raises: NotSealed.
    """
    before = await store.lock_part(tx, provider, theirs.sweep_id)
    is_new = before is None and bool(lines)
    if is_new:
        before = _begin(provider, theirs, now)
        await store.SWEEPS.insert(tx, before)
    if before is None:
        await _tell(tx, provider, theirs, None, troubles, now)
        return
    added_minor, contradiction = await _add_lines(tx, before, lines, now)
    adds_up = explanation is Explanation.EXPLAINED and contradiction is None
    moves = theirs.status in SWEEP_MOVES[before.status]
    part = replace(
        before,
        amount_minor=before.amount_minor + added_minor,
        status=theirs.status if moves else before.status,
        arrives_at=theirs.arrives_at,
        # What was contradicted once stays so where its lines are not read again.
        is_explained=adds_up if lines else before.is_explained,
        failure_code=(theirs.failure_code or None) if moves else before.failure_code,
    )
    if part != before:
        part = await store.SWEEPS.save(tx, before, part, now)
    if part.is_explained and not is_new and not before.is_explained:
        about = _describe(provider, theirs, part)
        await note_cause(tx, ExceptionKind.SWEEP_NOT_EXPLAINED, about, _MOVED_ON, now)
    # That it failed is told with the part that says so, also where the part was known later than that.
    found = [each for each in troubles if each.kind is not ExceptionKind.SWEEP_FAILED]
    if part.status is SweepStatus.FAILED and (is_new or before.status is not SweepStatus.FAILED):
        found.append(build_failed(theirs))
    if contradiction is not None:
        found.append(contradiction)
    await _tell(tx, provider, theirs, part, found, now)


async def _tell(
    tx: Tx, provider: str, theirs: ProviderSweep, part: Sweep | None, troubles: Sequence[Trouble], now: datetime
) -> None:
    for trouble in troubles:
        await report(tx, trouble.kind, _describe(provider, theirs, part), trouble.cause, now)


def _describe(provider: str, theirs: ProviderSweep, part: Sweep | None) -> About:
    """How much the whole is stands nowhere."""
    amount = None if part is None else part.amount
    return About(provider=provider, provider_payment_id=theirs.sweep_id, amount=amount)


def _begin(provider: str, theirs: ProviderSweep, now: datetime) -> Sweep:
    return Sweep(
        sweep_id=new_id("swp"),
        provider=provider,
        provider_sweep_id=theirs.sweep_id,
        status=theirs.status,
        currency=theirs.amount.currency,
        arrives_at=theirs.arrives_at,
        failure_code=theirs.failure_code or None,
        made_at=theirs.made_at,
        created_at=now,
        updated_at=now,
    )


async def _add_lines(tx: Tx, part: Sweep, lines: Sequence[OwnLine], now: datetime) -> tuple[int, Trouble | None]:
    """(How much those are that were not there, in minor units; what contradicts those that were.)"""
    kept = await store.list_lines(tx, part.sweep_id)
    news = [each for each in lines if each.line.movement_id not in kept]
    known = [(each.line, kept[each.line.movement_id]) for each in lines if each.line.movement_id in kept]
    wrong = {line.movement_id for line, was in known if not was.is_of(line)}
    about = await list_transactions(tx, {each.transaction_id for each in news if each.transaction_id is not None})
    added_minor = 0
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
        if await store.LINES.insert_if_new(tx, new):
            added_minor += line.net_minor
        else:
            wrong.add(line.movement_id)
    if not wrong:
        return added_minor, None
    cause = f"The provider says of {', '.join(sorted(wrong))} otherwise than before, or has it in another sweep, too."
    return added_minor, Trouble(ExceptionKind.SWEEP_NOT_EXPLAINED, cause)
