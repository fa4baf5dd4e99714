"""Linked bank accounts: each condition of a bank's word by itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from services.chassis.values.approval_policy import ApprovalTerms
from services.transactions.domain.bank_accounts import (
    COOL_DOWN,
    BankAccount,
    BankAccountStatus,
    Confirmation,
    HolderType,
    NameMatch,
    change_default,
    suspend,
    unblock,
)
from services.transactions.domain.linked_accounts import (
    LinkedAccount,
    Owner,
    choose_holder_type,
    confirm_by_bank,
    explain_link,
    is_confirmed_by_bank,
)
from tests.support.bank_accounts import build_bank_account

S = BankAccountStatus
LINKED = LinkedAccount("021000021", "123456789", "CHECKING", NameMatch.MATCHES)
OWNER = Owner("pty_1", "Ada Investor", "INDIVIDUAL", is_cleared=True)
ACCOUNT = build_bank_account(name_match=NameMatch.MATCHES)
DEFAULT = build_bank_account(name_match=NameMatch.MATCHES, default_for_payouts=True)


def other(status: S = S.PENDING, version: int = 1, *, default: bool = False) -> BankAccount:
    return build_bank_account(bank_account_id="ba_2", status=status, version=version, default_for_payouts=default)


@pytest.mark.parametrize(
    ("account", "linked", "owner", "same", "others", "is_confirmed"),
    [
        (ACCOUNT, LINKED, OWNER, [], [], True),
        (DEFAULT, LINKED, OWNER, [], [], True),
        (ACCOUNT, replace(LINKED, name_match=NameMatch.DIFFERS), OWNER, [], [], False),
        (ACCOUNT, replace(LINKED, name_match=NameMatch.NOT_TOLD), OWNER, [], [], False),
        (ACCOUNT, LINKED, replace(OWNER, is_cleared=False), [], [], False),
        (ACCOUNT, LINKED, replace(OWNER, kind="JOINT"), [], [], True),
        (ACCOUNT, LINKED, replace(OWNER, kind="TRUST"), [], [], False),
        (replace(ACCOUNT, holder_type=HolderType.COMPANY), LINKED, replace(OWNER, kind="LLC"), [], [], False),
        (ACCOUNT, replace(LINKED, is_business=True), OWNER, [], [], False),  # and a person, so no company's
        (ACCOUNT, replace(LINKED, is_token=True), OWNER, [], [], False),
        *((ACCOUNT, LINKED, OWNER, [other(status)], [], False) for status in S),
        *((ACCOUNT, LINKED, OWNER, [], [other(status, 2, default=True)], True) for status in S),
        (DEFAULT, LINKED, OWNER, [], [other()], True),
        (DEFAULT, LINKED, OWNER, [], [other(default=True)], True),  # it waits as it was added
        (DEFAULT, LINKED, OWNER, [], [other(S.ACTIVE, 2, default=True)], False),
        (DEFAULT, LINKED, OWNER, [], [other(S.ACTIVE, 3)], False),  # it was the default a moment ago
        (DEFAULT, LINKED, OWNER, [], [other(S.PENDING, 3)], False),  # perhaps it was
        (DEFAULT, LINKED, OWNER, [], [other(S.DELETED, 2)], False),
        (DEFAULT, LINKED, OWNER, [], [other(S.SUSPENDED, 3, default=True)], False),
        (DEFAULT, LINKED, OWNER, [], [other(S.BLOCKED, 3)], False),
    ],
)
def test_a_banks_word_is_enough_where_each_of_these_is_so(account, linked, owner, same, others, is_confirmed):
    told = {"same": same, "others": others}
    assert is_confirmed_by_bank(account, linked, owner, **told, terms=ApprovalTerms()) is is_confirmed
    for stricter in (ApprovalTerms(approvers_needed=2), ApprovalTerms(strong_sign_in_seconds_max=300)):
        assert not is_confirmed_by_bank(account, linked, owner, **told, terms=stricter)


@pytest.mark.parametrize(
    ("kind", "is_business", "holder"),
    [
        ("INDIVIDUAL", False, HolderType.PERSON),
        ("INDIVIDUAL", True, HolderType.PERSON),
        ("JOINT", True, HolderType.PERSON),
        ("LLC", True, HolderType.COMPANY),
        ("LLC", False, HolderType.PERSON),
    ],
)
def test_whose_account_it_is_comes_from_the_bank_and_never_against_the_law(kind, is_business, holder):
    linked, owner = replace(LINKED, is_business=is_business), replace(OWNER, kind=kind)
    assert choose_holder_type(linked, owner) is holder


def test_what_a_bank_confirmed_cools_down_as_any_other():
    now = ACCOUNT.created_at
    confirmed = confirm_by_bank(ACCOUNT, now)
    assert (confirmed.status, confirmed.confirmation) == (S.ACTIVE, Confirmation.BANK)
    assert confirmed.payout_start == now + COOL_DOWN
    assert confirmed.is_cooling_down(now + COOL_DOWN - timedelta(seconds=1))


@pytest.mark.parametrize(
    ("confirmation", "is_corporate"), [(None, False), (Confirmation.BANK, False), (Confirmation.PERSONS, True)]
)
def test_whether_debits_are_a_companys_rests_on_the_word_of_persons_alone(confirmation, is_corporate):
    confirmed_at = ACCOUNT.created_at if confirmation else None
    account = replace(ACCOUNT, holder_type=HolderType.COMPANY, confirmed_at=confirmed_at, confirmation=confirmation)
    assert account.is_corporate is is_corporate


@pytest.mark.parametrize(
    "change",
    [
        lambda account: change_default(account, is_default=True, person="ann"),
        suspend,
        lambda account: unblock(replace(account, status=S.BLOCKED), "ann"),
    ],
)
def test_whatever_has_an_account_wait_again_takes_the_banks_word_away(change):
    changed = change(confirm_by_bank(ACCOUNT, ACCOUNT.created_at))
    assert (changed.confirmed_at, changed.confirmation) == (None, None)


@pytest.mark.parametrize(
    ("account", "words"),
    [
        (build_bank_account(), []),
        (ACCOUNT, ["has the name of the party"]),
        (replace(ACCOUNT, name_match=NameMatch.DIFFERS), ["NOBODY"]),
        (replace(ACCOUNT, name_match=NameMatch.SIMILAR), ["NOT the same"]),
        (replace(ACCOUNT, name_match=NameMatch.NOT_TOLD), ["nobody knows who holds it"]),
        (replace(ACCOUNT, has_token_number=True), ["token of the bank's"]),
        (confirm_by_bank(ACCOUNT, ACCOUNT.created_at), ["Nobody but the bank has confirmed it."]),
    ],
)
def test_who_decides_reads_what_the_bank_said(account, words):
    told = explain_link(account)
    assert [word for word in words if word not in told[0].statement] == []
    assert bool(told) is bool(words)


def test_what_is_printed_of_a_linked_account_says_nothing_of_its_number():
    assert "123456789" not in repr(LINKED)
