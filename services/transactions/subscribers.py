"""Events in: none. Money moves on a request or on what a provider answers."""

from __future__ import annotations

from services.chassis.events.consumer import Subscription

SUBSCRIPTIONS: tuple[Subscription, ...] = ()
