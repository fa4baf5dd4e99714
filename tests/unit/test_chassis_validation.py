"""A request is what its proto says, or it is refused with what is wrong and where."""

from __future__ import annotations

import pytest
from buf.validate import validate_pb2
from google.protobuf import descriptor_pool
from google.protobuf.message_factory import GetMessageClass
from realco.approvals.v1 import approvals_pb2
from realco.compliance.v1 import compliance_pb2, parties_pb2
from realco.distributions.v1 import distributions_pb2, offerings_pb2
from realco.distributions.v1.offerings_pb2 import CreateOfferingRequest, WaterfallTerms
from realco.escrow.v1 import escrow_accounts_pb2 as accounts_pb
from realco.escrow.v1 import holds_pb2 as holds_pb
from realco.escrow.v1 import journal_pb2 as journal_pb
from realco.transactions.v1 import bank_accounts_pb2, transactions_pb2
from realco.transactions.v1.bank_accounts_pb2 import CreateBankAccountRequest
from realco.type.v1 import http_pb2, rules_pb2

from services.chassis.calls import validation
from services.chassis.values.errors import InvalidField
from services.chassis.values.etags import EtagRequired

ACCOUNT = "esc_" + "0" * 26


def hold(**changes) -> holds_pb.PlaceHoldRequest:
    request = holds_pb.PlaceHoldRequest(
        idempotency_key="key-1",
        escrow_account_id=ACCOUNT,
        ledger_account={"kind": "SUBSCRIPTION", "party_id": f"pty_{1:026}"},
        reason=holds_pb.Hold.MANUAL,
    )
    request.amount.currency_code, request.amount.amount_minor = "USD", 100
    for field, value in changes.items():
        setattr(request, field, value)
    return request


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({}, []),
        ({"idempotency_key": ""}, ["idempotency_key"]),
        ({"idempotency_key": "k" * 256}, ["idempotency_key"]),
        ({"escrow_account_id": "' OR 1=1 --"}, ["escrow_account_id"]),
        ({"reason": 0}, ["reason"]),
        ({"reason": 99}, ["reason"]),
        ({"reason": holds_pb.Hold.DISPUTE}, []),
        ({"reason": holds_pb.Hold.RETURN_RISK}, ["reason"]),  # only the house places such a hold
        ({"idempotency_key": "", "external_id": "x" * 129}, ["idempotency_key", "external_id"]),
    ],
)
def test_a_request_names_all_it_does_wrong_and_repeats_nothing(changes, fields):
    request = hold(**changes)
    if not fields:
        validation.validate(request)
        return
    with pytest.raises(InvalidField) as refusal:
        validation.validate(request)
    assert sorted(refusal.value.fields) == sorted(fields)
    for value in changes.values():
        assert not isinstance(value, str) or value == "" or value not in str(refusal.value)


def test_a_key_of_metadata_that_is_wrong_is_named():
    request = hold()
    request.metadata.update({"good": "1", "bad key": "1", f"o.k{'x' * 99}": "1"})
    with pytest.raises(InvalidField) as refusal:
        validation.validate(request)
    rule = "must have 1 to 64 letters, digits, underscores and hyphens"
    faults = refusal.value.fields["metadata[*]"].split("; ")
    assert sorted(faults) == [f"the key 'bad key' {rule}", f"the key 'o.k{'x' * 61}' {rule}"]


@pytest.mark.parametrize("number", [0, holds_pb.Hold.RETURN_RISK, 99])
def test_the_values_of_an_enum_that_are_taken_are_called_by_their_names(number):
    with pytest.raises(InvalidField) as refusal:
        validation.validate(hold(reason=number))
    assert refusal.value.fields == {"reason": "must be one of DISPUTE, MANUAL"}


def test_a_broken_pattern_is_told_in_words():
    with pytest.raises(InvalidField) as refusal:
        validation.validate(CreateBankAccountRequest(routing_number="12", account_number="12 34"))
    told = {name: refusal.value.fields[name] for name in ("routing_number", "account_number")}
    assert told == {"routing_number": "must be 9 digits", "account_number": "must be 4 to 17 letters and digits"}


def test_a_choice_that_is_not_made_is_told_where_it_is_made_with_what_there_is_to_choose():
    request = CreateOfferingRequest(terms={"tiers": [{"return_of_capital": {}}, {}]})
    with pytest.raises(InvalidField) as refusal:
        validation.validate(request)
    choices = ", ".join(field.name for field in WaterfallTerms.Tier.DESCRIPTOR.oneofs_by_name["kind"].fields)
    assert refusal.value.fields["terms.tiers[1]"] == f"must have one of {choices}"


