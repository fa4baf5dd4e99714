"""Events in: none. Money moves because somebody asked here, or a provider told; both arrive over the wire."""

from __future__ import annotations

from services.chassis.events.consumer import Subscription

SUBSCRIPTIONS: tuple[Subscription, ...] = ()
