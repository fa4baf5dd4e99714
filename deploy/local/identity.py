"""The local instance's own issuer of tokens, and the keys and certificates its processes prove themselves with.

- ES256 throughout; private keys are mode-0600 files, made when first needed and never changed.
- One JWKS holds the issuer's public key, another every service's (kid `service:<name>`), and none anything private.
- A third holds the public keys that the services sign their events with: whoever hears events may have it.
- A fourth holds the public key of compliance's, which signs the tokens of API keys.
- Certificates come from an authority of the instance's own. One is there for whoever calls the services by hand.
"""

from __future__ import annotations

import json
import secrets as randomness
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwt
from joserfc.jwk import ECKey

from deploy.local.authority import Authority, Issued, new_key
from deploy.local.secrets import Secrets, write_private
from deploy.topology import SERVICE_NAMES
from services.chassis.calls.tokens import ServiceIdentity
from services.chassis.events.signatures import EventKey
from services.compliance.key_tokens import public_jwk_of

ISSUER = "urn:realco:local"
AUDIENCE = "realco"
ISSUER_KEY_ID = "local-issuer"
API_KEY_ISSUER = "urn:realco:local:api-keys"
LIFETIME_SECONDS = 3600
ORGANIZATION = "org-demo"
# Whose certificate a person uses, or a test, to call the services without the gateway.
CLIENT = "client"
# The demo's people, by role.
SUBJECTS = {"admin": "admin-1", "sponsor": "sponsor-1", "investor": "inv-001", "auditor": "auditor-1"}


class Identity:
    """The keys of one instance, under its `data_dir`."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = Path(data_dir).resolve()
        self._secrets = Secrets(self._data_dir / "secrets")
        self.issuers_file = self._data_dir / "issuers.json"
        self.jwks_file = self._data_dir / "jwks.json"
        self.service_jwks_file = self._data_dir / "service_keys.json"
        self.event_jwks_file = self._data_dir / "event_keys.json"
        self.ca_file = self._data_dir / "ca.pem"
        self.api_token_jwks_file = self._data_dir / "api_token_keys.json"

    def prepare(self) -> None:
        """Makes the keys that are missing and writes the key sets, and who the issuer is."""
        issuer_key = {**self._issuer_key().as_dict(private=False), "kid": ISSUER_KEY_ID, "use": "sig", "alg": "ES256"}
        _write(self.jwks_file, {"keys": [issuer_key]})
        services = [ServiceIdentity(name, self.service_key(name)).public_jwk() for name in SERVICE_NAMES]
        _write(self.service_jwks_file, {"keys": services})
        told = [EventKey.read(name, self.event_key(name).encode()).public_jwk() for name in SERVICE_NAMES]
        _write(self.event_jwks_file, {"keys": told})
        issuer: dict[str, Any] = {"issuer": ISSUER, "audience": AUDIENCE, "jwks": str(self.jwks_file)}
        issuer |= {"lifetime_seconds_max": LIFETIME_SECONDS, "claims": {"person": "person"}}
        issuer |= {"strong_seconds_max": LIFETIME_SECONDS}  # nobody signs in here: a token is one as long as it is good
        _write(self.api_token_jwks_file, {"keys": [public_jwk_of(ECKey.import_key(self.api_token_key()))]})
        keys: dict[str, Any] = {"issuer": API_KEY_ISSUER, "audience": AUDIENCE, "jwks": str(self.api_token_jwks_file)}
        _write(self.issuers_file, [issuer, keys | {"api_keys": True}])
        write_private(self.ca_file, self._authority().make_certificate())
        self.write_certificate(CLIENT)

    def issue_token(
        self,
        role: str,
        sub: str | None = None,
        org: str = ORGANIZATION,
        lifetime: int = LIFETIME_SECONDS,
        *,
        person: str | None = None,
        signed_in: Sequence[str] = ("pwd", "otp", "mfa"),
    ) -> str:
        """A user's bearer token, valid for `lifetime` seconds of system time (negative: already expired).

        Args:
            sub: The account; by default the demo's person of that role.
            person: Whose account it is; by default nobody else has it.
            signed_in: How, just now. Source: RFC 8176
        """
        if role not in SUBJECTS:
            raise ValueError(f"No role {role!r}: there are {', '.join(SUBJECTS)}")
        now = int(time.time())
        sub = sub or SUBJECTS[role]
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": sub,
            "person": person or sub,
            "role": role,
            "org_id": org,
        }
        claims |= {"iat": now, "exp": now + lifetime, "auth_time": now, "amr": list(signed_in)}
        header = {"alg": "ES256", "typ": "at+jwt", "kid": ISSUER_KEY_ID}
        return jwt.encode(header, claims, self._issuer_key(), algorithms=["ES256"])

    def issue_certificate(self, process: str) -> Issued:
        """A new certificate that names the process, good for a year."""
        return self._authority().issue(process)

    def write_certificate(self, process: str) -> Path:
        """The folder with a new certificate of that process (`certificate.pem`) and its key (`key.pem`)."""
        folder, issued = self._data_dir / "certificates" / process, self.issue_certificate(process)
        write_private(folder / "certificate.pem", issued.certificate)
        write_private(folder / "key.pem", issued.key)
        return folder

    def service_key(self, name: str) -> str:
        """The PEM of a service's own private key."""
        return self._secrets.get(f"service_key_{name}", _new_key)

    def event_key(self, name: str) -> str:
        """The PEM of the private key that a service signs its events with."""
        return self._secrets.get(f"event_key_{name}", _new_event_key)

    def data_key(self, name: str) -> str:
        """The key that a service seals its rows with, as 64 hexadecimal digits."""
        return self._secrets.get(f"data_key_{name}", lambda: randomness.token_hex(32))

    def api_token_key(self) -> str:
        """The PEM of the private key that compliance signs the tokens of API keys with."""
        return self._secrets.get("api_token_key", _new_key)

    def webhook_secret(self) -> str:
        """What the sandbox bank signs its webhooks with."""
        return self._secrets.get("sandbox_bank_webhook_secret")

    def _authority(self) -> Authority:
        return Authority(self._secrets.get("ca_key", new_key))

    def _issuer_key(self) -> ECKey:
        return ECKey.import_key(self._secrets.get("issuer_key", _new_key))


def _new_key() -> str:
    return ECKey.generate_key("P-256", private=True).as_pem(private=True).decode()


def _new_event_key() -> str:
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _write(path: Path, document: object) -> None:
    write_private(path, json.dumps(document, indent=2))
