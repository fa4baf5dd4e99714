"""Entity tags: what a person read is what that person changes, or nothing is changed."""

from __future__ import annotations

from hashlib import sha256

from services.chassis.values.errors import DomainError, Kind


class EtagMismatch(DomainError):
    """The resource was changed since the caller read it."""

    kind = Kind.ABORTED
    reason = "ETAG_MISMATCH"


class EtagRequired(DomainError):
    """The resource is there, and the caller does not say which version of it was read."""

    kind = Kind.INVALID_ARGUMENT
    reason = "ETAG_REQUIRED"


def etag_of(resource_id: str, version: int) -> str:
    """The tag of one version of one resource: opaque to whoever reads it."""
    return sha256(f"{resource_id}\0{version}".encode()).hexdigest()[:16]


def check_etag(given: str, current: str) -> None:
    """Does nothing where no tag is given: whether one must be is a rule of the request.

    Raises:
        EtagMismatch: it is the tag of another version.
    """
    if given and given != current:
        raise EtagMismatch("It was changed since you read it: read it again, and decide again.", etag=current)
