"""The local instance's own issuer of tokens, and the keys and certificates its processes prove themselves with.

- ES256 throughout; private keys are mode-0600 files, made when first needed and never changed.
- One JWKS holds the issuer's public key, another every service's (kid `service:<name>`), and none anything private.
- A third holds the public keys that the services sign their events with: whoever hears events may have it.
- A fourth holds the public key of compliance's, which signs the tokens of API keys.
- Certificates come from an authority of the instance's own. One is there for whoever calls the services by hand.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey

from deploy.keys import API_TOKEN_JWKS, EVENT_JWKS, SERVICE_JWKS, Keys, new_signing_key
from deploy.local.authority import Authority, Issued, new_key
from deploy.secrets import Secrets, write_private

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
        self.keys = Keys(self._secrets)
        self.issuers_file = self._data_dir / "issuers.json"
        self.jwks_file = self._data_dir / "jwks.json"
        self.service_jwks_file = self._data_dir / SERVICE_JWKS
        self.event_jwks_file = self._data_dir / EVENT_JWKS
        self.ca_file = self._data_dir / "ca.pem"

    def prepare(self) -> None:
        """Makes the keys that are missing and writes the key sets, and who the issuer is."""
        issuer_key = {**self._issuer_key().as_dict(private=False), "kid": ISSUER_KEY_ID, "use": "sig", "alg": "ES256"}
        _write(self.jwks_file, {"keys": [issuer_key]})
        self.keys.write_public_sets(self._data_dir)
        issuer: dict[str, Any] = {"issuer": ISSUER, "audience": AUDIENCE, "jwks": str(self.jwks_file)}
        issuer |= {"lifetime_seconds_max": LIFETIME_SECONDS, "claims": {"person": "person"}}
        issuer |= {"strong_seconds_max": LIFETIME_SECONDS}  # nobody signs in here: a token is one as long as it is good
        keys = {"issuer": API_KEY_ISSUER, "audience": AUDIENCE, "jwks": str(self._data_dir / API_TOKEN_JWKS)}
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

    def webhook_secret(self) -> str:
        """What the sandbox bank signs its webhooks with."""
        return self._secrets.get("sandbox_bank_webhook_secret")

    def _authority(self) -> Authority:
        return Authority(self._secrets.get("ca_key", new_key))

    def _issuer_key(self) -> ECKey:
        return ECKey.import_key(self._secrets.get("issuer_key", new_signing_key))


def _write(path: Path, document: object) -> None:
    write_private(path, json.dumps(document, indent=2))
