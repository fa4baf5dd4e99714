"""What wraps the keys of the vault and never gives its own key away: a keyring in a file, or a KMS of a cloud (ADR 38).

A wrapper is asked by `jobs/keep_vault_keys.py` alone, beside all requests and never inside a transaction, since it may
be at the other end of a network.

The keyring is `WRAPPING_KEY_FILE`: 32 bytes in hexadecimal a line, the newest first, which wraps; those after it unwrap
what they wrapped. It is read anew whenever it is used, so nobody is restarted for another key. What is wrapped is
`version (1) | nonce (12) | AES-256-GCM of the key, and tag`.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.chassis.data.seals import read_keys
from services.transactions.vault import KeyMissing, VaultError

_SETTING = "WRAPPING_KEY_FILE"
_VERSION = b"\x01"
_NONCE_BYTES = 12
_HEADER_BYTES = len(_VERSION) + _NONCE_BYTES
_ID_CHARACTERS = 16


class KeyWrapper(Protocol):
    """As a KMS has it: `Encrypt` and `Decrypt` with the context as what is authenticated besides.

    Whatever it raises beside what is said here means that it cannot be asked now.
    """

    async def read_newest(self) -> str:
        """The id of the key that wraps now."""

    async def wrap(self, key: bytes, by: str, context: str) -> bytes:
        """
        Args:
            key: 32 bytes.
            by: The id of the key that wraps it.
            context: Without it, the same, the key is not unwrapped.

        Raises:
            KeyMissing: the key that is to wrap it is not there.
        """

    async def unwrap(self, wrapped: bytes, by: str, context: str) -> bytes:
        """
        Raises:
            KeyMissing: the key that wrapped it is not there.
            VaultError: it was altered, or is another context's.
        """


class Keyring:
    """The wrapping keys in a file of this machine."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def list_ids(self) -> list[str]:
        """Of its keys, the newest first. Raises: ConfigurationError."""
        return list(self._read())

    async def read_newest(self) -> str:
        return self.list_ids()[0]

    async def wrap(self, key: bytes, by: str, context: str) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return _VERSION + nonce + self._require_cipher(by).encrypt(nonce, key, _build_aad(by, context))

    async def unwrap(self, wrapped: bytes, by: str, context: str) -> bytes:
        cipher = self._require_cipher(by)
        version, nonce, rest = wrapped[:1], wrapped[1:_HEADER_BYTES], wrapped[_HEADER_BYTES:]
        try:
            if version != _VERSION:
                raise InvalidTag
            return cipher.decrypt(nonce, rest, _build_aad(by, context))
        except (InvalidTag, ValueError):
            raise VaultError("a key of the vault was altered, or is another one's") from None

    def _require_cipher(self, by: str) -> AESGCM:
        """Raises: KeyMissing, ConfigurationError."""
        key = self._read().get(by)
        if key is None:
            raise KeyMissing(f"the wrapping key {by} is not in {_SETTING}")
        return AESGCM(key)

    def _read(self) -> dict[str, bytes]:
        """Its keys by their ids. Raises: ConfigurationError."""
        return {_build_id(key): key for key in read_keys(self._path, _SETTING)}


def _build_id(key: bytes) -> str:
    return hashlib.sha256(b"realco wrapping key id\0" + key).hexdigest()[:_ID_CHARACTERS]


def _build_aad(by: str, context: str) -> bytes:
    return _VERSION + f"{by}|{context}".encode()
