"""An issuer of tokens for tests: its own keys, its JWKS file, and tokens as wrong as a test wants them."""

from __future__ import annotations

import base64
import hmac
import json
import re
import time
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from joserfc.jwk import ECKey
from realco.compliance.v1.api_keys_pb2 import ApiKey

from services.chassis.calls.issuers import read_issuers
from services.chassis.calls.tokens import ServiceIdentity, Verifier
from services.chassis.process.settings import Settings
from services.compliance.key_tokens import KeyTokens, find_issuer, public_jwk_of

ISSUER = "https://issuer.test"
API_KEY_ISSUER = "https://keys.issuer.test"
PAGE = Path(__file__).parents[2] / "docs" / "sign-in.md"
# All that API keys may be used for.
SCOPES = ApiKey.Scope.keys()[1:]


class Issuer:
    """Signs tokens of people; beside it are the keys of two services, and an issuer for API keys."""

    def __init__(self, folder: Path) -> None:
        self.key = ECKey.generate_key("P-256")
        self.escrow = ServiceIdentity("escrow", ECKey.generate_key("P-256"))
        self.transactions = ServiceIdentity("transactions", ECKey.generate_key("P-256"))
        self.jwks, self.service_jwks = folder / "jwks.json", folder / "service_keys.json"
        self.publish({**self.key.as_dict(private=False), "kid": "people-1"})
        self.admit(self.escrow, self.transactions)
        self.key_of_keys = ECKey.generate_key("P-256")
        self._jwks_of_keys = folder / "api_token_keys.json"
        self._jwks_of_keys.write_text(json.dumps({"keys": [public_jwk_of(self.key_of_keys)]}))
        self.issuers = folder / "issuers.json"
        self.describe()
        self.settings = Settings(issuers_file=self.issuers, service_jwks=str(self.service_jwks))

    def publish(self, *keys: dict[str, Any]) -> None:
        """Its keys are these from now on."""
        self.jwks.write_text(json.dumps({"keys": keys}))

    def admit(self, *services: ServiceIdentity) -> None:
        """These are the services there are from now on."""
        self.service_jwks.write_text(json.dumps({"keys": [service.public_jwk() for service in services]}))

    def describe(self, **more: Any) -> None:
        """What the configuration says of this issuer."""
        issuer = {"issuer": ISSUER, "audience": "realco", "jwks": str(self.jwks)} | more
        keys = {"issuer": API_KEY_ISSUER, "audience": "realco", "jwks": str(self._jwks_of_keys), "api_keys": True}
        self.issuers.write_text(json.dumps([_without_none(issuer), keys]))

    def environment(self) -> dict[str, str]:
        """The settings of a process that believes it."""
        return {"ISSUERS_FILE": str(self.issuers), "SERVICE_JWKS": str(self.service_jwks)}

    def verifier(self, service: str = "escrow") -> Verifier:
        return Verifier(self.settings, service)

    def key_tokens(self) -> KeyTokens:
        """What compliance signs tokens of API keys with."""
        return KeyTokens(find_issuer(read_issuers(self.issuers).values()), self.key_of_keys)

    def key_token(self, *, header: dict[str, Any] | None = None, key: ECKey | None = None, **claims: Any) -> str:
        """A good token of an API key for all there is, but for what is given."""
        kept = {
            "iss": API_KEY_ISSUER,
            "sub": "key:key_1",
            "person": "ann",
            "scope": " ".join(SCOPES),
            "auth_time": 1,
            "sid": "0",
        }
        signed = {"kid": self.key_of_keys.thumbprint()} | (header or {})
        return self.token(header=signed, key=key or self.key_of_keys, **(kept | claims))

    def token(self, *, header: dict[str, Any] | None = None, key: ECKey | None = None, **claims: Any) -> str:
        """A good token of an admin, but for what is given; None leaves a claim or header out."""
        now = int(time.time())
        all_claims = {
            "iss": ISSUER,
            "aud": "realco",
            "sub": "admin-1",
            "role": "admin",
            "org_id": "org_1",
            "iat": now,
            "exp": now + 60,
        } | claims
        all_headers = {"alg": "ES256", "typ": "at+jwt", "kid": "people-1"} | (header or {})
        parts = (_without_none(all_headers), _without_none(all_claims))
        signed = b".".join(_encoded(json.dumps(part).encode()) for part in parts)
        return b".".join((signed, _encoded(_signature(all_headers["alg"], signed, key or self.key)))).decode()


def read_documented_issuer(provider: str) -> dict[str, Any]:
    """What the page about sign-ins has as an example for that provider."""
    section = PAGE.read_text().partition(f"**{provider}**")[2]
    found = re.search(r"```json\n(.*?)```", section, re.DOTALL)
    assert found is not None
    [issuer] = json.loads(found[1])
    return dict(issuer)


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _encoded(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def _signature(algorithm: str, signed: bytes, key: ECKey) -> bytes:
    """By hand: a library refuses to make most of the tokens an attacker would."""
    if algorithm == "HS256":  # with the public key as the secret
        return hmac.digest(key.as_pem(private=False), signed, "sha256")
    r, s = decode_dss_signature(key.private_key.sign(signed, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")
