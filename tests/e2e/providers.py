"""The outside world's side of webhooks: how Stripe, Plaid and the sandbox bank sign, and the server of Plaid's key."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey

STRIPE_SECRET = f"whsec_{secrets.token_hex(16)}"
PLAID_KEY_ID = "plaid-key-1"


def event(provider: str, event_id: str) -> bytes:
    """The body of a genuine event that is about nothing of ours."""
    if provider == "plaid":
        return json.dumps({"webhook_type": "ITEM", "webhook_code": "ERROR", "item_id": event_id}).encode()
    body: dict[str, Any] = {"id": event_id, "object": "event", "type": "something.happened", "data": {"object": {}}}
    body |= {"livemode": False}
    return json.dumps(body).encode()


def signed(secret: str, body: bytes, *, age_seconds: int = 0, scheme: str = "v1") -> str:
    """The header of Stripe and of the sandbox bank: HMAC-SHA256 over `<time>.<body>`."""
    at = int(time.time()) - age_seconds
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},{scheme}={digest}"


class Plaid:
    """Signs as Plaid does, and serves the public key to whoever asks for it by id."""

    def __init__(self) -> None:
        self.key = ECKey.generate_key("P-256", private=True)
        self.url = ""

    def verification(
        self,
        body: bytes,
        *,
        age_seconds: int = 0,
        key: ECKey | None = None,
        header: dict[str, str] | None = None,
    ) -> str:
        claims = {"iat": int(time.time()) - age_seconds, "request_body_sha256": hashlib.sha256(body).hexdigest()}
        protected = {"alg": "ES256", "typ": "JWT", "kid": PLAID_KEY_ID} | (header or {})
        return jwt.encode(protected, claims, key or self.key, algorithms=["ES256"])

    @contextmanager
    def serving(self) -> Iterator[Plaid]:
        jwk = {**self.key.as_dict(private=False), "kid": PLAID_KEY_ID, "alg": "ES256", "use": "sig", "expired_at": None}

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
                known = self.path == "/webhook_verification_key/get" and asked["key_id"] == PLAID_KEY_ID
                answer = json.dumps({"key": jwk} if known else {"error_code": "INVALID_FIELD"}).encode()
                self.send_response(200 if known else 400)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            self.url = f"http://127.0.0.1:{server.server_port}"
            yield self
            server.shutdown()
