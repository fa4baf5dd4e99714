"""Which streams a consumer hears follows from the events that it handles."""

from __future__ import annotations

from realco.compliance.v1 import events_pb2 as foreign
from realco.escrow.v1 import events_pb2 as events

from services.chassis.events.handling import Subscription


def test_streams_follow_from_the_events():
    async def handler(tx, event, delivery) -> None: ...

    subscription = Subscription(
        "d",
        {foreign.ComplianceCheckCompleted: handler, events.HoldPlaced: handler, events.HoldReleased: handler},
        is_about_money=False,
    )
    assert subscription.types_by_stream() == {
        "COMPLIANCE": {"realco.compliance.v1.ComplianceCheckCompleted"},
        "ESCROW": {"realco.escrow.v1.HoldPlaced", "realco.escrow.v1.HoldReleased"},
    }
