"""Nobody passes with a token that is not ours, not now, or not for this: 401, WWW-Authenticate, and nothing changes."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from typing import Any

import grpc
import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey
from realco.transactions.v1 import transactions_pb2 as txn
from realco.transactions.v1 import transactions_pb2_grpc as txn_grpc

from demo.harness.rest import API, RestClient, new_key
from deploy.local.identity import AUDIENCE, ISSUER, ISSUER_KEY_ID, LIFETIME_SECONDS
from deploy.local.instance import Instance
from deploy.secrets import Secrets
from tests.e2e.bad_requests import ROUTES, BadRequest, Route, Targets, find_faults, send_bad_request
from tests.e2e.digest import digest, digest_when_settled
from tests.e2e.organization import Organization, open_client


def _issuer_key(instance: Instance) -> ECKey:
    return ECKey.import_key(Secrets(instance.data_dir / "secrets").get("issuer_key"))


def _part(value: Mapping[str, Any]) -> str:
    return urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def _tokens(instance: Instance, org_id: str) -> dict[str, str]:
    """Title -> a token that must not be believed. Each would be an admin's."""
    now, issuer = int(time.time()), _issuer_key(instance)
    header = {"alg": "ES256", "typ": "at+jwt", "kid": ISSUER_KEY_ID}
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "admin-1",
        "person": "admin-1",
        "iat": now,
        "exp": now + 300,
    }
    claims |= {"role": "admin", "org_id": org_id}

    def signed(changed: Mapping[str, Any], *, key: ECKey = issuer, **protected: str) -> str:
        whole = {name: value for name, value in (claims | dict(changed)).items() if value is not None}
        return jwt.encode(header | protected, whole, key, algorithms=["ES256"])

    def unsigned(algorithm: str, signature: str = "", **protected: Any) -> str:
        return f"{_part(header | {'alg': algorithm} | protected)}.{_part(claims)}.{signature}"

    good = signed({})
    investor = instance.issue_token("investor", "inv-1", org_id)
    public = issuer.as_pem(private=False)
    hs256 = unsigned("HS256")
    mac = hmac.new(public, hs256.rstrip(".").encode(), hashlib.sha256).digest()
    stranger = ECKey.generate_key("P-256", private=True)
    return {
        "garbled": "swordfish",
        "three dots": "...",
        "not base64": "§.§.§",
        "endless": "a" * 9000,
        "expired": instance.issue_token("admin", "admin-1", org_id, lifetime=-10),
        "of the future": signed({"iat": now + 900, "exp": now + 1200}),
        "good for a day": signed({"exp": now + 86_400}),
        "without an end": signed({"exp": None}),
        "for another audience": signed({"aud": "elsewhere"}),
        "for two audiences": signed({"aud": [AUDIENCE, "elsewhere"]}),
        "of another issuer": signed({"iss": "https://elsewhere.example"}),
        "without a role": signed({"role": None}),
        "of a role there is not": signed({"role": "superuser"}),
        "of a service, by the people's issuer": signed({"role": "service", "sub": "service:escrow"}),
        "without an organization": signed({"org_id": None}),
        "of all organizations": signed({"org_id": "*"}),
        "an ID token": signed({}, typ="JWT"),
        "signed with a stranger's key": signed({}, key=stranger),
        "of an unknown key": signed({}, key=stranger, kid="stranger"),
        "of a service's name": signed({}, key=stranger, kid="service:escrow"),
        "unsigned (alg none)": unsigned("none"),
        "HMAC with the public key": f"{hs256}{urlsafe_b64encode(mac).decode().rstrip('=')}",
        "naming its own key (jku)": unsigned("ES256", good.split(".")[2], jku="https://elsewhere.example/jwks"),
        "with a critical header": unsigned("ES256", good.split(".")[2], crit=["exp"]),
        "of a changed payload": ".".join([investor.split(".")[0], _part(claims), investor.split(".")[2]]),
        "without its signature": good.rpartition(".")[0] + ".",
        "with half a signature": good[:-43],
    }


def _headers_of(instance: Instance, org_id: str) -> dict[str, dict[str, str]]:
    """Title -> the Authorization header, if any, of somebody who must not pass."""
    good = instance.issue_token("admin", "admin-1", org_id)
    return {
        "no token": {},
        "an empty header": {"Authorization": ""},
        "another scheme": {"Authorization": f"Basic {good}"},
        "a scheme alone": {"Authorization": "Bearer"},
        "a token alone": {"Authorization": good},
        **{
            f"a token {title}": {"Authorization": f"Bearer {token}"}
            for title, token in _tokens(instance, org_id).items()
            if token.isascii()
        },
    }


