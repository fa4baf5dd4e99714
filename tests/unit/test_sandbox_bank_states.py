"""What the sandbox bank does with each test value, on a clock that stands still until it is moved."""

from __future__ import annotations

import asyncio
import contextlib
import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.bank.__main__ import TICK_SECONDS, keep_time
from sandbox.bank.bank import Bank, BankError
from sandbox.bank.behaviours import (
    NEXT_STATUSES,
    RETURN_REASONS,
    TEST_ROUTING_NUMBER,
    TEST_VALUES,
    Behaviour,
    Direction,
    Reply,
    Status,
    markdown_table,
)
from sandbox.bank.requests import PaymentOrder
from sandbox.bank.tables import SCHEMA
from sandbox.routing_numbers import has_aba_check_digit
from sandbox.store import Store
from sandbox.webhooks import backoff_ms
from services.chassis.values.clock import FakeClock

FRIDAY = datetime(2024, 12, 20, 15, 30, tzinfo=UTC)  # Wednesday the 25th is a holiday
MONDAY, TUESDAY, LATE = date(2024, 12, 23), date(2024, 12, 24), date(2025, 1, 19)
ACCOUNT = "0001111111"


class Branch:
    """A bank in memory with a clock of its own."""

    def __init__(self) -> None:
        self.clock = FakeClock(FRIDAY)
        self.store = Store(Path(":memory:"), SCHEMA)
        self.bank = Bank(self.store, self.clock, key_lifetime=timedelta(hours=24))
        self._keys = 0

    def pay(self, key: str | None = None, **fields: object) -> dict[str, Any]:
        self._keys += 1
        answer = self.bank.create(key or f"key-{self._keys}", order(**fields))
        payment: dict[str, Any] = json.loads(answer.body)
        return payment

    def jump(self, now: datetime) -> None:
        self.clock.set(now)
        while self.bank.advance():
            pass

    def history(self, payment_id: str) -> list[tuple[str, date, str | None]]:
        """Each status of the payment with its business day and return code, as the events tell it."""
        rows = self.store.all("SELECT body FROM events WHERE about = ? ORDER BY sequence", payment_id)
        payments = [json.loads(row["body"])["data"]["payment"] for row in rows]
        return [(p["status"], datetime.fromisoformat(p["updated_at"]).date(), p["return_code"]) for p in payments]


def order(**fields: object) -> PaymentOrder:
    sample: dict[str, object] = {
        "direction": Direction.DEBIT,
        "amount_minor": 100_000_00,
        "currency": "USD",
        "method": "ach",
        "routing_number": TEST_ROUTING_NUMBER,
        "account_number": f"{ACCOUNT}01",
        "account_holder_name": "Ada Investor",
        "reference": "txn_1",
        "presentment": 1,
        "description": "",
    }
    return PaymentOrder.model_validate(sample | fields)


@pytest.mark.parametrize(
    ("suffix", "direction", "presentment", "moves"),
    [
        ("01", "debit", 1, [("settled", FRIDAY.date(), None)]),
        ("01", "credit", 1, [("settled", FRIDAY.date(), None)]),
        ("02", "debit", 1, [("settled", TUESDAY, None)]),
        ("02", "credit", 1, [("settled", TUESDAY, None)]),
        ("03", "debit", 1, [("returned", MONDAY, "R01")]),
        ("03", "debit", 2, [("settled", MONDAY, None)]),
        ("03", "debit", 3, [("settled", MONDAY, None)]),
        ("03", "credit", 1, [("settled", FRIDAY.date(), None)]),
        ("04", "debit", 1, [("returned", MONDAY, "R02")]),
        ("05", "debit", 1, [("returned", MONDAY, "R03")]),
        ("05", "credit", 1, [("returned", MONDAY, "R03")]),
        ("07", "debit", 1, [("settled", FRIDAY.date(), None), ("returned", LATE, "R07")]),
        ("08", "debit", 1, [("returned", MONDAY, "R08")]),
        ("09", "debit", 1, [("returned", MONDAY, "R09")]),
        ("09", "debit", 2, [("settled", MONDAY, None)]),
        ("10", "debit", 1, [("settled", FRIDAY.date(), None), ("returned", LATE, "R10")]),
        ("16", "debit", 1, [("returned", MONDAY, "R16")]),
        ("20", "debit", 1, [("returned", MONDAY, "R20")]),
        ("23", "credit", 1, [("returned", MONDAY, "R23")]),
        ("29", "debit", 1, [("settled", FRIDAY.date(), None), ("returned", LATE, "R29")]),
        ("51", "debit", 3, [("returned", MONDAY, "R01")]),
        ("55", "debit", 1, [("settled", FRIDAY.date(), None), ("returned", LATE, "R05")]),
        ("60", "debit", 1, [("settled", TUESDAY, None)]),
        ("60", "credit", 1, [("failed", FRIDAY.date(), "R03")]),
        ("61", "credit", 1, [("settled", FRIDAY.date(), None), ("returned", TUESDAY, "R02")]),
        ("77", "debit", 1, [("settled", TUESDAY, None)]),  # not in the table
    ],
)
def test_a_payment_moves_as_its_test_value_says_and_on_banking_days(
    suffix: str, direction: str, presentment: int, moves: list[tuple[str, date, str | None]]
) -> None:
    branch = Branch()
    payment = branch.pay(account_number=ACCOUNT + suffix, direction=direction, presentment=presentment)
    assert payment["status"] == "pending"
    assert payment["expected_settlement_date"] == moves[0][1].isoformat()
    branch.jump(FRIDAY + timedelta(days=60))
    assert branch.history(payment["id"]) == [("pending", FRIDAY.date(), None), *moves]
    last = branch.bank.get(payment["id"])
    assert last["failure_reason"] == (RETURN_REASONS[moves[-1][2]] if moves[-1][2] else None)


