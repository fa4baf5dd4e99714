"""The handler of events that say who acts for a party, for every service that lets investors in."""

from __future__ import annotations

from typing import Any

from services.chassis.data.heard_persons import record_persons
from services.chassis.data.transaction import Tx
from services.chassis.events.handling import Delivery


async def record_persons_of(tx: Tx, event: Any, delivery: Delivery) -> None:
    """Takes over the persons of the event: all who act for its party."""
    await record_persons(tx, event.party.party_id, list(event.person_ids), event.meta)
