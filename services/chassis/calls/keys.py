"""The public keys that signatures are checked with: a JWKS from a file or a URL, kept and read again now and then."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import httpx
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey, import_key

from services.chassis.process.telemetry import log
from services.chassis.values.errors import Unavailable

PublicKey = ECKey | OKPKey | RSAKey

_BYTES_MAX = 256 * 1024
AGE_SECONDS_MAX = 300
# While the set cannot be read, the keys of before stay good for so long and no longer: one of them may be withdrawn.
KEPT_SECONDS_MAX = 3600
_REFRESH_SECONDS_MIN = 10  # a flood of unknown key ids must not become a flood at the issuer
_UNREADABLE = (OSError, httpx.HTTPError, httpx.InvalidURL, ValueError, RecursionError)


class PublishedKeys:
    """One for a process. A key that is taken out of the set is forgotten within AGE_SECONDS_MAX, and within
    KEPT_SECONDS_MAX where the set cannot be read."""

    def __init__(self, source: str, discovers: str = "") -> None:
        """
        Args:
            source: The path or URL of a JWKS, or of the document that says where it is.
            discovers: The issuer whose discovery document it is; empty for a JWKS.
                Source: OpenID Connect Discovery 1.0, sections 3 and 4.3
        """
        self._source = source
        self._discovers = discovers
        self._keys: dict[str, PublicKey] = {}
        self._read_at = float("-inf")
        self._asked_at = float("-inf")
        self._loading = asyncio.Lock()

    async def find(self, kid: str) -> PublicKey | None:
        """The key of that id, if there is one.

        Raises:
            Unavailable: the set cannot be read, and could not for a long time.
        """
        wants = self.good_seconds() <= 0 or kid not in self._keys
        if wants and time.monotonic() - self._asked_at > _REFRESH_SECONDS_MIN:
            await self._load()
        if time.monotonic() - self._read_at > KEPT_SECONDS_MAX:
            raise Unavailable("The keys to check signatures with cannot be read.")
        return self._keys.get(kid)

    def good_seconds(self) -> float:
        """For how long the keys need not be read again; not positive where they must."""
        return self._read_at + AGE_SECONDS_MAX - time.monotonic()

    async def _load(self) -> None:
        came_at = time.monotonic()
        async with self._loading:
            if self._asked_at > came_at:  # somebody else just did
                return
            try:
                self._keys = _read_keys(await self._fetch())
                self._read_at = time.monotonic()
            except _UNREADABLE as error:
                log.warning("keys_not_read", source=self._source, error=type(error).__name__)
            self._asked_at = time.monotonic()

    async def _fetch(self) -> bytes:
        if not self._discovers:
            return await _read(self._source)
        document = json.loads(await _read(self._source))
        if not isinstance(document, dict) or document.get("issuer") != self._discovers:
            raise ValueError("the discovery document of another issuer")
        found = document.get("jwks_uri")
        if not isinstance(found, str) or not found.startswith(_schemes_of(self._source)):
            raise ValueError("no jwks_uri that is as well protected as the document itself")
        return await _read(found)


def _schemes_of(source: str) -> tuple[str, ...]:
    return ("https://",) if source.startswith("https://") else ("https://", "http://")


async def _read(source: str) -> bytes:
    if not source.startswith(("http://", "https://")):
        return await asyncio.to_thread(Path(source).read_bytes)
    async with httpx.AsyncClient(follow_redirects=False, timeout=5) as client:
        answer = await client.get(source)
        if answer.status_code != 200 or len(answer.content) > _BYTES_MAX:
            raise ValueError("not what was asked for")
        return answer.content


def _read_keys(raw: bytes) -> dict[str, PublicKey]:
    """Every key of the set that can be used. What cannot is left out, and says nothing about the others.

    Raises:
        ValueError: it is no set.
    """
    document = json.loads(raw)
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError("not a key set")
    found: dict[str, list[PublicKey | None]] = {}
    for entry in entries:
        kid = entry.get("kid") if isinstance(entry, dict) else None
        if isinstance(kid, str) and kid:
            found.setdefault(kid, []).append(_read_key(entry))
    keys: dict[str, PublicKey] = {}
    for kid, (key, *others) in found.items():
        # Two under one id would let one stand in for the other: then neither does.
        if key is None or others:
            log.warning("key_not_used", kid=kid, twice=bool(others))
        else:
            keys[kid] = key
    return keys


def _read_key(entry: dict[str, Any]) -> PublicKey | None:
    """The key, if it is a public one to check signatures with."""
    if entry.get("use", "sig") != "sig":
        return None
    try:
        key = import_key(entry)
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return key if isinstance(key, PublicKey) and not key.is_private else None
