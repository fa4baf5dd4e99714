"""The local instance's own issuer of tokens, and the key each of its processes proves itself with.

- ES256 throughout; private keys are mode-0600 files, made when first needed and never changed.
- The JWKS holds the issuer's public key and every service's (kid `service:<name>`), and nothing private.
- Another JWKS holds the public keys that the services sign their events with: whoever hears events may have it.
"""

from __future__ import annotations

import json
import secrets as randomness
import time
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwt
from joserfc.jwk import ECKey

from deploy.local.secrets import Secrets, write_private
from deploy.topology import KEY_HOLDERS, SERVICE_NAMES
from services.chassis.events.signatures import EventKey

ISSUER = "urn:realco:local"
AUDIENCE = "realco"
ISSUER_KEY_ID = "local-issuer"
LIFETIME_SECONDS = 3600
ORGANIZATION = "org-demo"
# The demo's people, by role.
SUBJECTS = {"admin": "admin-1", "sponsor": "sponsor-1", "investor": "inv-001", "auditor": "auditor-1"}


class Identity:
    """The keys of one instance, under its `data_dir`."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = Path(data_dir).resolve()
        self._secrets = Secrets(self._data_dir / "secrets")
        self.jwks_file = self._data_dir / "jwks.json"
        self.event_jwks_file = self._data_dir / "event_keys.json"

    def prepare(self) -> None:
        """Makes the keys that are missing and writes the JWKS."""
        keys = [_public(self._issuer_key(), ISSUER_KEY_ID)]
        keys += [_public(ECKey.import_key(self.service_key(name)), f"service:{name}") for name in KEY_HOLDERS]
        write_private(self.jwks_file, json.dumps({"keys": keys}, indent=2))
        told = [EventKey.read(name, self.event_key(name).encode()).public_jwk() for name in SERVICE_NAMES]
        write_private(self.event_jwks_file, json.dumps({"keys": told}, indent=2))

    def issue_token(
        self, role: str, sub: str | None = None, org: str = ORGANIZATION, lifetime: int = LIFETIME_SECONDS
    ) -> str:
        """A user's bearer token, valid for `lifetime` seconds of system time (negative: already expired).

        `sub` is by default the demo's person of that role.
        """
        if role not in SUBJECTS:
            raise ValueError(f"No role {role!r}: there are {', '.join(SUBJECTS)}")
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": sub or SUBJECTS[role], "iat": now, "exp": now + lifetime}
        claims |= {"role": role, "org_id": org}
        header = {"alg": "ES256", "typ": "at+jwt", "kid": ISSUER_KEY_ID}
        return jwt.encode(header, claims, self._issuer_key(), algorithms=["ES256"])

    def service_key(self, name: str) -> str:
        """The PEM of a process's own private key."""
        return self._secrets.get(f"service_key_{name}", _new_key)

    def event_key(self, name: str) -> str:
        """The PEM of the private key that a service signs its events with."""
        return self._secrets.get(f"event_key_{name}", _new_event_key)

    def field_key(self) -> str:
        """The AES-256 key of encrypted fields, as 64 hexadecimal digits."""
        return self._secrets.get("field_key", lambda: randomness.token_hex(32))

    def webhook_secret(self) -> str:
        """What the sandbox bank signs its webhooks with."""
        return self._secrets.get("sandbox_bank_webhook_secret")

    def _issuer_key(self) -> ECKey:
        return ECKey.import_key(self._secrets.get("issuer_key", _new_key))


def _new_key() -> str:
    return ECKey.generate_key("P-256", private=True).as_pem(private=True).decode()


def _new_event_key() -> str:
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _public(key: ECKey, kid: str) -> dict[str, Any]:
    return {**key.as_dict(private=False), "kid": kid, "use": "sig", "alg": "ES256"}
