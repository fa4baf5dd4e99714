"""Which part of an HTTP request each field of an RPC comes from."""

from __future__ import annotations

import pytest
from realco.distributions.v1 import offerings_pb2
from realco.escrow.v1 import escrow_pb2
from realco.transactions.v1 import transactions_pb2, webhooks_pb2
from starlette.datastructures import Headers

from gateway.binding import Binding
from gateway.problems import Fault, Problem

ESCROW_ACCOUNT = "esc_" + "0" * 26


def binding(module, service: str, rpc: str) -> Binding:
    return Binding(module.DESCRIPTOR.services_by_name[service].methods_by_name[rpc])


LEDGER = binding(escrow_pb2, "EscrowService", "ListLedgerEntries")
POST_ENTRY = binding(escrow_pb2, "EscrowService", "PostJournalEntry")
BATCH = binding(escrow_pb2, "EscrowService", "BatchPostJournalEntries")
OPEN_ACCOUNT = binding(escrow_pb2, "EscrowService", "CreateEscrowAccount")
LIST = binding(transactions_pb2, "TransactionsService", "ListTransactions")
CANCEL = binding(transactions_pb2, "TransactionsService", "CancelTransaction")
STRIPE = binding(webhooks_pb2, "WebhooksService", "ReceiveStripeWebhook")
UPDATE = binding(offerings_pb2, "OfferingsService", "UpdateOffering")


def read(bound: Binding, values=(), query=b"", headers=(), body=b""):
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    return bound.message(list(values), query, Headers(raw=raw), body)


def faults(bound: Binding, **parts) -> list[Fault]:
    with pytest.raises(Problem) as refusal:
        read(bound, **parts)
    assert refusal.value.status == 400
    return list(refusal.value.faults)


def test_path_and_query_fill_the_request_of_a_read():
    query = b"from=2026-01-01T00:00:00Z&to=2026-02-01T00%3A00%3A00%2B02:00&pageSize=7&kind=CASH&kind=PAYABLE"
    message = read(LEDGER, [ESCROW_ACCOUNT], query)
    assert message == escrow_pb2.ListLedgerEntriesRequest(
        escrow_account_id=ESCROW_ACCOUNT,
        from_time={"seconds": 1767225600},
        to_time={"seconds": 1769896800},
        page_size=7,
        kind=["CASH", "PAYABLE"],
    )


@pytest.mark.parametrize(
    ("query", "pointer", "detail"),
    [
        (b"pageSize=1e3", "/pageSize", "must be a whole number"),
        (b"pageSize=%EF%BC%91", "/pageSize", "must be a whole number"),
        (b"pageSize=1&pageSize=2", "/pageSize", "is given more than once"),
        (b"page_size=1", "/page_size", "is not a parameter of this path"),
        (b"status=settled", "/status", "must be one of"),
        (b"status=7", "/status", "must be one of"),
        (b"status=STATUS_UNSPECIFIED", "/status", "must be one of"),
        (b"sort=amount;drop", "/sort", "is not a parameter of this path"),
        (b"<b>=1", "", "is not a parameter of this path"),
        (b"partyId=%FF", "", "cannot be read"),
        (b"partyId=\xff", "", "cannot be read"),
        (b"&".join([b"a=1"] * 200), "", "cannot be read"),
    ],
)
def test_a_query_takes_its_parameters_and_nothing_else(query, pointer, detail):
    found = faults(LIST, query=query)
    assert [(fault.place, fault.pointer) for fault in found] == [("query", pointer)]
    assert found[0].detail.startswith(detail)


def test_a_blank_query_parameter_is_not_set():
    assert read(LIST, query=b"status=&pageSize=&pageToken=") == transactions_pb2.ListTransactionsRequest()


def test_a_write_takes_no_query_and_a_read_no_body():
    assert faults(CANCEL, values=["t"], query=b"reason=x")[0].place == "query"
    assert faults(LIST, body=b"{}")[0].place == "body"


