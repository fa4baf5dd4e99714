"""The keys that services prove themselves with and seal rows with, made where there are none yet, and the public sets.

`python -m deploy.keys --secrets secrets/` makes those of a new installation (docs/operations.md, Install and start).
A service is given its own keys and no other's; the sets hold nothing private. A key that is there is never changed.
"""

from __future__ import annotations

import argparse
import json
import secrets as randomness
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc.jwk import ECKey

from deploy.secrets import Secrets, write_private
from deploy.topology import SERVICE_NAMES
from services.chassis.calls.tokens import ServiceIdentity
from services.chassis.events.signatures import EventKey
from services.compliance.key_tokens import public_jwk_of

# The sets of public keys: of what services sign calls with, events, and the tokens of API keys.
SERVICE_JWKS, EVENT_JWKS, API_TOKEN_JWKS = "service_keys.json", "event_keys.json", "api_token_keys.json"


class Keys:
    """The keys of one installation, a secret each."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets

    def service_key(self, name: str) -> str:
        """The PEM of a service's own private key."""
        return self._secrets.get(f"service_key_{name}", new_signing_key)

    def event_key(self, name: str) -> str:
        """The PEM of the private key that a service signs its events with."""
        return self._secrets.get(f"event_key_{name}", _new_event_key)

    def data_key(self, name: str) -> str:
        """The key that a service seals its rows with, as 64 hexadecimal digits."""
        return self._secrets.get(f"data_key_{name}", lambda: randomness.token_hex(32))

    def wrapping_key(self) -> str:
        """The key that transactions wraps the keys of its vault with, as 64 hexadecimal digits."""
        return self._secrets.get("wrapping_key", lambda: randomness.token_hex(32))

    def api_token_key(self) -> str:
        """The PEM of the private key that compliance signs the tokens of API keys with."""
        return self._secrets.get("api_token_key", new_signing_key)

    def public_sets(self) -> dict[str, list[dict[str, Any]]]:
        """The public keys, by the name of the JWKS that they belong in."""
        return {
            SERVICE_JWKS: [ServiceIdentity(name, self.service_key(name)).public_jwk() for name in SERVICE_NAMES],
            EVENT_JWKS: [EventKey.read(name, self.event_key(name).encode()).public_jwk() for name in SERVICE_NAMES],
            API_TOKEN_JWKS: [public_jwk_of(ECKey.import_key(self.api_token_key()))],
        }

    def write_public_sets(self, folder: Path) -> None:
        for name, keys in self.public_sets().items():
            write_private(folder / name, json.dumps({"keys": keys}, indent=2))


def new_signing_key() -> str:
    """A private key for ES256, PEM."""
    return ECKey.generate_key("P-256", private=True).as_pem(private=True).decode()


def _new_event_key() -> str:
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m deploy.keys",
        description="Makes the keys of the services that are missing, and the public sets.",
    )
    parser.add_argument("--secrets", type=Path, required=True, help="folder of the keys; made if missing")
    folder = parser.parse_args().secrets
    keys = Keys(Secrets(folder))
    for service in SERVICE_NAMES:
        keys.data_key(service)
    keys.wrapping_key()
    keys.write_public_sets(folder)
