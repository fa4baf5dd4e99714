"""What the name of an event says: `HoldCaptured` of the resource Hold says that its status is CAPTURED."""

from __future__ import annotations

from google.protobuf.descriptor import Descriptor


def status_told(event: Descriptor, resource: Descriptor) -> str | None:
    """The status of the resource that the event's name says; None where it says another thing."""
    statuses = resource.enum_types_by_name.get("Status")
    for value in statuses.values if statuses is not None else ():
        if event.name == resource.name + value.name.title().replace("_", ""):
            return str(value.name)
    return None