def test_a_header_field_comes_from_its_header_only():
    message = read(POST_ENTRY, [ESCROW_ACCOUNT], headers=[("Idempotency-Key", "k-1")], body=b'{"journalEntry": {}}')
    assert message.idempotency_key == "k-1"
    assert faults(POST_ENTRY, values=["e"], headers=[("Idempotency-Key", "k")], body=b'{"idempotencyKey": "k"}') == [
        Fault("body", "/idempotencyKey", "is not a field")
    ]


@pytest.mark.parametrize(
    ("headers", "detail"),
    [
        ([], "is required"),
        ([("Idempotency-Key", "")], "is empty"),
        ([("Idempotency-Key", "a"), ("Idempotency-Key", "a")], "is given more than once"),
    ],
)
def test_a_required_header_is_named_when_it_is_missing(headers, detail):
    assert faults(POST_ENTRY, values=["e"], headers=headers) == [Fault("header", "/Idempotency-Key", detail)]


def test_an_optional_header_may_be_missing_and_not_empty():
    assert read(CANCEL, ["t"]).idempotency_key == ""
    assert faults(CANCEL, values=["t"], headers=[("Idempotency-Key", "")])[0].detail == "is empty"


def test_a_field_of_the_path_is_unknown_in_the_body():
    found = faults(
        POST_ENTRY, values=["e"], headers=[("Idempotency-Key", "k")], body=b'{"escrowAccountId": "esc_other"}'
    )
    assert found == [Fault("body", "/escrowAccountId", "is not a field")]


def test_a_raw_body_is_kept_byte_for_byte_with_its_type():
    raw = b'{ "a":1,\r\n"a": \xff }'
    message = read(STRIPE, body=raw, headers=[("Content-Type", "application/json"), ("Stripe-Signature", "t=1,v1=x")])
    assert (message.body.data, message.body.content_type, message.signature) == (raw, "application/json", "t=1,v1=x")


def test_an_empty_body_is_an_empty_object():
    assert read(CANCEL, ["t"]) == transactions_pb2.CancelTransactionRequest(transaction_id="t")


def test_a_patch_tells_an_absent_field_from_an_empty_one():
    etag = [("If-Match", '"e"')]
    assert not read(UPDATE, ["o"], headers=etag, body=b"{}").HasField("display_name")
    assert read(UPDATE, ["o"], headers=etag, body=b'{"displayName": ""}').HasField("display_name")


def test_every_fault_of_every_place_is_told_at_once():
    found = faults(LEDGER, values=["e"], query=b"from=yesterday&x=1", body=b"{}")
    assert [(fault.place, fault.pointer) for fault in found] == [("query", "/from"), ("query", "/x"), ("body", "")]


@pytest.mark.parametrize(
    ("bound", "path", "fault"),
    [
        (POST_ENTRY, "idempotency_key", ("header", "/Idempotency-Key")),
        (POST_ENTRY, "escrow_account_id", ("path", "/escrowAccountId")),
        (POST_ENTRY, "journal_entry.legs[3].amount.amount_minor", ("body", "/journalEntry/legs/3/amount/amountMinor")),
        (BATCH, "items[0].idempotency_key", ("body", "/items/0/idempotencyKey")),
        (LEDGER, "from_time", ("query", "/from")),
        (LEDGER, "page_size", ("query", "/pageSize")),
        (POST_ENTRY, "", ("body", "")),
        (LEDGER, "", ("query", "")),
        (POST_ENTRY, "no_such.field", ("body", "/no_such")),
    ],
)
def test_a_violation_is_placed_where_rest_carries_the_field(bound, path, fault):
    found = bound.fault(path, "is wrong")
    assert (found.place, found.pointer) == fault


def test_a_required_field_without_a_value_is_called_so():
    request = escrow_pb2.PostJournalEntryRequest(journal_entry={"description": "x"})
    assert POST_ENTRY.fault("journal_entry.type", "must not be in list", request).detail == "is required"
    assert POST_ENTRY.fault("journal_entry.description", "too short", request).detail == "too short"


@pytest.mark.parametrize(
    ("bound", "batch"),
    [(BATCH, True), (POST_ENTRY, False), (LIST, False), (OPEN_ACCOUNT, False)],  # the last one has a map
)
def test_a_request_that_repeats_messages_is_a_batch(bound, batch):
    assert bound.takes_batch is batch
