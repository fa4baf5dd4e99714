"""From requests to the journal entries they ask for. What is asked is checked here; whether it may be, in the book."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from realco.escrow.v1 import escrow_pb2 as pb

from services.chassis.calls.auth import current_principal
from services.chassis.calls.wire import from_timestamp
from services.chassis.data.database import Database
from services.chassis.data.once import fingerprint_of
from services.chassis.values.errors import InvalidField
from services.chassis.values.ids import new_id
from services.escrow import store
from services.escrow.domain import chart
from services.escrow.domain.chart import DISTRIBUTABLE, IN_TRANSIT, ISSUER_PROCEEDS, Direction
from services.escrow.domain.journal import (
    AMOUNT_MINOR_MAX,
    LEGS_TOGETHER_MAX,
    Kind,
    Layer,
    Leg,
    NewEntry,
    Once,
    credit,
    debit,
    mirror,
    once,
    request_key,
)
from services.escrow.domain.refusals import JournalEntryNotFound

# Clocks of callers may be ahead of ours by so much.
_CLOCK_SKEW = timedelta(seconds=5)

_SOURCES = {
    pb.SubmitPayoutsRequest.PAYABLE: (chart.PAYABLE, Kind.DISTRIBUTION, "Distribution payout submitted"),
    pb.SubmitPayoutsRequest.ISSUER_PROCEEDS: (ISSUER_PROCEEDS, Kind.WITHDRAWAL, "Payout of proceeds submitted"),
    pb.SubmitPayoutsRequest.SUBSCRIPTION: (chart.SUBSCRIPTION, Kind.REFUND, "Refund submitted"),
}


async def asked(
    database: Database,
    escrow_account_id: str,
    idempotency_key: str,
    new: pb.NewJournalEntry,
    now: datetime,
    path: str = "journal_entry",
) -> NewEntry:
    """What PostJournalEntry, or one item of its batch, asks for: the two share their keys.

    Raises:
        InvalidField: the legs cannot make an entry, or the time is still to come; `path` leads to the entry.
        JournalEntryNotFound: there is no entry to reverse.
    """
    principal = current_principal()
    effective_at = (
        from_timestamp(new.effective_time, f"{path}.effective_time") if new.HasField("effective_time") else None
    )
    if effective_at is not None and effective_at > now + _CLOCK_SKEW:
        raise InvalidField("Only what has happened is booked.", fields={f"{path}.effective_time": "is in the future"})
    original = None
    if new.reverses_journal_entry_id:
        if new.legs:
            raise InvalidField("A reversal mirrors its original.", fields={f"{path}.legs": "must be empty"})
        if new.investment_id:
            raise InvalidField("A reversal mirrors its original.", fields={f"{path}.investment_id": "must be empty"})
        # Entries are never edited, so what is read here is still true when its mirror is booked.
        async with database.begin() as tx:
            original = await store.entry(tx, principal.org_id, escrow_account_id, new.reverses_journal_entry_id)
        if original is None:
            raise JournalEntryNotFound("There is no such journal entry in this escrow account.")
        legs: Sequence[Leg] = mirror(original.legs)
    else:
        legs = _legs(new.legs, path)
    body = escrow_account_id.encode() + b"\0" + new.SerializeToString(deterministic=True)
    return NewEntry(
        org_id=principal.org_id,
        escrow_account_id=escrow_account_id,
        journal_entry_id=new_id("je"),
        once=once("rpc", "post", principal.subject, idempotency_key, body=body),
        idempotency_key=idempotency_key,
        kind=Kind(pb.LedgerEntry.Type.Name(new.type)),
        description=new.description,
        legs=legs,
        actor=principal.person,
        effective_at=effective_at,
        # A reversal belongs to what its original belongs to.
        transaction_id=original.transaction_id if original else None,
        investment_id=original.investment_id if original else new.investment_id or None,
        distribution_id=original.distribution_id if original else None,
        reverses_journal_entry_id=new.reverses_journal_entry_id or None,
    )


async def asked_together(
    database: Database, request: pb.BatchPostJournalEntriesRequest, now: datetime
) -> list[NewEntry | JournalEntryNotFound]:
    """What each item of a batch asks for; one that reverses what is not there is refused by itself.

    Raises:
        InvalidField: an item is malformed, or they have too many legs together, mirrored ones included.
    """
    found: list[NewEntry | JournalEntryNotFound] = []
    legs = 0
    for number, item in enumerate(request.items):
        path = f"items[{number}].journal_entry"
        try:
            entry = await asked(
                database, request.escrow_account_id, item.idempotency_key, item.journal_entry, now, path
            )
        except JournalEntryNotFound as refusal:
            found.append(refusal)
            continue
        found.append(entry)
        legs += len(entry.legs)
        if legs > LEGS_TOGETHER_MAX:
            raise InvalidField(
                "Send it as several batches.", fields={"items": f"have more than {LEGS_TOGETHER_MAX} legs together"}
            )
    return found


def _legs(asked_for: Sequence[pb.Leg], path: str) -> tuple[Leg, ...]:
    if len(asked_for) < 2:
        raise InvalidField("A journal entry has two sides.", fields={f"{path}.legs": "must be at least two"})
    if sum(leg.amount_minor for leg in asked_for) > AMOUNT_MINOR_MAX:
        raise InvalidField("The amounts are too large.", fields={f"{path}.legs": "are too large together"})
    return tuple(
        Leg(
            leg.ledger_account,
            Direction.DEBIT if leg.direction == pb.LedgerEntry.DEBIT else Direction.CREDIT,
            leg.amount_minor,
            Layer.PENDING if leg.layer == pb.LedgerEntry.PENDING else Layer.POSTED,
        )
        for leg in asked_for
    )


def release_of_subscriptions(request: pb.ReleaseSubscriptionsRequest) -> NewEntry:
    """Every named subscription to `issuer_proceeds`, all or none."""
    total = _total(request.subscriptions, "subscriptions")
    legs = [
        debit(chart.of_party(chart.SUBSCRIPTION, part.party_id), part.amount_minor) for part in request.subscriptions
    ]
    principal = current_principal()
    return NewEntry(
        org_id=principal.org_id,
        escrow_account_id=request.escrow_account_id,
        journal_entry_id=new_id("je"),
        once=Once(request_key("rpc", "release", principal.subject, request.idempotency_key), fingerprint_of(request)),
        idempotency_key=request.idempotency_key,
        kind=Kind.RELEASE,
        description=f"Closing of {request.offering_id}",
        legs=(*legs, credit(ISSUER_PROCEEDS, total)),
        actor=principal.person,
    )


def declaration(request: pb.DeclareDistributionRequest) -> NewEntry:
    """`distributable` to each payee's `payable`, to the cent."""
    total = _total(request.payables, "payables")
    legs = [credit(chart.of_party(chart.PAYABLE, part.party_id), part.amount_minor) for part in request.payables]
    principal = current_principal()
    return NewEntry(
        org_id=principal.org_id,
        escrow_account_id=request.escrow_account_id,
        journal_entry_id=new_id("je"),
        once=Once(request_key("rpc", "declare", principal.subject, request.idempotency_key), fingerprint_of(request)),
        idempotency_key=request.idempotency_key,
        kind=Kind.DISTRIBUTION,
        description=f"Declaration of {request.distribution_id}",
        legs=(debit(DISTRIBUTABLE, total), *legs),
        actor=principal.person,
        distribution_id=request.distribution_id,
    )


