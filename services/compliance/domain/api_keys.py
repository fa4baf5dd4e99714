"""When an API key works, and with which secret. No I/O."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

from services.chassis.values.errors import InvalidField
from services.chassis.values.etags import etag_of
from services.chassis.values.moves import Moves
from services.chassis.values.refusals import IllegalStatusChange
from services.compliance.domain.refusals import NotHolderOfKey, TooManyApiKeys

LASTS_MAX = timedelta(days=366)
# Whoever ends the sessions of their holder ends them all, in one transaction.
KEYS_MAX = 20
# How exactly it is kept when a key was used: a write an hour, not one a token.
USE_KEPT_EVERY = timedelta(hours=1)
# Whoever finds one in a repository or a log knows by it what to look for.
_SECRET_PREFIX = "realco_key_"  # noqa: S105  # no secret, but what each begins with
_SECRET_BYTES = 32
_WRITES = "_WRITE"


class ApiKeyStatus(StrEnum):
    PENDING_APPROVAL = "PENDING_APPROVAL"
    ACTIVE = "ACTIVE"
    REVOKED = "REVOKED"
    EXPIRED = "EXPIRED"


S = ApiKeyStatus

LIVE = frozenset({S.PENDING_APPROVAL, S.ACTIVE})
# A second person approves it; whoever ends it, ends it for good. One whose time ran out can be revoked still: then
# nothing is approved of what its program had asked for.
API_KEY_MOVES: Final[Moves[ApiKeyStatus]] = {
    S.PENDING_APPROVAL: frozenset({S.ACTIVE, S.REVOKED, S.EXPIRED}),
    S.ACTIVE: frozenset({S.REVOKED, S.EXPIRED}),
    S.REVOKED: frozenset(),
    S.EXPIRED: frozenset({S.REVOKED}),
}


class Secret(NamedTuple):
    """What is kept of a secret: its digest, and when it was made, in the time of the database."""

    digest: bytes
    made_at: datetime

    @property
    def secret_id(self) -> str:
        """What tells it from the key's others, and opens nothing."""
        return self.digest.hex()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """
    Args:
        created_by: Its holder.
        secret: The one in use.
        former_secret: The one before it, which works until `former_until`.
        next_secret: The one that waits for a second person.
        next_grace_seconds: For how long the one in use works beside the next one.
        last_used_at: As exactly as USE_KEPT_EVERY; nothing depends on it.
    """

    api_key_id: str
    display_name: str
    scopes: tuple[str, ...]
    status: ApiKeyStatus = S.PENDING_APPROVAL
    expires_at: datetime
    created_by: str
    approved_by: str | None = None
    revoked_by: str | None = None
    secret: Secret | None = None
    former_secret: Secret | None = None
    former_until: datetime | None = None
    next_secret: Secret | None = None
    next_grace_seconds: int | None = None
    external_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    last_used_at: datetime | None = None
    created_at: datetime
    updated_at: datetime
    version: int = 1

    @property
    def etag(self) -> str:
        return etag_of(self.api_key_id, self.version)

    def has_ended_at(self, now: datetime) -> bool:
        """An end by time is true from its instant, whether a job has written it or not."""
        return self.status not in LIVE or now >= self.expires_at

    def check_live(self, now: datetime) -> None:
        """Raises: IllegalStatusChange, where it has ended."""
        if self.has_ended_at(now):
            raise IllegalStatusChange(S.EXPIRED if self.status in LIVE else self.status, S.ACTIVE)

    def await_secret(self, secret: Secret, grace_seconds: int) -> ApiKey:
        """Another secret waits, in place of one that waits already."""
        return replace(self, next_secret=secret, next_grace_seconds=grace_seconds)

    def accept_secret(self, person: str, now: datetime) -> ApiKey:
        """The secret that waits works, and the one before as long as its holder asked for.

        Args:
            person: The second person.
        """
        grace = timedelta(seconds=self.next_grace_seconds or 0)
        stays = self.secret is not None and bool(grace)
        accepted = replace(
            self,
            status=S.ACTIVE,
            approved_by=person,
            secret=self.next_secret,
            former_secret=self.secret if stays else None,
            former_until=now + grace if stays else None,
        )
        return accepted.drop_next_secret()

    def drop_next_secret(self) -> ApiKey:
        """No secret waits."""
        return replace(self, next_secret=None, next_grace_seconds=None)

    def end(self, status: ApiKeyStatus, by: str | None) -> ApiKey:
        """Nothing of it works or waits any more.

        Args:
            by: Who revoked it, if somebody did.
        """
        ended = replace(self, status=status, revoked_by=by, secret=None, former_secret=None, former_until=None)
        return ended.drop_next_secret()


def check_may_hold_another(live: Collection[ApiKey]) -> None:
    """
    Args:
        live: Those of the holder that have not ended.

    Raises: TooManyApiKeys.
    """
    if len(live) >= KEYS_MAX:
        message = f"You hold {KEYS_MAX} API keys, and may hold no more: revoke one first."
        raise TooManyApiKeys(message, api_keys_max=KEYS_MAX)


def make_secret() -> str:
    return _SECRET_PREFIX + secrets.token_urlsafe(_SECRET_BYTES)


def digest_secret(secret: str) -> bytes:
    """SHA-256, once and without salt. What is slow and salted is for passwords, which can be guessed: nobody guesses
    256 random bits, and no two keys have the same ones."""
    return hashlib.sha256(secret.encode()).digest()


def check_expiry(expires_at: datetime, now: datetime) -> None:
    """Raises InvalidField unless the key ends, and within a year."""
    if not now < expires_at <= now + LASTS_MAX:
        fault = {"expire_time": "must be after now, and within a year"}
        raise InvalidField("A key ends within a year.", fields=fault)


def list_secrets(key: ApiKey, now: datetime) -> Iterator[Secret]:
    """The secrets that work now."""
    if key.status is not S.ACTIVE or key.has_ended_at(now):
        return
    if key.secret is not None:
        yield key.secret
    if key.former_secret is not None and key.former_until is not None and now < key.former_until:
        yield key.former_secret


def find_secret(key: ApiKey, secret: str, now: datetime) -> Secret | None:
    """The one of the key's secrets that this is, if it works now. How long it takes says nothing of the secret."""
    digest = digest_secret(secret)
    return next((one for one in list_secrets(key, now) if hmac.compare_digest(one.digest, digest)), None)


def may_say(key: ApiKey, holder: str, scopes: Set[str]) -> bool:
    """Whether a token of this key ever said so: whoever can only sign tokens does not know what to say."""
    return holder == key.created_by and scopes <= set(key.scopes)


def is_good(key: ApiKey, secret_id: str, now: datetime) -> bool:
    """Whether a token for this secret is of the key as it is now."""
    return any(secret.secret_id == secret_id for secret in list_secrets(key, now))


def check_holder(key: ApiKey, person: str) -> None:
    """Raises NotHolderOfKey: whoever knew a secret without being the holder could approve what its program makes."""
    if person != key.created_by:
        raise NotHolderOfKey("Only who created the key gets a new secret of it.")


def is_writing(scopes: Sequence[str]) -> bool:
    return any(scope.endswith(_WRITES) for scope in scopes)
