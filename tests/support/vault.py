"""A vault that holds keys made up."""

from __future__ import annotations

from pathlib import Path

from services.transactions.vault import Vault
from services.transactions.wrapping import Keyring

INDEX_KEY = b"i" * 32


def build_vault(*keys: bytes, index: bytes | None = INDEX_KEY) -> Vault:
    """
    Args:
        keys: What it seals and opens with, the one that seals first; one of zeros where none is named.
    """
    return Vault(keys or (bytes(32),), index)


def write_keyring(folder: Path, *keys: bytes) -> Keyring:
    """A file of these wrapping keys, the one that wraps first, in place of what it held before."""
    file = folder / "wrapping.key"
    file.touch(mode=0o600)
    file.write_text("\n".join(key.hex() for key in keys))
    return Keyring(file)