def test_nothing_moves_before_its_day_opens() -> None:
    branch = Branch()
    payment = branch.pay(account_number=f"{ACCOUNT}02")
    branch.jump(datetime(2024, 12, 23, 23, 59, 59, tzinfo=UTC))
    assert branch.bank.get(payment["id"])["status"] == "pending"
    branch.jump(datetime(2024, 12, 24, tzinfo=UTC))
    assert branch.bank.get(payment["id"])["status"] == "settled"


def test_a_jump_of_the_clock_makes_all_due_moves_in_order_of_due_time() -> None:
    branch = Branch()
    for suffix in ("07", "02", "03", "61", "01"):
        branch.pay(account_number=ACCOUNT + suffix, direction="credit" if suffix == "61" else "debit")
    branch.jump(FRIDAY + timedelta(days=60))
    bodies = [json.loads(row["body"]) for row in branch.store.all("SELECT body FROM events ORDER BY sequence")]
    times = [body["created"] for body in bodies]
    assert times == sorted(times)
    assert len(times) == 5 + 7


@pytest.mark.parametrize(
    ("suffix", "now", "verdict"),
    [
        ("02", FRIDAY + timedelta(hours=8), "cancelled"),
        ("02", datetime(2024, 12, 20, 23, 59, 59, tzinfo=UTC), "cancelled"),
        ("02", datetime(2024, 12, 21, tzinfo=UTC), 409),  # the file has left
        ("02", datetime(2024, 12, 24, tzinfo=UTC), 409),  # settled
        ("01", FRIDAY, 409),  # at once means before anyone could object
    ],
)
def test_a_payment_can_be_cancelled_until_the_file_leaves(suffix: str, now: datetime, verdict: str | int) -> None:
    branch = Branch()
    payment_id = branch.pay(account_number=ACCOUNT + suffix)["id"]
    branch.jump(now)
    if verdict == "cancelled":
        assert branch.bank.cancel(payment_id)["status"] == "cancelled"
        assert branch.bank.cancel(payment_id)["status"] == "cancelled"  # again changes nothing
        branch.jump(now + timedelta(days=60))
        assert [status for status, _, _ in branch.history(payment_id)] == ["pending", "cancelled"]
    else:
        with pytest.raises(BankError) as refusal:
            branch.bank.cancel(payment_id)
        assert (refusal.value.status, refusal.value.code) == (verdict, "not_cancellable")


def test_a_key_gives_its_first_answer_until_it_is_forgotten() -> None:
    branch = Branch()
    first = branch.pay("key")
    branch.jump(FRIDAY + timedelta(hours=23))
    assert branch.pay("key") == first
    with pytest.raises(BankError) as refusal:
        branch.pay("key", amount_minor=1)
    assert refusal.value.status == 409
    branch.jump(FRIDAY + timedelta(hours=25))
    assert branch.pay("key")["id"] != first["id"]  # so a sender must look up before it sends again


@pytest.mark.parametrize(
    ("suffix", "statuses"),
    [
        ("92", [429, 429, 201, 200]),
        ("93", [422, 422]),
        ("94", [503, 201, 200]),
        ("90", [201, 200]),
    ],
)
def test_a_bank_in_trouble_still_makes_one_payment_a_key(suffix: str, statuses: list[int]) -> None:
    branch, seen = Branch(), []
    for _ in statuses:
        try:
            seen.append(branch.bank.create("key", order(account_number=ACCOUNT + suffix)).status)
        except BankError as refusal:
            seen.append(refusal.status)
    assert seen == statuses
    assert len(branch.bank.list("txn_1", 10)["data"]) == (0 if suffix == "93" else 1)


