"""Several payments that one transaction of escrow's consumer books: what is told of them, and in which order."""

from __future__ import annotations

from realco.escrow.v1 import events_pb2 as events

from services.chassis.calls.auth import acting_as, service_principal
from tests.support.escrow import Escrow
from tests.support.escrow_payments import Payment


async def test_what_one_transaction_books_by_and_by_is_told_once_before_all_else_that_it_did(escrow):
    """Many payments settle in one minute: whoever hears of them counts them together."""
    account = await escrow.open()
    first, second = (Payment(account, "ESCROW_DEPOSIT", minor) for minor in (500, 300))
    await handle_together(escrow, (first, "SETTLED"), (second, "SETTLED"))
    [told] = await escrow.events(events.JournalEntriesPosted)
    assert [(entry.transaction_id, entry.journal_sequence) for entry in told.journal_entries] == [
        (first.transaction.transaction_id, 1),
        (second.transaction.transaction_id, 2),
    ]
    holds = await escrow.events(events.HoldPlaced)
    assert len(holds) == 2
    assert told.meta.aggregate_version < min(hold.meta.aggregate_version for hold in holds)


async def test_an_open_item_that_one_transaction_changes_twice_is_told_once_with_the_amounts_before_and_after(escrow):
    account = await escrow.open()
    await escrow.freeze(account)
    first, second = (Payment(account, "ESCROW_DEPOSIT", minor) for minor in (500, 300))
    await handle_together(escrow, (first, "SETTLED"), (second, "SETTLED"))
    [told] = await escrow.events(events.OpenItemChanged)
    changed = told.previous_amount.amount_minor, told.amount.amount_minor, told.transaction_id
    assert changed == (0, 800, second.transaction.transaction_id)


async def handle_together(escrow: Escrow, *facts: tuple[Payment, str]) -> None:
    """As a consumer handles what came in a tenth of a second."""
    with acting_as(service_principal("escrow", escrow.org_id)):
        async with escrow.database.begin() as tx:
            for payment, fact in facts:
                await payment.happens_in(tx, escrow, fact)
