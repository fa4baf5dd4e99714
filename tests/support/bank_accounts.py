"""A bank account as its row has it, where a test has no database."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from services.transactions.domain.bank_accounts import BankAccount

_NOW = datetime(2026, 3, 2, 15, tzinfo=UTC)


def build_bank_account(**values: Any) -> BankAccount:
    """Ada's checking account, but for what is given."""
    defaults: dict[str, Any] = {
        "bank_account_id": "ba_1",
        "party_id": "pty_1",
        "account_holder_name": "Ada Investor",
        "routing_number": "021000021",
        "account_number_encrypted": b"",
        "account_number_digest": "digest",
        "account_number_last4": "1101",
        "account_type": "CHECKING",
        "default_for_payouts": False,
        "external_id": None,
        "metadata": {},
        "created_by": "ann",
        "makers": ("ann",),
        "created_at": _NOW,
        "updated_at": _NOW,
    }
    return BankAccount(**(defaults | values))
