"""Only our tokens, only while they are good, only for whom they name."""

from __future__ import annotations

import base64
import json
import stat
import time

import pytest
from joserfc.jwk import ECKey

from services.chassis.calls.auth import Principal
from services.chassis.calls.tokens import ServiceIdentity, Verifier
from services.chassis.process.settings import ConfigurationError, Settings
from services.chassis.values.errors import PermissionDenied, Unauthenticated, Unavailable
from tests.support.identity import API_KEY_ISSUER, ISSUER, Issuer

NOW = int(time.time())


@pytest.fixture
def issuer(tmp_path):
    return Issuer(tmp_path)


@pytest.mark.parametrize(
    ("claims", "principal"),
    [
        ({}, Principal("admin-1", "admin", "org_1")),
        ({"sub": "inv_1", "role": "investor"}, Principal("inv_1", "investor", "org_1")),
        ({"aud": ["realco"]}, Principal("admin-1", "admin", "org_1")),
    ],
)
async def test_a_good_token_names_its_caller(issuer, claims, principal):
    verifier = issuer.verifier()
    token = issuer.token(**claims)
    assert await verifier.verify(token) == principal
    # What a person's caller says beside the token is nobody's proof.
    assert await verifier.verify(token, org_id="org_2", on_behalf_of="admin-2") == principal


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": NOW - 1},
        {"exp": NOW + 100_000},  # longer than anybody may hold a token
        {"exp": None},
        {"exp": float(NOW + 60)},
        {"iat": NOW + 3600, "exp": NOW + 3660},
        {"iat": None},
        {"nbf": NOW + 3600},
        {"nbf": "tomorrow"},
        {"nbf": [NOW]},
        {"nbf": {"a": 1}},
        {"nbf": True},
        {"iat": True},
        {"iat": -1},
        {"exp": 10**400},
        {"iat": 10**400, "exp": 10**400 + 1},
        {"aud": {"realco": 1}},
        {"aud": ["realco", ["realco"]]},
        {"aud": []},
        {"iss": ["https://issuer.test"]},
        {"iss": {}},
        {"role": ["admin", "investor"]},
        {"role": {"admin": True}},
        {"org_id": ["org_1", "org_2"]},
        {"org_id": 7},
        {"sub": ["admin-1"]},
        {"sub": 1},
        {"sub": "Service:escrow"},
        {"sub": "\uff53ervice:escrow"},
        {"sub": "\ufdfa" * 80},  # eighteen characters each, as a person's name is kept
        {"sub": "admin-1\u2028"},
        {"sub": "\ud800"},
        {"auth_time": "now"},
        {"auth_time": 1.5},
        {"amr": 7},
        {"amr": [["mfa"]]},
        {"acr": {"value": "2"}},
        {"aud": "somebody-else"},
        {"aud": ["realco", "somebody-else"]},
        {"aud": None},
        {"iss": "https://evil.test"},
        {"role": "service"},
        {"role": "superuser"},
        {"role": None},
        {"org_id": None},
        {"org_id": "*"},  # would be every organization
        {"org_id": ""},
        {"org_id": "org_1\n"},
        {"sub": None},
        {"sub": "service:escrow"},
        {"sub": "key:key_1"},
        {"sub": "Key:key_1"},
        {
            "iss": API_KEY_ISSUER,
            "sub": "key:key_1",
            "person": "ann",
            "scope": "ESCROW_READ",
            "auth_time": 1,
            "sid": "0",
        },
        {"sub": "x" * 256},
    ],
)
async def test_a_token_with_a_wrong_claim_is_refused(issuer, claims):
    with pytest.raises(Unauthenticated):
        await issuer.verifier().verify(issuer.token(**claims))


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "ann"},
        {"sub": "service:escrow"},
        {"sub": "key:"},
        {"sub": "key:ba_1"},
        {"sub": "key:key_1\u200b"},
        {"person": "key:key_1"},
        {"person": "service:escrow"},
        {"person": None},
        {"role": "investor"},
        {"role": "sponsor"},
        {"scope": None},
        {"sid": None},
        {"auth_time": None},
        {"exp": int(time.time()) + 301, "iat": int(time.time())},
        {"org_id": "*"},
        {"aud": "realco.escrow"},
        {"iss": ISSUER},
    ],
)
async def test_the_issuer_for_api_keys_proves_keys_and_nobody_else(issuer, claims):
    checking = issuer.verifier()
    principal = await checking.verify(issuer.key_token())
    assert (principal.subject, principal.person, principal.role) == ("key:key_1", "ann", "admin")
    with pytest.raises(Unauthenticated):
        await checking.verify(issuer.key_token(**claims))


@pytest.mark.parametrize(
    "header",
    [
        {"typ": "JWT"},
        {"typ": None},
        {"kid": "people-2"},
        {"kid": None},
        {"kid": "service:escrow"},
        {"crit": ["exp"], "exp": 1},
        {"jku": "https://evil.test/jwks"},
        {"x5u": "https://evil.test/x"},
    ],
)
async def test_a_token_with_a_wrong_header_is_refused(issuer, header):
    with pytest.raises(Unauthenticated):
        await issuer.verifier().verify(issuer.token(header=header))


