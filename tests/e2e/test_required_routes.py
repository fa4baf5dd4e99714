"""Every route the user asked for, word for word, answers as documented; and so does its RPC, with the same resource."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from google.api import httpbody_pb2
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from realco.distributions.v1 import distributions_pb2 as dist
from realco.distributions.v1 import distributions_pb2_grpc as dist_grpc
from realco.escrow.v1 import escrow_accounts_pb2, journal_pb2
from realco.escrow.v1.escrow_accounts_pb2_grpc import EscrowAccountsServiceStub
from realco.escrow.v1.journal_pb2_grpc import JournalServiceStub
from realco.transactions.v1 import transactions_pb2 as txn
from realco.transactions.v1 import transactions_pb2_grpc as txn_grpc
from realco.transactions.v1 import webhooks_pb2 as whk
from realco.transactions.v1 import webhooks_pb2_grpc as whk_grpc

from demo.harness.bank import AT_ONCE, DECLINES, TWO_DAYS_LATER
from demo.harness.ledger import name_of_account
from demo.harness.money import minor_of, usd
from demo.harness.polling import wait_for
from demo.harness.rest import Json, new_key
from deploy.local.instance import Instance
from gateway import openapi
from tests.e2e import providers
from tests.e2e.organization import Organization, metadata_of
from tests.e2e.providers import STRIPE_SECRET, Plaid

REQUIRED = (
    "POST /transactions",
    "GET /transactions/{transactionId}",
    "GET /transactions",
    "POST /transactions/{transactionId}/retry",
    "POST /transactions/{transactionId}/cancel",
    "POST /escrow-accounts",
    "GET /escrow-accounts/{escrowAccountId}",
    "GET /escrow-accounts/{escrowAccountId}/balance",
    "GET /escrow-accounts/{escrowAccountId}/ledger",
    "POST /distributions",
    "GET /distributions/{distributionId}",
    "POST /distributions/{distributionId}/calculate",
    "POST /distributions/{distributionId}/execute",
    "POST /webhooks/stripe",
    "POST /webhooks/plaid",
)


def message_of(kind: type[Message], document: Json) -> Any:
    """A resource as REST spells it, as the message: a date is one string there, three numbers in protobuf."""
    return json_format.ParseDict(_with_dates(kind.DESCRIPTOR, document), kind())


def _with_dates(descriptor: Any, value: Any) -> Any:
    if descriptor.full_name == "google.type.Date":
        year, month, day = map(int, value.split("-"))
        return {"year": year, "month": month, "day": day}
    if descriptor.full_name == "google.protobuf.Timestamp" or descriptor.GetOptions().map_entry:
        return value
    nested = {f.json_name: f for f in descriptor.fields if f.type == FieldDescriptor.TYPE_MESSAGE}
    spelled = dict(value)
    for name in spelled.keys() & nested.keys():
        kind = nested[name].message_type
        items = spelled[name]
        spelled[name] = (
            [_with_dates(kind, one) for one in items] if isinstance(items, list) else _with_dates(kind, items)
        )
    return spelled


@dataclass(frozen=True)
class Stubs:
    """Plain gRPC stubs of the services the required routes lead to."""

    transactions: Any
    webhooks: Any
    escrow_accounts: Any
    journal: Any
    distributions: Any


@pytest.fixture
def stubs(instance: Instance) -> Iterator[Stubs]:
    with (
        instance.open_channel("transactions") as transactions,
        instance.open_channel("escrow") as escrow,
        instance.open_channel("distributions") as distributions,
    ):
        yield Stubs(
            txn_grpc.TransactionsServiceStub(transactions),
            whk_grpc.WebhooksServiceStub(transactions),
            EscrowAccountsServiceStub(escrow),
            JournalServiceStub(escrow),
            dist_grpc.DistributionsServiceStub(distributions),
        )


def test_a_transaction_is_created_read_and_listed(org: Organization, stubs: Stubs) -> None:
    investor = org.add_cleared_party()
    payer = org.sign_in_investor(investor)
    me = metadata_of(payer)
    offering = org.open_offering(1_000_00)
    investment = org.invest(offering, investor, 1_000_00)
    body = org.build_contribution(offering, investment, org.add_bank_account(investor))
    key = new_key()

    created = payer.request("POST", "/transactions", json=body, headers={"Idempotency-Key": key})

    assert created.status_code == 201
    resource = created.json()
    assert resource["transactionId"].startswith("txn_")
    assert {name: resource[name] for name in body} == body
    # The same request over gRPC is the same request: it gets the first answer.
    request = message_of(txn.CreateTransactionRequest, body)
    request.idempotency_key = key
    assert stubs.transactions.CreateTransaction(request, metadata=me) == message_of(txn.Transaction, resource)

    transaction_id = resource["transactionId"]
    org.wait_for_transaction(transaction_id, "SETTLED")
    read = payer.request("GET", f"/transactions/{transaction_id}")
    assert read.status_code == 200
    wanted = txn.GetTransactionRequest(transaction_id=transaction_id)
    assert stubs.transactions.GetTransaction(wanted, metadata=me) == message_of(txn.Transaction, read.json())

    listed = payer.request("GET", "/transactions", params={"partyId": investor, "status": "SETTLED"})
    assert listed.status_code == 200
    [in_list] = listed.json()["transactions"]
    told_alone = {"explanations", "allowedActions"}
    assert in_list == {name: value for name, value in read.json().items() if name not in told_alone}
    query = txn.ListTransactionsRequest(party_id=[investor], status=[txn.Transaction.SETTLED])
    answer = stubs.transactions.ListTransactions(query, metadata=me)
    assert answer == message_of(txn.ListTransactionsResponse, listed.json())


def test_a_declined_transaction_is_tried_again(org: Organization, stubs: Stubs) -> None:
    declined = org.contribute(org.open_offering(500_00), org.add_cleared_party(), 500_00, DECLINES)
    failed = org.wait_for_transaction(declined["transactionId"], "FAILED")
    assert failed["failure"]["retryable"] is True
    path, key = f"/transactions/{declined['transactionId']}/retry", new_key()

    retried = org.admin.request("POST", path, json={}, headers={"Idempotency-Key": key})

    assert retried.status_code == 200
    assert retried.json()["etag"] != failed["etag"]
    request = txn.RetryTransactionRequest(idempotency_key=key, transaction_id=declined["transactionId"])
    answer = stubs.transactions.RetryTransaction(request, metadata=metadata_of(org.admin))
    assert answer == message_of(txn.Transaction, retried.json())
    again = org.wait_for_transaction(declined["transactionId"], "FAILED")
    assert again["attempts"] == 2


def test_a_transaction_that_waits_is_cancelled(org: Organization, stubs: Stubs) -> None:
    offering = org.open_offering(700_00)
    investment = org.invest(offering, org.add_cleared_party(), 700_00)
    wire = org.build_contribution(offering, investment, "") | {"paymentMethod": "WIRE"}
    del wire["bankAccountId"]
    waiting = org.admin.post("/transactions", wire)
    org.wait_for_transaction(waiting["transactionId"], "PENDING_SETTLEMENT")
    path, key = f"/transactions/{waiting['transactionId']}/cancel", new_key()

    cancelled = org.admin.request("POST", path, json={"note": "No longer."}, headers={"Idempotency-Key": key})

    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "CANCELLED")
    request = txn.CancelTransactionRequest(
        idempotency_key=key, transaction_id=waiting["transactionId"], note="No longer."
    )
    answer = stubs.transactions.CancelTransaction(request, metadata=metadata_of(org.admin))
    assert answer == message_of(txn.Transaction, cancelled.json())


def test_an_escrow_account_is_opened_and_read(org: Organization, stubs: Stubs) -> None:
    me = metadata_of(org.admin)
    body = {
        "displayName": "Elm Court escrow",
        "currencyCode": "USD",
        "sponsorPartyId": org.sponsor_party_id,
        "custodianName": "First Trust Bank",
        "custodianAccountLast4": "4321",
    }
    key = new_key()

    created = org.admin.request("POST", "/escrow-accounts", json=body, headers={"Idempotency-Key": key})

    assert created.status_code == 201
    resource = created.json()
    assert resource["status"] == "ACTIVE"
    assert {name: resource[name] for name in body} == body
    request = message_of(escrow_accounts_pb2.CreateEscrowAccountRequest, body)
    request.idempotency_key = key
    assert stubs.escrow_accounts.CreateEscrowAccount(request, metadata=me) == message_of(
        escrow_accounts_pb2.EscrowAccount, resource
    )
    read = org.admin.request("GET", f"/escrow-accounts/{resource['escrowAccountId']}")
    assert (read.status_code, read.json()) == (200, resource)
    wanted = escrow_accounts_pb2.GetEscrowAccountRequest(escrow_account_id=resource["escrowAccountId"])
    assert stubs.escrow_accounts.GetEscrowAccount(wanted, metadata=me) == message_of(
        escrow_accounts_pb2.EscrowAccount, read.json()
    )


def test_the_book_shows_a_contribution_in_balance_and_ledger(org: Organization, stubs: Stubs) -> None:
    me = metadata_of(org.auditor)
    offering, investor = org.open_offering(900_00), org.add_cleared_party()
    org.fund_investment(offering, investor, 400_00, AT_ONCE)
    waiting = org.contribute(offering, investor, 500_00, TWO_DAYS_LATER)
    org.wait_for_transaction(waiting["transactionId"], "PENDING_SETTLEMENT")
    account = offering["escrowAccountId"]
    path = f"/escrow-accounts/{account}"
    wait_for(
        "the contribution to be pending in the balance",
        lambda: org.auditor.get(f"{path}/balance"),
        lambda read: minor_of(read["pendingIn"]) == 500_00,
    )
    as_of = f"{org.now():%Y-%m-%dT%H:%M:%S.%fZ}"

    balance = org.auditor.request("GET", f"{path}/balance", params={"asOf": as_of})

    assert balance.status_code == 200
    amounts = {
        name: minor_of(balance.json()[name]) for name in ("posted", "pendingIn", "pendingOut", "held", "available")
    }
    assert amounts == {"posted": 400_00, "pendingIn": 500_00, "pendingOut": 0, "held": 400_00, "available": 0}
    request = escrow_accounts_pb2.GetEscrowAccountBalanceRequest(escrow_account_id=account)
    request.as_of.FromJsonString(as_of)
    answer = stubs.escrow_accounts.GetEscrowAccountBalance(request, metadata=me)
    assert answer == message_of(escrow_accounts_pb2.EscrowAccountBalance, balance.json())

    ledger = org.auditor.request("GET", f"{path}/ledger", params={"from": "2020-01-01T00:00:00Z", "pageSize": "100"})
    assert ledger.status_code == 200
    assert {name_of_account(one["ledgerAccount"]) for one in ledger.json()["ledgerEntries"]} == {
        "cash",
        "in_transit",
        f"subscription:{investor}",
    }
    wanted = journal_pb2.ListLedgerEntriesRequest(escrow_account_id=account, page_size=100)
    wanted.from_time.FromJsonString("2020-01-01T00:00:00Z")
    listed = stubs.journal.ListLedgerEntries(wanted, metadata=me)
    assert listed == message_of(journal_pb2.ListLedgerEntriesResponse, ledger.json())


def test_a_distribution_is_drafted_calculated_read_and_executed(org: Organization, stubs: Stubs) -> None:
    me = metadata_of(org.admin)
    offering = org.make_closed_offering(2_000_00)
    org.add_distributable_cash(offering, 300_00)
    body = {
        "offeringId": offering["offeringId"],
        "type": "PROFIT_SPLIT",
        "amount": usd(300_00),
        "distributionDate": f"{org.now():%Y-%m-%d}",
        "description": "First quarter",
    }
    keys = {step: new_key() for step in ("draft", "calculate", "execute")}

    drafted = org.admin.request("POST", "/distributions", json=body, headers={"Idempotency-Key": keys["draft"]})

    assert (drafted.status_code, drafted.json()["status"]) == (201, "DRAFT")
    request = message_of(dist.CreateDistributionRequest, body)
    request.idempotency_key = keys["draft"]
    assert stubs.distributions.CreateDistribution(request, metadata=me) == message_of(dist.Distribution, drafted.json())

    distribution_id = drafted.json()["distributionId"]
    path = f"/distributions/{distribution_id}"
    calculated = org.admin.request("POST", f"{path}/calculate", json={}, headers={"Idempotency-Key": keys["calculate"]})
    assert calculated.status_code == 200
    totals = calculated.json()["tierTotals"]
    assert sum(minor_of(one["investorsAmount"]) + minor_of(one["sponsorAmount"]) for one in totals) == 300_00
    again = dist.CalculateDistributionRequest(idempotency_key=keys["calculate"], distribution_id=distribution_id)
    answer = stubs.distributions.CalculateDistribution(again, metadata=me)
    assert answer == message_of(dist.Distribution, calculated.json())

    read = org.admin.request("GET", path)
    assert (read.status_code, read.json()["allowedActions"]) == (200, ["calculate", "submit", "cancel"])
    assert read.json() == calculated.json() | {"allowedActions": read.json()["allowedActions"]}
    wanted = dist.GetDistributionRequest(distribution_id=distribution_id)
    assert stubs.distributions.GetDistribution(wanted, metadata=me) == message_of(dist.Distribution, read.json())

    org.admin.post(f"{path}/submit")
    org.second_admin.decide(path, "approve", {"contentHash": calculated.json()["contentHash"]})
    executed = org.admin.request("POST", f"{path}/execute", json={}, headers={"Idempotency-Key": keys["execute"]})
    assert (executed.status_code, executed.json()["status"]) == (200, "QUEUED")
    once_more = dist.ExecuteDistributionRequest(idempotency_key=keys["execute"], distribution_id=distribution_id)
    answer = stubs.distributions.ExecuteDistribution(once_more, metadata=me)
    assert answer == message_of(dist.Distribution, executed.json())
    assert minor_of(org.wait_for_distribution(distribution_id, "COMPLETED")["paidAmount"]) == 300_00


def test_a_genuine_webhook_of_stripe_is_stored_once(org: Organization, stubs: Stubs) -> None:
    body = providers.event("stripe", f"evt_{secrets.token_hex(8)}")
    headers = {"Stripe-Signature": providers.signed(STRIPE_SECRET, body), "Content-Type": "application/json"}

    first = httpx.post(_url(org, "/webhooks/stripe"), content=body, headers=headers, trust_env=False)

    assert (first.status_code, first.json()["replayed"]) == (200, False), first.text
    request = whk.ReceiveStripeWebhookRequest(
        body=httpbody_pb2.HttpBody(content_type="application/json", data=body), signature=headers["Stripe-Signature"]
    )
    answer = stubs.webhooks.ReceiveStripeWebhook(request)
    assert (answer.webhook_id, answer.replayed) == (first.json()["webhookId"], True)


def test_a_genuine_webhook_of_plaid_is_stored_once(org: Organization, stubs: Stubs, plaid: Plaid) -> None:
    body = providers.event("plaid", f"item-{secrets.token_hex(8)}")
    headers = {"Plaid-Verification": plaid.verification(body), "Content-Type": "application/json"}

    first = httpx.post(_url(org, "/webhooks/plaid"), content=body, headers=headers, trust_env=False)

    assert (first.status_code, first.json()["replayed"]) == (200, False), first.text
    request = whk.ReceivePlaidWebhookRequest(
        body=httpbody_pb2.HttpBody(content_type="application/json", data=body),
        verification=headers["Plaid-Verification"],
    )
    answer = stubs.webhooks.ReceivePlaidWebhook(request)
    assert (answer.webhook_id, answer.replayed) == (first.json()["webhookId"], True)


def test_the_openapi_document_is_the_one_that_is_checked_and_describes_every_route(instance: Instance) -> None:
    document = httpx.get(f"{instance.base_url}/openapi.json", trust_env=False).raise_for_status().json()

    assert document == openapi.document()
    described = {
        f"{method.upper()} {path.removeprefix('/api/v1')}"
        for path, operations in document["paths"].items()
        for method in operations
    }
    assert set(REQUIRED) <= described
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["operationId"], path
            assert operation["summary"], path
            assert any(status.startswith("2") for status in operation["responses"]), (method, path)
            assert any(status.startswith("4") for status in operation["responses"]), (method, path)


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/docs", "text/html"),
        ("/healthz", "application/json"),
        ("/readyz", "application/json"),
        ("/openapi.json", "application/json"),
    ],
)
def test_the_gateway_answers_for_itself(instance: Instance, path: str, media_type: str) -> None:
    answer = httpx.get(instance.base_url + path, trust_env=False)

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(media_type)
    if path == "/readyz":
        assert json.loads(answer.content)["status"] == "ok"


def _url(org: Organization, path: str) -> str:
    return f"{org.instance.base_url}/api/v1{path}"
