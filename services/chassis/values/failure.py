"""Why something did not happen, as a value that rows, resources and events carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from services.chassis.values.errors import DomainError


@dataclass(frozen=True, slots=True)
class Failure:
    """What `realco.type.v1.Failure` says, for domains that know no protobuf."""

    code: str  # an error reason of this system
    message: str
    retryable: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)


def make_failure(refusal: DomainError) -> Failure:
    """What a refusal says, a peer's or our own."""
    return Failure(refusal.reason, refusal.message, refusal.kind.transient, refusal.metadata)


def write_failure(failure: Failure | None) -> dict[str, Any] | None:
    """As a row keeps it, in one column of JSON."""
    if failure is None:
        return None
    return {
        "code": failure.code,
        "message": failure.message,
        "retryable": failure.retryable,
        "metadata": dict(failure.metadata),
    }


def read_failure(value: Mapping[str, Any] | None) -> Failure | None:
    return None if value is None else Failure(**value)
