"""Which part of an HTTP request each field of an RPC comes from."""

from __future__ import annotations

import json

import pytest
from google.protobuf.message_factory import GetMessageClass
from realco.compliance.v1 import parties_pb2
from realco.distributions.v1 import offerings_pb2
from realco.escrow.v1 import escrow_accounts_pb2, journal_pb2
from realco.transactions.v1 import transactions_pb2, webhooks_pb2
from starlette.datastructures import Headers

from gateway import contracts
from gateway.binding import HTTP_BODY, Binding
from gateway.problems import Fault, Problem
from services.chassis.spelling.descriptors import is_message, is_required, message_of
from services.chassis.spelling.json_reader import Found, reader_of
from services.chassis.values.faults import FAULTS_MAX

ESCROW_ACCOUNT = "esc_" + "0" * 26
TRANSACTION_ID = b"txn_" + b"0" * 26


def binding(module, service: str, rpc: str) -> Binding:
    return Binding(module.DESCRIPTOR.services_by_name[service].methods_by_name[rpc])


LEDGER = binding(journal_pb2, "JournalService", "ListLedgerEntries")
POST_ENTRY = binding(journal_pb2, "JournalService", "PostJournalEntry")
BATCH = binding(journal_pb2, "JournalService", "BatchPostJournalEntries")
CREATE_PARTY = binding(parties_pb2, "PartiesService", "CreateParty")
OPEN_ACCOUNT = binding(escrow_accounts_pb2, "EscrowAccountsService", "CreateEscrowAccount")
LIST = binding(transactions_pb2, "TransactionsService", "ListTransactions")
CREATE = binding(transactions_pb2, "TransactionsService", "CreateTransaction")
MANY = binding(transactions_pb2, "TransactionsService", "BatchCreateTransactions")
CANCEL = binding(transactions_pb2, "TransactionsService", "CancelTransaction")
STRIPE = binding(webhooks_pb2, "WebhooksService", "ReceiveStripeWebhook")
UPDATE = binding(offerings_pb2, "OfferingsService", "UpdateOffering")


def read(bound: Binding, values=(), query=b"", headers=(), body=b""):
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    return bound.read(list(values), query, Headers(raw=raw), body)[0]


def faults(bound: Binding, values=(), query=b"", headers=(), body=b"") -> list[Fault]:
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    with pytest.raises(Problem) as refusal:
        bound.message(list(values), query, Headers(raw=raw), body)
    assert refusal.value.status == 400
    return list(refusal.value.faults)


def refusal_of(bound: Binding, values, headers, body) -> Problem | None:
    try:
        bound.message(values, b"", Headers(headers), body)
    except Problem as refusal:
        return refusal
    return None


def faults_of_headers(bound: Binding, headers, body=b"") -> list[Fault]:
    return [fault for fault in faults(bound, ["e"], headers=headers, body=body) if fault.place == "header"]


def test_path_and_query_fill_the_request_of_a_read():
    query = b"from=2026-01-01T00:00:00Z&to=2026-02-01T00%3A00%3A00%2B02:00&pageSize=7&kind=CASH&kind=PAYABLE"
    message = read(LEDGER, [ESCROW_ACCOUNT], query)
    assert message == journal_pb2.ListLedgerEntriesRequest(
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
        (b"&".join([b"ids=" + TRANSACTION_ID] * 101), "/ids", "must contain no more than 100 item(s)"),
    ],
)
def test_a_query_takes_its_parameters_and_nothing_else(query, pointer, detail):
    found = faults(LIST, query=query)
    assert [(fault.place, fault.pointer) for fault in found] == [("query", pointer)]
    assert found[0].detail.startswith(detail)


def test_a_query_takes_as_many_values_as_the_contract_says():
    assert len(read(LIST, query=b"&".join([b"ids=" + TRANSACTION_ID] * 100)).ids) == 100


EVERY_FILTER = [
    (bound, name) for bound in map(Binding, contracts.methods()) for name in bound.query if name != "pageToken"
]


@pytest.mark.parametrize(
    ("bound", "name"), EVERY_FILTER, ids=lambda one: one if isinstance(one, str) else one.method.name
)
def test_a_filter_that_is_left_empty_is_refused_and_not_taken_for_none(bound, name):
    headers = Headers({one.name: '"x"' for one in bound.headers})
    with pytest.raises(Problem) as refusal:
        bound.read(["x"] * len(bound.path), f"{name}=".encode(), headers, b"")
    assert Fault("query", f"/{name}", "is empty") in refusal.value.faults


def test_an_empty_page_token_asks_for_the_first_page():
    assert read(LIST, query=b"pageToken=") == transactions_pb2.ListTransactionsRequest()


def test_a_write_takes_no_query_and_a_read_no_body():
    assert faults(CANCEL, values=["t"], query=b"note=x")[0].place == "query"
    assert faults(LIST, body=b"{}")[0].place == "body"


def test_a_header_field_comes_from_its_header_only():
    message = read(POST_ENTRY, [ESCROW_ACCOUNT], headers=[("Idempotency-Key", "k-1")], body=b'{"journalEntry": {}}')
    assert message.idempotency_key == "k-1"
    found = faults(POST_ENTRY, values=["e"], headers=[("Idempotency-Key", "k")], body=b'{"idempotencyKey": "k"}')
    assert Fault("body", "/idempotencyKey", "is not a field") in found


