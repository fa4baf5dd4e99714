"""How the verification of a bank account goes on, what it is worth, and what Stripe says of one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest

from services.chassis.values.failure import Failure
from services.transactions.domain.bank_accounts import BankAccount, BankAccountStatus, Confirmation
from services.transactions.domain.refusals import TooManyVerifications
from services.transactions.domain.verifications import (
    FAILED_WITHIN,
    VERIFICATION_MOVES,
    Arrived,
    DebitBasis,
    ProviderVerification,
    Verification,
    VerificationNeed,
    VerificationStatus,
    check_may_begin,
    choose_debit_basis,
    end_of_blocked,
    fail,
    find_difference,
    find_need,
    follow,
)
from services.transactions.providers.protocols import OutcomeUnknown
from services.transactions.providers.stripe.setup_states import read_setup

S = VerificationStatus
NOW = datetime(2024, 12, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
WHY = Failure("DECLINED_BY_PROVIDER", "x", retryable=False)
DIGEST = "digest"
ACCOUNT = BankAccount(
    bank_account_id="ba_1",
    party_id="pty_1",
    account_holder_name="Ann",
    routing_number="110000000",
    account_number_encrypted=b"",
    account_number_digest=DIGEST,
    account_number_last4="6789",
    account_type="CHECKING",
    default_for_payouts=True,
    status=BankAccountStatus.ACTIVE,
    external_id=None,
    metadata={},
    created_by="ann",
    makers=("ann",),
    confirmed_at=NOW,
    confirmation=Confirmation.PERSONS,
    created_at=NOW,
    updated_at=NOW,
)


def a_verification(status: S = S.REQUESTED, **more: Any) -> Verification:
    known: dict[str, Any] = {} if status is S.REQUESTED else {"provider_reference": "seti_1"}
    known |= {"failure": WHY} if status is S.FAILED else {}
    known |= {"verified_at": NOW} if status is S.VERIFIED else {}
    return Verification(
        **{
            "verification_id": "bav_1",
            "bank_account_id": "ba_1",
            "account_number_digest": DIGEST,
            "provider": "stripe",
            "status": status,
            "created_by": "ann",
            "created_at": NOW,
            "updated_at": NOW,
        }
        | known
        | more
    )


def answered(status: S, **more: Any) -> ProviderVerification:
    values: dict[str, Any] = {"failure": WHY} if status is S.FAILED else {}
    values |= {"action_url": "https://a.page", "expires_at": NOW + HOUR} if status is S.WAITING else {}
    account = "110000000", "6789"
    said = {"provider_reference": "seti_1", "reference": "bav_1", "status": status, "account": account}
    return ProviderVerification(**said | values | more)


@pytest.mark.parametrize(("before", "said"), list(product(S, (S.WAITING, S.VERIFIED, S.FAILED))))
def test_what_is_heard_late_changes_nothing_and_each_step_goes_where_the_table_says(before, said) -> None:
    known = a_verification(before)
    after = follow(known, answered(said), NOW + HOUR)
    is_page = before is said is S.WAITING
    if said in VERIFICATION_MOVES[before] or is_page:
        assert (after.status, after.provider_reference) == (said, "seti_1")
        assert (after.action_url is not None, after.expires_at is not None) == (said is S.WAITING, said is S.WAITING)
        assert (after.failure is not None) == (said is S.FAILED)
        assert (after.verified_at is not None) == (S.VERIFIED in (before, said)), "also where it counts no more"
    else:
        assert after == known


LATER, EARLIER = Arrived("pi_2", NOW + HOUR), Arrived("pi_1", NOW - HOUR)
ENDED = a_verification(S.FAILED, verified_at=NOW - HOUR)
WRONG_CODES = a_verification(S.FAILED, verification_id="bav_2")


@pytest.mark.parametrize(
    ("verifications", "arrived", "basis"),
    [
        ([], None, DebitBasis()),
        ([], EARLIER, DebitBasis(confirmed_payment_id="pi_1")),
        ([a_verification(S.VERIFIED)], None, DebitBasis(verification_id="seti_1")),
        ([a_verification(S.VERIFIED)], LATER, DebitBasis(verification_id="seti_1")),
        ([a_verification(S.VERIFIED, account_number_digest="of another number")], None, DebitBasis()),
        ([a_verification(S.REQUESTED)], None, DebitBasis()),
        ([a_verification(S.WAITING)], EARLIER, DebitBasis(confirmed_payment_id="pi_1")),
        ([WRONG_CODES], EARLIER, DebitBasis(confirmed_payment_id="pi_1")),  # the payment was never by it
        ([ENDED], EARLIER, DebitBasis()),  # the payment may have been by what has ended
        ([WRONG_CODES, ENDED], EARLIER, DebitBasis()),
        ([ENDED], LATER, DebitBasis(confirmed_payment_id="pi_2")),  # confirmed anew, with a payment
        (
            [a_verification(S.VERIFIED, provider_reference="seti_2"), ENDED],
            EARLIER,
            DebitBasis(verification_id="seti_2"),
        ),
    ],
)
def test_a_debit_goes_by_what_is_verified_of_its_number_and_still_counts(verifications, arrived, basis) -> None:
    assert choose_debit_basis(verifications, arrived, DIGEST) == basis


OPEN = a_verification(S.WAITING)


@pytest.mark.parametrize(
    ("account", "verifications", "arrived", "need"),
    [
        (ACCOUNT, [], None, VerificationNeed(is_needed=True)),
        (ACCOUNT, [], EARLIER, VerificationNeed(is_needed=False)),
        (ACCOUNT, [OPEN], EARLIER, VerificationNeed(is_needed=True, verification=OPEN)),
        (ACCOUNT, [WRONG_CODES], None, VerificationNeed(is_needed=True, verification=WRONG_CODES)),
        (ACCOUNT, [WRONG_CODES], EARLIER, VerificationNeed(is_needed=False)),
        (ACCOUNT, [ENDED], EARLIER, VerificationNeed(is_needed=True, verification=ENDED)),
        (replace(ACCOUNT, status=BankAccountStatus.PENDING), [OPEN], None, None),
        (replace(ACCOUNT, status=BankAccountStatus.BLOCKED), [ENDED], None, None),
        (replace(ACCOUNT, replaced_by_bank_account_id="ba_2"), [OPEN], None, None),
    ],
)
def test_its_holder_is_told_whether_anything_is_left_to_verify(account, verifications, arrived, need) -> None:
    assert find_need(account, verifications, arrived) == need


@pytest.mark.parametrize(
    ("ages", "may"),
    [
        ([], True),
        ([HOUR, HOUR], True),
        ([HOUR, HOUR, HOUR], False),
        ([HOUR, HOUR, FAILED_WITHIN], True),  # the oldest counts no more
    ],
)
def test_three_that_failed_within_thirty_days_are_enough(ages, may) -> None:
    earlier = [a_verification(S.FAILED, created_at=NOW - age) for age in ages] + [a_verification(S.VERIFIED)]
    if may:
        check_may_begin(earlier, NOW)
    else:
        with pytest.raises(TooManyVerifications):
            check_may_begin(earlier, NOW)


@pytest.mark.parametrize(
    ("known", "said", "wrong"),
    [
        (a_verification(), answered(S.WAITING), ""),
        (a_verification(S.WAITING), answered(S.VERIFIED), ""),
        (a_verification(S.WAITING), answered(S.FAILED, account=None), ""),  # not said any more
        (a_verification(S.WAITING), answered(S.VERIFIED, provider_reference="seti_2"), "id"),
        (a_verification(), answered(S.VERIFIED, account=("110000000", "6780")), "bank account"),
        (a_verification(), answered(S.VERIFIED, reference="bav_2"), "reference"),
    ],
)
def test_an_answer_counts_only_if_it_is_about_what_was_asked_for(known, said, wrong) -> None:
    assert find_difference(known, ACCOUNT, said) == wrong


def test_what_was_verified_of_a_blocked_account_has_ended_and_says_why() -> None:
    ended = end_of_blocked(a_verification(S.VERIFIED))
    assert ended.has_ended
    assert ended.failure is not None
    assert ended.failure.code == "BANK_ACCOUNT_BLOCKED"
    assert not fail(a_verification(S.WAITING, action_url="https://a.page"), WHY).has_ended


METHOD = {"id": "pm_1", "customer": "cus_1", "us_bank_account": {"routing_number": "110000000", "last4": "6789"}}
PAGE = {"verify_with_microdeposits": {"hosted_verification_url": "https://payments.stripe.com/x"}}


def a_setup(**changed: Any) -> dict[str, Any]:
    setup: dict[str, Any] = {
        "id": "seti_1",
        "created": 1_733_140_800,
        "status": "requires_action",
        "payment_method": METHOD,
        "metadata": {"reference": "bav_1", "proof": "p", "method": "pm_1"},
        "mandate": {"id": "mandate_1", "status": "pending"},
        "last_setup_error": None,
        "next_action": PAGE,
    }
    return setup | changed


def mandate(status: str) -> dict[str, str]:
    return {"id": "mandate_1", "status": status}


@pytest.mark.parametrize(
    ("changed", "status", "code"),
    [
        ({}, S.WAITING, ""),
        ({"status": "processing", "next_action": None}, S.WAITING, ""),
        ({"status": "succeeded", "mandate": mandate("active")}, S.VERIFIED, ""),
        ({"status": "succeeded", "mandate": mandate("pending")}, S.WAITING, ""),
        ({"status": "succeeded", "mandate": mandate("inactive")}, S.FAILED, "MANDATE_ENDED"),
        ({"status": "canceled"}, S.FAILED, "DECLINED_BY_PROVIDER"),
        ({"status": "requires_payment_method"}, S.FAILED, "DECLINED_BY_PROVIDER"),
        (
            {
                "status": "requires_payment_method",
                "payment_method": None,
                "last_setup_error": {
                    "code": "payment_method_microdeposit_verification_timeout",
                    "payment_method": METHOD,
                },
            },
            S.FAILED,
            "DECLINED_BY_PROVIDER",
        ),
    ],
)
def test_each_state_of_a_setup_has_its_meaning(changed, status, code) -> None:
    found = read_setup(a_setup(**changed), lambda _: True)
    assert (found.status, found.failure.code if found.failure else "") == (status, code)
    assert (found.reference, found.account, found.is_misused) == ("bav_1", ("110000000", "6789"), False)
    is_on_page = status is S.WAITING and changed.get("next_action", PAGE) is PAGE
    assert found.action_url == ("https://payments.stripe.com/x" if is_on_page else "")
    assert found.expires_at == (datetime(2024, 12, 12, 12, tzinfo=UTC) if status is S.WAITING else None)


def test_stripes_word_is_told_only_where_it_looks_like_one_and_a_page_only_over_tls() -> None:
    for said, metadata in (("payment_method_microdeposit_failed", True), ("<b>Call 555</b>", False), (7, False)):
        error = {"code": said, "payment_method": METHOD}
        found = read_setup(a_setup(status="requires_payment_method", last_setup_error=error), lambda _: True)
        assert found.failure is not None
        assert found.failure.metadata == ({"provider_code": said} if metadata else {})
    page = {"verify_with_microdeposits": {"hosted_verification_url": "http://elsewhere.example/x"}}
    assert read_setup(a_setup(next_action=page), lambda _: True).action_url == ""


@pytest.mark.parametrize(
    "changed",
    [
        {"status": "new"},
        {"status": "succeeded"} | {"mandate": "mandate_1"},
        {"status": "succeeded", "mandate": None},
        {"status": "succeeded", "mandate": mandate("new")},
        {"payment_method": "pm_1"},
        {"payment_method": {"id": "pm_1", "customer": None}},
        {"id": None},
        {"id": 7},
        {"created": "soon"},
        {"created": 10**18},
        {"metadata": {"reference": 7}},
        {"metadata": "words"},
        {"next_action": "a page"},
    ],
    ids=str,
)
def test_an_odd_answer_is_not_known(changed) -> None:
    with pytest.raises(OutcomeUnknown):
        read_setup(a_setup(**changed), lambda _: True)


def test_what_bears_words_of_ours_and_no_proof_is_misused_and_what_bears_none_is_others() -> None:
    assert read_setup(a_setup(), lambda _: False).is_misused
    others = read_setup(a_setup(metadata={"reference": "theirs"}), lambda _: False)
    assert (others.is_misused, others.reference) == (False, "")
