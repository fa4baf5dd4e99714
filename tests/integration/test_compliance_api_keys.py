"""Programs sign in with API keys: what a key opens, until when, and what nobody gains with one. Tried over gRPC."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import structlog
from realco.approvals.v1 import approvals_pb2
from realco.compliance.v1 import api_keys_pb2 as pb
from realco.compliance.v1 import parties_pb2
from realco.type.v1.approval_pb2 import Approval

from services.chassis.calls.auth import acting_as
from services.chassis.data.database import Database, read_database_time
from services.chassis.values import approval_bounds, stops
from services.chassis.values.approval import VALIDITY
from services.chassis.values.ids import new_id
from services.compliance.domain import api_keys as rules
from services.compliance.domain.api_keys import digest_secret
from services.compliance.jobs import build_jobs
from services.compliance.store.parties import insert_end_of_sessions
from services.compliance.tables import metadata
from tests.support.api_key_desk import HOLDER, OTHER, READS_AND_WRITES, Desk, K, serving
from tests.support.compliance import CHECKER, ORG, build_dependencies


@pytest.fixture
async def desk(service_database: Callable[[str], Awaitable[Database]], tmp_path: Path) -> AsyncIterator[Desk]:
    async with serving(await service_database("compliance"), tmp_path) as desk:
        yield desk


async def test_a_program_signs_in_once_two_admins_wanted_it_and_what_it_makes_is_its_holders(desk: Desk) -> None:
    issued = await desk.create(K.APPROVALS_READ, K.COMPLIANCE_READ, K.COMPLIANCE_WRITE)
    key = issued.api_key
    assert (key.status, key.created_by, key.allowed_actions) == (K.PENDING_APPROVAL, HOLDER, ["rotate", "revoke"])
    assert (await desk.exchange(key, issued.secret))[0] == "UNAUTHENTICATED"
    assert (await desk.decide(key, token=desk.sign_in(HOLDER)))[0] == "MAKER_IS_CHECKER"
    assert (await desk.decide(key, token=desk.sign_in("sponsor-1", "sponsor")))[0] == "APPROVAL_NOT_FOUND"
    assert (await desk.decide(key)).result_id == key.api_key_id

    answer = await desk.exchange(key, issued.secret)
    assert (answer.token_type, answer.expires_in_seconds) == ("Bearer", 300)
    me = await desk.call("GetMe", parties_pb2.GetMeRequest(), answer.access_token)
    assert (me.person_id, me.org_id) == (HOLDER, ORG)
    party = await desk.write(answer.access_token)
    add = parties_pb2.AddPartyPersonRequest(party_id=party.party_id, person_id="zoe")
    asked = (await desk.call("AddPartyPerson", add, answer.access_token)).approval
    assert (asked.makers, asked.created_by, asked.allowed_actions) == ([HOLDER, "zoe"], HOLDER, [])
    for rpc in ("Approve", "Reject", "Cancel", "Comment"):
        request: Any = getattr(approvals_pb2, f"{rpc}ApprovalRequest")()
        assert (await desk.call(f"{rpc}Approval", request, answer.access_token))[0] == "PERSON_REQUIRED", rpc
    again = {"approval_id": asked.approval_id, "etag": asked.etag, "content_hash": asked.content_hash}
    yes = approvals_pb2.ApproveApprovalRequest(**again, idempotency_key=new_id("key"))
    assert (await desk.call("ApproveApproval", yes, desk.sign_in(HOLDER)))[0] == "MAKER_IS_CHECKER"

    read = await desk.read(key, answer.access_token)
    assert (read.status, read.approved_by, read.HasField("last_use_time"), read.allowed_actions) == (
        K.ACTIVE,
        OTHER,
        True,
        [],
    )


async def test_a_program_makes_no_keys(desk: Desk) -> None:
    key, secret = await desk.open_key()
    token = (await desk.exchange(key, secret)).access_token
    for rpc in ("CreateApiKey", "RotateApiKey", "RevokeApiKey"):
        assert (await desk.call(rpc, getattr(pb, f"{rpc}Request")(), token))[0] == "PERSON_REQUIRED", rpc
    assert (await desk.call("EndSessions", parties_pb2.EndSessionsRequest(), token))[0] == "PERSON_REQUIRED"


async def test_a_key_opens_its_scopes_alone(desk: Desk) -> None:
    key, secret = await desk.open_key(K.COMPLIANCE_READ)
    token = (await desk.exchange(key, secret)).access_token
    assert (await desk.read(key, token)).status == K.ACTIVE
    assert (await desk.write(token))[0] == "INSUFFICIENT_SCOPE"
    # It only reads, so its token is an auditor's: a scope that were checked nowhere would open nothing either.
    assert _claims_of(token)["role"] == "auditor"
    listing = approvals_pb2.ListApprovalsRequest()
    assert (await desk.call("ListApprovals", listing, token))[0] == "INSUFFICIENT_SCOPE"


async def test_a_secret_is_told_once_and_kept_nowhere(desk: Desk) -> None:
    again = {"idempotency_key": new_id("key")}
    with structlog.testing.capture_logs() as logged:
        issued = await desk.create(**again)
        repeated = await desk.create(**again)
        assert (repeated.api_key, repeated.HasField("secret"), desk.is_replayed) == (issued.api_key, False, True)
        assert not (await desk.create(validate_only=True)).HasField("secret")
        await desk.decide(issued.api_key)
        rotating = {"idempotency_key": new_id("key"), "grace_seconds": 60}
        rotated = await desk.rotate(issued.api_key, **rotating)
        assert not (await desk.rotate(issued.api_key, **rotating)).HasField("secret")
        await desk.decide(issued.api_key)
        token = (await desk.exchange(issued.api_key, rotated.secret)).access_token
        await desk.exchange(issued.api_key, f"{rotated.secret}x")

    kept = str(logged)
    async with desk.harness.database.begin_for_all() as tx:
        for table in metadata.sorted_tables:
            if table.name != "leaders":
                columns = [column for column in table.columns if table.name != "outbox" or column.name != "proof"]
                kept += "".join(map(str, await tx.execute(sa.select(*columns))))
    for secret in (issued.secret, rotated.secret):
        assert len(secret) > 50
        assert secret[-20:] not in kept
        assert digest_secret(secret).hex() not in kept  # as bytes it stands in the row of the key
        assert kept.count(str(digest_secret(secret))[2:-1]) == 1
    assert token not in kept


async def not_approved(desk: Desk) -> tuple[K, str]:
    issued = await desk.create()
    return issued.api_key, issued.secret


async def rejected(desk: Desk) -> tuple[K, str]:
    issued = await desk.create()
    await desk.decide(issued.api_key, "Reject", note="Who needs that?")
    assert (await desk.read(issued.api_key)).status == K.REVOKED
    return issued.api_key, issued.secret


async def nobody_decided(desk: Desk) -> tuple[K, str]:
    issued = await desk.create()
    desk.harness.clock.advance(VALIDITY)
    return issued.api_key, issued.secret


async def revoked(desk: Desk) -> tuple[K, str]:
    key, secret = await desk.open_key()
    assert (await desk.revoke(key)).revoked_by == OTHER
    return key, secret


async def expired(desk: Desk) -> tuple[K, str]:
    key, secret = await desk.open_key(days=1)
    desk.harness.clock.advance(timedelta(days=1))
    return key, secret


async def sessions_ended(desk: Desk) -> tuple[K, str]:
    opened = await desk.open_key()
    await desk.end_sessions()
    return opened


async def of_another_key(desk: Desk) -> tuple[K, str]:
    return (await desk.open_key())[0], (await desk.open_key())[1]


async def unknown(desk: Desk) -> tuple[K, str]:
    return K(api_key_id=new_id("key")), (await desk.open_key())[1]


async def replaced(desk: Desk) -> tuple[K, str]:
    key, secret = await desk.open_key()
    await desk.rotate(key)
    await desk.decide(key)
    return key, secret


async def replaced_long_ago(desk: Desk) -> tuple[K, str]:
    key, secret = await desk.open_key()
    await desk.rotate(key, grace_seconds=60)
    await desk.decide(key)
    desk.harness.clock.advance(timedelta(seconds=60))
    return key, secret


async def rotated_and_not_approved(desk: Desk) -> tuple[K, str]:
    key, _ = await desk.open_key()
    return key, (await desk.rotate(key)).secret


BAD = (
    *(not_approved, rejected, nobody_decided, revoked, expired, sessions_ended, of_another_key, unknown),
    *(replaced, replaced_long_ago, rotated_and_not_approved),
)


async def test_a_secret_that_is_not_good_is_refused_in_one_way_whatever_is_wrong_with_it(desk: Desk) -> None:
    refusals = {bad.__name__: await desk.exchange(*(await bad(desk))) for bad in BAD}
    assert set(refusals.values()) == {("UNAUTHENTICATED", "The key and its secret are not acceptable.")}, refusals


async def test_a_rotated_key_works_with_both_secrets_for_as_long_as_its_holder_wanted(desk: Desk) -> None:
    key, former = await desk.open_key()
    assert (await desk.rotate(key, OTHER))[0] == "NOT_HOLDER_OF_KEY"
    given_up = await desk.rotate(key, grace_seconds=3600)
    waiting = await desk.rotate(key, grace_seconds=3600)
    assert (waiting.api_key.status, waiting.api_key.secret_waits) == (K.ACTIVE, True)
    assert (await desk.exchange(key, former)).expires_in_seconds == 300
    await desk.decide(key)
    desk.harness.clock.advance(timedelta(seconds=3599))
    for secret in (former, waiting.secret):
        assert (await desk.exchange(key, secret)).expires_in_seconds == 300
    assert (await desk.exchange(key, given_up.secret))[0] == "UNAUTHENTICATED"
    # Somebody who says no to a new secret leaves the one in use.
    await desk.rotate(key)
    await desk.decide(key, "Reject", note="Not now.")
    assert (await desk.exchange(key, waiting.secret)).expires_in_seconds == 300
    assert not (await desk.read(key)).secret_waits


async def test_an_api_key_ends_at_its_instant_and_a_job_tells_it_once(desk: Desk) -> None:
    """A GET answers what the last event told, before the job and after it; what the key opened ends at the instant."""
    key, secret = await desk.open_key(days=1)
    token = (await desk.exchange(key, secret)).access_token
    waiting = (await desk.create(days=1)).api_key
    [job] = [
        each
        for each in build_jobs(build_dependencies(desk.harness.database, desk.harness.clock))
        if "keys" in each.name
    ]
    assert await job.run() == 0
    desk.harness.clock.advance(timedelta(days=1))
    before = await desk.read(key)
    assert (before.status, before.allowed_actions, await desk.is_told(before)) == (K.ACTIVE, ["revoke"], True)
    assert (await desk.exchange(key, secret))[0] == "UNAUTHENTICATED"
    assert (await desk.write(token))[0] == "SESSION_ENDED"
    assert (await desk.rotate(key))[0] == "ILLEGAL_STATUS_CHANGE"
    assert (await desk.decide(waiting))[0] == "ILLEGAL_STATUS_CHANGE"

    assert [await job.run(), await job.run()] == [2, 0]
    for one in (key, waiting):
        after = await desk.read(one)
        assert (after.status, after.allowed_actions, await desk.is_told(after)) == (K.EXPIRED, ["revoke"], True)
    assert after.etag != waiting.etag
    listed = await desk.call("ListApiKeys", pb.ListApiKeysRequest(status=[K.EXPIRED]), desk.sign_in(OTHER))
    assert {one.api_key_id for one in listed.api_keys} == {key.api_key_id, waiting.api_key_id}
    asked = approvals_pb2.ListApprovalsRequest(status=["PENDING"])
    assert not (await desk.call("ListApprovals", asked, desk.sign_in(OTHER))).approvals
    revoked = await desk.revoke(key)
    assert (revoked.status, revoked.allowed_actions, await desk.is_told(revoked)) == (K.REVOKED, [], True)
    assert await desk.revoke(key) == revoked, "what was revoked stays as it is"


async def test_with_the_sessions_of_a_person_end_the_api_keys_that_the_person_holds(desk: Desk) -> None:
    works, _ = await desk.open_key()
    waits = (await desk.create()).api_key
    anothers = (await desk.create(person="admin-3")).api_key
    await desk.end_sessions()
    for key in (works, waits):
        read = await desk.read(key)
        assert (read.status, read.revoked_by, await desk.is_told(read)) == (K.REVOKED, OTHER, True)
    assert (await desk.read(anothers)).status == K.PENDING_APPROVAL


async def test_however_many_api_keys_a_person_asks_for_a_colleague_ends_them_all_at_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "KEYS_MAX", 2)
    monkeypatch.setattr(approval_bounds, "OPEN_MAX", 2)
    answers = await asyncio.gather(*(desk.create() for _ in range(3)))
    first, second = [answer.api_key for answer in answers if isinstance(answer, pb.IssuedApiKey)]
    assert [answer[0] for answer in answers if isinstance(answer, tuple)] == ["TOO_MANY_API_KEYS"]
    assert (await desk.create(person="admin-3")).secret, "who holds fewer holds another"
    await desk.decide(second, "Reject", note="Not now.")
    third = (await desk.create()).api_key
    assert (await desk.rotate(first)).secret
    assert (await desk.rotate(first))[0] == "TOO_MANY_APPROVALS", "nor does its holder rotate one without end"

    monkeypatch.setattr(stops, "STOPS_MAX", 1)
    assert (await desk.revoke(first)).status == K.REVOKED
    assert (await desk.revoke(third))[0] == "TOO_MANY_STOPS", "one by one, and always the next one"
    for _ in range(2):
        assert (await desk.revoke((await desk.create()).api_key, HOLDER)).status == K.REVOKED, "of one's own"
    await desk.end_sessions()
    assert [(await desk.read(key)).status for key in (first, second, third)] == [K.REVOKED] * 3


async def test_staff_whose_sessions_were_ended_write_nothing_and_get_no_key_that_outlives_it(desk: Desk) -> None:
    token = desk.sign_in(HOLDER)
    await desk.end_sessions()
    lasting = pb.CreateApiKeyRequest(idempotency_key=new_id("key"), display_name="ERP", scopes=READS_AND_WRITES)
    lasting.expire_time.FromDatetime(desk.harness.clock.now() + timedelta(days=1))
    others = parties_pb2.EndSessionsRequest(idempotency_key=new_id("key"), person_id=OTHER)
    for request in (lasting, others):
        assert (await desk.call(request.DESCRIPTOR.name.removesuffix("Request"), request, token))[0] == "SESSION_ENDED"
    assert (await desk.write(token))[0] == "SESSION_ENDED"
    assert (await desk.ask_elsewhere(token))[0] == "SESSION_ENDED"


async def test_nobody_approves_a_secret_of_somebody_whose_sessions_were_ended_while_it_was_made(desk: Desk) -> None:
    """Where the two were at work at once, neither saw what the other wrote."""
    works, secret = await desk.open_key()
    waits = (await desk.create()).api_key
    async with desk.harness.database.begin(ORG) as tx:
        with acting_as(CHECKER):
            await insert_end_of_sessions(tx, HOLDER, await read_database_time(tx), desk.harness.clock.now())
    assert (await desk.exchange(works, secret))[0] == "UNAUTHENTICATED"
    assert (await desk.decide(waits))[0] == "MAKER_SESSION_ENDED"


async def test_nobody_approves_what_a_program_asked_for_whose_key_was_revoked_or_whose_holder_s_sessions_were_ended(
    desk: Desk,
) -> None:
    async def revoke(key: K) -> None:
        await desk.revoke(key)

    async def give_another_secret(key: K) -> None:
        await desk.rotate(key)
        await desk.decide(key)

    async def let_expire(key: K) -> None:
        desk.harness.clock.advance(timedelta(days=30))
        jobs = build_jobs(build_dependencies(desk.harness.database, desk.harness.clock))
        [job] = [each for each in jobs if each.name == "expire_api_keys"]
        await job.run()

    async def let_expire_and_revoke(key: K) -> None:
        await let_expire(key)
        await desk.revoke(key)

    async def end_sessions(key: K) -> None:
        await desk.end_sessions()

    good = ((give_another_secret, True), (let_expire, True))
    for end, counts in (*good, (revoke, False), (let_expire_and_revoke, False), (end_sessions, False)):
        key, secret = await desk.open_key()
        party = await desk.write((await desk.exchange(key, secret)).access_token)
        await end(key)
        answer = await desk.pass_check()
        assert party.legal_name == "Oak LLC"
        assert answer.status == Approval.EXECUTED if counts else answer[0] == "MAKER_SESSION_ENDED", end.__name__


async def test_an_api_key_has_what_its_client_wrote_beside_it_and_is_found_by_its_external_id(desk: Desk) -> None:
    facts = {"external_id": "erp-1", "metadata": {"owner": "ledger team"}}
    made = (await desk.create(**facts)).api_key
    await desk.create()
    read = await desk.read(made)
    assert (read.external_id, dict(read.metadata)) == ("erp-1", {"owner": "ledger team"})
    for wanted, found in (("erp-1", [made.api_key_id]), ("erp-2", [])):
        listed = await desk.call("ListApiKeys", pb.ListApiKeysRequest(external_id=[wanted]), desk.sign_in(OTHER))
        assert [one.api_key_id for one in listed.api_keys] == found


async def test_a_token_ends_with_its_key_for_whatever_writes(desk: Desk) -> None:
    async def rotate(key: K) -> None:
        await desk.rotate(key)
        await desk.decide(key)

    async def expire(key: K) -> None:
        desk.harness.clock.advance(timedelta(days=30))

    async def end_sessions(key: K) -> None:
        await desk.end_sessions()

    for end in (desk.revoke, rotate, expire, end_sessions):
        key, secret = await desk.open_key()
        token = (await desk.exchange(key, secret)).access_token
        assert (await desk.write(token)).party_id
        assert list((await desk.ask_elsewhere(token)).party_ids) == []
        await end(key)
        reason, words = await desk.write(token)
        assert (reason, "Exchange its secret for a new token" in words) == ("SESSION_ENDED", True), end
        assert (await desk.ask_elsewhere(token))[0] == "SESSION_ENDED", end
        assert (await desk.read(key, token)).api_key_id == key.api_key_id, "it reads for the minutes that are left"


async def test_whoever_can_only_sign_tokens_of_keys_neither_reads_nor_writes_and_is_told_of(desk: Desk) -> None:
    """With the key that compliance signs with, and not its database."""
    key, secret = await desk.open_key()
    claims = _claims_of((await desk.exchange(key, secret)).access_token)
    assert (await desk.write(desk.issuer.key_token(**claims))).party_id
    for changed in (
        {"person": "somebody"},
        {"sub": f"key:{new_id('key')}"},
        {"org_id": "org-b"},
        {"scope": f"{claims['scope']} ESCROW_WRITE"},
        {"sid": "0" * 16},  # as one that was replaced
    ):
        forged = desk.issuer.key_token(**(claims | changed))
        with structlog.testing.capture_logs() as lines:
            asked = (desk.read(key, forged), desk.write(forged), desk.ask_elsewhere(forged, changed.get("org_id", ORG)))
            assert [(await each)[0] for each in asked] == ["SESSION_ENDED"] * 3, changed
        told = [line["event"] for line in lines if line["log_level"] == "error"]
        assert told == ([] if "sid" in changed else ["program_not_known"] * 3), changed


def _claims_of(token: str) -> Any:
    body = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))


@pytest.mark.parametrize("days", [-1, 0, 367])
async def test_a_key_ends_within_a_year(desk: Desk, days: int) -> None:
    assert (await desk.create(days=days))[0] == "INVALID_FIELD"
