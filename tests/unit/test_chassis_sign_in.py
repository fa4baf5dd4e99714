"""A decision asks for a person who signed in just now, and with more than a password."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.calls.auth import Principal, service_principal
from services.chassis.calls.sign_in import (
    InsufficientUserAuthentication,
    SessionEnded,
    check_fresh_sign_in,
    check_session,
)
from services.chassis.values.text import normalize_person

ANN = Principal("ann", "admin", "org_1", strong_levels="gold", strong_seconds_max=300, token="t")
ESCROW = service_principal("escrow", "org_1")


@pytest.mark.parametrize(
    ("title", "seconds_ago", "seconds_max", "fresh"),
    [
        ("just now", 0, 300, True),
        ("nearly too long ago", 290, 300, True),
        ("too long ago", 301, 300, False),
        ("with a password alone", None, 300, False),
        ("too long ago for a stricter issuer", 61, 60, False),
        ("at an issuer that cannot tell", None, None, True),
    ],
)
def test_a_fresh_sign_in_is_strong_and_as_recent_as_its_issuers_settings_want(
    title: str, seconds_ago: int | None, seconds_max: int | None, fresh: bool
) -> None:
    at = None if seconds_ago is None else int(time.time()) - seconds_ago
    person = replace(ANN, strong_sign_in_at=at, strong_seconds_max=seconds_max)
    for principal in (person, ESCROW.for_person(person)):
        if fresh:
            check_fresh_sign_in(principal)
        else:
            with pytest.raises(InsufficientUserAuthentication) as refused:
                check_fresh_sign_in(principal)
            assert refused.value.metadata["max_age"] == str(seconds_max), title


def test_the_refusal_names_what_the_persons_issuer_calls_a_strong_sign_in() -> None:
    for levels, metadata in (("gold", {"acr_values": "gold"}), ("", {})):
        with pytest.raises(InsufficientUserAuthentication) as refused:
            check_fresh_sign_in(replace(ANN, strong_levels=levels))
        assert refused.value.metadata == {"max_age": "300", **metadata}


@pytest.mark.parametrize(
    ("title", "signed_in_at", "ended_at", "ended"),
    [
        ("nobody ended them", 1000, None, False),
        ("before they were ended", 1000, 1000.5, True),
        ("within the second in which they were ended", 1000, 1000.0, True),
        ("after it", 1001, 1000.999999, False),
        ("a service by itself", None, 1000.5, False),
    ],
)
def test_a_session_ends_for_who_signed_in_before(
    title: str, signed_in_at: int | None, ended_at: float | None, ended: bool
) -> None:
    moment = None if ended_at is None else datetime.fromtimestamp(ended_at, UTC)
    person = replace(ANN, signed_in_at=signed_in_at)
    for principal in (person, ESCROW.for_person(person)):
        if ended:
            with pytest.raises(SessionEnded) as refused:
                check_session(principal, moment)
            assert refused.value.metadata == {"sign_in_from": "1970-01-01T00:16:41Z"}
        else:
            check_session(principal, moment)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ann@Example.org", "ann@example.org"),
        ("ann@example.org", "\uff41nn@example.org"),  # full width
        ("Stra\u00dfe", "STRASSE"),
        ("Jose\u0301", "Jos\u00e9"),
        ("\ufb01nn", "Finn"),  # a ligature
        ("ann\u00a0", "ann"),
        ("\u03a3\u03a3", "\u03c3\u03c2"),
        ("an\u200bn\u00ad", "ann"),  # a zero-width space and a soft hyphen
        ("ann\ufe0f", "ann"),  # a variation selector
        ("ann\u2800", "ann"),  # a Braille pattern without dots
        ("ann\u1680lee", "ann lee"),  # an Ogham blank
        ("ann  lee", "ann lee"),
    ],
)
def test_a_person_has_one_spelling(one: str, other: str) -> None:
    assert normalize_person(one) == normalize_person(other)
    assert Principal(one, "admin", "org_1").person == Principal("x", "admin", "org_1", known_as=other).person


@given(st.text(max_size=40))
def test_the_one_spelling_of_a_person_stays_as_it_is(name: str) -> None:
    assert normalize_person(normalize_person(name)) == normalize_person(name)
