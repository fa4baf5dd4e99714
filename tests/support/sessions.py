"""Who signed in, as a person or by an API key, and when that session was ended."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from services.chassis.calls.auth import Principal, SignedInKey

SIGNED_IN_AT = 1_700_000_000
ENDED_AT = datetime.fromtimestamp(SIGNED_IN_AT + 0.5, UTC)
KEY = "key_1"


def sign_in(person: Principal) -> Principal:
    return replace(person, signed_in_at=SIGNED_IN_AT)


def sign_in_again(person: Principal) -> Principal:
    """In a session that is not ended."""
    return replace(person, signed_in_at=SIGNED_IN_AT + 2)


def sign_in_by_key(holder: Principal) -> Principal:
    """A program, by an API key of the person's."""
    key = SignedInKey(KEY, frozenset(), "secret-1")  # a scope opens what the gateway lets in, and no more is asked
    return replace(sign_in(holder), subject=f"key:{KEY}", known_as=holder.person, api_key=key)
