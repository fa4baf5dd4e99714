"""Between the book's rows and the messages of realco/escrow/v1."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar

from asyncpg import Record
from google.protobuf.timestamp_pb2 import Timestamp
from realco.escrow.v1 import escrow_pb2 as pb
from realco.type.v1 import money_pb2

from services.chassis.calls.wire import to_timestamp
from services.chassis.values.errors import DomainError
from services.escrow.domain.chart import Direction
from services.escrow.domain.journal import Kind, Layer, NewEntry
from services.escrow.store import Verdict

Result = TypeVar("Result")
# What became of an entry: booked, now or before, or refused.
Outcome = pb.JournalEntry | DomainError


def money(amount_minor: int, currency: str) -> money_pb2.Money:
    return money_pb2.Money(currency_code=currency, amount_minor=amount_minor)


def escrow_account(row: Any) -> pb.EscrowAccount:
    return pb.EscrowAccount(
        escrow_account_id=row.escrow_account_id,
        display_name=row.display_name,
        currency_code=row.currency,
        status=row.status,
        custodian_name=row.custodian_name,
        custodian_account_last4=row.custodian_account_last4,
        freeze_reason=row.freeze_reason,
        create_time=to_timestamp(row.created_at),
        update_time=to_timestamp(row.updated_at),
    )


# By member and by its value, since a look-up by name in a descriptor costs more than all else in a message.
_NUMBER: dict[Any, Any] = {
    **{key: pb.LedgerEntry.Type.Value(kind.value) for kind in Kind for key in (kind, kind.value)},
    **{key: pb.LedgerEntry.Direction.Value(side.value) for side in Direction for key in (side, side.value)},
    **{key: pb.LedgerEntry.Layer.Value(layer.value) for layer in Layer for key in (layer, layer.value)},
}


@lru_cache(maxsize=1024)
def _moment(moment: datetime) -> Timestamp:
    """Entries of a batch, and legs of an entry, share their times. Whoever puts it in a message puts a copy there."""
    return to_timestamp(moment)


def journal_entry(entry: NewEntry, verdict: Verdict) -> pb.JournalEntry:
    """An entry that was just booked. Every posting pays for this, so it is built in place, without parts in between."""
    created = _moment(verdict.booked_at)
    effective = created if entry.effective_at is None else _moment(min(entry.effective_at, verdict.booked_at))
    kind, transaction_id, currency = _NUMBER[entry.kind], entry.transaction_id or "", verdict.subject
    message = pb.JournalEntry(
        journal_entry_id=entry.journal_entry_id,
        escrow_account_id=entry.escrow_account_id,
        type=kind,
        description=entry.description,
        effective_time=effective,
        create_time=created,
        transaction_id=transaction_id,
        investment_id=entry.investment_id or "",
        distribution_id=entry.distribution_id or "",
        reverses_journal_entry_id=entry.reverses_journal_entry_id or "",
        actor=entry.actor,
    )
    add: Callable[..., Any] = message.ledger_entries.add
    for (code, direction, amount_minor, layer), (sequence, balance_after) in zip(entry.legs, verdict.legs, strict=True):
        add(
            journal_entry_id=entry.journal_entry_id,
            ledger_account=code,
            sequence=sequence,
            direction=_NUMBER[direction],
            amount={"currency_code": currency, "amount_minor": amount_minor},
            layer=_NUMBER[layer],
            balance_after={"currency_code": currency, "amount_minor": balance_after},
            type=kind,
            description=entry.description,
            effective_time=effective,
            create_time=created,
            transaction_id=transaction_id,
        )
    return message


def booked_journal_entry(rows: Sequence[Record]) -> pb.JournalEntry:
    """An entry as the book has it, from the rows of its legs (store.booked_entries)."""
    head = rows[0]
    return pb.JournalEntry(
        journal_entry_id=head["journal_entry_id"],
        escrow_account_id=head["escrow_account_id"],
        type=head["kind"],
        description=head["description"],
        effective_time=to_timestamp(head["effective_at"]),
        create_time=to_timestamp(head["created_at"]),
        ledger_entries=[ledger_entry(row) for row in rows],
        transaction_id=head["transaction_id"] or "",
        investment_id=head["investment_id"] or "",
        distribution_id=head["distribution_id"] or "",
        reverses_journal_entry_id=head["reverses_journal_entry_id"] or "",
        actor=head["actor"],
    )


def ledger_entry(row: Any) -> pb.LedgerEntry:
    """A leg, from a row with its entry's columns and the currency."""
    after = row["posted_after"] if row["layer"] == Layer.POSTED.value else row["pending_after"]
    amount: Any = {"currency_code": row["currency"], "amount_minor": row["amount_minor"]}
    balance_after: Any = {"currency_code": row["currency"], "amount_minor": after}
    return pb.LedgerEntry(
        journal_entry_id=row["journal_entry_id"],
        ledger_account=row["ledger_account"],
        sequence=row["sequence"],
        direction=_NUMBER[row["direction"]],
        amount=amount,
        layer=_NUMBER[row["layer"]],
        balance_after=balance_after,
        type=_NUMBER[row["kind"]],
        description=row["description"],
        effective_time=_moment(row["effective_at"]),
        create_time=_moment(row["created_at"]),
        transaction_id=row["transaction_id"] or "",
    )


def ledger_account_balance(row: Any, currency: str) -> pb.LedgerAccountBalance:
    """The balances of a ledger account, or of a kind, from a row of queries."""
    return pb.LedgerAccountBalance(
        ledger_account=row.ledger_account,
        normal_balance=row.normal_balance,
        posted=money(int(row.posted), currency),
        pending=money(int(row.pending), currency),
        held=money(int(row.held), currency),
        available=money(int(row.posted - row.held), currency),
    )


def hold(row: Any) -> pb.Hold:
    """A hold, from a row with its escrow account's currency."""

    def moment(value: datetime | None) -> Any:
        return None if value is None else to_timestamp(value)

    return pb.Hold(
        hold_id=row.hold_id,
        escrow_account_id=row.escrow_account_id,
        ledger_account=row.ledger_account,
        amount=money(row.amount_minor, row.currency),
        captured_amount=money(row.captured_minor, row.currency),
        status=row.status,
        reason=row.reason,
        transaction_id=row.transaction_id or "",
        expire_time=moment(row.expires_at),
        create_time=moment(row.created_at),
        resolve_time=moment(row.resolved_at),
    )


def results(make: Callable[..., Result], items: Iterable[Any], outcomes: Iterable[Outcome]) -> Iterator[Result]:
    """The verdict on each item of a batch, by the item's idempotency_key."""
    for item, outcome in zip(items, outcomes, strict=True):
        if isinstance(outcome, DomainError):
            refusal = pb.Refusal(reason=outcome.reason, message=outcome.message, metadata=outcome.metadata)
            yield make(idempotency_key=item.idempotency_key, refusal=refusal)
        else:
            yield make(idempotency_key=item.idempotency_key, journal_entry=outcome)
