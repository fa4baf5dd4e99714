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
    return digest_of(resource_id, version)


def digest_of(*values: object) -> str:
    """The tag of these values, whenever and wherever they are the same."""
    return sha256("\0".join(map(str, values)).encode()).hexdigest()[:16]


def check_etag(given: str, current: str, field: str | None = None) -> None:
    """Does nothing where no tag is given: whether one must be is a rule of the request.

    Args:
        field: The request's field that has the tag, where that is not the etag of what is written.

    Raises:
        EtagMismatch: it is the tag of another version.
    """
    if given and given != current:
        fields = {field: "is not that of the version now"} if field else None
        message = "It was changed since you read it: read it again, and decide again."
        raise EtagMismatch(message, fields=fields, etag=current)
