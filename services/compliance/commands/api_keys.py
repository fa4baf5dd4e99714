"""What changes API keys, and what their secrets open. Each runs inside the caller's transaction.

A secret exists in the answer of the call that made it and in its program; kept is its digest, and where the answer is
given again it has none. It works once a second person approved it.
"""

from __future__ import annotations

from datetime import datetime

from realco.compliance.v1 import api_keys_pb2 as pb

from services.chassis.approvals.resources import ResourceApprovals
from services.chassis.calls.access import PersonRequired
from services.chassis.calls.auth import current_principal
from services.chassis.data.database import read_database_time
from services.chassis.data.locks import lock_name
from services.chassis.data.stops import note_stop
from services.chassis.data.transaction import Tx
from services.chassis.values.approval import NOBODY, Approval, ApprovalDetails, ApprovalFacts, Change
from services.chassis.values.errors import Unauthenticated
from services.chassis.values.etags import check_etag
from services.chassis.values.refusals import ContentOutdated
from services.chassis.values.text import is_person, quote
from services.compliance import actions, messages
from services.compliance.domain import api_keys as rules
from services.compliance.domain.api_keys import LIVE, ApiKey, ApiKeyStatus, Secret
from services.compliance.domain.refusals import ApiKeyNotFound
from services.compliance.store import api_keys as store
from services.compliance.store.approvals import APPROVAL_WRITER
from services.compliance.store.parties import find_end_of_sessions

API_KEY_APPROVALS = ResourceApprovals(
    "APPROVE_API_KEY", APPROVAL_WRITER, rpc="realco.compliance.v1.ApiKeysService/CreateApiKey"
)


async def create_api_key(
    tx: Tx, request: pb.CreateApiKeyRequest, api_key_id: str, digest: bytes, now: datetime
) -> pb.IssuedApiKey:
    """Raises InvalidField, TooManyApiKeys, PersonRequired: a service holds no key."""
    principal, expires_at = current_principal(), request.expire_time.ToDatetime(now.tzinfo)
    if not is_person(principal.person):
        raise PersonRequired("A person holds the key, and has to sign in for it.")
    rules.check_expiry(expires_at, now)
    # One after the other: of those that come at once none knows of the others.
    await lock_name(tx, "api_keys", principal.person)
    rules.check_may_hold_another(await store.lock_live_keys_of(tx, principal.person))
    key = ApiKey(
        api_key_id=api_key_id,
        display_name=request.display_name,
        scopes=tuple(sorted(map(pb.ApiKey.Scope.Name, request.scopes))),
        expires_at=expires_at,
        created_by=principal.person,
        external_id=request.external_id or None,
        metadata=dict(request.metadata),
        created_at=now,
        updated_at=now,
    ).await_secret(Secret(digest, await read_database_time(tx)), grace_seconds=0)
    await store.insert_api_key(tx, key)
    await _ask_for_approval(tx, key, now)
    return pb.IssuedApiKey(api_key=actions.answer_api_key(key, now))


async def rotate_api_key(tx: Tx, request: pb.RotateApiKeyRequest, digest: bytes, now: datetime) -> pb.IssuedApiKey:
    """Another secret waits, in place of one that waits already.

    Raises:
        ApiKeyNotFound, EtagMismatch, IllegalStatusChange, NotHolderOfKey, TooManyApprovals
    """
    key = await _lock_as_read(tx, request.api_key_id, request.etag)
    rules.check_holder(key, current_principal().person)
    key.check_live(now)
    await API_KEY_APPROVALS.check_may_ask(tx, key.api_key_id, now)
    await API_KEY_APPROVALS.cancel(tx, key.api_key_id, now)
    secret = Secret(digest, await read_database_time(tx))
    key = await store.save_api_key(tx, key, key.await_secret(secret, request.grace_seconds), now)
    await _ask_for_approval(tx, key, now)
    return pb.IssuedApiKey(api_key=actions.answer_api_key(key, now))


async def revoke_api_key(tx: Tx, request: pb.RevokeApiKeyRequest, now: datetime) -> pb.ApiKey:
    """One whose time ran out, too: what its program asked for waits still.

    Raises: ApiKeyNotFound, EtagMismatch, TooManyStops.
    """
    key, person = await _lock_as_read(tx, request.api_key_id, request.etag), current_principal().person
    if key.status is not ApiKeyStatus.REVOKED:
        if key.created_by != person:
            await note_stop(tx, "REVOKE_API_KEY", key.created_by, now)
        key = await _end(tx, key, ApiKeyStatus.REVOKED, person, now)
    return actions.answer_api_key(key, now)


