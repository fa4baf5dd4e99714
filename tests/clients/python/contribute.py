"""An investor's contribution, by a client generated from /openapi.json: without a cast or an ignored type."""

from __future__ import annotations

import json
import os
import time
import uuid

from realco_client import AuthenticatedClient
from realco_client.api.investments import create_investment
from realco_client.api.offerings import get_offering
from realco_client.api.transactions import create_transaction, get_transaction
from realco_client.models import (
    CreateInvestmentRequest,
    CreateTransactionRequest,
    CreateTransactionRequestPaymentMethod,
    CreateTransactionRequestType,
    Investment,
    Money,
    Offering,
    Transaction,
)
from realco_client.types import Unset


def contribute(client: AuthenticatedClient) -> Transaction:
    offering = get_offering.sync(os.environ["OFFERING_ID"], client=client)
    assert isinstance(offering, Offering), offering
    amount = Money(currency_code=offering.target_amount.currency_code, amount_minor="50000")
    commitment = CreateInvestmentRequest(
        offering_id=offering.offering_id, terms_etag=offering.terms_etag, amount=amount
    )
    investment = create_investment.sync(client=client, body=commitment, idempotency_key=str(uuid.uuid4()))
    assert isinstance(investment, Investment), investment
    payment = CreateTransactionRequest(
        type_=CreateTransactionRequestType.ESCROW_DEPOSIT,
        payment_method=CreateTransactionRequestPaymentMethod.ACH,
        amount=investment.amount,
        escrow_account_id=offering.escrow_account_id,
        bank_account_id=os.environ["BANK_ACCOUNT_ID"],
        investment_id=investment.investment_id,
    )
    transaction = create_transaction.sync(client=client, body=payment, idempotency_key=str(uuid.uuid4()))
    for _ in range(200):
        assert isinstance(transaction, Transaction), transaction
        if transaction.status == "SETTLED":
            return transaction
        time.sleep(0.1)
        transaction = get_transaction.sync(transaction.transaction_id, client=client)
    raise TimeoutError("it did not settle")


def read_unknown() -> Transaction:
    """What a service of tomorrow answers, to a client of today."""
    answer = get_transaction.sync("txn_1", client=AuthenticatedClient(os.environ["TOMORROW_URL"], token="none"))
    assert isinstance(answer, Transaction), answer
    return answer


transaction = contribute(AuthenticatedClient(os.environ["BASE_URL"], token=os.environ["TOKEN"]))
print(
    json.dumps(
        {
            "status": transaction.status,
            "settled": not isinstance(transaction.settle_time, Unset),
            "minor": transaction.amount.amount_minor,
            "failed": not isinstance(transaction.failure, Unset),
            "unknown": read_unknown().status,
        }
    )
)
