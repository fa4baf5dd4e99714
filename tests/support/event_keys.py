"""Keys for events: one of each service, made for this process, and their JWKS."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from deploy.topology import SERVICE_NAMES
from services.chassis.events.signatures import SIGNATURE, EventKey, EventKeys


@cache
def _private_key(service: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


def event_key(service: str = "escrow") -> EventKey:
    return EventKey(service, _private_key(service))


def event_key_settings(folder: Path, service: str) -> dict[str, str]:
    """Writes what a service is given, and returns where: its environment."""
    private, public = folder / "event_key.pem", folder / "event_keys.json"
    private.touch(mode=0o600)
    private.write_bytes(_private_key(service).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_text(json.dumps({"keys": [event_key(name).public_jwk() for name in SERVICE_NAMES]}))
    return {"EVENT_KEY_FILE": str(private), "EVENT_JWKS": str(public)}


def event_keys(folder: Path) -> EventKeys:
    """Those of all services, to check with."""
    return EventKeys(event_key_settings(folder, "escrow")["EVENT_JWKS"])


def signed(subject: str, event_id: str, body: bytes) -> dict[str, str]:
    """The headers of an event that the service of its area told."""
    return {"ce-id": event_id, SIGNATURE: event_key(subject.split(".")[1]).sign(subject, event_id, body)}
