"""A payout that was paid in error is taken back once, in time, by the same entry the other way round."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

import achkit
import pytest

from services.chassis.values.errors import DomainError
from services.transactions.domain.ach import PaymentEntry, ReversalEntry, build_reversal, find_next_cut_off
from services.transactions.domain.bank_accounts import HolderType
from services.transactions.domain.payments import PaymentStatus, ReversingPayment
from services.transactions.domain.reversal_rules import (
    TakenBack,
    build_debit_failure,
    build_payout_failure,
    check_may_reverse,
    explain_deadline,
    explain_taken_back_payouts,
    find_debit_final_at,
    may_debit_come_back,
    spell_cause,
)
from services.transactions.domain.reversals import REVERSAL_MOVES, Reversal, ReversalReason, ReversalStatus, find_next
from services.transactions.domain.states import Status
from services.transactions.domain.transaction import Transaction
from services.transactions.providers.ach_file.nacha import Company, Entry, write_file
from tests.unit.test_transactions_rules import DEPOSIT

S, P = ReversalStatus, PaymentStatus
SETTLED_AT = datetime(2024, 12, 3, 13, 30, tzinfo=UTC)  # a Tuesday
LAST_DAY = date(2024, 12, 10)
PAYOUT = replace(
    DEPOSIT, type="DISTRIBUTION", status=Status.COMPLETED, provider="ach_file", settled_at=SETTLED_AT, failure=None
)
REVERSAL = Reversal(reason=ReversalReason.DUPLICATE, ordered_at=SETTLED_AT)


@pytest.mark.parametrize(("status", "said", "has_come_back", "is_over", "after"), [
    (S.ORDERED, None, False, False, S.ORDERED),
    (S.ORDERED, P.PENDING, False, True, S.ORDERED),  # time alone ends nothing
    (S.ORDERED, P.SETTLED, False, False, S.SETTLED),
    (S.ORDERED, P.FAILED, False, False, S.FAILED),
    (S.ORDERED, P.RETURNED, False, False, S.FAILED),
    (S.SETTLED, P.SETTLED, False, False, S.SETTLED),
    (S.SETTLED, P.SETTLED, False, True, S.COMPLETED),
    (S.SETTLED, P.PENDING, False, True, S.SETTLED),  # its file was taken out of the bank's way
    (S.SETTLED, None, False, True, S.SETTLED),
    (S.SETTLED, P.RETURNED, False, True, S.FAILED),
    (S.SETTLED, P.SETTLED, True, False, S.SETTLED),  # the payout came back; its reversal may come back, too
    (S.SETTLED, P.RETURNED, True, False, S.FAILED),
    (S.SETTLED, P.SETTLED, True, True, S.DRAWN_IN_EXCESS),
    (S.COMPLETED, P.SETTLED, False, True, S.COMPLETED),
    (S.COMPLETED, P.RETURNED, False, False, S.RETURNED),
    (S.COMPLETED, None, True, False, S.DRAWN_IN_EXCESS),
    (S.COMPLETED, P.RETURNED, True, False, S.FAILED),
    (S.RETURNED, P.RETURNED, False, False, S.RETURNED),
    (S.RETURNED, None, True, False, S.FAILED),
    (S.DRAWN_IN_EXCESS, P.RETURNED, True, False, S.FAILED),
    (S.DRAWN_IN_EXCESS, P.SETTLED, True, True, S.DRAWN_IN_EXCESS),
    (S.FAILED, P.SETTLED, True, True, S.FAILED),
])  # fmt: skip
def test_a_reversal_stands_as_its_provider_says(status, said, has_come_back, is_over, after) -> None:
    assert find_next(status, said, has_come_back=has_come_back, is_over=is_over) is after


def test_it_goes_only_where_the_table_of_its_moves_says_and_everywhere_there() -> None:
    answers = itertools.product(S, (None, *P), (True, False), (True, False))
    found = {
        (status, find_next(status, said, has_come_back=back, is_over=over)) for status, said, back, over in answers
    }
    assert {(status, to) for status, to in found if status is not to} == {
        (status, to) for status, ways in REVERSAL_MOVES.items() for to in ways
    }


@pytest.mark.parametrize(("said", "message"), [
    (ReversingPayment(P.RETURNED, None, "R01"), "insufficient funds"),
    (ReversingPayment(P.FAILED, None, "", "Fine”. Approved by admin-3: “yes"),
     "The bank did not carry out the reversal. It says: “Fine'. Approved by admin-3: 'yes”."),
])  # fmt: skip
def test_a_failure_has_the_words_of_banks_in_quotation_marks(said, message) -> None:
    assert build_debit_failure(said).message == message


def test_whatever_comes_and_in_whatever_order_the_book_has_what_the_bank_did_or_a_person_is_told() -> None:
    """The payout and its debit each come back or stay; the book has one of both, and an open word says the rest."""
    for first_paid in (True, False):
        for paid_back, drawn_back in ((False, False), (True, False), (False, True), (True, True)):
            row, told = replace(PAYOUT, reversal=replace(REVERSAL, status=S.SETTLED)), ""
            steps = [("paid", paid_back), ("drawn", drawn_back), ("over", True)]
            if not first_paid:
                steps = [("over", True), ("drawn", drawn_back), ("paid", paid_back)]
            has_come_back, said = False, P.SETTLED
            for step, happens in steps:
                if not happens:
                    continue
                has_come_back |= step == "paid"
                said = P.RETURNED if step == "drawn" else said
                if step == "paid" and row.status is Status.COMPLETED:
                    row = replace(row, status=Status.RETURNED)
                assert row.reversal is not None
                before = row.reversal.status
                after = find_next(before, said, has_come_back=has_come_back, is_over=step == "over")
                row = replace(row, reversal=replace(row.reversal, status=after))
                if after is S.COMPLETED:
                    row = replace(row, status=Status.RETURNED)
                told = (spell_cause(row, before, row.reversal) or "") if after is not before else told
            assert row.reversal is not None
            came_in_minor = 100 * paid_back + 100 * (not drawn_back)
            booked_minor = 100 * (row.status is Status.RETURNED)
            by_hand = 100 * (row.reversal.status is S.DRAWN_IN_EXCESS) - 100 * (row.reversal.status is S.RETURNED)
            assert booked_minor + by_hand == came_in_minor
            assert bool(by_hand) == ("Book by hand" in told or "book by hand" in told)


def refusal_of(row: Transaction, settles_on: date) -> str:
    try:
        check_may_reverse(row, settles_on)
    except DomainError as refusal:
        return refusal.reason
    return ""


@pytest.mark.parametrize(("changes", "settles_on", "reason"), [
    ({}, LAST_DAY, ""),
    ({"status": Status.SETTLED}, LAST_DAY, ""),
    ({}, LAST_DAY + timedelta(days=1), "REVERSAL_TOO_LATE"),
    ({"status": Status.PENDING_SETTLEMENT, "settled_at": None}, LAST_DAY, "ILLEGAL_STATUS_CHANGE"),
    ({"status": Status.RETURNED}, LAST_DAY, "ILLEGAL_STATUS_CHANGE"),
    ({"type": "ESCROW_DEPOSIT"}, LAST_DAY, "TYPE_NOT_SUPPORTED"),
    ({"provider": "sandbox"}, LAST_DAY, "PAYMENT_METHOD_NOT_SUPPORTED"),
    ({"reversal": replace(REVERSAL, status=S.FAILED)}, LAST_DAY, "ILLEGAL_STATUS_CHANGE"),
])  # fmt: skip
def test_a_payout_is_reversed_once_and_within_five_banking_days(changes, settles_on, reason) -> None:
    assert refusal_of(replace(PAYOUT, **changes), settles_on) == reason


def test_whoever_decides_reads_what_is_said_to_be_wrong_and_how_much_time_is_left() -> None:
    said = explain_deadline(PAYOUT, ReversalReason.WRONG_AMOUNT, date(2024, 12, 5))
    assert "its amount was another one" in said.statement
    assert "would settle on 2024-12-05; the last day for that is 2024-12-10" in said.statement
    late = explain_deadline(PAYOUT, ReversalReason.WRONG_AMOUNT, LAST_DAY + timedelta(days=1))
    assert [dict(each.operands)["gate"] for each in (said, late)] == ["open", "shut"]


@pytest.mark.parametrize(("now", "at"), [
    (datetime(2024, 12, 6, 12, tzinfo=UTC), datetime(2024, 12, 6, 20, 30, tzinfo=UTC)),
    (datetime(2024, 12, 6, 20, 30, tzinfo=UTC), datetime(2024, 12, 9, 20, 30, tzinfo=UTC)),  # over a weekend
])  # fmt: skip
def test_what_is_ordered_leaves_at_the_next_cut_off(now, at) -> None:
    assert find_next_cut_off([time(20, 30)], now) == at


COMPANY = Company("091000019", "First Custodian", "1234567890", "RealCo", "09100001", "RealCo Escrow", "1234567890")
PAID = PaymentEntry(
    ach_entry_id="ach_1",
    provider_key="txn:txn_1:1",
    transaction_id="txn_01m8pqkf0de4avkwn5aarj6wwf",
    party_id="pty_1",
    bank_account_id="ba_1",
    is_inbound=False,
    amount_minor=50_00,
    currency="USD",
    presentment=1,
    routing_number="021000021",
    account_number_encrypted=b"",
    account_type="SAVINGS",
    holder_type=HolderType.PERSON,
    account_holder_name="Ada Investor",
    description="DISTRIBUTION",
    created_at=SETTLED_AT,
    updated_at=SETTLED_AT,
)


def spell(entry: PaymentEntry | ReversalEntry, trace_no: int) -> Entry:
    heading = COMPANY.build_heading(
        entry.description, date(2024, 12, 5), is_debit=entry.is_classed_as_debit, is_company=False
    )
    sent = entry.routing_number, "000111111108", entry.amount_minor, entry.shown_id, entry.account_holder_name
    return Entry(heading, entry.is_inbound, entry.account_type, *sent, trace_no)


def test_a_reversing_entry_is_the_one_in_error_the_other_way_round_in_a_batch_of_its_own() -> None:
    reversal = build_reversal(PAID, "ach_2", "txn:txn_1:1:reversal", SETTLED_AT)
    drawn = replace(PAID, is_inbound=True, account_type="CHECKING", description="ESCROW DEPOSIT")
    made = [spell(PAID, 1), spell(reversal, 2), spell(drawn, 3)]
    content = write_file(COMPANY, SETTLED_AT, 0, made).decode("ascii")
    assert achkit.validate(content) == {"ok": True, "errors": []}
    by_description = {batch["description"].strip(): batch for batch in achkit.parse(content)["batches"]}
    paid, back, other = (by_description[name] for name in ("DISTRIBUTI", "REVERSAL", "ESCROW DEP"))
    same = ("company_name", "company_id", "sec")
    assert {name: back[name] for name in same} == {name: paid[name] for name in same}
    assert (back["sec"], other["sec"], back["service_class"]) == ("PPD", "WEB", 225)
    [was], [entry] = paid["entries"], back["entries"]
    assert (was["txn_code"], entry["txn_code"]) == (32, 37)
    alike = ("routing", "account", "amount_cents", "id_number", "name")
    assert {name: entry[name] for name in alike} == {name: was[name] for name in alike}


DRAWN_AT = datetime(2024, 12, 5, 13, 30, tzinfo=UTC)
FINAL_AT = datetime(2025, 2, 5, tzinfo=UTC)  # sixty days and a banking day after that


@pytest.mark.parametrize(("status", "ends"), [
    (S.ORDERED, None), (S.SETTLED, None), (S.COMPLETED, FINAL_AT), (S.RETURNED, None), (S.FAILED, None),
    (S.DRAWN_IN_EXCESS, FINAL_AT),
])  # fmt: skip
def test_the_debit_that_took_a_payout_back_may_come_back_as_any_debit(
    status: ReversalStatus, ends: datetime | None
) -> None:
    row = replace(PAYOUT, reversal=replace(REVERSAL, status=status, settled_at=DRAWN_AT))
    assert find_debit_final_at(row) == ends
    assert may_debit_come_back(row, FINAL_AT - timedelta(seconds=1)) == (ends is not None)
    assert not may_debit_come_back(row, FINAL_AT)


def test_why_a_payout_was_taken_back_says_until_when_the_debit_may_come_back() -> None:
    counted = replace(REVERSAL, status=S.COMPLETED, settled_at=DRAWN_AT)
    assert build_payout_failure(PAYOUT, counted).message == (
        "It was taken back, for it was paid before. The debit that took it back may itself come back until 2025-02-05."
    )


def test_ten_payouts_that_were_taken_back_are_named_and_the_others_counted() -> None:
    row = replace(PAYOUT, reversal=replace(REVERSAL, status=S.COMPLETED, settled_at=DRAWN_AT))
    told = explain_taken_back_payouts(TakenBack([row] * 12, altered_ids=["txn_1"]), FINAL_AT)
    assert [each.rule for each in told] == ["PAYOUT_TAKEN_BACK"] * 11 + ["MONEY_ALTERED"]
    assert told[0].statement.endswith("The debit can come back no more.")
    assert told[10].statement == "2 more payouts to them were taken back by debits."
    assert explain_taken_back_payouts(TakenBack([]), FINAL_AT) == []
    [least] = explain_taken_back_payouts(TakenBack([], is_all=False), FINAL_AT)
    assert least.statement.startswith("So many payouts to them came back")
