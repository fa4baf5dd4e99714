"""Events in: which parties there are, who acts for them, and what is open in the book.

Money moves on a request, or on what a provider answers.
"""

from __future__ import annotations

from realco.compliance.v1 import events_pb2 as compliance_events
from realco.escrow.v1 import events_pb2 as escrow_events

from services.chassis.events.handling import Subscription
from services.chassis.events.persons import record_persons_of
from services.transactions.commands.open_items import record_open_item

SUBSCRIPTIONS: tuple[Subscription, ...] = (
    Subscription(
        "transactions-on-compliance",
        {
            compliance_events.PartyCreated: record_persons_of,
            compliance_events.PartyPersonAdded: record_persons_of,
            compliance_events.PartyPersonRemoved: record_persons_of,
        },
        is_about_money=False,
    ),
    Subscription(
        "transactions-on-escrow",
        {escrow_events.OpenItemChanged: record_open_item},
        is_about_money=False,  # the book has it; who is called for it may be nobody
    ),
)