def test_a_token_that_is_not_acceptable_opens_nothing(instance: Instance, targets: Targets) -> None:
    before = digest_when_settled(instance)
    path = f"{API}/escrow-accounts"
    body = targets.org.build_escrow_account()

    faults = []
    with httpx.Client(base_url=instance.base_url, trust_env=False) as client:
        for title, headers in _headers_of(instance, targets.org.org_id).items():
            answer = client.post(path, json=body, headers=headers | {"Idempotency-Key": new_key()})
            faults += find_faults(
                BadRequest(title, 401, "UNAUTHENTICATED", echo=headers.get("Authorization", "")[7:]), answer
            )
            faults += [f"{title}: {answer.text}"] * ("errors" in answer.json() and answer.json()["errors"] != [])

    assert faults == []
    assert digest(instance) == before


def test_who_signed_in_with_a_password_alone_approves_after_the_next_sign_in(org: Organization) -> None:
    account = org.open_escrow_account()
    asked = org.admin.decide(f"/escrow-accounts/{account}", "close")["approval"]
    read = org.second_admin.get(f"/approvals/{asked['approvalId']}")
    request = {"json": {"contentHash": read["contentHash"]}}
    headers = {"Idempotency-Key": new_key(), "If-Match": f'"{read["etag"]}"'}
    answers = []
    for methods in (["pwd"], ["pwd", "otp", "mfa"]):
        token = org.instance.identity.issue_token("admin", "admin-2", org.org_id, signed_in=methods)
        client = open_client(org.instance, "admin-2", token)
        answers.append(client.request("POST", f"/approvals/{asked['approvalId']}/approve", headers=headers, **request))
        client.close()
    refused, done = answers
    assert (refused.status_code, refused.json()["code"]) == (401, "INSUFFICIENT_USER_AUTHENTICATION")
    challenge = refused.headers["WWW-Authenticate"]
    assert challenge.startswith('Bearer error="insufficient_user_authentication", ')
    assert challenge.endswith(f'max_age="{LIFETIME_SECONDS}"')
    assert (done.status_code, done.json()["status"]) == (200, "EXECUTED")


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_every_route_asks_who_is_calling(instance: Instance, targets: Targets, route: Route) -> None:
    """Before it looks at anything else: a bad body of a stranger is a stranger's."""
    expired = instance.issue_token("admin", "admin-1", targets.org.org_id, lifetime=-10)
    for title, token in {"nobody": "", "somebody of yesterday": expired}.items():
        stranger = open_client(instance, title, token)
        for bad in (BadRequest(title, 401, "UNAUTHENTICATED", person=stranger), _unreadable(title, stranger)):
            assert find_faults(bad, send_bad_request(targets, route, bad)) == []
        stranger.close()


def _unreadable(title: str, person: RestClient) -> BadRequest:
    return BadRequest(f"{title}, unreadable", 401, "UNAUTHENTICATED", raw=b"{", person=person, query="?zebra=1")


def test_a_service_asks_again_whatever_the_gateway_let_through(instance: Instance, targets: Targets) -> None:
    request = txn.GetTransactionRequest(transaction_id=targets.ids["transaction"])
    unacceptable = {f"Bearer {token}" for token in _tokens(instance, targets.org.org_id).values() if token.isascii()}
    with instance.open_channel("transactions") as channel:
        stub = txn_grpc.TransactionsServiceStub(channel)
        for authorization in ["", *sorted(header for header in unacceptable if len(header) < 4000)]:
            with pytest.raises(grpc.RpcError) as refusal:
                stub.GetTransaction(request, metadata=(("authorization", authorization),))
            assert refusal.value.code() is grpc.StatusCode.UNAUTHENTICATED, authorization[:60]
        theirs = (("authorization", f"Bearer {targets.foreign.admin.token}"), ("x-realco-org", targets.org.org_id))
        with pytest.raises(grpc.RpcError) as refusal:
            stub.GetTransaction(request, metadata=theirs)
        assert refusal.value.code() is grpc.StatusCode.NOT_FOUND
        auditor = (("authorization", f"Bearer {targets.org.auditor.token}"),)
        cancel = txn.CancelTransactionRequest(transaction_id=targets.ids["transaction"])
        with pytest.raises(grpc.RpcError) as refusal:
            stub.CancelTransaction(cancel, metadata=auditor)
        assert refusal.value.code() is grpc.StatusCode.PERMISSION_DENIED