@pytest.mark.parametrize(
    ("headers", "detail"),
    [
        ([], "is required"),
        ([("Idempotency-Key", "")], "is empty"),
        ([("Idempotency-Key", "a"), ("Idempotency-Key", "a")], "is given more than once"),
    ],
)
def test_a_required_header_is_named_when_it_is_missing(headers, detail):
    assert faults_of_headers(POST_ENTRY, headers) == [Fault("header", "/Idempotency-Key", detail)]


@pytest.mark.parametrize(("bound", "name"), [(BATCH, "Idempotency-Key"), (BATCH, "If-Match"), (LIST, "If-Match")])
def test_a_header_that_promises_what_an_operation_does_not_keep_is_refused(bound, name):
    found = faults(bound, ["e"] * len(bound.path), headers=[(name, '"x"')])
    assert Fault("header", f"/{name}", "is not taken here") in found


def test_an_optional_header_may_be_missing_and_not_empty():
    assert read(CANCEL, ["t"]).idempotency_key == ""
    assert faults(CANCEL, values=["t"], headers=[("Idempotency-Key", "")])[0].detail == "is empty"


def test_a_field_of_the_path_is_unknown_in_the_body():
    found = faults(
        POST_ENTRY, values=["e"], headers=[("Idempotency-Key", "k")], body=b'{"escrowAccountId": "esc_other"}'
    )
    assert Fault("body", "/escrowAccountId", "is not a field") in found


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


IN_REQUESTS = sorted(
    {
        one
        for one in contracts.messages_within(method.input_type for method in contracts.methods())
        if one.full_name.startswith("realco.")
        and not any(is_message(field) and message_of(field).full_name == HTTP_BODY for field in one.fields)
    },
    key=lambda one: one.full_name,
)


@pytest.mark.parametrize("descriptor", IN_REQUESTS, ids=lambda one: one.full_name)
def test_what_the_contract_requires_must_be_written_in_whatever_object_of_a_request(descriptor):
    required = {field.json_name for field in descriptor.fields if is_required(field)}
    for value in ({}, dict.fromkeys(required)):
        found: Found = []
        reader_of(descriptor)(GetMessageClass(descriptor)(), value, (), found)
        assert {(name, detail) for (name,), detail in found} == {(name, "is required") for name in required}


@pytest.mark.parametrize("method", contracts.methods(), ids=lambda one: one.full_name)
def test_an_empty_request_of_any_route_is_taken_or_refused_as_the_callers(method):
    """428 is said of `If-Match` alone, and 400 names every other field that is required."""
    bound = Binding(method)
    path = ["x"] * len(bound.path)
    body = b"" if bound.http_method in ("GET", "DELETE") else b"{}"
    needs_etag = any(one.name == "If-Match" and one.required for one in bound.headers)
    if needs_etag:
        without = refusal_of(bound, path, {}, body)
        assert without is not None
        assert (without.status, without.code) == (428, "ETAG_REQUIRED")
    fields = [field for field in method.input_type.fields if field.name not in bound.bound]
    required = {f"/{field.json_name}" for field in fields if is_required(field)}
    refusal = refusal_of(bound, path, {"If-Match": '"e"'} if needs_etag else {}, body)
    assert refusal is None or refusal.status == 400
    assert required <= {fault.pointer for fault in (refusal.faults if refusal is not None else ())}


@pytest.mark.parametrize(
    ("amount", "pointer", "detail"),
    [
        (b"", "/amount/amountMinor", "is required"),
        (b', "amountMinor": null', "/amount/amountMinor", "is required"),
        (b', "amountMinor": "0"', "/amount", "must be more than zero"),
    ],
)
def test_an_amount_that_is_not_written_is_missing_and_not_zero(amount, pointer, detail):
    body = b'{"paymentMethod": "WIRE", "amount": {"currencyCode": "USD"%b}}' % amount
    found = faults(CREATE, headers=[("Idempotency-Key", "k-1")], body=body)
    told = {fault.pointer: fault.detail for fault in found}
    assert told.pop(pointer) == detail
    assert told == {"/type": "is required", "/escrowAccountId": "is required"}


@pytest.mark.parametrize(
    ("bound", "fields", "batch", "items"),
    [
        (BATCH, {"items": [{}] * 3}, True, 3),
        (BATCH, {}, True, 1),
        (POST_ENTRY, {}, False, 1),
        (LIST, {}, False, 1),
        (OPEN_ACCOUNT, {"metadata": {"a": "b", "c": "d"}}, False, 1),  # a map
        (CREATE_PARTY, {"persons": [{}] * 3}, False, 1),  # parts of one thing
    ],
)
def test_a_request_that_repeats_items_is_a_batch_of_them(bound, fields, batch, items):
    assert (bound.takes_batch, bound.count_items(bound.request_class(**fields))) == (batch, items)


@pytest.mark.parametrize(("items", "expected"), [
    ([{}] * 1000, FAULTS_MAX),
    ([{"a b": 1}] * 1000, FAULTS_MAX),
    ([None] * 1000, FAULTS_MAX),
    ([{"metadata": {f"a b {number}": [] for number in range(50)}}] * 1000, FAULTS_MAX),
    ([{}] * 9_900, 1),
    ([{}] * 200_000, 1),
    ([{"metadata": {f"key{number}": "x" for number in range(10_000)}}], 6),
])  # fmt: skip
def test_a_body_with_more_faults_than_an_answer_tells_is_read_no_further(items, expected):
    """So that nobody waits for who sends them: what is too many is not even looked at."""
    found = faults(MANY, body=json.dumps({"items": items}).encode())
    assert len(found) == expected
    if len(items) > 1000:
        assert found == [Fault("body", "/items", "must contain no more than 1000 item(s)")]
