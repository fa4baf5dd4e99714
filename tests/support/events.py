"""What the tests of several services need to hold events against resources."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import Message

from services.chassis.data.event_messages import leave_out

M = TypeVar("M", bound=Message)


def as_in_events(resource: M) -> M:
    """The resource as events carry it: without what the contracts say no event carries."""
    carried = type(resource)()
    carried.CopyFrom(resource)
    leave_out(carried)
    return carried
