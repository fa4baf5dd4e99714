"""Sealed account numbers open where they belong, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.transactions.domain.bank_accounts import BankAccount
from services.transactions.vault import KeyMissing, SealedFor, Vault, VaultError
from tests.support.bank_accounts import build_bank_account
from tests.support.vault import build_vault

KEY, OLDER, OTHER = bytes(range(32)), bytes(range(1, 33)), bytes(range(2, 34))
HERE = SealedFor.of("org-1", build_bank_account())
SEALED = build_vault(KEY).seal("000111111101", HERE)


def test_what_is_sealed_opens_in_its_own_row() -> None:
    assert build_vault(KEY).open(SEALED, HERE) == "000111111101"
    assert b"000111111101" not in SEALED
    assert build_vault(KEY).seal("000111111101", HERE) != SEALED  # a fresh nonce each time


def test_what_an_older_key_sealed_still_opens_and_the_newer_key_seals() -> None:
    rotated = build_vault(OTHER, KEY, OLDER)
    assert rotated.open(SEALED, HERE) == "000111111101"
    assert build_vault(OTHER).open(rotated.seal("42", HERE), HERE) == "42"


@pytest.mark.parametrize("byte", range(len(SEALED)))
def test_a_change_of_any_byte_is_found(byte: int) -> None:
    tampered = bytearray(SEALED)
    tampered[byte] ^= 1
    with pytest.raises(VaultError):
        build_vault(KEY).open(bytes(tampered), HERE)


MOVED = {
    "to another row": (SEALED, replace(HERE, bank_account_id="ba_2")),
    "to another tenant": (SEALED, replace(HERE, org_id="org-2")),
    "to another party": (SEALED, replace(HERE, party_id="pty_2")),
    "to another holder": (SEALED, replace(HERE, account_holder_name="Eve Investor")),
    "to another bank": (SEALED, replace(HERE, routing_number="011000015")),
    "to another type": (SEALED, replace(HERE, account_type="SAVINGS")),
    "across the border of two columns": (SEALED, replace(HERE, party_id="pty_1Ada", account_holder_name=" Investor")),
    "cut": (SEALED[:-1], HERE),
    "cut short": (SEALED[:20], HERE),
    "longer": (SEALED + b"\x00", HERE),
    "empty": (b"", HERE),
    "sealed with another key": (build_vault(OTHER).seal("000111111101", HERE), HERE),
}


@pytest.mark.parametrize("how", MOVED)
def test_what_was_moved_cut_or_sealed_by_another_does_not_open(how: str) -> None:
    sealed, place = MOVED[how]
    with pytest.raises(VaultError) as refusal:
        build_vault(KEY).open(sealed, place)
    assert "0001" not in str(refusal.value)


def test_a_key_that_is_missing_is_told_from_a_value_that_was_altered() -> None:
    with pytest.raises(KeyMissing):
        build_vault(OTHER).open(SEALED, HERE)
    for altered in (SEALED[:-1], b"x", b""):
        with pytest.raises(VaultError) as refusal:
            build_vault(KEY).open(altered, HERE)
        assert type(refusal.value) is VaultError


def test_equal_numbers_have_equal_stand_ins_that_do_not_tell_them() -> None:
    vault = build_vault()
    assert vault.blind("42") == vault.blind("42")
    assert len({vault.blind("42"), vault.blind("43"), build_vault(index=OTHER).blind("42")}) == 3


def test_an_account_is_known_again_by_its_digest_whatever_seals_meanwhile() -> None:
    digest = build_vault(KEY).digest("021000021", "42")
    assert build_vault(OTHER).is_digest(digest, "021000021", "42")
    for vault, routing_number, number in (
        (build_vault(index=OTHER), "021000021", "42"),
        (build_vault(), "021000021", "43"),
        (build_vault(), "011000015", "42"),
    ):
        assert not vault.is_digest(digest, routing_number, number)


def test_without_the_key_of_the_index_no_number_is_taken_for_a_new_one() -> None:
    """Nor a payment for another's: what was forbidden would be added again, and what we ordered be told as not ours."""
    vault = Vault([KEY])
    digest = build_vault(KEY).digest("021000021", "42")
    for ask in (
        lambda: vault.digest("021000021", "42"),
        lambda: vault.is_digest(digest, "021000021", "42"),
        lambda: vault.is_proof("x", "text"),
        vault.check_complete,
    ):
        with pytest.raises(KeyMissing):
            ask()


def test_who_holds_no_key_seals_nothing() -> None:
    vault = Vault(index=KEY)
    with pytest.raises(KeyMissing):
        vault.seal("42", HERE)
    with pytest.raises(KeyMissing):
        vault.check_complete()


@pytest.mark.parametrize(("number", "is_same"), [("000111111101", True), ("999911111101", False)])
def test_two_accounts_have_the_same_number_under_whichever_key_each_was_added(number: str, is_same: bool) -> None:
    def build(vault: Vault, number: str) -> BankAccount:
        digest = vault.digest(HERE.routing_number, number)
        return build_bank_account(account_number_encrypted=vault.seal(number, HERE), account_number_digest=digest)

    rotated = build_vault(OTHER, KEY)
    older, newer = build(build_vault(KEY), "000111111101"), build(rotated, number)
    for one, other in ((older, newer), (newer, older)):
        assert rotated.has_same_number("org-1", one, other) == is_same
        assert rotated.has_same_number("org-2", one, other) is None, "it does not open"
