"""The keys of the vault, as they are kept: wrapped by a key that the database never sees (ADR 38)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

# A key seals no longer than this. Source: NIST SP 800-57 Part 1, 5.3.6: the originator's usage of a data-encryption key
# is two years at most, and shorter where much is sealed; a house rule within that.
SEALS_FOR: Final = timedelta(days=90)
# One that another wrapping key came after is replaced, too; and not while processes still differ in which that is.
SEALS_AT_LEAST: Final = timedelta(hours=1)
# Nothing is sealed with a key before every process has had the time to read it.
KNOWN_AFTER: Final = timedelta(minutes=5)


class Purpose(StrEnum):
    """What a key of the vault is for."""

    SEAL = "SEAL"
    INDEX = "INDEX"  # of which there is one, for good: digests are compared with those of years ago


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultKey:
    vault_key_id: str
    purpose: Purpose
    wrapped_key: bytes  # wrapping.py
    wrapped_by: str
    version: int = 1
    created_at: datetime
    updated_at: datetime

    @property
    def context(self) -> str:
        """What it is wrapped with besides: put in the place of another, it does not unwrap."""
        return f"{self.purpose}|{self.vault_key_id}"


def sort_by_use(keys: Sequence[VaultKey], now: datetime) -> list[VaultKey]:
    """The one that seals now first: the newest that everybody knows, or the oldest where none is known that long."""
    newest_first = sorted(keys, key=lambda each: (each.created_at, each.vault_key_id), reverse=True)
    known = [each for each in newest_first if each.created_at <= now - KNOWN_AFTER] or newest_first[-1:]
    return sorted(newest_first, key=lambda each: each not in known[:1])


def list_due(keys: Sequence[VaultKey], wrapped_by: str, now: datetime) -> list[Purpose]:
    """Of which purpose a new key is due.

    Args:
        keys: All that there are.
        wrapped_by: Which wrapping key is the newest.
    """
    sealing = [each for each in keys if each.purpose is Purpose.SEAL]
    newest = max(sealing, key=lambda each: each.created_at, default=None)
    due = [] if any(each.purpose is Purpose.INDEX for each in keys) else [Purpose.INDEX]
    if newest is None or newest.created_at <= now - (SEALS_FOR if newest.wrapped_by == wrapped_by else SEALS_AT_LEAST):
        due.append(Purpose.SEAL)
    return due
