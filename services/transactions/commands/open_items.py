"""Calls a person where something is open in the book, and says how that stands by now."""

from __future__ import annotations

from functools import partial

from realco.escrow.v1 import events_pb2 as escrow_events
from realco.escrow.v1 import journal_pb2

from services.chassis.calls.wire import from_enum
from services.chassis.data.transaction import Tx
from services.chassis.events.handling import Delivery
from services.chassis.values.money import Money
from services.transactions.domain.actor import ACTOR
from services.transactions.domain.exceptions import build_with_cause
from services.transactions.domain.open_items import describe_open_item, find_exception_kind, spell_open_item
from services.transactions.store.exception_reports import note_news, report


async def record_open_item(tx: Tx, event: escrow_events.OpenItemChanged, delivery: Delivery) -> None:
    """More that is open calls somebody, also anew; that less is open is told to whoever was called."""
    kind = from_enum(journal_pb2.LedgerAccount.Kind, event.ledger_account.kind)
    about = describe_open_item(
        kind,
        event.ledger_account.party_id,
        Money(event.amount.amount_minor, event.amount.currency_code),
        escrow_account_id=event.escrow_account_id,
        transaction_id=event.transaction_id or None,
        investment_id=event.investment_id or None,
    )
    cause = spell_open_item(kind, about, event.journal_entry_id)
    if event.amount.amount_minor > event.previous_amount.amount_minor:
        report(tx, find_exception_kind(kind), about, cause, delivery.now)
    else:
        less = partial(build_with_cause, cause=cause, amount_minor=event.amount.amount_minor)
        note_news(tx, find_exception_kind(kind), about, less, delivery.now, actor=ACTOR)
