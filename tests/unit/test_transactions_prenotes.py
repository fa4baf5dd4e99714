"""What is known of an account by the entries that went to it, or came from it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from services.transactions.domain.ach import AchEntry, AchFile, EntryStatus, FileStatus, PaymentEntry, PrenoteEntry
from services.transactions.domain.bank_accounts import HolderType
from services.transactions.domain.prenotes import Sent, Standing, build_failure, judge_account

LEFT = datetime(2024, 12, 2, 20, 30, tzinfo=UTC)  # a Monday: it settles on Tuesday
FRIDAY = LEFT + timedelta(days=4)
FILE = AchFile(
    ach_file_id="achf_1",
    created_on=LEFT.date(),
    number=0,
    status=FileStatus.LEFT,
    entry_count=1,
    debit_minor=0,
    credit_minor=0,
    is_acknowledged=False,
    left_at=LEFT,
    created_at=LEFT,
    updated_at=LEFT,
)
PRENOTE = PrenoteEntry(
    ach_entry_id="ach_1",
    provider_key="prenote:ba_1:in:1",
    party_id="pty_1",
    bank_account_id="ba_1",
    is_inbound=True,
    amount_minor=0,
    currency="USD",
    presentment=1,
    routing_number="021000021",
    account_number_encrypted=b"",
    account_type="CHECKING",
    holder_type=HolderType.PERSON,
    account_holder_name="Ada Investor",
    description="PRENOTE",
    status=EntryStatus.SENT,
    ach_file_id="achf_1",
    trace_no=1,
    effective_on=date(2024, 12, 3),
    created_at=LEFT,
    updated_at=LEFT,
)
_SENT_AS = {name: getattr(PRENOTE, name) for name in ("status", "ach_file_id", "trace_no", "effective_on")}
DEBIT = PaymentEntry(
    **PRENOTE.list_addressed(),
    **_SENT_AS,
    ach_entry_id="ach_2",
    provider_key="txn:txn_1:1",
    transaction_id="txn_1",
    is_inbound=True,
    amount_minor=100,
    presentment=1,
    description="DEPOSIT",
    created_at=LEFT,
    updated_at=LEFT,
)


def sent(entry: AchEntry = PRENOTE, status: FileStatus = FileStatus.LEFT) -> Sent:
    return entry, replace(FILE, status=status)


def back(code: str, entry: AchEntry = PRENOTE) -> Sent:
    return replace(entry, status=EntryStatus.RETURNED, return_code=code), FILE


@pytest.mark.parametrize(
    ("earlier", "before", "standing"),
    [
        ([], FRIDAY, Standing.UNKNOWN),
        ([(replace(PRENOTE, status=EntryStatus.WAITING), None)], FRIDAY, Standing.ASKED),
        ([sent()], FRIDAY - timedelta(seconds=1 + 20.5 * 3600), Standing.ASKED),
        ([sent()], FRIDAY, Standing.KNOWN),
        ([sent(DEBIT)], FRIDAY, Standing.KNOWN),
        ([sent(DEBIT)], FRIDAY - timedelta(days=1), Standing.UNKNOWN),
        ([sent(status=FileStatus.REJECTED)], FRIDAY, Standing.UNKNOWN),
        ([sent(replace(PRENOTE, status=EntryStatus.WITHDRAWN))], FRIDAY, Standing.UNKNOWN),
        ([back("R03")], FRIDAY, Standing.REFUSED),
        ([sent(DEBIT), back("R02")], FRIDAY, Standing.REFUSED),
        ([back("R06")], FRIDAY, Standing.UNKNOWN),
        ([back("R06"), back("R24")], FRIDAY, Standing.REFUSED),
        ([back("R06"), sent(replace(PRENOTE, created_at=LEFT + timedelta(days=1)))], FRIDAY, Standing.KNOWN),
        ([back("R01", DEBIT)], FRIDAY, Standing.UNKNOWN),
    ],
    ids=[
        *(
            "nothing",
            "a prenote waits",
            "it settled two banking days ago",
            "three",
            "a debit stayed",
            "not long enough",
        ),
        *("its file was rejected", "it was withdrawn", "it came back", "and a debit did not", "for another reason"),
        *("twice for another reason", "and then it did not"),
        "a debit came back",
    ],
)
def test_what_is_known_of_an_account(earlier, before, standing) -> None:
    assert judge_account(earlier, before, None).standing is standing


@pytest.mark.parametrize(("after", "standing"), [(-1, Standing.REFUSED), (1, Standing.UNKNOWN)])
def test_persons_who_confirm_an_account_have_its_bank_asked_anew(after, standing) -> None:
    confirmed_at = PRENOTE.updated_at + timedelta(seconds=after)
    assert judge_account([back("R03")], FRIDAY, confirmed_at).standing is standing


def test_a_failure_says_what_the_bank_said() -> None:
    failure = build_failure("R16")
    assert (failure.message, failure.metadata) == (
        "Its bank sent a prenote back (R16): account frozen.",
        {"network_code": "R16"},
    )
