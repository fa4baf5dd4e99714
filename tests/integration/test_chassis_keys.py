"""The keys that signatures are checked with: each by itself, and none for longer than its set says."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey, RSAKey

from services.chassis.calls.keys import AGE_SECONDS_MAX, KEPT_SECONDS_MAX, PublishedKeys
from services.chassis.values.errors import Unauthenticated, Unavailable
from tests.support.identity import Issuer


def public(key: Any, kid: str, **more: Any) -> dict[str, Any]:
    return {**key.as_dict(private=False), "kid": kid, **more}


OURS = ECKey.generate_key("P-256")


BESIDE = (
    {},
    7,
    None,
    [],
    {"kid": "x"},
    {"kid": 7, "kty": "EC"},
    {"kid": "x", "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
    {"kid": "x", "kty": "EC", "crv": "P-1", "x": "AA", "y": "AA"},
    {"kid": "x", "kty": "EC", "crv": ["P-256"], "x": 1, "y": {}},
    {"kid": "x", "kty": "RSA", "n": "AQAB"},
    {"kid": "x", "kty": "RSA", "n": "", "e": ""},
    {"kid": "x", "kty": "AKP", "alg": "ML-DSA-65", "pub": "AA"},
    {"kid": "x", "kty": ["EC"]},
    {"kid": "x", "kty": "OKP", "crv": "Ed25519", "x": "!"},
    {"kid": "x", **OctKey.generate_key(256).as_dict()},
    {"kid": "x", **ECKey.generate_key("P-256").as_dict(private=True)},  # everybody could sign with it
    public(RSAKey.generate_key(2048), "x", use="enc", alg="RSA-OAEP"),
)


# By number: some of the keys are made anew in each process.
@pytest.mark.parametrize("beside", BESIDE, ids=range(len(BESIDE)))
async def test_a_foreign_or_broken_key_spoils_nothing(tmp_path, beside):
    path = tmp_path / "jwks.json"
    for keys in ([beside, public(OURS, "ours")], [public(OURS, "ours"), beside]):
        path.write_text(json.dumps({"keys": keys}))
        published = PublishedKeys(str(path))
        assert await published.find("ours") is not None
        assert await published.find("x") is None


async def test_of_two_keys_with_one_id_neither_works(tmp_path):
    issuer = Issuer(tmp_path)
    other = ECKey.generate_key("P-256")
    issuer.publish(public(other, "people-1"), public(issuer.key, "people-1"), public(other, "people-2"))
    verifier = issuer.verifier()
    for key in (issuer.key, other):
        with pytest.raises(Unauthenticated):
            await verifier.verify(issuer.token(key=key))
    assert (await verifier.verify(issuer.token(header={"kid": "people-2"}, key=other))).subject == "admin-1"


async def test_a_withdrawn_key_ends_within_five_minutes_also_for_who_was_seen_before(tmp_path, monkeypatch):
    issuer = Issuer(tmp_path)
    issuer.describe(lifetime_seconds_max=3600)
    verifier, begun, now = issuer.verifier(), time.monotonic(), int(time.time())
    good = issuer.token(exp=now + 3000)
    await verifier.verify(good)
    issuer.publish()

    def go_on(seconds: float) -> None:
        monkeypatch.setattr(time, "monotonic", lambda: begun + seconds)
        monkeypatch.setattr(time, "time", lambda: now + seconds)

    go_on(AGE_SECONDS_MAX - 5)
    fresh = issuer.token(sub="admin-2", iat=now, exp=now + 3000)
    for token in (good, fresh):
        await verifier.verify(token)
    go_on(AGE_SECONDS_MAX + 5)
    for token in (good, fresh):
        with pytest.raises(Unauthenticated):
            await verifier.verify(token)


async def test_keys_of_a_set_that_cannot_be_read_are_good_for_an_hour(tmp_path, monkeypatch):
    issuer = Issuer(tmp_path)
    issuer.describe(lifetime_seconds_max=86400)
    verifier, begun, now = issuer.verifier(), time.monotonic(), int(time.time())
    good = issuer.token(exp=now + 86000)
    await verifier.verify(good)
    issuer.jwks.write_text("{}")
    monkeypatch.setattr(time, "monotonic", lambda: begun + KEPT_SECONDS_MAX - 5)
    monkeypatch.setattr(time, "time", lambda: now + KEPT_SECONDS_MAX - 5)
    await verifier.verify(good)
    monkeypatch.setattr(time, "monotonic", lambda: begun + KEPT_SECONDS_MAX + 10)
    monkeypatch.setattr(time, "time", lambda: now + KEPT_SECONDS_MAX + 10)
    with pytest.raises(Unavailable):
        await verifier.verify(good)


@contextmanager
def provider(documents: dict[str, Any]) -> Iterator[str]:
    """A small web server with these documents, which may change while it serves."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = documents.get(self.path)
            self.send_response(200 if found is not None else 404)
            self.end_headers()
            self.wfile.write(json.dumps(found).encode())

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


DISCOVERY = "/realm/.well-known/openid-configuration"


async def test_the_discovery_document_says_where_the_keys_are(tmp_path):
    documents: dict[str, Any] = {}
    with provider(documents) as url:
        name, issuer = f"{url}/realm", Issuer(tmp_path)
        documents[DISCOVERY] = {"issuer": name, "jwks_uri": f"{url}/keys"}
        documents["/keys"] = {"keys": [public(issuer.key, "people-1")]}
        issuer.describe(issuer=name, jwks=None)
        assert (await issuer.verifier().verify(issuer.token(iss=name))).subject == "admin-1"
        with pytest.raises(Unauthenticated):
            await issuer.verifier().verify(issuer.token())


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "https://somebody.else"},
        {"issuer": None},
        {"jwks_uri": None},
        {"jwks_uri": 7},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": "http://[::1"},
    ],
    ids=str,
)
async def test_the_discovery_document_of_another_issuer_or_without_keys_is_none(tmp_path, changes):
    documents: dict[str, Any] = {}
    with provider(documents) as url:
        name, issuer = f"{url}/realm", Issuer(tmp_path)
        documents[DISCOVERY] = {"issuer": name, "jwks_uri": f"{url}/keys"} | changes
        documents["/keys"] = {"keys": [public(issuer.key, "people-1")]}
        issuer.describe(issuer=name, jwks=None)
        with pytest.raises(Unavailable):
            await issuer.verifier().verify(issuer.token(iss=name))
