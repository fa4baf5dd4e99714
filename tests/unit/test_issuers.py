"""The documented settings for well-known providers, on tokens of the shapes that those document."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey

from services.chassis.calls.issuers import read_issuers
from services.chassis.calls.tokens import Verifier
from services.chassis.process.settings import ConfigurationError, Settings
from services.chassis.values.errors import Unauthenticated
from tests.support.identity import read_documented_issuer

NOW = int(time.time())
TENANT = "11111111-1111-1111-1111-111111111111"
RSA = RSAKey.generate_key(2048)
TIMES = ("iat", "nbf", "exp", "auth_time", "https://realco.example/auth_time")

# Source: https://auth0.com/docs/secure/tokens/access-tokens/access-token-profiles,
# https://auth0.com/docs/manage-users/organizations/using-tokens
AUTH0 = (
    {"typ": "at+jwt", "alg": "RS256", "kid": "k1"},
    {
        "https://realco.example/role": ["admin"],
        "https://realco.example/person": "Ann@Example.org",
        "https://realco.example/amr": ["pwd", "mfa"],
        "https://realco.example/auth_time": NOW - 30,
        "iss": "https://TENANT.eu.auth0.com/",
        "sub": "auth0|507f1f77bcf86cd799439020",
        "aud": ["https://api.realco.example", "https://TENANT.eu.auth0.com/userinfo"],
        "iat": NOW,
        "exp": NOW + 3600,
        "scope": "openid profile",
        "org_id": "org_9ybsU1dN2dKfDkBi",
        "client_id": "my_client_id",
        "jti": "pIZOGbpUKjDzTiZmGbHzYd",
    },
    ("auth0|507f1f77bcf86cd799439020", "ann@example.org", "admin", "org_9ybsU1dN2dKfDkBi"),
)
# Source: https://learn.microsoft.com/entra/identity-platform: access-token-claims-reference, optional-claims-reference
ENTRA = (
    {"typ": "JWT", "alg": "RS256", "kid": "k1"},
    {
        "aud": "22222222-2222-2222-2222-222222222222",
        "iss": f"https://login.microsoftonline.com/{TENANT}/v2.0",
        "iat": NOW - 5,
        "nbf": NOW - 5,
        "exp": NOW + 4800,
        "acrs": ["c1", "p1"],
        "auth_time": NOW - 30,
        "aio": "AXQAi/8IAAAA",
        "azp": "33333333-3333-3333-3333-333333333333",
        "azpacr": "0",
        "name": "Ann Example",
        "oid": "690222be-ff1a-4d56-abd1-7e4f7d38e474",
        "preferred_username": "ann@example.org",
        "rh": "0.AAAA",
        "roles": ["Finance.Admin"],
        "scp": "access_as_user",
        "sub": "HKZpfaHyWadeOouYlitjrI-KffTm222X5rrV3xDqfKQ",
        "tid": TENANT,
        "uti": "fqiBqXLPj0eQa82S-IYFAA",
        "ver": "2.0",
    },
    ("690222be-ff1a-4d56-abd1-7e4f7d38e474", "690222be-ff1a-4d56-abd1-7e4f7d38e474", "admin", "org-demo"),
)
# Source: https://www.keycloak.org/docs/latest/server_admin (protocol mappers, organizations, step-up authentication)
KEYCLOAK = (
    {"alg": "RS256", "typ": "JWT", "kid": "k1"},
    {
        "exp": NOW + 300,
        "iat": NOW,
        "auth_time": NOW - 30,
        "jti": "onrtac:7f2fb4ae-9c1e-4b8e-8c7c-0f6f7a2f1b11",
        "iss": "https://id.example.org/realms/REALM",
        "aud": ["realco-api", "account"],
        "sub": "9d2b1c9a-5a36-4f57-8a9f-2d6cf7f0f1aa",
        "typ": "Bearer",
        "azp": "realco-console",
        "sid": "5a1b8b0e-2f6d-4b53-a5c2-6a44b8a0a6a1",
        "acr": "gold",
        "allowed-origins": ["https://console.example.org"],
        "realm_access": {"roles": ["default-roles-realm", "offline_access", "uma_authorization"]},
        "resource_access": {
            "realco-api": {"roles": ["admin"]},
            "account": {"roles": ["manage-account", "view-profile"]},
        },
        "scope": "openid profile email organization",
        "email_verified": True,
        "organization": ["org-demo"],
        "preferred_username": "ann",
    },
    ("9d2b1c9a-5a36-4f57-8a9f-2d6cf7f0f1aa", "9d2b1c9a-5a36-4f57-8a9f-2d6cf7f0f1aa", "admin", "org-demo"),
)
SHAPES = {"Auth0": AUTH0, "Microsoft Entra ID": ENTRA, "Keycloak": KEYCLOAK}


def verifier(folder: Path, *issuers: dict[str, Any], key: dict[str, Any] | None = None) -> Verifier:
    public = {**RSA.as_dict(private=False), "kid": "k1", "use": "sig", "x5t": "dGVzdA", "x5c": ["MIIC"]}
    (folder / "jwks.json").write_text(json.dumps({"keys": [key or public]}))
    (folder / "issuers.json").write_text(json.dumps([{"jwks": str(folder / "jwks.json")} | one for one in issuers]))
    return Verifier(Settings(issuers_file=folder / "issuers.json"))


def sign(header: dict[str, Any], claims: dict[str, Any], key: Any = RSA) -> str:
    """The token, with its times as they would be now: they are written from the start of this run."""
    passed = int(time.time()) - NOW
    claims = claims | {name: claims[name] + passed for name in TIMES if isinstance(claims.get(name), int)}
    return jws.serialize_compact(header, json.dumps(claims).encode(), key, algorithms=[header["alg"]])


@pytest.mark.parametrize("provider", SHAPES)
async def test_a_providers_token_proves_its_person(tmp_path: Path, provider: str) -> None:
    header, claims, (subject, person, role, org_id) = SHAPES[provider]
    found = await verifier(tmp_path, read_documented_issuer(provider)).verify(sign(header, claims))
    assert (found.subject, found.person, found.role, found.org_id) == (subject, person, role, org_id)
    assert found.strong_sign_in_at is not None
    assert 30 <= time.time() - found.strong_sign_in_at < 60


# Each provider's ID token, and what else it signs for others.
WRONG: dict[str, list[dict[str, Any]]] = {
    "Auth0": [
        {"aud": "my_client_id"},
        {"aud": ["https://api.realco.example", "https://other.example"]},
        {"org_id": None},
        {"https://realco.example/role": ["admin", "investor"]},
        {"https://realco.example/person": None},
        {"https://realco.example/person": "service:escrow"},
        {"https://realco.example/person": "\u017fervice:escrow"},
        {"sub": "KEY:reporting"},
        {"exp": NOW + 86400},
    ],
    "Microsoft Entra ID": [
        {"scp": None},  # an application's own token
        {"ver": "1.0"},
        {"tid": "99999999-9999-9999-9999-999999999999"},
        {"roles": ["Task.Write"]},
        {"roles": None},
        {"oid": None},
        {"nbf": NOW + 3600},
    ],
    "Keycloak": [
        {"typ": "ID", "aud": "realco-api"},
        {"typ": "Refresh"},
        {"aud": "account"},
        {"resource_access": {"other": {"roles": ["admin"]}}},
        {"resource_access": ["realco-api"]},
        {"resource_access": {"realco-api": {"roles": {"admin": True}}}},
        {"organization": ["org-demo", "org-other"]},
        {"organization": {"org-demo": {}}},
    ],
}


@pytest.mark.parametrize(("provider", "changes"), [(name, one) for name, many in WRONG.items() for one in many])
async def test_a_providers_other_tokens_prove_nothing(tmp_path: Path, provider: str, changes: dict[str, Any]) -> None:
    header, claims, _ = SHAPES[provider]
    changed = {name: value for name, value in (claims | changes).items() if value is not None}
    with pytest.raises(Unauthenticated):
        await verifier(tmp_path, read_documented_issuer(provider)).verify(sign(header, changed))


@pytest.mark.parametrize(
    ("changes", "strong"),
    [
        ({}, True),
        ({"acr": "silver"}, False),
        ({"acr": None}, False),
        ({"acr": None, "amr": ["pwd", "mfa"]}, True),
        ({"acr": None, "amr": "mfa"}, True),
        ({"acr": None, "amr": ["pwd"]}, False),
        ({"auth_time": None}, False),
        ({"auth_time": NOW + 3600}, False),  # would be fresh for hours
    ],
)
async def test_a_strong_sign_in_has_a_level_or_method_and_a_time(
    tmp_path: Path, changes: dict[str, Any], strong: bool
) -> None:
    header, claims, _ = KEYCLOAK
    changed = {name: value for name, value in (claims | changes).items() if value is not None}
    found = await verifier(tmp_path, read_documented_issuer("Keycloak")).verify(sign(header, changed))
    assert (found.strong_sign_in_at is not None) is strong
    assert (found.strong_levels, found.strong_seconds_max) == ("gold", 900)
    # Who does not say when somebody signed in says at least when the token was issued.
    assert found.signed_in_at is not None
    tells = changed.get("auth_time") == claims["auth_time"]
    assert 30 * tells <= time.time() - found.signed_in_at < 30 * tells + 30


KEYS = {"ES256": ECKey.generate_key("P-256"), "RS256": RSA, "EdDSA": OKPKey.generate_key("Ed25519")}
ISSUER = {"issuer": "https://one.test", "audience": "realco"}
OF_KEYS = ISSUER | {"api_keys": True, "jwks": "keys.json"}
CLAIMS = {"iss": "https://one.test", "aud": "realco", "sub": "ann", "role": "admin", "org_id": "org_1"}
CLAIMS |= {"iat": NOW, "exp": NOW + 60}


@pytest.mark.parametrize("pinned", KEYS)
@pytest.mark.parametrize("used", KEYS)
async def test_an_issuer_signs_with_its_own_algorithm_and_no_other(tmp_path: Path, pinned: str, used: str) -> None:
    public = {**KEYS[used].as_dict(private=False), "kid": "k1"}
    checking = verifier(tmp_path, ISSUER | {"algorithms": [pinned]}, key=public)
    token = sign({"alg": used, "typ": "at+jwt", "kid": "k1"}, CLAIMS, KEYS[used])
    if used == pinned:
        assert (await checking.verify(token)).subject == "ann"
    else:
        with pytest.raises(Unauthenticated):
            await checking.verify(token)


@pytest.mark.parametrize(
    "key",
    [
        RSAKey.generate_key(1024),
        OKPKey.generate_key("Ed448"),
    ],
    ids=["RSA of 1024 bits", "Ed448"],
)
async def test_a_key_of_the_wrong_size_or_curve_proves_nothing(tmp_path: Path, key: Any) -> None:
    algorithm = "RS256" if isinstance(key, RSAKey) else "EdDSA"
    public = {**key.as_dict(private=False), "kid": "k1"}
    checking = verifier(tmp_path, ISSUER | {"algorithms": [algorithm]}, key=public)
    with pytest.raises(Unauthenticated):
        await checking.verify(sign({"alg": algorithm, "typ": "at+jwt", "kid": "k1"}, CLAIMS, key))


async def test_two_issuers_share_no_caller_and_speak_each_for_its_own(tmp_path: Path) -> None:
    two = {"issuer": "https://two.test", "audience": "realco", "organizations": {"them": "org_2"}, "prefix": "two|"}
    checking = verifier(tmp_path, ISSUER | {"algorithms": ["RS256"]}, two | {"algorithms": ["RS256"]})
    header = {"alg": "RS256", "typ": "at+jwt", "kid": "k1"}
    theirs = CLAIMS | {"iss": "https://two.test", "org_id": "them"}
    found = await checking.verify(sign(header, theirs))
    assert (found.subject, found.person, found.org_id) == ("two|ann", "two|ann", "org_2")
    for org_id in ("org_1", "org_2"):
        with pytest.raises(Unauthenticated):
            await checking.verify(sign(header, theirs | {"org_id": org_id}))


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ("{", "Invalid JSON"),
        ("{}", "valid array"),
        ("[]", "names no issuer"),
        ([{"issuer": "https://one.test"}], "0.audience: Field required"),
        ([ISSUER | {"audiences": "x"}], "Extra inputs"),
        ([ISSUER | {"algorithms": ["HS256"]}], "0.algorithms"),
        ([ISSUER | {"algorithms": []}], "0.algorithms"),
        ([ISSUER | {"roles": {"boss": "root"}}], "no role of ours: root"),
        ([ISSUER | {"organizations": {"all": "*"}}], "no name of an organization"),
        ([ISSUER | {"issuer": "service:escrow"}], "only services and programs are named like that"),
        ([ISSUER | {"prefix": "Key:"}], "only services and programs are named like that"),
        ([ISSUER | {"strong_levels": ['a"b']}], "0.strong_levels"),
        ([OF_KEYS | {"prefix": "a|"}], "names its jwks, and no prefix"),
        ([ISSUER | {"api_keys": True}], "names its jwks, and no prefix"),
        ([OF_KEYS, OF_KEYS | {"issuer": "https://two.test"}], "both sign for API keys"),
        ([ISSUER, ISSUER | {"prefix": "b|"}], "stands there twice"),
        ([ISSUER, ISSUER | {"issuer": "https://two.test"}], "needs a prefix of its own"),
        ([ISSUER | {"organizations": {"a": "org_1"}}, ISSUER | {"issuer": "https://two.test"}], "needs a prefix"),
    ],
)
def test_a_file_that_is_not_clear_keeps_the_process_from_starting(tmp_path: Path, document: Any, fault: str) -> None:
    path = tmp_path / "issuers.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    with pytest.raises(ConfigurationError, match=fault):
        read_issuers(path)
