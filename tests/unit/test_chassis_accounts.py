"""What may be done with an escrow account or a bank account follows from its status, in every service alike."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pytest
from realco.escrow.v1 import escrow_accounts_pb2
from realco.transactions.v1 import bank_accounts_pb2

from services.chassis.values.accounts import check_bank_account, check_takes_money
from services.chassis.values.errors import DomainError
from services.escrow.domain.account import Status, may_post

TAKEN = "taken"
BANK_ACCOUNT_USES = {
    # status: money may come from it, and go to it
    "PENDING": (TAKEN, "BANK_ACCOUNT_NOT_USABLE"),
    "ACTIVE": (TAKEN, TAKEN),
    "SUSPENDED": ("BANK_ACCOUNT_NOT_USABLE", "BANK_ACCOUNT_NOT_USABLE"),
    "BLOCKED": ("BANK_ACCOUNT_NOT_USABLE", "BANK_ACCOUNT_NOT_USABLE"),
    "DELETED": ("BANK_ACCOUNT_NOT_USABLE", "BANK_ACCOUNT_NOT_USABLE"),
    "99": ("UNAVAILABLE", "UNAVAILABLE"),  # of a newer release
}


ESCROW_ACCOUNT_USES = {
    # status: people may move money in it
    "ACTIVE": TAKEN,
    "LIQUIDATING": TAKEN,
    "FROZEN": "ESCROW_ACCOUNT_FROZEN",
    "CLOSED": "ESCROW_ACCOUNT_CLOSED",
    "99": "UNAVAILABLE",
}


class Account(NamedTuple):
    bank_account_id: str
    party_id: str
    status: str


def verdict_of(check: Callable[[], object]) -> str:
    try:
        check()
    except DomainError as refusal:
        return refusal.reason
    return TAKEN


@pytest.mark.parametrize("status", BANK_ACCOUNT_USES)
def test_what_a_bank_account_is_good_for_follows_from_its_status(status: str) -> None:
    account = Account("ba_1", "inv-001", status)
    check = partial(check_bank_account, account, "inv-001")
    verdicts = [verdict_of(partial(check, is_inbound=is_inbound)) for is_inbound in (True, False)]
    assert tuple(verdicts) == BANK_ACCOUNT_USES[status]


def test_the_law_of_bank_accounts_knows_each_status_that_transactions_says() -> None:
    said = {name for name, number in bank_accounts_pb2.BankAccount.Status.items() if number}
    assert set(BANK_ACCOUNT_USES) == said | {"99"}


@pytest.mark.parametrize("status", ESCROW_ACCOUNT_USES)
def test_whether_money_may_move_in_an_escrow_account_follows_from_its_status(status: str) -> None:
    assert verdict_of(partial(check_takes_money, "esc_1", status)) == ESCROW_ACCOUNT_USES[status]


def test_the_law_of_escrow_accounts_knows_each_status_that_escrow_says_and_says_the_same() -> None:
    said = {name for name, number in escrow_accounts_pb2.EscrowAccount.Status.items() if number}
    assert set(ESCROW_ACCOUNT_USES) == said | {"99"}
    assert {name for name in said if may_post(Status(name))} == {
        name for name, verdict in ESCROW_ACCOUNT_USES.items() if verdict == TAKEN
    }
