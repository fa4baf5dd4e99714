"""The rules of one bank account."""

from __future__ import annotations

import pytest

from services.chassis.values.refusals import BankAccountNotUsable
from services.transactions.domain.bank_accounts import BankAccountStatus, check_may_update
from tests.support.bank_accounts import build_bank_account


@pytest.mark.parametrize("status", ["PENDING", "ACTIVE"])
def test_what_is_said_of_a_live_bank_account_may_change(status: str) -> None:
    check_may_update(build_bank_account(status=BankAccountStatus(status)))


@pytest.mark.parametrize("status", ["BLOCKED", "DELETED"])
def test_what_is_said_of_one_that_nothing_comes_of_any_more_stays(status: str) -> None:
    with pytest.raises(BankAccountNotUsable, match=status):
        check_may_update(build_bank_account(status=BankAccountStatus(status)))
