"""The key that webhooks are signed with, and the tokens that it signs: kept, so that a restart changes neither.

Source: plaid.com/docs/api/webhooks/webhook-verification.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey

from sandbox.store import Store

KEYS = """
CREATE TABLE IF NOT EXISTS keys (
    id TEXT PRIMARY KEY,
    private TEXT NOT NULL,
    made_seconds INTEGER NOT NULL
);
"""


class SigningKey:
    def __init__(self, store: Store) -> None:
        kept = store.one("SELECT * FROM keys")
        if kept is None:
            made = ECKey.generate_key("P-256", private=True)
            kept = {"id": str(uuid.uuid4()), "private": json.dumps(made.as_dict(private=True))}
            kept["made_seconds"] = int(time.time())
            with store.transaction():
                store.insert("keys", **kept)
        self.key_id: str = kept["id"]
        self._key = ECKey.import_key(json.loads(kept["private"]))
        self._made_seconds: int = kept["made_seconds"]

    def sign(self, body: bytes) -> str:
        """A token over the body, as it leaves."""
        claims = {"iat": int(time.time()), "request_body_sha256": hashlib.sha256(body).hexdigest()}
        return jwt.encode({"alg": "ES256", "kid": self.key_id, "typ": "JWT"}, claims, self._key, algorithms=["ES256"])

    def show(self) -> dict[str, Any]:
        """As the API shows it."""
        public = self._key.as_dict(private=False)
        times = {"created_at": self._made_seconds, "expired_at": None}
        return {**public, "alg": "ES256", "use": "sig", "kid": self.key_id, **times}