async def revoke_keys_of(tx: Tx, holder: str, now: datetime) -> None:
    """Ends all API keys of a person whose sessions the caller ends."""
    for key in await store.lock_live_keys_of(tx, holder):
        await _end(tx, key, ApiKeyStatus.REVOKED, current_principal().person, now)


async def expire_api_key(tx: Tx, api_key_id: str, now: datetime) -> None:
    """Writes down that an API key has ended by time, unless somebody was faster. Raises: NotSealed."""
    key = await store.lock_api_key(tx, api_key_id)
    if key is not None and key.status in LIVE and key.expires_at <= now:
        await _end(tx, key, ApiKeyStatus.EXPIRED, None, now)


async def _end(tx: Tx, key: ApiKey, status: ApiKeyStatus, by: str | None, now: datetime) -> ApiKey:
    """Of a locked API key nothing works or waits any more."""
    await API_KEY_APPROVALS.cancel(tx, key.api_key_id, now)
    return await store.save_api_key(tx, key, key.end(status, by), now)


async def approve_secret(tx: Tx, approval: Approval, facts: ApprovalFacts, now: datetime) -> None:
    """A second person lets the secret that waits work; the one before does for as long as its holder asked for.

    It goes on waiting where the organization wants yet another person.

    Raises:
        ApiKeyNotFound, IllegalStatusChange, ContentOutdated, ApprovalExpired, MakerIsChecker, AlreadyApproved,
        MakerSessionEnded, InsufficientUserAuthentication
    """
    key = await _lock(tx, approval.resource_id)
    key.check_live(now)
    if key.next_secret is None:
        raise ContentOutdated("No secret of the key waits any more.")
    if await API_KEY_APPROVALS.count_yes(tx, key.api_key_id, facts, now, approval.note):
        await store.save_api_key(tx, key, key.accept_secret(current_principal().person, now), now)


async def give_up_secret(tx: Tx, approval: Approval, why: str, now: datetime) -> None:
    """Nobody approved the secret that waits. A key that has no other has ended."""
    key = await _lock(tx, approval.resource_id)
    if key.status is ApiKeyStatus.PENDING_APPROVAL:
        await _end(tx, key, ApiKeyStatus.REVOKED, approval.decided_by, now)
    elif key.next_secret is not None:
        await store.save_api_key(tx, key, key.drop_next_secret(), now)


async def use_secret(tx: Tx, request: pb.IssueApiKeyTokenRequest, now: datetime) -> tuple[ApiKey, Secret]:
    """The key that the secret is of, and that secret. Raises Unauthenticated."""
    key = await store.find_api_key(tx, request.api_key_id)
    secret = None if key is None else rules.find_secret(key, request.secret, now)
    ended_at = None if key is None else await find_end_of_sessions(tx, key.created_by)
    if key is None or secret is None or (ended_at is not None and secret.made_at < ended_at):
        raise secret_not_acceptable()
    await store.save_use(tx, key, now)
    return key, secret


def secret_not_acceptable() -> Unauthenticated:
    """Always the same words, as of a token."""
    return Unauthenticated("The key and its secret are not acceptable.")


def build_secret_details(key: ApiKey) -> ApprovalDetails:
    """Who is told the secret does not approve it."""
    changes = (
        (
            Change("display_name", None, key.display_name),
            Change("scopes", None, ", ".join(key.scopes)),
            Change("secret", None, "one"),
        )
        if key.secret is None
        else (Change("secret", "the one in use", "another one"),)
    )
    return ApprovalDetails(
        f"Let a program sign in for {key.created_by} with the key {quote(key.display_name)}",
        key.api_key_id,
        makers=frozenset({key.created_by}),
        beneficiary_party_ids=NOBODY,  # what its program asks for counts as its holder's
        changes=changes,
        matter=("API key", key.created_by),
    )


async def _ask_for_approval(tx: Tx, key: ApiKey, now: datetime) -> None:
    await API_KEY_APPROVALS.open(tx, build_secret_details(key), messages.to_api_key_content(key), now)


async def _lock_as_read(tx: Tx, api_key_id: str, etag: str) -> ApiKey:
    key = await _lock(tx, api_key_id)
    check_etag(etag, key.etag)
    return key


async def _lock(tx: Tx, api_key_id: str) -> ApiKey:
    key = await store.lock_api_key(tx, api_key_id)
    if key is None:
        raise ApiKeyNotFound()
    return key