def test_the_statement_ties_out_day_by_day() -> None:
    branch = Branch()
    branch.pay(account_number=f"{ACCOUNT}01", amount_minor=100_00)
    branch.pay(account_number=f"{ACCOUNT}07", amount_minor=40_00)
    branch.pay(account_number=f"{ACCOUNT}04", amount_minor=7_00)  # returned before it settled: no money moved
    branch.pay(account_number=f"{ACCOUNT}61", amount_minor=30_00, direction="credit")
    branch.jump(FRIDAY + timedelta(days=60))
    first = branch.bank.statement(FRIDAY.date(), FRIDAY.date())
    second = branch.bank.statement(MONDAY, LATE)
    assert [line["amount_minor"] for line in first["movements"]] == [100_00, 40_00, -30_00]
    assert [line["amount_minor"] for line in second["movements"]] == [30_00, -40_00]
    assert [first["opening_balance_minor"], first["closing_balance_minor"]] == [0, 110_00]
    assert [second["opening_balance_minor"], second["closing_balance_minor"]] == [110_00, 100_00]


@settings(max_examples=40, deadline=None)
@given(
    orders=st.lists(
        st.tuples(st.sampled_from(TEST_VALUES), st.sampled_from(Direction), st.integers(1, 3), st.integers(1, 10**9)),
        max_size=8,
    ),
    jumps=st.lists(st.integers(0, 40), max_size=4),
)
def test_the_closing_balance_is_what_settled_and_stayed(
    orders: list[tuple[Behaviour, Direction, int, int]], jumps: list[int]
) -> None:
    branch = Branch()
    for number, (value, direction, presentment, amount_minor) in enumerate(orders):
        with contextlib.suppress(BankError):
            branch.pay(
                account_number=value.account_number,
                direction=direction,
                presentment=presentment,
                amount_minor=amount_minor,
                reference=f"txn_{number}",
            )
    for days in jumps:
        branch.jump(branch.clock.now() + timedelta(days=days))
    settled = [p for p in branch.bank.list(None, 100)["data"] if p["status"] == "settled"]
    expected = sum(p["amount_minor"] if p["direction"] == "debit" else -p["amount_minor"] for p in settled)
    statement = branch.bank.statement(FRIDAY.date(), branch.clock.today())
    assert statement["closing_balance_minor"] == expected


def test_full_account_numbers_are_not_kept() -> None:
    branch = Branch()
    payment = branch.pay()
    assert payment["account_last4"] == "1101"
    for table in ("payments", "answers", "events"):
        assert f"{ACCOUNT}01" not in repr(branch.store.all(f"SELECT * FROM {table}"))


def test_every_script_of_the_table_is_a_legal_life_and_every_code_is_explained() -> None:
    for value in TEST_VALUES:
        for script in (*value.debits, value.credit):
            status = Status.PENDING
            for step in script:
                assert step.status in NEXT_STATUSES[status], value.account_number
                status = step.status
                assert (step.return_code is None) == (status is Status.SETTLED), value.account_number
                assert step.return_code is None or step.return_code in RETURN_REASONS
            assert script or value.reply is Reply.DECLINED
    assert len({value.account_number for value in TEST_VALUES}) == len(TEST_VALUES)


def test_the_manual_shows_the_table_of_the_code() -> None:
    manual = Path(__file__).parents[2] / "docs" / "sandbox.md"
    assert markdown_table() in manual.read_text(), "paste the output of `python -m sandbox.bank.behaviours`"


@pytest.mark.parametrize(
    ("routing_number", "right"),
    [
        (TEST_ROUTING_NUMBER, True),
        ("011401533", True),
        ("021000022", False),
        ("120000021", False),
        ("000000000", False),
        ("02100002", False),
        ("0210000210", False),
        ("02100002a", False),
        ("٠٢١٠٠٠٠٢١", False),
        ("", False),
    ],
)
def test_a_routing_number_has_a_check_digit(routing_number: str, right: bool) -> None:
    assert has_aba_check_digit(routing_number) is right


@given(position=st.integers(0, 8), digit=st.integers(0, 9))
def test_one_wrong_digit_never_passes_the_check(position: int, digit: int) -> None:
    changed = TEST_ROUTING_NUMBER[:position] + str(digit) + TEST_ROUTING_NUMBER[position + 1 :]
    assert has_aba_check_digit(changed) is (changed == TEST_ROUTING_NUMBER)


def test_tries_of_a_webhook_back_off_from_a_fifth_of_a_second_to_half_a_minute() -> None:
    assert [backoff_ms(attempts) for attempts in (1, 2, 3, 8, 9, 1000)] == [200, 400, 800, 25_600, 30_000, 30_000]


async def test_a_bank_that_waits_looks_into_its_book_when_something_changed_or_is_due_and_not_before():
    branch, looks = Branch(), 0
    advance = branch.bank.advance

    def count() -> int:
        nonlocal looks
        looks += 1
        return advance()

    branch.bank.advance = count
    keeping = asyncio.create_task(keep_time(branch.bank, branch.clock, branch.store.listen()))
    await asyncio.sleep(0)
    assert looks == 1
    payment = branch.pay()
    branch.clock.set(datetime.combine(LATE, FRIDAY.timetz()))
    await asyncio.sleep(2 * TICK_SECONDS)
    assert branch.history(payment["id"])[-1][0] == "settled"
    before = looks
    await asyncio.sleep(2 * TICK_SECONDS)
    keeping.cancel()
    assert looks == before
