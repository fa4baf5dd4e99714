"""What PostgreSQL is given instead of a password."""

from __future__ import annotations

from deploy.databases import scram_verifier


def test_a_verifier_is_what_the_standard_says():
    """Of the exchange that RFC 7677 writes out: its user, salt and rounds."""
    salt = b"[m\x99h\x9d\x125\x8e\xec\xa0K\x14\x126\xfa\x81"
    assert scram_verifier("pencil", salt) == (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ=="
        "$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )


def test_no_two_verifiers_of_a_password_are_alike():
    assert scram_verifier("pencil") != scram_verifier("pencil")
    assert "pencil" not in scram_verifier("pencil")