def payout(item: pb.SubmitPayoutsRequest.Item) -> NewEntry:
    """What is about to be paid leaves the ledger account that owes it, before any provider is asked."""
    source, kind, description = _SOURCES[item.source]
    account = source if source == ISSUER_PROCEEDS else chart.of_party(source, item.party_id)
    principal = current_principal()
    return NewEntry(
        org_id=principal.org_id,
        escrow_account_id=item.escrow_account_id,
        journal_entry_id=new_id("je"),
        once=Once(request_key("rpc", "payout", principal.subject, item.idempotency_key), fingerprint_of(item)),
        idempotency_key=item.idempotency_key,
        kind=kind,
        description=description,
        legs=(debit(account, item.amount.amount_minor), credit(IN_TRANSIT, item.amount.amount_minor)),
        actor=principal.person,
        currency=item.amount.currency_code,
        transaction_id=item.transaction_id,
        investment_id=item.investment_id or None,
        distribution_id=item.distribution_id or None,
    )


def _total(parts: Iterable[pb.PartyAmount], field: str) -> int:
    seen: set[str] = set()
    total = 0
    for part in parts:
        if part.party_id in seen:
            raise InvalidField("Each party comes once.", fields={field: "name a party twice"})
        seen.add(part.party_id)
        total += part.amount_minor
    if total > AMOUNT_MINOR_MAX // 2:
        raise InvalidField("The amounts are too large.", fields={field: "are too large together"})
    return total
