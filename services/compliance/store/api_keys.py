"""API keys. Every change is published with the key's state, and no secret leaves by it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from realco.compliance.v1 import events_pb2 as events

from services.chassis.data import outbox
from services.chassis.data.aggregates import Aggregate, list_columns, read_fields
from services.chassis.data.due import Due
from services.chassis.data.reach import is_mine
from services.chassis.data.reads import Source
from services.chassis.data.sql import Row
from services.chassis.data.transaction import Tx
from services.compliance import messages
from services.compliance.domain.api_keys import (
    API_KEY_MOVES,
    LIVE,
    USE_KEPT_EVERY,
    ApiKey,
    ApiKeyStatus,
    Secret,
)
from services.compliance.tables import api_keys

_c = api_keys.c
_EVENTS = {
    ApiKeyStatus.ACTIVE: events.ApiKeyApproved,
    ApiKeyStatus.REVOKED: events.ApiKeyRevoked,
    ApiKeyStatus.EXPIRED: events.ApiKeyExpired,
}


def read_api_key(row: Row) -> ApiKey:
    return read_fields(
        ApiKey,
        row,
        scopes=tuple(row.scopes),
        status=ApiKeyStatus(row.status),
        secret=_read_secret(row.secret_digest, row.secret_made_at),
        former_secret=_read_secret(row.former_digest, row.former_made_at),
        next_secret=_read_secret(row.next_digest, row.next_made_at),
    )


def _read_secret(digest: bytes | None, made_at: datetime | None) -> Secret | None:
    return None if digest is None or made_at is None else Secret(digest, made_at)


def _list_columns(key: ApiKey) -> dict[str, Any]:
    secrets = {"secret": key.secret, "former": key.former_secret, "next": key.next_secret}
    digests = {f"{name}_digest": secret and secret.digest for name, secret in secrets.items()}
    times = {f"{name}_made_at": secret and secret.made_at for name, secret in secrets.items()}
    return list_columns(api_keys, key, scopes=list(key.scopes), **digests, **times)


API_KEYS = Aggregate(api_keys, "api_key_id", read_api_key, _list_columns, API_KEY_MOVES)


# Those whose time ran out and that nobody has marked yet.
EXPIRED_KEYS = Due(api_keys, _c.status.in_(LIVE), _c.expires_at)


async def find_organization_of_key(tx: Tx, api_key_id: str) -> str | None:
    """Whose key it is: a program names its key alone. In a transaction over all organizations."""
    found: str | None = await tx.scalar(sa.select(_c.org_id).where(_c.api_key_id == api_key_id))
    return found


async def find_api_key(source: Source, api_key_id: str) -> ApiKey | None:
    """Raises: NotSealed."""
    return await API_KEYS.find(source, api_key_id)


async def lock_api_key(tx: Tx, api_key_id: str) -> ApiKey | None:
    """Raises: NotSealed."""
    return await API_KEYS.lock(tx, api_key_id)


async def lock_live_keys_of(tx: Tx, holder: str) -> list[ApiKey]:
    """Those that have not ended, in the order of their ids, so that nobody waits for each other.

    Without those that do not say what this service wrote: of one that is put right afterwards no secret works that was
    made before its holder's sessions ended.
    """
    held = await API_KEYS.list_sealed(tx, API_KEYS.locking.where(_c.created_by == holder))
    return [key for key in held if key.status in LIVE]


async def insert_api_key(tx: Tx, key: ApiKey) -> None:
    await API_KEYS.insert(tx, key)
    await outbox.enqueue(tx, events.ApiKeyCreated(api_key=messages.to_api_key(key)), now=key.created_at)


async def save_api_key(tx: Tx, before: ApiKey, after: ApiKey, now: datetime) -> ApiKey:
    """Changes a locked key, and publishes it. Raises: IllegalStatusChange."""
    saved = await API_KEYS.save(tx, before, after, now)
    event = events.ApiKeyUpdated if saved.status is before.status else _EVENTS[saved.status]
    await outbox.enqueue(tx, event(api_key=messages.to_api_key(saved)), now=now)
    return saved


async def save_use(tx: Tx, key: ApiKey, now: datetime) -> None:
    """Notes that the key was used, as exactly as it is told: nothing depends on it."""
    mine = (is_mine(api_keys), _c.api_key_id == key.api_key_id)
    is_old = sa.or_(_c.last_used_at.is_(None), _c.last_used_at <= now - USE_KEPT_EVERY)
    await tx.execute(sa.update(api_keys).where(*mine, is_old).values(last_used_at=now))
