"""The streams that events are stored in: what each takes, and for how long it keeps it."""

from __future__ import annotations

from dataclasses import dataclass

from services.chassis.data.retention import EVENTS_KEPT_DAYS


@dataclass(frozen=True)
class Stream:
    """A JetStream stream and the subjects it keeps, for how many days."""

    name: str
    subjects: tuple[str, ...]
    kept_days: int


def stream_of_area(area: str) -> Stream:
    """The stream of the events that the service of that name tells, and nobody else does."""
    return Stream(area.upper(), (f"realco.{area}.v1.>",), EVENTS_KEPT_DAYS)
