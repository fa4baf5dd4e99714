"""The gateway over real sockets, HTTP in front and gRPC behind: what passes, and who passes."""

from __future__ import annotations

import hmac
import json
import time
from base64 import urlsafe_b64encode

import pytest
from joserfc.jwk import ECKey
from realco.transactions.v1 import transactions_pb2

from services.chassis.calls.tokens import ServiceIdentity
from tests.support.gateway import (
    ESCROW_ACCOUNT,
    ISSUER_KEY,
    KEY,
    KEY_ID,
    TRANSACTION,
    is_problem,
    new_transaction,
    token,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_read_comes_back_as_json(gateway):
    gateway.services.answers["GetTransaction"] = transactions_pb2.Transaction(
        transaction_id="txn_1", status=7, amount={"currency_code": "USD", "amount_minor": 5}
    )
    response = await gateway.request("GET", TRANSACTION)
    assert response.status_code == 200
    assert response.json()["status"] == "SETTLED"
    assert response.json()["amount"] == {"currencyCode": "USD", "amountMinor": "5"}
    assert gateway.services.calls[0].request.transaction_id == "txn_" + "0" * 26


async def test_what_is_created_is_201_and_its_key_reaches_the_service(gateway):
    response = await gateway.request("POST", "/api/v1/transactions", json=new_transaction(), headers=KEY)
    assert response.status_code == 201
    request = gateway.services.calls[0].request
    assert (request.idempotency_key, request.amount.amount_minor) == ("key-1", 1050)


async def test_a_batch_goes_by_its_custom_verb(gateway):
    entry = {"type": "ADJUSTMENT", "description": "x", "legs": []}
    items = [{"idempotencyKey": f"k{n}", "journalEntry": entry} for n in range(1000)]
    path = f"/api/v1/escrow-accounts/{ESCROW_ACCOUNT}/journal-entries/batch"
    response = await gateway.request("POST", path, json={"items": items})
    assert response.status_code == 200, response.text
    assert len(gateway.services.calls[0].request.items) == 1000


async def test_head_is_a_get_without_a_body(gateway):
    response = await gateway.request("HEAD", TRANSACTION)
    assert (response.status_code, response.content) == (200, b"")


async def test_every_answer_carries_the_security_headers_and_the_request_id(gateway):
    for path in ("/healthz", "/nowhere", TRANSACTION, "/docs", "/openapi.json"):
        headers = (await gateway.request("GET", path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
        assert headers["x-request-id"]
        assert "server" not in headers


async def test_a_sane_request_id_is_kept_and_passed_on_with_the_trace(gateway):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    response = await gateway.request("GET", TRANSACTION, headers={"X-Request-Id": "req-7", "traceparent": trace})
    metadata = gateway.services.calls[0].metadata
    assert response.headers["x-request-id"] == metadata["x-request-id"] == "req-7"
    assert metadata["traceparent"].split("-")[1] == trace.split("-")[1]


@pytest.mark.parametrize("given", ["", "a b", "a" * 200, "<script>", "é"])
async def test_another_request_id_is_replaced(gateway, given):
    response = await gateway.client.get("/healthz", headers=[(b"x-request-id", given.encode("latin-1"))])
    assert response.headers["x-request-id"].startswith("req_")


async def test_spoofed_headers_are_neither_believed_nor_passed_on(gateway):
    spoofs = ["X-Forwarded-For", "X-Forwarded-User", "X-Realco-Org", "X-Realco-On-Behalf-Of", "X-User-Id", "X-Tenant"]
    override = {"X-HTTP-Method-Override": "DELETE"}
    response = await gateway.request("GET", TRANSACTION, headers=dict.fromkeys(spoofs, "admin-1") | override)
    assert response.status_code == 200
    call = gateway.services.calls[0]
    assert call.rpc == "GetTransaction"
    assert not [key for key in call.metadata if key in {spoof.lower() for spoof in spoofs}]


async def test_the_service_is_given_less_time_than_the_caller(gateway):
    await gateway.request("GET", TRANSACTION)
    assert 9 < gateway.services.calls[0].seconds_left < 10


# --- who is calling


def hs256(secret: bytes) -> str:
    """A token whose header makes a public key the secret of a symmetric signature."""
    _, claims, _ = token().split(".")
    header = json.dumps({"alg": "HS256", "typ": "at+jwt", "kid": KEY_ID}).encode()
    signed = f"{urlsafe_b64encode(header).decode().rstrip('=')}.{claims}"
    signature = hmac.digest(secret, signed.encode(), "sha256")
    return f"{signed}.{urlsafe_b64encode(signature).decode().rstrip('=')}"


BAD_TOKENS = {
    "expired": lambda: token(iat=int(time.time()) - 400, exp=int(time.time()) - 100),
    "from the future": lambda: token(iat=int(time.time()) + 600, exp=int(time.time()) + 800),
    "of a long life": lambda: token(exp=int(time.time()) + 86400),
    "without an end": lambda: token(exp=None),
    "for somebody else": lambda: token(aud="another"),
    "of another issuer": lambda: token(iss="https://elsewhere.test"),
    "of an unknown role": lambda: token(role="root"),
    "without an organization": lambda: token(org_id=None),
    "for all organizations": lambda: token(org_id="*"),
    "an ID token": lambda: token(header={"typ": "JWT"}),
    "without a type": lambda: token(header={"typ": None}),
    "of an unknown key": lambda: token(header={"kid": "issuer-2"}),
    "with a key of its own": lambda: token(header={"jku": "https://elsewhere.test/jwks"}),
    "with critical headers": lambda: token(header={"crit": ["b64"], "b64": True}),
    "signed by another key": lambda: token(key=ECKey.generate_key("P-256", private=True)),
    "signed with the public key": lambda: hs256(ISSUER_KEY.as_pem(private=False)),
    "claiming to be a service": lambda: token(sub="service:escrow"),
    "unsigned": lambda: "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0.eyJzdWIiOiJhZG1pbi0xIn0.",
    "garbled": lambda: token()[:-5] + "AAAAA",
    "cut": lambda: token().rpartition(".")[0],
    "long": lambda: "a" * 9000,
    "empty": lambda: "",
}


@pytest.mark.parametrize("kind", BAD_TOKENS)
async def test_a_bad_token_is_refused(gateway, kind):
    headers = {"Authorization": f"Bearer {BAD_TOKENS[kind]()}".strip()}
    response = await gateway.request("GET", TRANSACTION, role=None, headers=headers)
    is_problem(response, 401, "UNAUTHENTICATED")
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert gateway.services.calls == []


@pytest.mark.parametrize(
    "headers", [[], [("Authorization", "Basic YTpi")], [("Authorization", "Bearer a"), ("Authorization", "Bearer b")]]
)
async def test_without_one_bearer_token_nobody_passes(gateway, headers):
    is_problem(await gateway.client.get(TRANSACTION, headers=headers), 401, "UNAUTHENTICATED")


async def test_a_role_that_may_not_is_refused_before_its_body_is_read(gateway):
    path = "/api/v1/transaction-limits"
    is_problem(await gateway.request("PUT", path, role="auditor", content=b"{"), 403, "PERMISSION_DENIED")
    assert gateway.services.calls == []


async def test_a_services_own_token_does_not_pass(gateway):
    service = ServiceIdentity("transactions", ECKey.generate_key("P-256"))
    for callee in ("gateway", "escrow", ""):
        headers = {"Authorization": f"Bearer {service.token(callee)}", "X-Realco-Org": "org-1"}
        response = await gateway.request("GET", f"/api/v1/escrow-accounts/{ESCROW_ACCOUNT}", role=None, headers=headers)
        is_problem(response, 401, "UNAUTHENTICATED")


async def test_the_callers_token_goes_with_the_call_and_not_with_a_public_one(gateway):
    mine = token("investor")
    await gateway.request("GET", TRANSACTION, headers={"Authorization": f"Bearer {mine}"})
    await gateway.request("POST", "/api/v1/webhooks/stripe", content=b"{}")
    authorizations = [call.metadata.get("authorization") for call in gateway.services.calls]
    assert authorizations == [f"Bearer {mine}", None]


# --- its own pages


async def test_it_is_ready_when_every_service_is(gateway):
    ready = await gateway.client.get("/readyz")
    assert (ready.status_code, set(ready.json()["services"].values())) == (200, {True})
    gateway.services.serving = False
    is_problem(await gateway.client.get("/readyz"), 503, "UNAVAILABLE")
    assert (await gateway.client.get("/healthz")).status_code == 200


async def test_it_lists_what_waits_for_a_person_and_is_ready_all_the_same(gateway):
    assert (await gateway.client.get("/readyz")).json()["alarms"] == {}
    gateway.services.alarms = ("dead letters of escrow-on-transactions: 2 wait",)
    ready = await gateway.client.get("/readyz")
    assert (ready.status_code, ready.json()["alarms"]["escrow"]) == (200, [*gateway.services.alarms])
    assert "gateway" not in ready.json()["alarms"]
    gateway.alarms["work share_counts"] = "failed 30 times in a row: OSError"
    ready = await gateway.client.get("/readyz")
    assert ready.json()["alarms"]["gateway"] == ["work share_counts: failed 30 times in a row: OSError"]


async def test_it_is_not_ready_when_it_is_about_to_end(gateway):
    gateway.stop.set()
    is_problem(await gateway.client.get("/readyz"), 503, "UNAVAILABLE")


async def test_the_docs_run_no_script_but_their_own(gateway):
    first, second = await gateway.client.get("/docs"), await gateway.client.get("/docs")
    policy = first.headers["content-security-policy"]
    nonce = policy.partition("script-src 'nonce-")[2].partition("'")[0]
    assert first.text.count(f'nonce="{nonce}"') == 2
    assert nonce not in second.text
    assert "http://" not in first.text
    assert "https://" not in first.text


async def test_the_description_is_served(gateway):
    assert (await gateway.client.get("/openapi.json")).json()["openapi"] == "3.1.0"
