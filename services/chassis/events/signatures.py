"""Every event is signed by the service that tells it, and whoever hears it checks that before anything else.

The header `realco-signature` is `<key id> <signature>`: Ed25519, base64url without padding, over the lines
`realco-event`, the subject and the event's id (`ce-id`), and then the body. A key id begins with the name of its
service and a colon, and only that service's keys sign events of its area. Who may publish on NATS but has no key of the
service can thus tell nothing in its name, and a true event cannot be told again under another subject or id.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from joserfc.jwk import OKPKey

from services.chassis.calls.keys import PublishedKeys
from services.chassis.process.settings import ConfigurationError, read_private_file

SIGNATURE = "realco-signature"
# A key's id: its service, and the beginning of the key's own digest (`EventKey.kid`).
_KID = re.compile(r"[a-z]+:[A-Za-z0-9_-]{16}", re.ASCII)


class NotProven(Exception):
    """The event does not prove that its service told it. The message says why, for the cause of a dead letter."""


class KeyNotKnown(NotProven):
    """It may be proven once the key is known with which it says to be signed.

    Args:
        kid: That key's id. Whoever writes into the stream can name one, in the form of an id.
    """

    def __init__(self, kid: str) -> None:
        self.kid = kid
        super().__init__("signed with an unknown key")


class EventKey:
    """A service's own key for the events it tells."""

    def __init__(self, service: str, key: Ed25519PrivateKey) -> None:
        self._key = key
        self._jwk = OKPKey.import_key(key.public_key())
        self.kid = f"{service}:{self._jwk.thumbprint()[:16]}"

    @classmethod
    def load(cls, service: str, path: Path) -> EventKey:
        """Raises: ConfigurationError unless the file is private and holds a key of that kind."""
        try:
            return cls.read(service, read_private_file(path, "EVENT_KEY_FILE"))
        except (ValueError, TypeError):
            raise ConfigurationError(f"EVENT_KEY_FILE: {path.name} is not a PEM private key of Ed25519") from None

    @classmethod
    def read(cls, service: str, pem: bytes) -> EventKey:
        """Raises: ValueError, TypeError."""
        key = load_pem_private_key(pem, password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise TypeError("another kind of key")
        return cls(service, key)

    def public_jwk(self) -> dict[str, Any]:
        """The entry of this key in the JWKS."""
        return {**self._jwk.as_dict(private=False), "kid": self.kid, "use": "sig", "alg": "EdDSA"}

    def sign(self, subject: str, event_id: str, body: bytes) -> str:
        """The value of the header."""
        return f"{self.kid} {_encoded(self._key.sign(_signed(subject, event_id, body)))}"


class EventKeys:
    """The public keys of the services that tell events."""

    def __init__(self, source: str) -> None:
        """`source`: the path or URL of the JWKS."""
        self._keys = PublishedKeys(source)

    async def check(self, subject: str, headers: Mapping[str, str] | None, body: bytes) -> None:
        """Returns if the event is what the service of its area told.

        Raises:
            NotProven: it is not, or does not show it.
            Unavailable: there are no keys to check it with.
        """
        kid, _, signature = (headers or {}).get(SIGNATURE, "").partition(" ")
        if not signature:
            raise NotProven("not signed")
        if not subject.startswith(f"realco.{kid.partition(':')[0]}."):
            raise NotProven("signed by another service")
        key = await self._keys.find(kid)
        public = key.public_key if isinstance(key, OKPKey) else None
        if not isinstance(public, Ed25519PublicKey):
            if not is_key_id(kid):
                raise NotProven("signed with what is no key of a service")
            raise KeyNotKnown(kid)
        try:
            public.verify(_decoded(signature), _signed(subject, (headers or {}).get("ce-id", ""), body))
        except (InvalidSignature, binascii.Error):
            raise NotProven("wrong signature") from None


def is_key_id(kid: str) -> bool:
    """Whether it has the form of one: no service ever signed with another."""
    return _KID.fullmatch(kid) is not None


def _signed(subject: str, event_id: str, body: bytes) -> bytes:
    return f"realco-event\n{subject}\n{event_id}\n".encode() + body


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars="-_", validate=True)
