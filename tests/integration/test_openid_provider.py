"""People who sign in at a real OpenID provider: it is found by discovery, and believed by its own keys alone."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grpc import aio
from joserfc import jws
from joserfc.jwk import RSAKey

from services.chassis.calls.keys import AGE_SECONDS_MAX
from services.chassis.calls.status import Refused, from_status, status_in
from services.chassis.calls.tokens import Verifier
from services.chassis.values.errors import Kind, Unauthenticated
from tests.support.access_matrix import Served, methods_of, path_of, serving
from tests.support.identity import Issuer, read_documented_issuer
from tests.support.openid import STRONG_LEVEL, OpenIdProvider, open_id_provider

AREA = "compliance"
[APPROVE] = [method for method in methods_of(AREA) if method.name == "ApproveApproval"]
[GET_APPROVAL] = [method for method in methods_of(AREA) if method.name == "GetApproval"]
KEY, NEXT_KEY = RSAKey.generate_key(2048), RSAKey.generate_key(2048)
PEOPLE = {
    "ann": {"groups": ["staff", "finance"], "employee": "E-1001", "company": {"id": "acme"}},
    "bob": {"groups": ["staff"], "employee": "E-1002", "company": {"id": "acme"}},
    "eve": {"groups": ["finance"], "employee": "E-2001", "company": {"id": "elsewhere"}},
}


@pytest.fixture(scope="module")
def provider() -> Iterator[OpenIdProvider]:
    with open_id_provider([KEY], PEOPLE) as running:
        yield running


def believing(folder: Path, provider: OpenIdProvider) -> Verifier:
    """As a service whose issuers file has the documented settings, with the name that this provider has."""
    ours = Issuer(folder)
    ours.issuers.write_text(json.dumps([read_documented_issuer("node-oidc-provider") | {"issuer": provider.name}]))
    return ours.verifier(AREA)


async def ask(served: Served, token: str) -> Refused | None:
    """Why the second person's yes is refused; None where only the request is not good."""
    approve = served.channel.unary_unary(path_of(APPROVE))
    with pytest.raises(aio.AioRpcError) as refusal:
        await approve(b"", metadata=(("authorization", f"Bearer {token}"),))
    status = status_in(refusal.value)
    found = from_status(status) if status is not None else None
    assert found is not None
    return None if found.kind is Kind.INVALID_ARGUMENT else found


async def test_who_signed_in_there_is_known_here_and_who_has_no_role_or_organization_of_ours_is_not(
    tmp_path: Path, provider: OpenIdProvider
) -> None:
    verifier = believing(tmp_path, provider)
    tokens = await provider.sign_in("ann")
    found = await verifier.verify(tokens.access_token)
    assert (found.subject, found.person, found.role, found.org_id) == ("ann", "e-1001", "admin", "org-acme")
    async with serving(verifier, AREA) as served:
        assert not isinstance(await served.call(GET_APPROVAL, tokens.access_token), str)
    others = [(await provider.sign_in(login)).access_token for login in ("bob", "eve")]
    # What it signs for the client says who somebody is, and opens nothing.
    for token in (tokens.id_token, *others):
        with pytest.raises(Unauthenticated):
            await verifier.verify(token)


async def test_a_key_that_it_does_not_publish_signs_for_nobody_under_whatever_key_id(
    tmp_path: Path, provider: OpenIdProvider
) -> None:
    verifier = believing(tmp_path, provider)
    good = (await provider.sign_in("ann")).access_token
    opened = jws.extract_compact(good.encode())
    foreign = RSAKey.generate_key(2048)
    for kid in (KEY.thumbprint(), foreign.thumbprint()):
        header: dict[str, Any] = {**opened.headers(), "kid": kid}
        forged = jws.serialize_compact(header, opened.payload, foreign, algorithms=["RS256"])
        with pytest.raises(Unauthenticated):
            await verifier.verify(forged)
    await verifier.verify(jws.serialize_compact(opened.headers(), opened.payload, KEY, algorithms=["RS256"]))


async def test_who_signed_in_with_a_password_alone_says_yes_after_the_sign_in_that_the_refusal_asks_for(
    tmp_path: Path, provider: OpenIdProvider
) -> None:
    async with serving(believing(tmp_path, provider), AREA) as served:
        refusal = await ask(served, (await provider.sign_in("ann")).access_token)
        assert refusal is not None
        assert refusal.reason == "INSUFFICIENT_USER_AUTHENTICATION"
        asked = {name: refusal.metadata[name] for name in ("max_age", "acr_values")}
        assert asked == {"max_age": "900", "acr_values": STRONG_LEVEL}
        strong = await provider.sign_in("ann", **asked)
        assert await ask(served, strong.access_token) is None


async def test_a_key_that_it_changes_to_is_followed_and_one_that_it_withdraws_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clocks = {name: getattr(time, name) for name in ("monotonic", "time")}

    def go_on(seconds: float) -> None:
        for name, now in clocks.items():
            monkeypatch.setattr(time, name, lambda now=now: now() + seconds)

    with open_id_provider([KEY], PEOPLE) as before:
        verifier = believing(tmp_path, before)
        old = (await before.sign_in("ann")).access_token
        await verifier.verify(old)
    with open_id_provider([NEXT_KEY, KEY], PEOPLE, before.port) as changed:
        new = (await changed.sign_in("ann")).access_token
        go_on(11)
        for token in (new, old):
            assert (await verifier.verify(token)).subject == "ann"
    with open_id_provider([NEXT_KEY], PEOPLE, before.port):
        go_on(AGE_SECONDS_MAX + 20)
        await verifier.verify(new)
        with pytest.raises(Unauthenticated):
            await verifier.verify(old)
