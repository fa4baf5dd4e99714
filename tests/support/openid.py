"""A real OpenID provider as a process of its own, and a browser that signs in there."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
from joserfc.jwk import RSAKey

from tests.support.node import PROGRAM, install_packages

FOLDER = Path(__file__).with_name("issuer")
CLIENT, REDIRECT = "console", "https://console.realco.example/signed-in"
STRONG_LEVEL = "urn:example:two-factors"
PASSWORD, OTP = "correct horse", "314159"


@dataclass(frozen=True)
class Tokens:
    access_token: str
    id_token: str


@dataclass(frozen=True)
class OpenIdProvider:
    """Where it listens, which is its name."""

    name: str

    @property
    def port(self) -> int:
        return urlsplit(self.name).port or 0

    async def sign_in(self, login: str, **asked: str) -> Tokens:
        """By the authorization code flow with PKCE, in a browser that was never there.

        Args:
            asked: What the client asks of the sign-in: `acr_values`, `max_age`.
        """
        verifier = secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        async with httpx.AsyncClient(base_url=self.name, trust_env=False) as browser:
            discovered = (await browser.get("/.well-known/openid-configuration")).raise_for_status().json()
            query = {
                "client_id": CLIENT,
                "response_type": "code",
                "scope": "openid finance",
                "redirect_uri": REDIRECT,
                "code_challenge": challenge,
                "code_challenge_method": "S256",
                **asked,
            }
            page = await browser.get(discovered["authorization_endpoint"], params=query)
            form = {"login": login, "password": PASSWORD, "otp": OTP}
            page = await browser.post(page.headers["location"], data=form)
            while not (location := urljoin(self.name, page.headers["location"])).startswith(REDIRECT):
                page = await browser.get(location)
            [code] = parse_qs(urlsplit(location).query)["code"]
            exchange = {"grant_type": "authorization_code", "client_id": CLIENT, "redirect_uri": REDIRECT}
            exchange |= {"code": code, "code_verifier": verifier}
            answer = (await browser.post(discovered["token_endpoint"], data=exchange)).raise_for_status().json()
        return Tokens(answer["access_token"], answer["id_token"])


@contextmanager
def open_id_provider(
    keys: Sequence[RSAKey], people: Mapping[str, Mapping[str, Any]], port: int = 0
) -> Iterator[OpenIdProvider]:
    """
    Args:
        keys: It publishes all of them, and signs with the first.
        people: The claims of each, by login.
        port: Where it was before, to be the same provider.
    """
    install_packages(FOLDER)
    configuration = {
        "port": port,
        "keys": [{**key.as_dict(private=True), "kid": key.thumbprint(), "use": "sig", "alg": "RS256"} for key in keys],
        "people": {login: {"password": PASSWORD, "otp": OTP, "claims": claims} for login, claims in people.items()},
        "strongLevel": STRONG_LEVEL,
    }
    process = subprocess.Popen(
        [str(PROGRAM), "provider.js", json.dumps(configuration)], cwd=FOLDER, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", name), "it did not start"
        yield OpenIdProvider(name)
    finally:
        process.kill()
        process.communicate(timeout=10)
