"""What changes API keys, and what their secrets open. Each runs inside the caller's transaction.

A secret exists in the answer of the call that made it and in its program; kept is its digest, and where the answer is
given again it has none. It works once a second person approved it.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from realco.compliance.v1 import api_keys_pb2 as pb
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.approvals.resources import ResourceApprovals
from services.chassis.calls.access import PersonRequired
from services.chassis.calls.auth import current_principal
from services.chassis.values.approval import ApprovalDetails, Change
from services.chassis.values.errors import Unauthenticated
from services.chassis.values.etags import check_etag
from services.chassis.values.refusals import IllegalStatusChange
from services.chassis.values.text import is_person
from services.compliance import actions, messages
from services.compliance.domain import api_keys as rules
from services.compliance.domain.api_keys import LIVE, Status
from services.compliance.domain.refusals import ApiKeyNotFound
from services.compliance.store import api_keys as store
from services.compliance.store.parties import find_end_of_sessions

API_KEY_APPROVALS = ResourceApprovals(
    "APPROVE_API_KEY", messages.APPROVAL_EVENTS, rpc="realco.compliance.v1.ApiKeysService/CreateApiKey"
)
_EXPIRED_KEYS_MAX = 100
_NO_NEXT_SECRET = {"next_digest": None, "next_made_at": None, "next_grace_seconds": None}
_NO_FORMER_SECRET = {"former_digest": None, "former_made_at": None, "former_until": None}
_NO_SECRET = {"secret_digest": None, "secret_made_at": None, **_NO_NEXT_SECRET, **_NO_FORMER_SECRET}


async def create_api_key(
    tx: AsyncConnection, request: pb.CreateApiKeyRequest, api_key_id: str, digest: bytes, now: datetime
) -> pb.IssuedApiKey:
    """Raises InvalidField, PersonRequired: a service holds no key."""
    principal, expires_at = current_principal(), request.expire_time.ToDatetime(now.tzinfo)
    if not is_person(principal.person):
        raise PersonRequired("A person holds the key, and has to sign in for it.")
    rules.check_expiry(expires_at, now)
    row = await store.insert_api_key(
        tx,
        now,
        org_id=principal.org_id,
        api_key_id=api_key_id,
        name=request.name,
        scopes=sorted(map(pb.ApiKey.Scope.Name, request.scopes)),
        status=Status.PENDING_APPROVAL,
        expires_at=expires_at,
        created_by=principal.person,
        external_id=request.external_id,
        metadata=dict(request.metadata),
        next_digest=digest,
    )
    await _ask_for_approval(tx, row, now)
    return pb.IssuedApiKey(api_key=actions.answer_api_key(row, now))


async def rotate_api_key(
    tx: AsyncConnection, request: pb.RotateApiKeyRequest, digest: bytes, now: datetime
) -> pb.IssuedApiKey:
    """Another secret waits, in place of one that waits already.

    Raises:
        ApiKeyNotFound, EtagMismatch, IllegalStatusChange, NotHolderOfKey
    """
    row = await _lock_as_read(tx, request.api_key_id, request.etag)
    rules.check_holder(row, current_principal().person)
    _check_live(row, now)
    await API_KEY_APPROVALS.cancel(tx, row.api_key_id, now)
    row = await store.save_next_secret(tx, row, now, digest=digest, grace_seconds=request.grace_seconds)
    await _ask_for_approval(tx, row, now)
    return pb.IssuedApiKey(api_key=actions.answer_api_key(row, now))


async def revoke_api_key(tx: AsyncConnection, request: pb.RevokeApiKeyRequest, now: datetime) -> pb.ApiKey:
    """Raises ApiKeyNotFound, EtagMismatch."""
    row = await _lock_as_read(tx, request.api_key_id, request.etag)
    if row.status in LIVE:
        row = await _end(tx, row, Status.REVOKED, current_principal().person, now)
    return actions.answer_api_key(row, now)


async def revoke_keys_of(tx: AsyncConnection, holder: str, now: datetime) -> None:
    """Ends all API keys of a person whose sessions the caller ends."""
    for row in await store.lock_live_keys_of(tx, holder):
        await _end(tx, row, Status.REVOKED, current_principal().person, now)


async def expire_api_keys(tx: AsyncConnection, now: datetime) -> int:
    """Writes down which API keys of the organization have ended by time, 100 at most; how many there were."""
    expired = await store.lock_expired_keys(tx, now, _EXPIRED_KEYS_MAX)
    for row in expired:
        await _end(tx, row, Status.EXPIRED, None, now)
    return len(expired)


async def _end(tx: AsyncConnection, row: Any, status: Status, by: str | None, now: datetime) -> sa.Row[Any]:
    """Of a locked API key nothing works or waits any more.

    Args:
        by: Who revoked it, if somebody did.
    """
    await API_KEY_APPROVALS.cancel(tx, row.api_key_id, now)
    return await store.save_api_key(tx, row, now, status=status, revoked_by=by, **_NO_SECRET)


async def approve_secret(
    tx: AsyncConnection, api_key_id: str, parties: Collection[str], now: datetime, note: str | None
) -> None:
    """A second person lets the secret that waits work; the one before does for as long as its holder asked for.

    It goes on waiting where the organization wants yet another person.

    Raises:
        ApiKeyNotFound, IllegalStatusChange, ApprovalExpired, MakerIsChecker, AlreadyApproved,
        InsufficientUserAuthentication
    """
    row = await _lock(tx, api_key_id)
    _check_live(row, now)
    if row.next_made_at is not None and await _were_sessions_ended(tx, row.created_by, row.next_made_at):
        message = "The sessions of its holder were ended after it was asked for; revoke it."
        raise IllegalStatusChange(row.status, Status.ACTIVE, message)
    if not await API_KEY_APPROVALS.approve(tx, api_key_id, parties, now, note):
        return
    changes = {"secret_digest": row.next_digest, "secret_made_at": row.next_made_at, **_NO_NEXT_SECRET}
    former: dict[str, Any] = dict(_NO_FORMER_SECRET)
    if (until := rules.find_former_until(row, now)) is not None:
        former = {"former_digest": row.secret_digest, "former_made_at": row.secret_made_at, "former_until": until}
    by = current_principal().person
    await store.save_api_key(tx, row, now, status=Status.ACTIVE, approved_by=by, **changes, **former)


async def give_up_secret(tx: AsyncConnection, api_key_id: str, by: str | None, now: datetime) -> None:
    """Nobody approved the secret that waits. A key that has no other has ended.

    Args:
        by: Who said no, if somebody did.
    """
    row = await _lock(tx, api_key_id)
    if row.status == Status.PENDING_APPROVAL:
        await _end(tx, row, Status.REVOKED, by, now)
    elif row.next_digest is not None:
        await store.save_api_key(tx, row, now, **_NO_NEXT_SECRET)


async def use_secret(
    tx: AsyncConnection, request: pb.IssueApiKeyTokenRequest, now: datetime
) -> tuple[sa.Row[Any], rules.Secret]:
    """The key that the secret is of, and that secret. Raises Unauthenticated."""
    row = await store.find_api_key(tx, request.api_key_id)
    secret = None if row is None else rules.find_secret(row, request.secret, now)
    if row is None or secret is None or await _were_sessions_ended(tx, row.created_by, secret.made_at):
        raise secret_not_acceptable()
    await store.save_use(tx, row, now)
    return row, secret


def secret_not_acceptable() -> Unauthenticated:
    """Always the same words, as of a token."""
    return Unauthenticated("The key and its secret are not acceptable.")


def build_secret_details(row: Any) -> ApprovalDetails:
    """Who is told the secret does not approve it."""
    before, after = (None, row.name) if row.secret_digest is None else (row.name, row.name)
    scopes = ", ".join(row.scopes)
    changes = (
        Change("name", before, after),
        Change("scopes", None if before is None else scopes, scopes),
        Change("secret", None if before is None else "the one in use", "another one"),
    )
    return ApprovalDetails(
        f"Let a program sign in for {row.created_by} with the key {row.name}",
        row.api_key_id,
        makers=frozenset({row.created_by}),
        changes=changes,
    )


async def _ask_for_approval(tx: AsyncConnection, row: Any, now: datetime) -> None:
    await API_KEY_APPROVALS.open(tx, build_secret_details(row), messages.to_api_key_content(row), now)


def _check_live(row: Any, now: datetime) -> None:
    status = rules.status_at(row, now)
    if status not in LIVE:
        raise IllegalStatusChange(status, Status.ACTIVE)


async def _were_sessions_ended(tx: AsyncConnection, person: str, since: datetime) -> bool:
    ended_at = await find_end_of_sessions(tx, person)
    return ended_at is not None and since < ended_at


async def _lock_as_read(tx: AsyncConnection, api_key_id: str, etag: str) -> Any:
    row = await _lock(tx, api_key_id)
    check_etag(etag, messages.etag_of_api_key(row))
    return row


async def _lock(tx: AsyncConnection, api_key_id: str) -> Any:
    row = await store.lock_api_key(tx, api_key_id)
    if row is None:
        raise ApiKeyNotFound()
    return row
