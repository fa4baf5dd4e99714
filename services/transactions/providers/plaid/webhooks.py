"""Plaid's webhooks, proved by the ES256 JWT in `Plaid-Verification`.

The JWT binds the SHA-256 of the raw body, and is good for five minutes. Its key is fetched from Plaid by `kid`, kept
for a day at most, and an unknown `kid` is remembered as unknown, so that a flood of forgeries is no flood at Plaid.
Source: plaid.com/docs/api/webhooks/webhook-verification.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import time
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from services.chassis.values.errors import Unavailable
from services.chassis.values.text import read_text
from services.transactions.domain.refusals import WebhookSignatureInvalid
from services.transactions.domain.webhooks import ProviderEvent
from services.transactions.providers.protocols import TEXT_CHARACTERS_MAX

AGE_SECONDS_MAX = 300
_FUTURE_SECONDS_MAX = 60
_KEY_SECONDS_MAX = 24 * 3600
_UNKNOWN_SECONDS = 300
_REMEMBERED_MAX = 1000
_FETCHES_PER_MINUTE_MAX = 30
_KEY_BYTES_MAX = 64 * 1024
_PROOF_CHARACTERS = 32
_TIME_MAX = 2**40
_KEY_ID = re.compile("[A-Za-z0-9_.-]{1,128}")
# It says that there are events of transfers, and not which. Source: plaid.com/docs/transfer/reconciling-transfers.
_KNOCK = "TRANSFER.TRANSFER_EVENTS_UPDATE"


@dataclass(frozen=True, slots=True)
class _Known:
    """A key, or None where Plaid knows none; until when (monotonic clock) that may be believed."""

    good_until: float
    key: ECKey | None


class PlaidWebhooks:
    """Without a base URL every webhook is refused.

    Args:
        secret: With which events are fetched; without one, webhooks are proved and stored, and not applied.
    """

    def __init__(self, base_url: str, client_id: str = "", secret: str = "") -> None:
        self._is_applied = bool(secret)
        self._base_url = base_url.rstrip("/")
        self._credentials = {"client_id": client_id, "secret": secret}
        self._keys: dict[str, _Known] = {}
        self._fetching = asyncio.Lock()
        self._fetches: list[float] = []

    async def read_webhook(self, body: bytes, proof: str) -> ProviderEvent:
        """The event, once proved.

        Plaid's webhooks have no event id: two are the same if body and time of signing are. Those that say that there
        are events are all alike, and one of them may be of an event that came just after the one before was acted
        upon: two are the same if they bear the same proof.

        Raises:
            WebhookSignatureInvalid: not genuine, or older than five minutes.
            Unavailable: Plaid's key endpoint cannot be reached; Plaid will send the webhook again.
        """
        if not self._base_url:
            raise WebhookSignatureInvalid
        key = await self._require_key(_read_key_id(proof))
        digest = hashlib.sha256(body).hexdigest()
        try:
            claims = jwt.decode(proof, key, algorithms=["ES256"]).claims
            issued_at, claimed = claims["iat"], claims["request_body_sha256"]
            age = time.time() - _check_time(issued_at)
            genuine = isinstance(claimed, str) and hmac.compare_digest(claimed.encode(), digest.encode())
            if not genuine or not -_FUTURE_SECONDS_MAX <= age <= AGE_SECONDS_MAX:
                raise ValueError("not of this body, or not of now")
            event = orjson.loads(body)
            event_type = read_text(f"{event['webhook_type']}.{event['webhook_code']}", TEXT_CHARACTERS_MAX)
        except (JoseError, ValueError, TypeError, KeyError, RecursionError):
            raise WebhookSignatureInvalid from None
        is_knock = self._is_applied and event_type == _KNOCK
        which = f":{hashlib.sha256(proof.encode()).hexdigest()[:_PROOF_CHARACTERS]}" if is_knock else ""
        return ProviderEvent(f"{digest}:{int(issued_at)}{which}", event_type, is_knock=is_knock)

    async def _require_key(self, key_id: str) -> ECKey:
        known = self._recall(key_id)
        if known is None:
            async with self._fetching:  # one fetch a kid, however many webhooks wait for it
                known = self._recall(key_id) or await self._learn(key_id)
        if known.key is None:
            raise WebhookSignatureInvalid
        return known.key

    def _recall(self, key_id: str) -> _Known | None:
        known = self._keys.get(key_id)
        return known if known is not None and known.good_until > time.monotonic() else None

    async def _learn(self, key_id: str) -> _Known:
        key, seconds = await self._fetch(key_id)
        if len(self._keys) >= _REMEMBERED_MAX:
            self._keys.clear()
        self._keys[key_id] = _Known(time.monotonic() + seconds, key)
        return self._keys[key_id]

    async def _fetch(self, key_id: str) -> tuple[ECKey | None, float]:
        """(the key, for how many seconds it may be kept)."""
        now = time.monotonic()
        self._fetches = [moment for moment in self._fetches if moment > now - 60]
        if len(self._fetches) >= _FETCHES_PER_MINUTE_MAX:
            raise Unavailable("Too many unknown keys: try again later.")
        self._fetches.append(now)
        try:
            async with httpx.AsyncClient(follow_redirects=False, trust_env=False, timeout=4) as client:
                answer = await client.post(
                    f"{self._base_url}/webhook_verification_key/get", json={**self._credentials, "key_id": key_id}
                )
        except httpx.HTTPError:
            raise Unavailable("Plaid's key endpoint cannot be reached.") from None
        if answer.status_code in (400, 404):
            return None, _UNKNOWN_SECONDS
        if answer.status_code != 200 or len(answer.content) > _KEY_BYTES_MAX:
            raise Unavailable("Plaid's key endpoint does not answer.")
        return _read_key(answer.content, key_id)


def _read_key(content: bytes, key_id: str) -> tuple[ECKey | None, float]:
    try:
        found: dict[str, Any] = orjson.loads(content)["key"]
        expired_at = found.get("expired_at")
        left = _KEY_SECONDS_MAX if expired_at is None else min(_KEY_SECONDS_MAX, float(expired_at) - time.time())
        suits = (found["alg"], found["crv"], found["kid"]) == ("ES256", "P-256", key_id)
        key = ECKey.import_key({name: found[name] for name in ("kty", "crv", "x", "y")}) if suits and left > 0 else None
    except (orjson.JSONDecodeError, JoseError, KeyError, TypeError, ValueError, AttributeError):
        return None, _UNKNOWN_SECONDS
    return key, left if key is not None else _UNKNOWN_SECONDS


def _check_time(claim: Any) -> float:
    """A Unix time as Plaid writes it. Raises: ValueError."""
    if type(claim) not in (int, float) or not 0 < claim < _TIME_MAX:
        raise ValueError("no time")
    return float(claim)


def _read_key_id(token: str) -> str:
    """The `kid` of a JWT that says ES256; nothing else in its header is looked at."""
    try:
        header = jws.extract_compact(token.encode("ascii")).protected
        key_id = header["kid"]
        if header["alg"] != "ES256" or "crit" in header or not _KEY_ID.fullmatch(key_id):
            raise ValueError("not a token of Plaid")
    except (JoseError, ValueError, KeyError, TypeError):  # the last: the header is no object
        raise WebhookSignatureInvalid from None
    return key_id
