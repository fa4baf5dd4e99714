"""What an event says of a status: `HoldCaptured` of the resource Hold says that its status is CAPTURED."""

from __future__ import annotations

import re

from google.protobuf.descriptor import Descriptor

from gateway import contracts


def status_told(event: Descriptor, resource: Descriptor) -> str | None:
    """The status of the resource that the event's name says; None where it says another thing."""
    for status in list_statuses(resource):
        if event.name == resource.name + status.title().replace("_", ""):
            return status
    return None


def statuses_told(event: Descriptor, resource: Descriptor) -> set[str]:
    """Those that the resource can reach by the event: the one of its name, or else those of its comment."""
    if (status := status_told(event, resource)) is not None:
        return {status}
    words = set(re.findall(r"\b[A-Z_]+\b", contracts.comments()[event.full_name]))
    return words & set(list_statuses(resource))


def list_statuses(resource: Descriptor) -> list[str]:
    """All but the one that is never sent; none where it has no status."""
    statuses = resource.enum_types_by_name.get("Status")
    return [] if statuses is None else [value.name for value in statuses.values if value.number]
