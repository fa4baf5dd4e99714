"""Events in: which parties there are, and who acts for them. Money moves on a request or on what a provider answers."""

from __future__ import annotations

from realco.compliance.v1 import events_pb2 as compliance_events

from services.chassis.events.handling import Subscription
from services.chassis.events.persons import record_persons_of

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
)
