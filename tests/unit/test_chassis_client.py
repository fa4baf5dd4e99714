"""What is sent again when a connection fails: only what has no second effect."""

from __future__ import annotations

import pytest
from realco.compliance.v1 import clearances_pb2
from realco.escrow.v1 import journal_pb2
from realco.transactions.v1 import bank_accounts_pb2, transactions_pb2

from services.chassis.calls.client import may_be_sent_twice

TRANSACTIONS, JOURNAL = "/realco.transactions.v1.TransactionsService", "/realco.escrow.v1.JournalService"
CLEARANCES, BANK_ACCOUNTS = "/realco.compliance.v1.ClearancesService", "/realco.transactions.v1.BankAccountsService"


def batch(*keys: str) -> journal_pb2.BatchPostJournalEntriesRequest:
    return journal_pb2.BatchPostJournalEntriesRequest(items=[{"idempotency_key": key} for key in keys])


@pytest.mark.parametrize(
    ("method", "request_", "repeatable"),
    [
        (f"{TRANSACTIONS}/GetTransaction", transactions_pb2.GetTransactionRequest(), True),
        (f"{TRANSACTIONS}/ListTransactions", transactions_pb2.ListTransactionsRequest(), True),
        (f"{TRANSACTIONS}/CancelTransaction", transactions_pb2.CancelTransactionRequest(), False),
        (f"{TRANSACTIONS}/CancelTransaction", transactions_pb2.CancelTransactionRequest(idempotency_key="k"), True),
        (f"{JOURNAL}/BatchPostJournalEntries", batch("a", "b"), True),
        (f"{JOURNAL}/BatchPostJournalEntries", batch("a", ""), False),
        # A second one would be told that there is nothing any more.
        (f"{BANK_ACCOUNTS}/DeleteBankAccount", bank_accounts_pb2.DeleteBankAccountRequest(), False),
        # As their contracts say.
        (f"{CLEARANCES}/BatchEvaluateTransactions", clearances_pb2.BatchEvaluateTransactionsRequest(), True),
        (f"{CLEARANCES}/BatchGetClearances", clearances_pb2.BatchGetClearancesRequest(), True),
    ],
)
def test_a_request_is_sent_again_only_where_that_has_no_second_effect(method, request_, repeatable):
    assert may_be_sent_twice(method, request_) is repeatable
