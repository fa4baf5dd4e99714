"""A program signs in with an API key wherever a person does, decides nothing, and is out everywhere at once."""

from __future__ import annotations

import time
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from deploy.local.identity import API_KEY_ISSUER, AUDIENCE
from services.chassis.values.ids import new_id
from tests.e2e.organization import Organization, open_client
from tests.e2e.takeover_scene import read_log

SCOPES = {
    "TRANSACTIONS": "/transactions",
    "ESCROW": "/escrow-accounts",
    "DISTRIBUTIONS": "/offerings",
    "COMPLIANCE": "/parties",
}
# A write in each service, about what is not there: how far it came says the refusal.
WRITES = {
    f"/transactions/{new_id('txn')}/cancel": "TRANSACTION_NOT_FOUND",
    f"/escrow-accounts/{new_id('esc')}/freeze": "ESCROW_ACCOUNT_NOT_FOUND",
    f"/distributions/{new_id('dist')}/cancel": "DISTRIBUTION_NOT_FOUND",
    f"/parties/{new_id('pty')}/persons/remove": "PARTY_NOT_FOUND",
}
BODIES = {"freeze": {"note": "Stop."}, "remove": {"personId": "ann"}}


def test_a_program_reads_and_writes_in_each_service_until_its_key_is_revoked(org: Organization) -> None:
    issued = org.make_api_key(*(f"{area}_{verb}" for area in SCOPES for verb in ("READ", "WRITE")), "APPROVALS_READ")
    program, key = org.sign_in_program(issued), f"/api-keys/{issued['apiKey']['apiKeyId']}"
    for path in (*SCOPES.values(), "/approvals", "/me"):
        program.get(path)
    for path, code in WRITES.items():
        program.expect_refusal(404, code, "POST", path, BODIES.get(path.rpartition("/")[2]))

    # What it asks for was asked for by its holder, who is no second person then; and neither is the program.
    account = program.post("/escrow-accounts", org.build_escrow_account())["escrowAccountId"]
    asked = program.post(f"/escrow-accounts/{account}/close")["approval"]
    assert (asked["makers"], asked["allowedActions"]) == (["admin-1"], [])
    decision = {"contentHash": asked["contentHash"]}
    for client, code in ((program, "PERSON_REQUIRED"), (org.admin, "MAKER_IS_CHECKER")):
        path = f"/approvals/{asked['approvalId']}/approve"
        client.expect_refusal(403, code, "POST", path, decision, etag=asked["etag"])
    assert org.approve({"approval": asked})["status"] == "EXECUTED"

    waits = program.post(f"/escrow-accounts/{org.open_escrow_account()}/close")["approval"]
    org.admin.post(f"{key}/revoke")
    approve = f"/approvals/{waits['approvalId']}/approve", {"contentHash": waits["contentHash"]}
    org.second_admin.expect_refusal(422, "MAKER_SESSION_ENDED", "POST", *approve, etag=waits["etag"])
    for path in WRITES:
        program.expect_refusal(401, "SESSION_ENDED", "POST", path, BODIES.get(path.rpartition("/")[2]))
    refused = program.request("POST", f"{key}/token", json={"secret": issued["secret"]})
    assert (refused.status_code, refused.json()["code"]) == (401, "UNAUTHENTICATED")
    program.close()


def test_a_token_of_an_api_key_that_there_is_not_reads_nothing_in_any_service(org: Organization) -> None:
    """Made with the key that compliance signs such tokens with, which every process takes."""
    stolen, now = ECKey.import_key(org.instance.identity.keys.api_token_key()), int(time.time())
    claims: dict[str, Any] = {
        "iss": API_KEY_ISSUER,
        "aud": AUDIENCE,
        "sub": f"key:{new_id('key')}",
        "person": "admin-1",
        "role": "auditor",
        "org_id": org.org_id,
        "scope": " ".join(f"{area}_READ" for area in (*SCOPES, "APPROVALS")),
        "sid": "0" * 16,
    }
    claims |= {"auth_time": now, "iat": now, "exp": now + 300}
    header = {"alg": "ES256", "typ": "at+jwt", "kid": stolen.thumbprint()}
    program = open_client(org.instance, "nobody's program", jwt.encode(header, claims, stolen, algorithms=["ES256"]))
    log = read_log(org.instance, "compliance")
    paths = (*SCOPES.values(), "/approvals", "/me")
    for path in paths:
        program.expect_refusal(401, "SESSION_ENDED", "GET", path)
    told = [line["key_id"] for line in log() if line["event"] == "program_not_known"]
    assert told == [claims["sub"].removeprefix("key:")] * len(paths)
    program.close()


@pytest.mark.parametrize("area", SCOPES)
def test_a_key_for_one_area_opens_no_other(org: Organization, area: str) -> None:
    program = org.sign_in_program(org.make_api_key(f"{area}_READ"))
    for other, path in SCOPES.items():
        if other == area:
            program.get(path)
        else:
            refusal = program.expect_refusal(403, "INSUFFICIENT_SCOPE", "GET", path)
            assert refusal.metadata == {"scope": f"{other}_READ"}
    program.close()
