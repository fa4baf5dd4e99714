"""Between the book's rows and the messages of realco/escrow/v1."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import Any

import orjson
from google.protobuf.timestamp_pb2 import Timestamp
from realco.escrow.v1 import escrow_accounts_pb2 as accounts_pb
from realco.escrow.v1 import events_pb2 as events_pb
from realco.escrow.v1 import holds_pb2 as holds_pb
from realco.escrow.v1 import journal_pb2 as journal_pb
from realco.escrow.v1 import postings_pb2 as postings_pb
from realco.type.v1 import money_pb2

from services.chassis.calls.wire import to_explanation, to_money, to_optional_timestamp, to_timestamp
from services.chassis.values.errors import InvalidField
from services.chassis.values.money import Money
from services.escrow.domain.account import EscrowAccount
from services.escrow.domain.chart import Direction, LedgerAccount, LedgerAccountKind, line_of
from services.escrow.domain.holds import Hold, explain_hold
from services.escrow.domain.journal import AMOUNT_MINOR_MAX, EntryType, Layer, NewEntry, is_by_hand
from services.escrow.domain.open_items import OpenItem
from services.escrow.store.journal import Verdict


def to_ledger_account(kind: str, party_id: str) -> journal_pb.LedgerAccount:
    return journal_pb.LedgerAccount(kind=_NUMBER[kind], party_id=party_id or None)


def read_ledger_account(message: journal_pb.LedgerAccount, path: str) -> LedgerAccount:
    """The ledger account a request names.

    Raises:
        InvalidField: its kind is of a party and names none, or the other way round.
    """
    kind = LedgerAccountKind(journal_pb.LedgerAccount.Kind.Name(message.kind))
    if line_of(kind).of_party != bool(message.party_id):
        named = bool(message.party_id)
        fault = "must not be given for this kind" if named else "must be given for this kind"
        belongs = "is nobody's: leave party_id out" if named else "is a party's: party_id must name the party"
        raise InvalidField(f"A ledger account of kind {kind.value} {belongs}.", fields={f"{path}.party_id": fault})
    return LedgerAccount(kind, message.party_id)


def to_escrow_account(account: EscrowAccount, actions: Iterable[str] = ()) -> accounts_pb.EscrowAccount:
    return accounts_pb.EscrowAccount(
        escrow_account_id=account.escrow_account_id,
        display_name=account.display_name,
        currency_code=account.currency,
        sponsor_party_id=account.sponsor_party_id,
        status=account.status,
        custodian_name=account.custodian_name,
        custodian_account_last4=account.custodian_account_last4 or None,
        create_time=to_timestamp(account.created_at),
        created_by=account.created_by,
        update_time=to_timestamp(account.updated_at),
        freezes=[
            accounts_pb.EscrowAccount.Freeze(note=note, frozen_by=person, freeze_time=to_timestamp(at))
            for note, person, at in account.freezes
        ],
        unfreeze_time=to_optional_timestamp(account.unfrozen_at),
        unfrozen_by=account.unfrozen_by,
        close_time=to_optional_timestamp(account.closed_at),
        closed_by=account.closed_by,
        external_id=account.external_id,
        metadata=account.metadata,
        etag=account.etag,
        allowed_actions=actions,
    )


def to_listed_escrow_account(account: EscrowAccount) -> accounts_pb.EscrowAccount:
    """As a list has it: why it is frozen, and what the caller may do, a page that shows it asks for."""
    return to_escrow_account(replace(account, freezes=()))


# By member and by its value, since a look-up by name in a descriptor costs more than all else in a message.
_NUMBER: dict[Any, Any] = {
    **{key: journal_pb.JournalEntry.Type.Value(type_.value) for type_ in EntryType for key in (type_, type_.value)},
    **{key: journal_pb.LedgerEntry.Direction.Value(side.value) for side in Direction for key in (side, side.value)},
    **{key: journal_pb.LedgerEntry.Layer.Value(layer.value) for layer in Layer for key in (layer, layer.value)},
    **{kind.value: journal_pb.LedgerAccount.Kind.Value(kind.value) for kind in LedgerAccountKind},
}


@lru_cache(maxsize=1024)
def _moment(moment: datetime) -> Timestamp:
    """Entries of a batch share their times. Whoever puts it in a message puts a copy there."""
    return to_timestamp(moment)


def to_journal_entry(entry: NewEntry, verdict: Verdict) -> journal_pb.JournalEntry:
    """An entry that was just booked. Every posting pays for this, so it is built in place, without parts in between."""
    booked_at = verdict.booked_at
    assert booked_at is not None
    created = _moment(booked_at)
    effective = created if entry.effective_at is None else _moment(min(entry.effective_at, booked_at))
    currency, sequence = verdict.subject, verdict.sequence
    message = journal_pb.JournalEntry(
        journal_entry_id=entry.journal_entry_id,
        escrow_account_id=entry.escrow_account_id,
        journal_sequence=sequence,
        type=_NUMBER[entry.type],
        description=entry.description,
        effective_time=effective,
        create_time=created,
        leg_count=len(entry.legs),
        transaction_id=entry.transaction_id,
        investment_id=entry.investment_id,
        distribution_id=entry.distribution_id,
        reverses_journal_entry_id=entry.reverses_journal_entry_id,
        created_by=entry.created_by,
        by_hand=is_by_hand(entry.type, entry.transaction_id, entry.created_by),
        external_id=entry.external_id,
        metadata=entry.metadata,
    )
    add: Callable[..., Any] = message.ledger_entries.add
    legs = enumerate(zip(entry.legs, verdict.legs, strict=True), start=1)
    for number, (((kind, party_id), direction, amount_minor, layer), (place, after)) in legs:
        add(
            journal_sequence=sequence,
            leg=number,
            ledger_account={"kind": _NUMBER[kind], "party_id": party_id or None},
            sequence=place,
            direction=_NUMBER[direction],
            amount={"currency_code": currency, "amount_minor": amount_minor},
            layer=_NUMBER[layer],
            balance_after={"currency_code": currency, "amount_minor": after},
        )
    return message


def to_booked_journal_entry(
    head: Any, legs: Iterable[Any], account: Any, actions: Iterable[str] = ()
) -> journal_pb.JournalEntry:
    """An entry as the book has it, from its row, the rows of its legs, and that of its escrow account."""
    metadata = head.metadata  # the driver alone gives text, SQLAlchemy what it says
    return journal_pb.JournalEntry(
        journal_entry_id=head.journal_entry_id,
        escrow_account_id=account.escrow_account_id,
        journal_sequence=head.journal_sequence,
        type=_NUMBER[head.type],
        description=head.description,
        effective_time=to_timestamp(head.effective_at),
        create_time=to_timestamp(head.created_at),
        leg_count=head.leg_count,
        ledger_entries=[to_ledger_entry(row, account.currency) for row in legs],
        transaction_id=head.transaction_id,
        investment_id=head.investment_id,
        distribution_id=head.distribution_id,
        reverses_journal_entry_id=head.reverses_journal_entry_id,
        created_by=head.created_by,
        by_hand=is_by_hand(EntryType(head.type), head.transaction_id, head.created_by),
        external_id=head.external_id,
        metadata=(orjson.loads(metadata) if isinstance(metadata, str) else metadata) or None,
        allowed_actions=actions,
    )


def to_ledger_entry(row: Any, currency: str) -> journal_pb.LedgerEntry:
    """A leg, from a row of ledger_entries with its ledger account. A page has many, so it is built in place."""
    entry, pending = journal_pb.LedgerEntry, row.pending
    after = row.pending_after if pending else row.posted_after
    return entry(
        journal_sequence=row.journal_sequence,
        leg=row.leg,
        ledger_account={"kind": _NUMBER[row.kind], "party_id": row.party_id or None},
        sequence=row.sequence,
        direction=entry.DEBIT if row.debit else entry.CREDIT,
        amount={"currency_code": currency, "amount_minor": row.amount_minor},
        layer=entry.PENDING if pending else entry.POSTED,
        balance_after={"currency_code": currency, "amount_minor": after},
    )


def to_ledger_account_balance(row: Any, currency: str) -> journal_pb.LedgerAccountBalance:
    """The balances of a ledger account, or of a kind, from a row of queries. An answer has many: built in place."""

    def amount(amount_minor: int) -> Any:
        return {"currency_code": currency, "amount_minor": amount_minor}

    return journal_pb.LedgerAccountBalance(
        ledger_account={"kind": _NUMBER[row.kind], "party_id": row.party_id or None},
        normal_balance=_NUMBER[row.normal_balance],
        posted=amount(row.posted),
        pending=amount(row.pending),
        held=amount(row.held),
        available=amount(row.posted - row.held),
    )


def to_open_item_changed(item: OpenItem, currency: str) -> events_pb.OpenItemChanged:
    entry = item.entry
    return events_pb.OpenItemChanged(
        escrow_account_id=entry.escrow_account_id,
        ledger_account=to_ledger_account(*item.ledger_account),
        amount=to_money(Money(item.open_minor, currency)),
        previous_amount=to_money(Money(item.previous_minor, currency)),
        journal_entry_id=entry.journal_entry_id,
        transaction_id=entry.transaction_id,
        investment_id=entry.investment_id,
    )


def to_hold(hold: Hold, actions: Iterable[str] = ()) -> holds_pb.Hold:
    return holds_pb.Hold(
        hold_id=hold.hold_id,
        escrow_account_id=hold.escrow_account_id,
        ledger_account=to_ledger_account(*hold.ledger_account),
        amount=to_money(hold.amount),
        captured_amount=to_money(Money(hold.captured_minor, hold.currency)),
        overridden_amount=to_money(Money(hold.overridden_minor, hold.currency)),
        status=hold.status,
        reason=hold.reason,
        transaction_id=hold.transaction_id,
        expire_time=to_optional_timestamp(hold.expires_at),
        create_time=to_timestamp(hold.created_at),
        resolve_time=to_optional_timestamp(hold.resolved_at),
        description=hold.description or None,
        created_by=hold.created_by,
        resolved_by=hold.resolved_by,
        replaces_hold_id=hold.replaces_hold_id,
        returned_transaction_id=hold.returned_transaction_id,
        external_id=hold.external_id,
        metadata=hold.metadata,
        explanation=to_explanation(explain_hold(hold.reason, hold.transaction_id)),
        etag=hold.etag,
        allowed_actions=actions,
    )


def read_currency(amounts: Sequence[money_pb2.Money], path: str) -> str:
    """The one currency of all these amounts."""
    [currency, *others] = dict.fromkeys(amount.currency_code for amount in amounts)
    if others:
        fault = {path: "must be of one currency"}
        raise InvalidField("The amounts are of several currencies: an escrow account has one.", fields=fault)
    return currency


def read_parts(parts: Sequence[postings_pb.PartyAmount], field: str) -> dict[str, int]:
    """How much of whom. Raises: InvalidField."""
    if len({part.party_id for part in parts}) < len(parts):
        raise InvalidField(
            "A party is named twice: add up what it gets, and name it once.", fields={field: "name a party twice"}
        )
    read_currency([part.amount for part in parts], field)
    check_sum(parts, field)
    return {part.party_id: part.amount.amount_minor for part in parts}


def check_sum(parts: Sequence[postings_pb.PartyAmount], field: str) -> None:
    """Whether a ledger account could take all of it. Raises: InvalidField."""
    if sum(part.amount.amount_minor for part in parts) > AMOUNT_MINOR_MAX // 2:
        raise InvalidField("The amounts are too large.", fields={field: "are too large together"})
