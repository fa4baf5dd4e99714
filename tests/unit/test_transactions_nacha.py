"""Files of the ACH network, to the character: a parser that is not ours reads ours, and ours reads those of banks."""

from __future__ import annotations

from datetime import UTC, date, datetime

import achkit
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.transactions.providers.ach_file.nacha import (
    ENTRY_MINOR_MAX,
    Company,
    Entry,
    Heading,
    NotNacha,
    Returned,
    read_returns,
    write_file,
)
from tests.support.ach import build_returns, change_line, list_sent

COMPANY = Company(
    "091000019", "First Custodian Bank", "1234567890", "RealCo Escrow", "09100001", "RealCo Escrow", "1234567890"
)
MONDAY, TUESDAY = datetime(2024, 12, 2, 20, 30, tzinfo=UTC), date(2024, 12, 3)
DEBITS = COMPANY.build_heading("ESCROW DEPOSIT", TUESDAY, is_debit=True, is_company=False)
CREDITS = COMPANY.build_heading("DISTRIBUTION", TUESDAY, is_debit=False, is_company=False)
ADA = Entry(DEBITS, True, "CHECKING", "021000021", "000111111102", 100_00, "ABCDEFGH1234567", "Ada Ñandú", 7)
BOB = Entry(CREDITS, False, "SAVINGS", "110000000", "123456789", 5_55, "ZZZ", "Bob", 9)

entries = st.builds(
    Entry,
    st.builds(
        Heading,
        st.just("RealCo"),
        st.just("1234567890"),
        st.sampled_from(["WEB", "PPD", "CCD"]),
        st.sampled_from(["ESCROW DEPOSIT", "RETRY PYMT", "DISTRIBUTION"]),
        st.dates(date(2024, 1, 1), date(2060, 12, 31)),
    ),
    st.booleans(),
    st.sampled_from(["CHECKING", "SAVINGS"]),
    st.sampled_from(["021000021", "110000000", "091000019", "322271627"]),
    st.from_regex("[0-9]{4,17}", fullmatch=True),
    st.integers(1, ENTRY_MINOR_MAX),
    st.from_regex("[0-9A-Z]{0,15}", fullmatch=True),
    st.text(max_size=40),
    st.integers(1, 9_999_999),
)


@given(st.lists(entries, min_size=1, max_size=25, unique_by=lambda each: each.trace_no))
def test_what_we_write_another_parser_takes_and_adds_up(made: list[Entry]) -> None:
    content = write_file(COMPANY, MONDAY, 0, made).decode("ascii")
    assert achkit.validate(content) == {"ok": True, "errors": []}
    read = achkit.parse(content)
    found = sorted(
        (entry["trace_number"], entry["txn_code"], entry["routing"], entry["account"], entry["amount_cents"])
        for batch in read["batches"]
        for entry in batch["entries"]
    )
    codes = {("CHECKING", False): 22, ("CHECKING", True): 27, ("SAVINGS", False): 32, ("SAVINGS", True): 37}
    assert found == sorted(
        (
            f"09100001{each.trace_no:07d}",
            codes[each.account_type, each.is_inbound],
            each.routing_number,
            each.account_number,
            each.amount_minor,
        )
        for each in made
    )
    debits = sum(each.amount_minor for each in made if each.is_inbound)
    credited = sum(each.amount_minor for each in made if not each.is_inbound)
    assert (read["control"]["total_debit"], read["control"]["total_credit"]) == (debits, credited)
    for batch in read["batches"]:
        traces = [entry["trace_number"] for entry in batch["entries"]]
        assert traces == sorted(traces)


def test_a_file_is_as_the_rules_print_it() -> None:
    lines = write_file(COMPANY, MONDAY, 1, [ADA, BOB]).decode().splitlines()
    assert lines[0] == (
        "101 09100001912345678902412022030B094101FIRST CUSTODIAN BANK   REALCO ESCROW                  "
    )
    assert lines[4] == "5225REALCO ESCROW                       1234567890WEBESCROW DEP      241203   1091000010000002"
    assert "627021000021000111111102     0000010000ABCDEFGH1234567ADA NANDU             S 0091000010000007" in lines
    assert "632110000000123456789        0000000555ZZZ            BOB                     0091000010000009" in lines
    assert (len(lines), lines[-1]) == (10, "9" * 94)


def test_returns_and_changes_are_read_with_what_they_are_about() -> None:
    by_trace = {each.trace: each for each in list_sent(write_file(COMPANY, MONDAY, 0, [ADA, BOB]))}
    ada, bob = by_trace["091000010000007"], by_trace["091000010000009"]
    file = read_returns(build_returns([(ada, "R01"), (bob, "R03")], TUESDAY))
    assert file.created_on == TUESDAY
    assert list(file.returned) == [
        Returned("R01", "091000010000007", 100_00, True),
        Returned("R03", "091000010000009", 5_55, False),
    ]
    [change] = read_returns(build_returns([(ada, "C01")], TUESDAY, corrected="000999")).returned
    assert (change.code, change.is_change, change.amount_minor) == ("C01", True, 0)


RETURNS = build_returns([(each, "R01") for each in list_sent(write_file(COMPANY, MONDAY, 0, [ADA, BOB]))], TUESDAY)


@pytest.mark.parametrize(
    "told", [RETURNS, RETURNS.replace(b"\n", b"\r\n"), RETURNS.replace(b"\n", b""), RETURNS.rstrip()]
)
def test_a_bank_ends_its_lines_as_it_likes(told: bytes) -> None:
    assert len(read_returns(told).returned) == 2


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"hello\n",
        RETURNS[:-200],
        RETURNS.replace(b"\n", b"", 1),
        b"\n".join(RETURNS.split(b"\n")[:-2]),
        RETURNS + b"9" * 94 + b"\n",
        RETURNS.replace(b"R01", b"X01", 1),
        RETURNS.replace(b"THEIR BANK", b"THE\xc3\x8fR BAN"),
        change_line(RETURNS, 1, 35, "000"),
        change_line(RETURNS, 1, 24, "241399"),
        change_line(RETURNS, 3, 30, "0000010001"),
        change_line(RETURNS, 3, 4, "99999999"),
        change_line(RETURNS, 3, 2, "27"),
        change_line(RETURNS, 3, 79, "0"),
        change_line(RETURNS, 4, 2, "05"),
        change_line(RETURNS, 4, 7, "09100001000000x"),
        change_line(RETURNS, 7, 5, "000003"),
        change_line(RETURNS, 7, 80, "99999999"),
        change_line(RETURNS, 8, 2, "000002"),
        change_line(RETURNS, 8, 8, "000009"),
        change_line(RETURNS, 8, 32, "000000000001"),
        change_line(RETURNS, 9, 1, "6"),
        write_file(COMPANY, MONDAY, 0, [ADA]),
    ],
)
def test_what_does_not_add_up_is_believed_in_nothing(broken: bytes) -> None:
    with pytest.raises(NotNacha):
        read_returns(broken)


AMOUNTS = [each.amount_minor for each in read_returns(RETURNS).returned]


@given(st.integers(0, len(RETURNS) - 1), st.sampled_from(b"019 A\n\xff"))
def test_a_file_with_another_character_is_none_or_says_the_same_of_each_amount(place: int, other: int) -> None:
    changed = bytearray(RETURNS)
    changed[place] = other
    try:
        file = read_returns(bytes(changed))
    except NotNacha:
        return
    assert [each.amount_minor for each in file.returned] == [
        each.amount_minor for each in read_returns(RETURNS).returned
    ]
