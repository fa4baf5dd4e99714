"""What the gateway reads as JSON, what it refuses, and what it writes."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from realco.distributions.v1 import distributions_pb2
from realco.escrow.v1 import escrow_accounts_pb2, holds_pb2, journal_pb2
from realco.transactions.v1 import transactions_pb2
from realco.type.v1 import access_pb2, failure_pb2

from gateway.wording import in_rest_words
from services.chassis.spelling import json_writer
from services.chassis.spelling.json_reader import IS_REQUIRED, MessageReader, parse, pointer, reader_of


def read(message_type, text: str | bytes):
    """The message, and the faults as `pointer: detail`, but for what is not written."""
    message = message_type()
    found = []
    reader_of(message_type.DESCRIPTOR)(message, parse(text if isinstance(text, bytes) else text.encode()), (), found)
    return message, [f"{pointer(path)}: {detail}" for path, detail in found if detail != IS_REQUIRED]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "nul",
        '{"a": 1} x',
        '{"a": 1}{"a": 1}',
        '{"a": 1,}',
        "{'a': 1}",
        '{"a": 1} // why',
        '{/* why */"a": 1}',
        '\ufeff{"a": 1}',
        '{"a": NaN}',
        '{"a": Infinity}',
        '{"a": -Infinity}',
        '{"a": 01}',
        '{"a": +1}',
        '{"a": .5}',
        '{"a": "\\ud800"}',
        '{"a": "\\udc00\\ud800"}',
        '{"a": "\n"}',
        "[" * 100_000,
    ],
)
def test_text_that_is_not_json_is_refused(text):
    with pytest.raises(ValueError, match="is not valid JSON"):
        parse(text.encode())


@pytest.mark.parametrize("raw", [b'{"a": "\xff"}', b'{"a": "\xed\xa0\x80"}', '{"a": 1}'.encode("utf-16"), b"\x80"])
def test_bytes_that_are_not_utf8_are_refused(raw):
    with pytest.raises(ValueError, match="is not valid JSON"):
        parse(raw)


@pytest.mark.parametrize(
    ("text", "twice"),
    [
        ('{"a": 1, "a": 1}', True),
        ('{"a": 1, "\\u0061": 1}', True),  # the same key, spelled in two ways
        ('{"x": [{"a": 1, "b": 2, "a": 3}]}', True),
        ('{"a": {"a": {"a": 1}}}', False),
        ('[{"a": 1}, {"a": 1}]', False),
        ('{"a": "b: \\"a\\": 1"}', False),  # a colon and quotes inside of a text
        ('{"a": "\\\\", "b": "\\\\\\""}', False),
        ('{"a" : ["b", "c"], "d":"e"}', False),
        ('{"": 1, " ": 2}', False),
    ],
)
def test_a_key_given_twice_in_one_object_is_refused(text, twice):
    if twice:
        with pytest.raises(ValueError, match="same key twice"):
            parse(text.encode())
    else:
        assert parse(text.encode()) == json.loads(text)


keys = st.text(max_size=4) | st.sampled_from(["a", "b", '"', "\\", ":", "a:"])
documents = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no failure
@given(documents, st.booleans())
def test_every_document_without_a_repeated_key_is_read_as_it_is(document, ascii_only):
    try:
        text = json.dumps(document, ensure_ascii=ascii_only).encode()
    except UnicodeEncodeError:  # a lone surrogate cannot be sent
        return
    assert parse(text) == document


@pytest.mark.parametrize(("depth", "accepted"), [(32, True), (33, False), (600, False)])
def test_nesting_ends_at_32_levels(depth, accepted):
    text = b"[" * depth + b"]" * depth
    if accepted:
        parse(text)
    else:
        with pytest.raises(ValueError, match=r"nested more than 32 deep|not valid JSON"):
            parse(text)


def test_a_deep_value_under_a_key_given_twice_is_refused():
    """The second one replaces it, so only who reads every key goes down there."""
    with pytest.raises(ValueError, match="same key twice"):
        parse(b'{"a": ' + b"[" * 1_010 + b"]" * 1_010 + b', "a": 1}')


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[]", ": must be an object"),
        ('"x"', ": must be an object"),
        ("null", ": must be an object"),
        ('{"type": 7}', "/type: must be one of"),
        ('{"type": "7"}', "/type: must be one of"),
        ('{"type": "deposit"}', "/type: must be one of"),
        ('{"type": "TYPE_UNSPECIFIED"}', "/type: must be one of"),
        ('{"type": ["DEPOSIT"]}', "/type: must be one of"),
        ('{"amount": "100"}', "/amount: must be an object"),
        ('{"amount": []}', "/amount: must be an object"),
        ('{"amount": {"amountMinor": "1.5"}}', "/amount/amountMinor: must be a whole number"),
        ('{"amount": {"value": 1}}', "/amount/value: is not a field"),
        ('{"partyId": 7}', "/partyId: must be a string"),
        ('{"partyId": true}', "/partyId: must be a string"),
        ('{"partyId": ["a"]}', "/partyId: must be a string"),
        ('{"party_id": "a"}', "/party_id: is not a field"),  # the proto's own spelling is not JSON's
        ('{"PartyId": "a"}', "/PartyId: is not a field"),
        ('{"__proto__": {}}', "/__proto__: is not a field"),
        ('{"<script>": 1}', ": has a key that is not a field"),  # and is not repeated
        ('{"a\\u202eb": 1}', ": has a key that is not a field"),
    ],
)
def test_what_the_contract_does_not_say_is_refused_by_its_place(text, fault):
    _, faults = read(transactions_pb2.CreateTransactionRequest, text)
    assert len(faults) == 1
    assert faults[0].startswith(fault)


def test_every_fault_is_found_and_no_value_is_repeated():
    _, faults = read(
        transactions_pb2.CreateTransactionRequest,
        '{"type": "s3cret", "amount": {"currencyCode": 1, "amountMinor": "s3cret"}, "oops": "s3cret"}',
    )
    assert [fault.partition(":")[0] for fault in faults] == [
        "/type",
        "/amount/currencyCode",
        "/amount/amountMinor",
        "/oops",
    ]
    assert "s3cret" not in " ".join(faults)


def test_null_means_not_set():
    message, faults = read(transactions_pb2.CreateTransactionRequest, '{"amount": null, "partyId": null, "type": null}')
    assert faults == []
    assert message == transactions_pb2.CreateTransactionRequest()


def test_an_empty_object_is_a_message_that_is_set():
    message, _ = read(transactions_pb2.CreateTransactionRequest, '{"amount": {}}')
    assert message.HasField("amount")


def test_faults_in_lists_name_the_item():
    legs = '[{}, {"amount": {"amountMinor": 1.5}}]'
    text = f'{{"items": [{{"idempotencyKey": "a"}}, null, {{"journalEntry": {{"legs": {legs}}}}}, 3]}}'
    _, faults = read(journal_pb2.BatchPostJournalEntriesRequest, text)
    assert [fault.partition(":")[0] for fault in faults] == [
        "/items/1",
        "/items/2/journalEntry/legs/1/amount/amountMinor",
        "/items/3",
    ]


def test_a_list_field_takes_only_a_list():
    _, faults = read(journal_pb2.BatchPostJournalEntriesRequest, '{"items": {"0": {}}}')
    assert faults == ["/items: must be a list"]


def test_repeated_enums_are_read_by_name():
    message, faults = read(access_pb2.Access, '{"roles": ["INVESTOR", "ADMIN"]}')
    assert faults == []
    assert list(message.roles) == [1, 3]


def test_only_one_field_of_a_oneof_is_taken():
    _, faults = read(journal_pb2.PostingResult, '{"journalEntry": {}, "failure": {}}')
    assert faults == [": can have only one of failure, journalEntry"]


def test_maps_take_texts_only():
    message, faults = read(escrow_accounts_pb2.EscrowAccount, '{"metadata": {"a": "b", "c": "d"}}')
    assert (faults, dict(message.metadata)) == ([], {"a": "b", "c": "d"})
    _, faults = read(escrow_accounts_pb2.EscrowAccount, '{"metadata": {"a": 1}}')
    assert faults == ["/metadata/a: must be a string"]
    _, faults = read(escrow_accounts_pb2.EscrowAccount, '{"metadata": []}')
    assert faults == ["/metadata: must be an object"]


def test_fields_that_rest_carries_elsewhere_are_unknown_in_the_body():
    descriptor = transactions_pb2.RetryTransactionRequest.DESCRIPTOR
    found = []
    reader = MessageReader(descriptor, without=frozenset({"idempotency_key", "transaction_id"}))
    reader(transactions_pb2.RetryTransactionRequest(), {"idempotencyKey": "a", "transactionId": "b"}, (), found)
    assert [pointer(path) for path, _ in found] == ["/idempotencyKey", "/transactionId"]


def test_all_is_always_written_but_what_is_optional_or_one_of_a_oneof():
    unset = holds_pb2.Hold()
    assert json_writer.writer_of(unset.DESCRIPTOR)(unset) == {
        "holdId": "",
        "escrowAccountId": "",
        "status": "STATUS_UNSPECIFIED",
        "reason": "REASON_UNSPECIFIED",
        "createdBy": "",
        "metadata": {},
        "etag": "",
        "allowedActions": [],
        "aggregateVersion": "0",
    }
    move = transactions_pb2.TransactionStatusChange(previous_status=0)  # set, to its zero value
    assert json_writer.writer_of(move.DESCRIPTOR)(move)["previousStatus"] == "STATUS_UNSPECIFIED"
    assert "previousStatus" not in json_writer.writer_of(move.DESCRIPTOR)(transactions_pb2.TransactionStatusChange())
    result = journal_pb2.PostingResult(failure={})
    assert json_writer.writer_of(result.DESCRIPTOR)(result) == {
        "idempotencyKey": "",
        "failure": {"code": "", "message": "", "retryable": False, "metadata": {}, "fields": {}},
        "replayed": False,
    }
    empty = json.loads(json_writer.dump(transactions_pb2.ListTransactionsResponse()))
    assert empty == {"transactions": [], "nextPageToken": "", "previousPageToken": ""}


def test_a_failure_inside_of_an_answer_is_told_in_the_words_of_rest():
    failure = failure_pb2.Failure(message="The idempotency_key was used with another request.")
    told = json.loads(json_writer.dump(journal_pb2.PostingResult(failure=failure), in_rest_words))["failure"]
    assert told["message"] == "The Idempotency-Key was used with another request."


def test_keys_that_are_names_are_spelled_as_names_and_others_as_they_are():
    failure = json.loads(json_writer.dump(failure_pb2.Failure(metadata={"held_minor": "5", "TARGET_REACHED": "no"})))
    assert failure["metadata"] == {"heldMinor": "5", "TARGET_REACHED": "no"}


def test_an_enum_value_of_a_newer_service_is_written_as_unknown():
    assert json.loads(json_writer.dump(transactions_pb2.Transaction(status=99)))["status"] == "UNKNOWN_99"


def test_int64_is_written_as_a_string_and_dates_and_times_as_texts():
    distribution = distributions_pb2.Distribution(
        amount={"currency_code": "USD", "amount_minor": 2**62 - 1},
        distribution_date={"year": 2026, "month": 2, "day": 3},
        create_time={"seconds": 1, "nanos": 500_000_000},
    )
    written = json.loads(json_writer.dump(distribution))
    assert written["amount"]["amountMinor"] == "4611686018427387903"
    assert written["distributionDate"] == "2026-02-03"
    assert written["createTime"] == "1970-01-01T00:00:01.500Z"


texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",)), max_size=20)
legs = st.builds(
    dict,
    ledger_account=st.builds(dict, kind=st.integers(1, 11), party_id=st.none() | texts),
    direction=st.integers(1, 2),
    amount=st.builds(dict, currency_code=texts, amount_minor=st.integers(-(2**63), 2**63 - 1)),
)
entries = st.builds(
    journal_pb2.NewJournalEntry,
    type=st.sampled_from((1, 2, 4, 5, 6, 7)),  # the types that a request may name
    description=texts,
    effective_time=st.none()
    | st.builds(dict, seconds=st.integers(-62135596800, 253402300799), nanos=st.integers(0, 999_999_999)),
    legs=st.lists(legs, max_size=4),
    reverses_journal_entry_id=texts,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no failure
@given(entries)
def test_what_is_written_is_read_back_as_it_was(entry):
    message, faults = read(journal_pb2.NewJournalEntry, json_writer.dump(entry))
    assert faults == []
    assert message == entry
