"""What comes from outside is fit to be stored, or refused by whatever door it came."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date
from realco.compliance.v1 import parties_pb2 as parties
from realco.distributions.v1 import distributions_pb2 as distributions
from realco.escrow.v1 import escrow_accounts_pb2, holds_pb2, journal_pb2
from realco.type.v1.failure_pb2 import Failure

from services.chassis.calls import field_kinds
from services.chassis.values.errors import Unavailable
from services.chassis.values.payment_numbers import find_card_or_iban, find_payment_number
from services.chassis.values.text import clean_text, find_fault, find_look_alike, quote, read_text
from services.chassis.values.times import DATE_RULE, TIME_RULE, read_time


@pytest.mark.parametrize(
    ("text", "is_a_line", "are_lines"),
    [
        ("Zoë Müller-Ōé, 李 & Söhne 🏠", True, True),
        ("", True, True),
        ("first\nsecond\tcolumn\r\n", False, True),
        ("NUL \x00", False, False),
        ("bell \x07", False, False),
        ("escape \x1b[31m", False, False),
        ("delete \x7f", False, False),
        ("next line \x85", False, False),
        ("line separator \u2028", False, False),
        ("right to left \u202e", False, False),
        ("half a pair \ud800", False, False),
    ],
)
def test_a_text_is_one_line_without_control_characters_unless_it_may_have_several(text, is_a_line, are_lines):
    assert (find_fault(text) is None) == is_a_line
    assert (find_fault(text, lines=True) is None) == are_lines


@pytest.mark.parametrize(
    "unseen",
    [" ", "\u00a0", "\u3000", "\u115f", "\u3164", "\uffa0", "\u200b\u200d", "\u00ad", "\ufe0f", "\u2800", "\U000e0041"],
)
def test_a_text_has_something_to_see(unseen):
    fault = "must contain a character that can be seen"
    assert find_fault(unseen) == find_fault(unseen * 3, lines=True) == fault
    account = escrow_accounts_pb2.CreateEscrowAccountRequest(display_name=unseen)
    assert field_kinds.find_faults(account) == [("display_name", fault)]
    assert field_kinds.find_faults(parties.EndSessionsRequest(person_id=unseen)) == [("person_id", fault)]
    assert find_fault(f"{unseen}x") is None
    assert clean_text(unseen, 20) == ""


_BLANKS = "must have one plain blank between words, and none at its ends"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("Fee of March 2027", None),
        ("Zoë Müller-Ōé, 李 & Söhne 🏠", None),
        ("", None),
        *((text, _BLANKS) for text in ("Fee ", " Fee", "Fee  of", "Fee\u00a0of", "Fee\u3000of", "Fee\u2009of")),
        *((f"Fee{unseen} of", f"must not contain U+{ord(unseen):04X}, which cannot be seen") for unseen in (
            *("\u200b", "\u200d", "\u00ad", "\ufeff", "\u2060", "\u034f", "\u115f", "\u1160", "\u2800", "\u3164"),
            *("\uffa0", "\ufe0f", "\U000e0041", "\U000e0101"),
        )),
        ("Zoe\u0308", "must be in Unicode's normal form C (NFC)"),
    ],
)  # fmt: skip
def test_no_text_of_one_line_that_people_send_looks_like_another(text, fault):
    faults = [] if fault is None else [fault]
    asked = journal_pb2.PostJournalEntryRequest(
        journal_entry=journal_pb2.NewJournalEntry(description=text, external_id=text, metadata={"k": text})
    )
    wanted = [(f"journal_entry.{name}", fault) for name in ("description", "external_id", "metadata[*]") if fault]
    assert sorted(field_kinds.find_faults(asked)) == sorted(wanted)
    party = parties.CreatePartyRequest(legal_name=text)
    assert [found for _, found in field_kinds.find_faults(party)] == faults
    assert find_look_alike(clean_text(text, 40)) is None
    note = escrow_accounts_pb2.FreezeEscrowAccountRequest(note=f"{text}\n {text}x")
    assert field_kinds.find_faults(note) == [], "who explains something at length writes as they please"


@pytest.mark.parametrize(("value", "taken"), [("ab", True), ("abc", False), ("", False), (None, False), (7, False)])
def test_a_text_of_a_document_has_its_length(value, taken):
    if taken:
        assert read_text(value, 2) == value
        return
    with pytest.raises(ValueError, match="not a text of 1 to 2 characters"):
        read_text(value, 2)


def test_a_text_that_may_be_empty_is_taken_empty_and_still_not_unfit():
    assert read_text("", 2, empty=True) == ""
    with pytest.raises(ValueError, match="control"):
        read_text("\x00", 2, empty=True)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("no account", "no account"),
        ("no\naccount\x00 \x1b[31m", "no account [31m"),
        ("\ud800x\u202e", "x"),
        ("y" * 30, "y" * 20),
        (None, ""),
        (7, ""),
    ],
)
def test_words_for_people_are_made_fit(value, words):
    assert clean_text(value, 20) == words
    assert find_fault(clean_text(value, 20)) is None


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:00.123456789+02:00", datetime(2026, 1, 31, 10, 0, 0, 123456, tzinfo=UTC)),
        ("2026-01-31T12:00:00", None),  # of which zone?
        ("1899-12-31T23:59:59Z", None),
        ("9999-12-31T23:59:59Z", None),
        ("yesterday", None),
        (1769860800, None),
        (None, None),
    ],
)
def test_a_time_of_a_document_names_its_zone_and_a_year_with_room_around_it(text, moment):
    if moment is not None:
        assert read_time(text) == moment
        return
    with pytest.raises(ValueError, match=r"."):
        read_time(text)


def seconds_of(year: int, *rest: int) -> int:
    return int((datetime(year, *rest, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(seconds=1))


@pytest.mark.parametrize(
    ("timestamp", "fits"),
    [
        (Timestamp(seconds=0), True),
        (Timestamp(seconds=seconds_of(1900, 1, 1)), True),
        (Timestamp(seconds=seconds_of(1900, 1, 1) - 1, nanos=999_999_000), False),
        (Timestamp(seconds=seconds_of(9998, 12, 31, 23, 59, 59), nanos=999_999_000), True),
        (Timestamp(seconds=seconds_of(9999, 1, 1)), False),
        (Timestamp(seconds=2**62), False),
        (Timestamp(nanos=1_000), True),
        (Timestamp(nanos=1_001), False),  # finer than a store keeps
        (Timestamp(nanos=-1_000), False),
        (Timestamp(nanos=10**9), False),
    ],
)
def test_a_time_of_a_request_comes_back_from_the_store_as_it_went_in(timestamp, fits):
    request = holds_pb2.PlaceHoldRequest(expire_time=timestamp)
    assert field_kinds.find_faults(request) == ([] if fits else [("expire_time", TIME_RULE)])


@pytest.mark.parametrize(
    ("day", "fits"),
    [
        ((2028, 2, 29), True),
        ((2027, 2, 29), False),
        ((2026, 4, 31), False),
        ((1900, 1, 1), True),
        ((1899, 12, 31), False),
        ((9998, 12, 31), True),
        ((9999, 1, 1), False),
        ((2026, 0, 0), False),  # a year is no day
        ((0, 0, 0), False),
        ((2026, -1, 1), False),
    ],
)
def test_a_day_of_a_request_is_a_day_of_the_calendar(day, fits):
    year, month, day_of_month = day
    on = Date(year=year, month=month, day=day_of_month)
    request = distributions.CreateDistributionRequest(distribution_date=on)
    assert field_kinds.find_faults(request) == ([] if fits else [("distribution_date", DATE_RULE)])


@pytest.mark.parametrize(("start", "end", "fits"), [(1, 2, True), (2, 2, True), (2, 1, False)])
def test_a_range_does_not_end_before_it_begins(start, end, fits):
    request = journal_pb2.ListLedgerEntriesRequest(from_time=Timestamp(seconds=start), to_time=Timestamp(seconds=end))
    faults = [] if fits else [("from_time", "must not be after the end of the range")]
    assert field_kinds.find_faults(request) == faults


@pytest.mark.parametrize(
    ("values", "named", "faults"),
    [
        ({}, ["external_id", "metadata", "accreditation"], []),
        ({}, ["legal_name"], ["legal_name"]),
        ({"legal_name": "Ann"}, ["legal_name"], []),
        ({}, ["legal_name", "kind"], ["kind", "legal_name"]),
        ({"kind": parties.Party.LLC}, ["kind"], []),
        ({}, [], []),
    ],
)
def test_an_update_takes_no_field_away_that_the_contract_says_stays(values, named, faults):
    request = parties.UpdatePartyRequest(update_mask={"paths": named}, **values)
    assert field_kinds.find_faults(request) == [(name, "cannot be taken away") for name in faults]


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("ann", True),
        ("auth0|service:1", True),
        ("keynes", True),
        ("service:escrow", False),
        ("SERVICE:escrow", False),
        ("\u017fervice:escrow", False),  # a long s
        ("\uff53ervice\uff1aescrow", False),  # full width
        ("ser\u00advice:escrow", False),  # with a soft hyphen
        ("\u200b service:escrow", False),
        ("Key:reporting", False),
        ("\ufdfa" * 80, False),  # 240 bytes, which are many more in the spelling of persons
    ],
)
def test_a_person_of_a_request_is_no_machine_in_the_spelling_of_persons(name, fits):
    faults = [] if fits else [field_kinds.PERSON_RULE]
    one, several = parties.EndSessionsRequest(person_id=name), parties.ListPartiesRequest(person_id=["ann", name])
    inner = parties.CreatePartyRequest(persons=[{"person_id": name}])
    assert field_kinds.find_faults(one) == [("person_id", fault) for fault in faults]
    assert field_kinds.find_faults(several) == [("person_id[1]", fault) for fault in faults]
    assert field_kinds.find_faults(inner) == [("persons[0].person_id", fault) for fault in faults]


def test_a_range_open_at_one_end_is_a_range():
    assert not field_kinds.find_faults(journal_pb2.ListLedgerEntriesRequest(from_time=Timestamp(seconds=5)))


def test_a_fault_is_found_wherever_it_hides_and_the_callers_own_keys_are_not_repeated():
    request = journal_pb2.BatchPostJournalEntriesRequest()
    request.items.add().journal_entry.description = "rent"
    request.items.add().journal_entry.description = "rent\x00"
    assert [path for path, _ in field_kinds.find_faults(request)] == ["items[1].journal_entry.description"]
    failure = Failure(metadata={"a\x1b": "\x07", "limit": "7"})
    assert [path for path, _ in field_kinds.find_faults(failure)] == ["metadata[*]", "metadata[*]"]


def test_what_a_person_explains_may_have_several_lines_and_a_name_may_not():
    assert not field_kinds.find_faults(
        escrow_accounts_pb2.FreezeEscrowAccountRequest(note="a court order:\n\t12 C 345")
    )
    faults = field_kinds.find_faults(escrow_accounts_pb2.CreateEscrowAccountRequest(display_name="Oak\nStreet"))
    assert faults == [("display_name", "must be one line without control characters")]


@pytest.mark.parametrize(
    ("moment", "spelled"),
    [
        (datetime(2026, 1, 31, 17, tzinfo=UTC), "2026-01-31T17:00:00Z"),
        (datetime(2026, 1, 31, 17, 0, 0, 250_000, tzinfo=UTC), "2026-01-31T17:00:00.250000Z"),
        (datetime(2026, 1, 31, 17, tzinfo=timezone(timedelta(hours=-5))), "2026-01-31T22:00:00Z"),
        (datetime(2026, 1, 31, tzinfo=UTC).date(), "2026-01-31"),
    ],
)
def test_a_refusal_spells_a_time_as_every_answer_does(moment, spelled):
    assert Unavailable("Later.", expire_time=moment).metadata == {"expire_time": spelled}


def test_what_a_refusal_has_no_value_for_is_no_key_of_its_metadata():
    refusal = Unavailable("Later.", expire_time=None, party_id="", attempts=0, etag="3")
    assert refusal.metadata == {"attempts": "0", "etag": "3"}


CARD, ACCOUNT = "must not contain a card number", "must not contain a bank account number"


@pytest.mark.parametrize(("text", "fault"), [
    ("Card 4111 1111 1111 1111, exp. 12/27", CARD),
    ("4111 1111 1111 1111 1227 123", CARD),  # its date and its code follow it
    ("Paid 2 4111-1111-1111-1111", CARD),
    ("4111.1111.1111.1111", CARD),
    ("4111\u00a01111\u00a01111\u00a01111", CARD),
    ("\uff14\uff11" + 14 * "\uff11", CARD),  # full width
    ("card_4111111111111111", CARD),  # as a key can be spelled
    ("5555555555554444", CARD),
    ("2223003122003222", CARD),
    ("6011111111111117", CARD),
    ("3530111333300000", CARD),
    ("6212345678900000003", CARD),
    ("378282246310005.", CARD),
    ("3782 822463 10005", CARD),
    ("3056 930902 5904", CARD),
    ("4111 1111 1111 1112", None),  # its check digit is wrong
    ("0111111111111111", None),  # no card begins so
    ("2200000000000004", None),
    ("x4111111111111111", None),
    ("IBAN DE89 3704 0044 0532 0130 00 BERLIN", ACCOUNT),
    ("de89370400440532013000", ACCOUNT),
    ("NL91-ABNA-0417-1643-00", ACCOUNT),
    ("GB29NWBK60161331926819, please", ACCOUNT),
    ("DE88370400440532013000", None),
    ("DE893704004405320130001", None),  # too long
    ("RF18 5390 0754 7034", None),  # a creditor's reference, which has the check digits of an IBAN
])  # fmt: skip
def test_what_people_write_has_no_number_that_says_itself_that_money_is_drawn_with_it(text, fault):
    assert (find_payment_number(text), find_card_or_iban(text)) == (fault, fault)


@pytest.mark.parametrize(("text", "fault"), [
    ("Pay to 021000021, account 000123456789", ACCOUNT),
    ("021000021 12345678", ACCOUNT),
    ("12345678-021000021", ACCOUNT),
    ("021000021: 1234 5678", ACCOUNT),
    ("021000021, 122105155", ACCOUNT),  # the second is the account's
    ("Pay to 021000021", None),  # a bank alone draws nothing
    ("First Bank, 021000021, New York 10001, by 2026-03-31 or 20260430", None),
    ("021000022 12345678", None),
    ("411000021 12345678", None),  # no district of the Federal Reserve
    ("Invoices 123456789 and 987654321", None),
])  # fmt: skip
def test_what_people_write_has_no_bank_with_an_account_and_an_id_may_look_like_it(text, fault):
    assert (find_payment_number(text), find_card_or_iban(text)) == (fault, None)


@pytest.mark.parametrize("text", [
    "Distribution of 2026-03-31, 1,000,000.00 USD to 12 investors",
    "4,111,111,111,111,111.00 JPY, or 4.111.111.111.111.111",
    "Rents 24-11-2026 25-12-2026, 26.11.2026 27.12.2026, 20261127 20261128",
    "20261127120000, 1764288000000, 1764288000000000",  # a time in digits, in milliseconds, in microseconds
    "Call +1 212 555 0100 or 212-555-0101 or +4915112345670",
    "4006381333931",  # a bar code
    "041000124123456",  # a trace number of the ACH network: of eight digits the bank's, and seven
    "20261127MMQFMP9A000123",  # a wire's
    "1382390117498060801",  # an id of a system that counts as such do
    "41111111-1111-4111-8111-111111111111",
    "txn_01jdq3v6f2e8mb4c5d6e7f8g9h",
    "0x4111111111111111",
    "Units 4101, 4102, 4103, 4104 of 1600 Pennsylvania Avenue, DC 20500-0003",
])  # fmt: skip
def test_what_is_no_number_to_draw_money_with_is_taken(text):
    assert (find_payment_number(text), find_card_or_iban(text)) == (None, None)


def test_nobodys_words_end_the_quotation_marks_in_which_they_stand() -> None:
    said = "fine”; looked at once more by checker-1, “too\nEverything is proven."
    assert quote(said) == "“fine'; looked at once more by checker-1, 'too Everything is proven.”"


@pytest.mark.parametrize(
    "mark",
    [
        "\u2034",
        "\u2057",
        "\u05f4",
        "\u3003",
        "\u2019\u2019",
        "''\u2032",
        '""',
        *(2 * each for each in "\u055a\u02bb\u02bd\u07f4\u05f3\ua78c\u2035\u275b\u275c\u1fbd\u1fbf\u201a\u02ca\u02cb"),
        *"\u201c\u201d\u201e\u201f\u275d\u275e\u301d\u301e\u301f\uff02\u02ba\u02ee\u02dd\u00ab\u00bb\u0022\u2033",
    ],
)
def test_what_could_be_taken_for_a_quotation_mark_is_a_single_one_within(mark: str) -> None:
    assert quote(f"Smith {mark}; who acts for x. O\u2019Brien") == "“Smith '; who acts for x. O\u2019Brien”"
