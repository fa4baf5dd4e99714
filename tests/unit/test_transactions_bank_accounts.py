"""The rules of one bank account."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from services.chassis.values.refusals import BankAccountNotUsable
from services.transactions.domain.bank_accounts import BankAccount, BankAccountStatus, check_may_update

NOW = datetime(2026, 3, 2, 15, tzinfo=UTC)


def a_bank_account(status: BankAccountStatus) -> BankAccount:
    return BankAccount(
        bank_account_id="ba_1",
        party_id="pty_1",
        account_holder_name="Ann Lee",
        routing_number="021000021",
        account_number_encrypted=b"",
        account_number_digest="digest",
        account_number_last4="6789",
        account_type="CHECKING",
        default_for_payouts=False,
        status=status,
        external_id=None,
        metadata={},
        created_by="ann",
        makers=("ann",),
        created_at=NOW,
        updated_at=NOW,
    )


@pytest.mark.parametrize("status", ["PENDING", "ACTIVE"])
def test_what_is_said_of_a_live_bank_account_may_change(status: str) -> None:
    check_may_update(a_bank_account(BankAccountStatus(status)))


@pytest.mark.parametrize("status", ["BLOCKED", "DELETED"])
def test_what_is_said_of_one_that_nothing_comes_of_any_more_stays(status: str) -> None:
    with pytest.raises(BankAccountNotUsable, match=status):
        check_may_update(a_bank_account(BankAccountStatus(status)))
