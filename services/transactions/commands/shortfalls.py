"""Calls a person where money is missing in an escrow account, and says how that stands by now."""

from __future__ import annotations

from functools import partial

from realco.escrow.v1 import events_pb2 as escrow_events
from realco.escrow.v1 import journal_pb2

from services.chassis.calls.wire import from_enum
from services.chassis.data.transaction import Tx
from services.chassis.events.handling import Delivery
from services.chassis.values.money import Money
from services.transactions.domain.actor import ACTOR
from services.transactions.domain.exceptions import ExceptionKind, build_with_cause
from services.transactions.domain.shortfalls import describe_shortfall, spell_shortfall
from services.transactions.store.exception_reports import note_news, report


async def record_shortfall(tx: Tx, event: escrow_events.ShortfallChanged, delivery: Delivery) -> None:
    """More that is missing calls somebody, also anew; that less is missing is told to whoever was called."""
    kind = from_enum(journal_pb2.LedgerAccount.Kind, event.ledger_account.kind)
    about = describe_shortfall(
        kind,
        event.ledger_account.party_id,
        Money(event.amount.amount_minor, event.amount.currency_code),
        escrow_account_id=event.escrow_account_id,
        transaction_id=event.transaction_id or None,
        investment_id=event.investment_id or None,
    )
    cause = spell_shortfall(kind, about, event.journal_entry_id)
    if event.amount.amount_minor > event.previous_amount.amount_minor:
        report(tx, ExceptionKind.SHORTFALL, about, cause, delivery.now)
    else:
        less = partial(build_with_cause, cause=cause, amount_minor=event.amount.amount_minor)
        note_news(tx, ExceptionKind.SHORTFALL, about, less, delivery.now, actor=ACTOR)
