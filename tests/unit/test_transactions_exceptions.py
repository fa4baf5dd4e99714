"""What a person has to look at: what tells one from another, and what becomes of it when it is found again."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime, timedelta

import pytest

from services.chassis.process.settings import ConfigurationError
from services.chassis.values.money import Money
from services.chassis.values.refusals import IllegalStatusChange
from services.transactions.domain.exceptions import (
    About,
    ExceptionKind,
    ExceptionStatus,
    Involved,
    assign,
    build_exception,
    build_found_again,
    build_with_cause,
    check_may_resolve,
    resolve,
    spell_subject,
)
from services.transactions.domain.types import TYPES, TransactionType
from services.transactions.domain.unpaid_payouts import build_owed, spell_owed
from services.transactions.settings import Settings

NOW = datetime(2024, 12, 2, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)
K, S = ExceptionKind, ExceptionStatus
FOUND = build_exception("exc_1", K.PAID_TWICE, About(transaction_id="txn_1", amount=Money(5, "USD")), "two", NOW)


@pytest.mark.parametrize(("kind", "one", "other", "is_same"), [
    (K.PAID_TWICE, About("txn_1"), About("txn_1", amount=Money(5, "USD")), True),
    (K.PAID_TWICE, About("txn_1"), About("txn_2"), False),
    (K.PAYMENT_NOT_OURS, About("txn_1", provider_payment_id="p1"), About("txn_1", provider_payment_id="p2"), False),
    (K.PAYMENT_NOT_OURS, About(provider_payment_id="p1"), About("txn_1", provider_payment_id="p1"), False),
    (K.BANK_ACCOUNT_ALTERED, About("txn_1", "ba_1"), About("txn_2", "ba_1"), True),
    (K.ACH_FILE_FOREIGN, About(file_name="a"), About(file_name="b"), False),
    (K.PAYOUT_NOT_PAID, About("txn_1", owed_for="all_1"), About("txn_2", owed_for="all_1"), True),
    (K.PAYOUT_NOT_PAID, About("txn_1", owed_for="all_1"), About("txn_1", owed_for="all_2"), False),
])  # fmt: skip
def test_what_is_the_same_thing_is_said_by_the_kind(kind: K, one: About, other: About, is_same: bool) -> None:
    assert (spell_subject(kind, one) == spell_subject(kind, other)) is is_same


def test_found_once_more_it_is_the_same_to_decide_on() -> None:
    again = build_found_again(FOUND, About(), "two", LATER)
    assert (again.occurrence_count, again.last_seen_at, again.opened_at) == (2, LATER, NOW)
    assert again.etag == FOUND.etag
    assert build_found_again(FOUND, About(), "three", LATER).etag != FOUND.etag


def test_found_once_more_it_has_the_amount_of_now_and_who_had_a_part_in_it_before_stays() -> None:
    first = build_exception("exc_1", K.PAYOUT_NOT_PAID, About(amount=Money(5, "USD"), makers=["bob"]), "why", NOW)
    again = build_found_again(first, About(amount=Money(7, "USD"), makers=["ann"]), "why", LATER)
    assert (again.amount, again.makers) == (Money(7, "USD"), ["ann", "bob"])
    assert again.etag != first.etag, "whoever read five resolves no seven"
    assert build_found_again(first, About(amount=Money(7, "EUR")), "why", LATER).amount == Money(5, "USD")


def test_found_again_after_it_was_resolved_it_is_open_and_nobodys_and_another_thing_to_decide() -> None:
    done = resolve(assign(FOUND, "ann"), "ann", "It is returned.", NOW)
    again = build_found_again(done, About(), "two", LATER)
    assert (again.status, again.assignee, again.openings, again.opened_at) == (S.OPEN, None, 2, LATER)
    assert (again.resolved_by, again.resolved_at, again.resolution_note) == ("ann", NOW, "It is returned.")
    assert again.etag not in {FOUND.etag, done.etag}


def test_what_goes_on_by_itself_says_how_it_stands_while_it_is_open_and_opens_nothing() -> None:
    told = build_with_cause(FOUND, "it is won")
    assert (told.cause, told.status, told.occurrence_count) == ("it is won", S.OPEN, FOUND.occurrence_count)
    assert told.etag != FOUND.etag
    resolved = resolve(FOUND, "ann", "done", LATER)
    assert build_with_cause(resolved, "it is won") == resolved


def test_how_much_it_is_about_by_now_is_said_where_that_is_known() -> None:
    assert build_with_cause(FOUND, "less").amount == Money(5, "USD")
    assert build_with_cause(FOUND, "nothing", amount_minor=0).amount == Money(0, "USD")


def test_an_exception_keeps_all_that_is_known_of_what_it_is_about() -> None:
    known = {each.name: each.name for each in fields(About) if each.name not in ("amount", "makers", "owed_for")}
    found = build_exception("exc_1", K.PAID_TWICE, About(**known), "two", NOW)
    assert {name: getattr(found, name) for name in known} == known


@pytest.mark.parametrize("payout", [each for each in TYPES.values() if not each.is_inbound], ids=lambda each: each.name)
def test_what_distributions_orders_is_named_by_its_debt_and_says_where_it_is_sent_again(
    payout: TransactionType,
) -> None:
    ids = {"investment_id": "inv_1", "distribution_id": "dist_1", "allocation_id": "all_1"}
    known = {"escrow_account_id": "esc_1", "party_id": "pty_1", "makers": (), **ids}
    first, second = (build_owed(payout, Money(5, "USD"), order_id=each, **known) for each in ("txn_1", "txn_2"))
    assert (first.owed_for == second.owed_for) is not payout.is_for_staff
    said = spell_owed(payout, first, "Why.", None)
    assert "None" not in said
    assert ("/resend" in said) is not payout.is_for_staff


def test_what_is_resolved_is_neither_taken_nor_resolved() -> None:
    done = resolve(FOUND, "ann", "It is returned.", NOW)
    with pytest.raises(IllegalStatusChange):
        assign(done, "bob")
    with pytest.raises(IllegalStatusChange):
        check_may_resolve(done, Involved(), "bob")


def test_a_cause_is_as_long_as_a_person_reads() -> None:
    about = About(transaction_id="txn_1")
    assert len(build_exception("exc_1", K.PAID_TWICE, about, "x" * 9_999, NOW).cause) == 500
    assert len(build_found_again(FOUND, About(), "x" * 9_999, NOW).cause) == 500


@pytest.mark.parametrize("name", ["*", "two words", "a.b"])
def test_the_operator_is_one_organization(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("OPERATOR_ORG_ID", name)
    with pytest.raises(ConfigurationError, match="OPERATOR_ORG_ID"):
        Settings.load()
