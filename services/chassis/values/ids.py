"""Identifiers: a prefix that names the kind, and 26 characters that sort by time of birth.

`txn_` + 26 lower-case Crockford base32 characters of a UUID: version 7 for new things, version 5 where the same
facts must give the same id (so that a step repeated after a crash finds what it made), or 128 bits of a code where
nobody may take the id beforehand.
"""

from __future__ import annotations

import re
import secrets
import time
import uuid
from base64 import b32hexencode
from functools import cache

_CROCKFORD = bytes.maketrans(b"0123456789ABCDEFGHIJKLMNOPQRSTUV", b"0123456789abcdefghjkmnpqrstvwxyz")
_NAMESPACE = uuid.UUID("6f0a2c9e-3c55-5d0e-9a5e-7d6b1f5f2a11")
_PREFIX = re.compile(r"[a-z][a-z0-9]{0,15}")

# The shape of an id without its prefix, for patterns.
BODY_PATTERN = "[0-7][0-9a-hjkmnp-tv-z]{25}"


def new_id(prefix: str) -> str:
    """A new id. Ids made later sort later, to about a quarter of a microsecond, on one machine's clock."""
    return _spell(prefix, uuid7().int)


def derived_id(prefix: str, *parts: str) -> str:
    """The id that belongs to `parts`: the same parts give the same id, for ever, and other parts another."""
    # Lengths are written down, so ("ab", "c") and ("a", "bc") differ.
    name = "".join(f"{len(part)}:{part}" for part in (prefix, *parts))
    return _spell(prefix, uuid.uuid5(_NAMESPACE, name).int)


def coded_id(prefix: str, code: bytes) -> str:
    """The id that belongs to a code of at least 16 bytes."""
    return _spell(prefix, int.from_bytes(code[:16], "big"))


def uuid7() -> uuid.UUID:
    """A UUID of version 7 whose 12 bits after the milliseconds are the fraction of the millisecond.

    Source: RFC 9562 section 6.2, method 3.
    """
    milliseconds, nanoseconds = divmod(time.time_ns(), 1_000_000)
    fraction = (nanoseconds << 12) // 1_000_000
    tail = secrets.randbits(62)
    return uuid.UUID(int=(milliseconds << 80) | (7 << 76) | (fraction << 64) | (2 << 62) | tail)


def _spell(prefix: str, number: int) -> str:
    # 160 bits are 32 digits of base 32; the 128 of a UUID are the last 26 of them.
    return _begin(prefix) + b32hexencode(number.to_bytes(20, "big"))[6:].translate(_CROCKFORD).decode()


@cache
def _begin(prefix: str) -> str:
    if not _PREFIX.fullmatch(prefix):
        raise ValueError("an id prefix is a lower-case letter and up to 15 lower-case letters or digits")
    return prefix + "_"
