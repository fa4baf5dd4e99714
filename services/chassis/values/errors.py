"""The expected failures of a service, as the caller may act on them.

A DomainError is a fact about the request or the business: it travels to the caller as its kind, its reason (an
ErrorReason value) and metadata that names ids and limits, never a secret and never the refused value. A `Bug` is the
one that is about ourselves, and tells nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from functools import cached_property
from typing import ClassVar

from services.chassis.values.times import write_time


class Kind(Enum):
    """The gRPC status a failure maps to, by name; the pure floor never imports grpc."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NOT_FOUND = "NOT_FOUND"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    ABORTED = "ABORTED"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    UNAVAILABLE = "UNAVAILABLE"
    INTERNAL = "INTERNAL"

    @property
    def transient(self) -> bool:
        """True where the same request may succeed later without anybody changing it: a bug is mended meanwhile."""
        return self in (Kind.ABORTED, Kind.UNAVAILABLE, Kind.RESOURCE_EXHAUSTED, Kind.INTERNAL)


class BootError(Exception):
    """The process refuses to serve; the message says what to mend."""


class DomainError(Exception):
    """Base of every expected failure. Subclasses set `kind` and `reason`.

    Args:
        message: One sentence for a developer; clients act on `reason`, not on it.
        fields: Proto field path -> what is wrong with it, where a field is to blame.
        metadata: The facts the ErrorReason's comment promises; a time is given as a `datetime`, and several as a list:
            they are spelled here. What is None or empty is left out: who has no value sets no key.
    """

    kind: ClassVar[Kind]
    reason: ClassVar[str]
    retry_after_seconds: ClassVar[float | None] = None

    def __init__(self, message: str, *, fields: Mapping[str, str] | None = None, **metadata: object) -> None:
        super().__init__(message)
        self.message = message
        self.fields = dict(fields or {})
        self._metadata = metadata

    @cached_property
    def metadata(self) -> dict[str, str]:
        """Spelled when somebody asks: many refusals only say that something is not offered."""
        return {key: _spell(value) for key, value in self._metadata.items() if value not in (None, "", [])}


def _spell(value: object) -> str:
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    return write_time(value) if isinstance(value, datetime) else str(value)


class InvalidField(DomainError):
    """The request is malformed; `fields` says where."""

    kind = Kind.INVALID_ARGUMENT
    reason = "INVALID_FIELD"


class NotFound(DomainError):
    """No such resource for this caller: another organization's id and an unknown id look the same.

    Subclasses set `reason`, and `what` there is none of; `whose` it must be where a field names it.

    Args:
        field: The request's field that names it; none where the path of a request does.
    """

    kind = Kind.NOT_FOUND
    what: ClassVar[str]
    whose: ClassVar[str] = "that is here"

    def __init__(self, field: str | None = None) -> None:
        fields = {field: f"names no {self.what} {self.whose}"} if field else None
        super().__init__(f"There is no such {self.what}.", fields=fields)


class PermissionDenied(DomainError):
    """The caller is known and may not."""

    kind = Kind.PERMISSION_DENIED
    reason = "PERMISSION_DENIED"


class Unauthenticated(DomainError):
    """The caller did not prove who it is. The message does not say which check failed: that would help an attacker."""

    kind = Kind.UNAUTHENTICATED
    reason = "UNAUTHENTICATED"


class Unavailable(DomainError):
    """Something this service needs is away; the same request may succeed soon."""

    kind = Kind.UNAVAILABLE
    reason = "UNAVAILABLE"
    retry_after_seconds = 1


class OfNewerRelease(Exception):
    """An event is about what only a newer release knows: it waits, as a letter, for a process of that release."""


class AnswerWithheld(Unavailable):
    """Something this service needs does not answer because of a row that it did not write. About others it may."""

    reason = "ROW_NOT_SEALED"
    retry_after_seconds = 60  # sooner nobody puts a row right


class Bug(DomainError):
    """Our own fault, not the caller's. What happened is in the log, under the `error_id`."""

    kind = Kind.INTERNAL
    reason = "INTERNAL"

    def __init__(self, error_id: str) -> None:
        super().__init__("A bug; it is logged under its error_id.", error_id=error_id)


class Refused(DomainError):
    """A failure that was decided elsewhere or earlier: a peer's refusal, or a stored answer given again."""

    def __init__(
        self, kind: Kind, reason: str, message: str, fields: Mapping[str, str], metadata: Mapping[str, str], domain: str
    ) -> None:
        super().__init__(message, fields=fields, **metadata)
        self.kind = kind  # type: ignore[misc]  # only here is the kind known at run time alone
        self.reason = reason  # type: ignore[misc]
        self.domain = domain