def etags_of_requests():
    modules = (
        compliance_pb2,
        parties_pb2,
        approvals_pb2,
        accounts_pb,
        journal_pb,
        holds_pb,
        transactions_pb2,
        bank_accounts_pb2,
    )
    modules += (distributions_pb2, offerings_pb2)
    for service in (service for module in modules for service in module.DESCRIPTOR.services_by_name.values()):
        for rpc in service.methods:
            for field in rpc.input_type.fields:
                if field.GetOptions().Extensions[validate_pb2.field].string.Extensions[rules_pb2.etag]:
                    yield pytest.param(field, id=f"{rpc.input_type.name}.{field.name}")


@pytest.mark.parametrize("field", list(etags_of_requests()))
def test_only_the_etag_of_what_is_written_is_asked_for_by_a_code_of_its_own(field):
    """REST has it in `If-Match`, whose absence is 428. Any other etag, and a wrong one, is a field: 400."""
    request = GetMessageClass(field.containing_type)()
    is_asked_for = field.GetOptions().HasExtension(http_pb2.header) and not field.has_presence
    with pytest.raises(EtagRequired if is_asked_for else InvalidField) as refusal:
        validation.validate(request)
    assert (field.name in refusal.value.fields) is not field.has_presence
    setattr(request, field.name, "x" * 256)
    with pytest.raises(InvalidField) as refusal:
        validation.validate(request)
    assert field.name in refusal.value.fields


def test_an_item_of_a_batch_is_found_by_its_place():
    request = journal_pb.BatchPostJournalEntriesRequest(escrow_account_id=ACCOUNT)
    request.items.add()
    with pytest.raises(InvalidField) as refusal:
        validation.validate(request)
    assert "items[0].idempotency_key" in refusal.value.fields
    assert "items[0].idempotency_key" in str(refusal.value)


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff",  # no message at all
        b"\x0a\x05ab",  # cut off
        b"\x0a\x02\xc3\x28",  # no UTF-8
    ],
)
def test_bytes_that_are_not_the_message_are_refused(raw):
    with pytest.raises(InvalidField):
        validation.parse(raw, holds_pb.PlaceHoldRequest.FromString)


UNKNOWN = b"\xf8\x07\x01"  # field 127


@pytest.mark.parametrize(
    ("message", "raw", "named"),
    [
        (holds_pb.PlaceHoldRequest, hold().SerializeToString() + UNKNOWN, ["127"]),
        (holds_pb.PlaceHoldRequest, hold().SerializeToString() + b"\x22\x03" + UNKNOWN, ["amount.127"]),
        (holds_pb.PlaceHoldRequest, b"\x08\x01", ["1"]),  # a number where text belongs: not known with this type
        (journal_pb.BatchPostJournalEntriesRequest, b"\x12\x00\x12\x03" + UNKNOWN, ["items[1].127"]),
        (holds_pb.PlaceHoldRequest, b"".join(bytes([n & 127 | 128, n >> 7, 0]) for n in range(800, 1600, 8)), 16),
    ],
)
def test_a_field_that_is_not_known_is_named_by_its_number(message, raw, named):
    with pytest.raises(InvalidField) as refusal:
        validation.parse(raw, message.FromString)
    assert named in (list(refusal.value.fields), len(refusal.value.fields))


def test_rules_of_the_proto_and_of_all_fields_are_told_together():
    request = hold(idempotency_key="")
    request.expire_time.nanos = 1
    with pytest.raises(InvalidField) as refusal:
        validation.validate(request)
    assert sorted(refusal.value.fields) == ["expire_time", "idempotency_key"]


KEYED_BATCHES = [
    GetMessageClass(message)
    for name in ("escrow.v1.journal", "escrow.v1.postings", "transactions.v1.transactions")
    for message in descriptor_pool.Default()
    .FindFileByName(f"realco/{name.replace('.', '/')}.proto")
    .message_types_by_name.values()
    if "items" in message.fields_by_name
]


@pytest.mark.parametrize("batch", KEYED_BATCHES, ids=lambda batch: batch.DESCRIPTOR.name)
def test_a_key_stands_once_in_a_batch(batch):
    request = batch(items=[{"idempotency_key": name} for name in ("a", "b", "a", "a")])
    with pytest.raises(InvalidField) as refusal:
        validation.validate(request)
    doubled = {path: fault for path, fault in refusal.value.fields.items() if "is the key of" in fault}
    assert doubled == {f"items[{n}].idempotency_key": "is the key of items[0], too" for n in (2, 3)}