async def test_a_key_inside_the_token_opens_nothing(issuer):
    evil = ECKey.generate_key("P-256")
    for header in ({"jwk": evil.as_dict(private=False)}, {}):
        with pytest.raises(Unauthenticated):
            await issuer.verifier().verify(issuer.token(header=header, key=evil))


async def test_no_other_algorithm_is_accepted(issuer):
    confused = issuer.token(header={"alg": "HS256"})
    good = issuer.token()
    head, body, signature = good.split(".")
    unsigned = base64.urlsafe_b64encode(json.dumps({"alg": "none", "typ": "at+jwt", "kid": "people-1"}).encode())
    for token in (
        confused,
        f"{unsigned.decode().rstrip('=')}.{body}.",
        f"{head}.{body}.",
        f"{head}.{body}",
        "",
        "a.b.c",
        "é",
        base64.urlsafe_b64encode(b"[" * 5_000).decode() + ".a.b",
    ):
        with pytest.raises(Unauthenticated):
            await issuer.verifier().verify(token)
    changed = base64.urlsafe_b64encode(base64.urlsafe_b64decode(body + "==").replace(b"org_1", b"org_2")).decode()
    with pytest.raises(Unauthenticated):
        await issuer.verifier().verify(f"{head}.{changed.rstrip('=')}.{signature}")


async def test_a_remembered_token_still_expires(issuer, monkeypatch):
    verifier = issuer.verifier()
    token = issuer.token()
    await verifier.verify(token)
    assert len(verifier._remembered) == 1
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    with pytest.raises(Unauthenticated):
        await verifier.verify(token)


async def test_a_service_acts_where_and_for_whom_it_says(issuer):
    verifier = issuer.verifier()
    token = issuer.transactions.token("escrow")
    found = await verifier.verify(token, org_id="org_2", on_behalf_of="admin-7")
    assert found == Principal("service:transactions", "service", "org_2", "admin-7")
    assert found.person == "admin-7"
    for org_id in (None, "", "*", "a b"):
        with pytest.raises(PermissionDenied):
            await verifier.verify(token, org_id=org_id)
    with pytest.raises(PermissionDenied):
        await verifier.verify(token, org_id="org_1", on_behalf_of="x\n")


async def test_a_service_cannot_pass_for_another(issuer):
    forged = ServiceIdentity("transactions", issuer.escrow._key)  # escrow's key under another name
    as_person = issuer.token(header={"kid": "service:escrow"}, key=issuer.escrow._key)
    for token in (forged.token("escrow"), as_person):
        with pytest.raises(Unauthenticated):
            await issuer.verifier().verify(token, org_id="org_1")


async def test_keys_are_read_again_for_a_new_kid_but_not_for_every_guess(issuer, monkeypatch):
    verifier = issuer.verifier()
    await verifier.verify(issuer.token())
    fresh = ECKey.generate_key("P-256")
    issuer.publish({**fresh.as_dict(private=False), "kid": "people-2"})
    token = issuer.token(header={"kid": "people-2"}, key=fresh)
    with pytest.raises(Unauthenticated):  # read a moment ago
        await verifier.verify(token)
    later = time.monotonic() + 11
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert (await verifier.verify(token)).subject == "admin-1"


async def test_without_keys_nobody_is_refused_for_good(issuer):
    issuer.jwks.unlink()
    with pytest.raises(Unavailable):
        await issuer.verifier().verify(issuer.token())
    issuer.jwks.write_text("{}")
    with pytest.raises(Unavailable):
        await issuer.verifier().verify(issuer.token())


async def test_keys_that_cannot_be_read_again_stay_good(issuer, monkeypatch):
    verifier = issuer.verifier()
    await verifier.verify(issuer.token())
    issuer.jwks.unlink()
    later = time.monotonic() + 1000
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert (await verifier.verify(issuer.token(sub="admin-2"))).subject == "admin-2"


@pytest.mark.parametrize(
    ("content", "mode", "fault"),
    [
        (None, 0o600, "No such file"),
        (b"junk", 0o600, "not a PEM private key"),
        (ECKey.generate_key("P-384").as_pem(private=True), 0o600, "P-256"),
        (ECKey.generate_key("P-256").as_pem(private=False), 0o600, "private key"),
        (ECKey.generate_key("P-256").as_pem(private=True), 0o644, "readable by every user"),
        (ECKey.generate_key("P-256").as_pem(private=True), 0o600, None),
    ],
)
def test_a_key_file_is_private_and_holds_the_right_key(tmp_path, content, mode, fault):
    path = tmp_path / "key.pem"
    if content is not None:
        path.write_bytes(content)
        path.chmod(stat.S_IFMT(0) | mode)
    if fault is None:
        assert ServiceIdentity.load("escrow", path).subject == "service:escrow"
    else:
        with pytest.raises(ConfigurationError, match=f"^SERVICE_KEY_FILE: .*{fault}"):
            ServiceIdentity.load("escrow", path)


def test_a_verifier_needs_to_know_whom_to_trust():
    with pytest.raises(ConfigurationError, match="ISSUERS_FILE, SERVICE_JWKS"):
        Verifier(Settings(), "escrow")
    with pytest.raises(ConfigurationError, match=r"missing: ISSUERS_FILE$"):
        Verifier(Settings())
