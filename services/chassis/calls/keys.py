"""The public keys that signatures are checked with: a JWKS from a file or a URL, kept and read again now and then."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import httpx
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, OKPKey

from services.chassis.values.errors import Unavailable

_BYTES_MAX = 256 * 1024
AGE_SECONDS_MAX = 300
_REFRESH_SECONDS_MIN = 10  # a flood of unknown key ids must not become a flood at the issuer


class PublishedKeys:
    """One for a process. A key that is taken out of the set is forgotten within AGE_SECONDS_MAX."""

    def __init__(self, source: str) -> None:
        """`source`: the path or URL of a JWKS."""
        self._source = source
        self._keys: dict[str, Any] = {}
        self._loaded_at = float("-inf")
        self._loading = asyncio.Lock()

    async def find(self, kid: str) -> ECKey | OKPKey | None:
        """The key of that id, if there is one.

        Raises:
            Unavailable: the set cannot be read, and never could.
        """
        age = time.monotonic() - self._loaded_at
        if age > AGE_SECONDS_MAX or (kid not in self._keys and age > _REFRESH_SECONDS_MIN):
            await self._load()
        return self._keys.get(kid)

    async def _load(self) -> None:
        asked_at = time.monotonic()
        async with self._loading:
            if self._loaded_at > asked_at:  # somebody else just did
                return
            try:
                document = json.loads(await self._fetch())
                keys = KeySet.import_key_set(document).keys
                # Two keys under one id would let one stand in for the other.
                if len({key.kid for key in keys}) != len(keys):
                    raise ValueError("two keys with one kid")
            except (OSError, httpx.HTTPError, ValueError, KeyError, JoseError):
                if self._keys:  # keys that were good stay good; the next call asks again
                    self._loaded_at = time.monotonic() - AGE_SECONDS_MAX + _REFRESH_SECONDS_MIN
                    return
                raise Unavailable("The keys to check signatures with cannot be read.") from None
            self._keys = {key.kid: key for key in keys if isinstance(key, ECKey | OKPKey) and key.kid}
            self._loaded_at = time.monotonic()

    async def _fetch(self) -> bytes:
        if not self._source.startswith(("http://", "https://")):
            return await asyncio.to_thread(Path(self._source).read_bytes)
        async with httpx.AsyncClient(follow_redirects=False, timeout=5) as client:
            answer = await client.get(self._source)
            if answer.status_code != 200 or len(answer.content) > _BYTES_MAX:
                raise ValueError("not a key set")
            return answer.content
