"""The signature of the sandbox bank's webhooks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.signature import sign, verify

SECRET = "whsec_of_the_sandbox"
BODY = b'{"id":"evt_1"}'
NOW = 1_733_000_000
GOOD = sign(SECRET, BODY, NOW)
OTHER = sign("another_secret", BODY, NOW)
V1 = GOOD.partition(",")[2]


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        (GOOD, True),
        (f"t={NOW},v1={'0' * 64},{V1}", True),  # two secrets in rotation
        (f"{GOOD},v0=junk", True),
        (sign(SECRET, BODY, NOW - 300), True),
        (sign(SECRET, BODY, NOW - 301), False),
        (sign(SECRET, BODY, NOW + 301), False),
        (OTHER, False),
        (V1, False),
        (f"t={NOW}", False),
        (f"t={NOW},v0={V1[3:]}", False),
        (f"t={NOW + 1},{V1}", False),  # the time is signed too
        (f"t={NOW},t={NOW},{V1}", False),
        (f"t=٣,{V1}", False),
        (f"t=-1,{V1}", False),
        (f"t={NOW},v1=é", False),
        ("", False),
        ("junk", False),
    ],
)
def test_a_header_is_accepted_only_when_it_signs_this_body_now(header: str, accepted: bool) -> None:
    assert verify(SECRET, header, BODY, NOW) is accepted


@given(body=st.binary(min_size=1, max_size=200), position=st.integers(0, 1000), secret=st.text(min_size=1, max_size=40))
def test_any_changed_byte_breaks_the_signature(body: bytes, position: int, secret: str) -> None:
    header = sign(secret, body, NOW)
    index = position % len(body)
    changed = body[:index] + bytes([body[index] ^ 1]) + body[index + 1 :]
    assert verify(secret, header, body, NOW)
    assert not verify(secret, header, changed, NOW)
