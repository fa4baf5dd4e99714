"""When an API key works, and with which secret. No I/O."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterator, Sequence, Set
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple, Protocol

from services.chassis.values.errors import InvalidField
from services.compliance.domain.refusals import NotHolderOfKey

LASTS_MAX = timedelta(days=366)
# How exactly it is kept when a key was used: a write an hour, not one a token.
USE_KEPT_EVERY = timedelta(hours=1)
# Whoever finds one in a repository or a log knows by it what to look for.
_SECRET_PREFIX = "realco_key_"  # noqa: S105  # no secret, but what each begins with
_SECRET_BYTES = 32
_WRITES = "_WRITE"


class Status(StrEnum):
    PENDING_APPROVAL = "PENDING_APPROVAL"
    ACTIVE = "ACTIVE"
    REVOKED = "REVOKED"
    EXPIRED = "EXPIRED"


LIVE = (Status.PENDING_APPROVAL, Status.ACTIVE)


class ApiKey(Protocol):
    """What is kept of a key. A secret is kept as its digest, with when it was made, in the time of this machine."""

    status: str
    scopes: Sequence[str]
    created_by: str
    expires_at: datetime
    secret_digest: bytes | None
    secret_made_at: datetime | None
    # The secret before it, which works for a while longer.
    former_digest: bytes | None
    former_made_at: datetime | None
    former_until: datetime | None
    # Of the secret that waits: for how long the one in use works beside it.
    next_grace_seconds: int | None


class Secret(NamedTuple):
    digest: bytes
    made_at: datetime

    @property
    def secret_id(self) -> str:
        """What tells it from the key's others, and opens nothing."""
        return self.digest.hex()[:16]


def make_secret() -> str:
    return _SECRET_PREFIX + secrets.token_urlsafe(_SECRET_BYTES)


def digest_secret(secret: str) -> bytes:
    """SHA-256, once and without salt. What is slow and salted is for passwords, which can be guessed: nobody guesses
    256 random bits, and no two keys have the same ones."""
    return hashlib.sha256(secret.encode()).digest()


def status_at(key: ApiKey, now: datetime) -> Status:
    """An end by time is true from its instant, whether a job has written it or not."""
    status = Status(key.status)
    return Status.EXPIRED if status in LIVE and now >= key.expires_at else status


def check_expiry(expires_at: datetime, now: datetime) -> None:
    """Raises InvalidField unless the key ends, and within a year."""
    if not now < expires_at <= now + LASTS_MAX:
        fault = {"expire_time": "must be after now, and within a year"}
        raise InvalidField("A key ends within a year.", fields=fault)


def list_secrets(key: ApiKey, now: datetime) -> Iterator[Secret]:
    """The secrets that work now."""
    if status_at(key, now) is not Status.ACTIVE:
        return
    if key.secret_digest is not None and key.secret_made_at is not None:
        yield Secret(key.secret_digest, key.secret_made_at)
    is_former_good = key.former_until is not None and now < key.former_until
    if is_former_good and key.former_digest is not None and key.former_made_at is not None:
        yield Secret(key.former_digest, key.former_made_at)


def find_secret(key: ApiKey, secret: str, now: datetime) -> Secret | None:
    """The one of the key's secrets that this is, if it works now. How long it takes says nothing of the secret."""
    digest = digest_secret(secret)
    return next((one for one in list_secrets(key, now) if hmac.compare_digest(one.digest, digest)), None)


def vouches_for(key: ApiKey, holder: str, scopes: Set[str], secret_id: str, now: datetime) -> bool:
    """Whether a token that says so is of this key as it is now: whoever can only sign tokens does not know that."""
    is_good = any(secret.secret_id == secret_id for secret in list_secrets(key, now))
    return is_good and holder == key.created_by and scopes <= set(key.scopes)


def check_holder(key: ApiKey, person: str) -> None:
    """Raises NotHolderOfKey: whoever knew a secret without being the holder could approve what its program makes."""
    if person != key.created_by:
        raise NotHolderOfKey("Only who created the key gets a new secret of it.")


def find_former_until(key: ApiKey, now: datetime) -> datetime | None:
    """Until when the secret in use works once the next one does; None if it ends with that."""
    if key.secret_digest is None or not key.next_grace_seconds:
        return None
    return now + timedelta(seconds=key.next_grace_seconds)


def is_writing(scopes: Sequence[str]) -> bool:
    return any(scope.endswith(_WRITES) for scope in scopes)
