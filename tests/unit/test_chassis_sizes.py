"""A request is asked first for how many of a thing it has, and what is wrong with it fits into an answer."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from urllib.parse import quote

import pytest
from realco.escrow.v1 import journal_pb2
from realco.transactions.v1 import transactions_pb2 as pb

from services.chassis.calls.status import details_of, to_status
from services.chassis.calls.validation import validate
from services.chassis.values.errors import InvalidField
from services.chassis.values.faults import FAULTS_MAX

ITEM = pb.CreateTransactionRequest(idempotency_key="k")


def refusal_of(message) -> InvalidField:
    with pytest.raises(InvalidField) as refusal:
        validate(message)
    return refusal.value


@pytest.mark.parametrize(("message", "path", "said"), [
    (pb.BatchCreateTransactionsRequest(items=[ITEM] * 1001), "items", "no more than 1000 item(s)"),
    (pb.BatchCreateTransactionsRequest(items=[ITEM] * 20_000), "items", "no more than 1000 item(s)"),
    (pb.BatchCancelTransactionsRequest(items=[pb.CancelTransactionRequest()] * 12_000), "items", "no more than 1000"),
    (
        pb.BatchCreateTransactionsRequest(items=[ITEM, {"metadata": {str(n): "x" for n in range(51)}}]),
        "items[1].metadata",
        "no more than 50 entries",
    ),
    (
        journal_pb2.PostJournalEntryRequest(journal_entry={"legs": [journal_pb2.Leg()] * 50_000}),
        "journal_entry.legs",
        "no more than",
    ),
])  # fmt: skip
def test_what_has_too_many_of_a_thing_is_refused_for_that_before_anything_else(message, path, said):
    [(found, text)] = refusal_of(message).fields.items()
    assert (found, said in text) == (path, True)


def test_a_refusal_tells_so_many_faults_and_its_status_has_room_in_the_headers_of_an_answer():
    refusal = refusal_of(pb.BatchCreateTransactionsRequest(items=[pb.CreateTransactionRequest()] * 1000))
    assert 1 < len(refusal.fields) <= FAULTS_MAX
    assert 1 < len(told_in_headers(refusal)) <= len(refusal.fields)


def told_in_headers(refusal: InvalidField) -> Mapping[str, str]:
    """The fields that its status tells, which has room in the 8 KiB that every caller of gRPC takes."""
    status = to_status(refusal, "transactions.realco")
    assert len(b64encode(status.SerializeToString())) + len(quote(status.message)) < 8_000
    return details_of(status).fields


@pytest.mark.parametrize("letter", ["x", "é", "電"])
def test_a_long_fault_is_told_as_far_as_there_is_room(letter):
    refusal = InvalidField(letter * 9_000, fields={"a": letter * 4_000, **{f"b{n}": letter * 400 for n in range(50)}})
    told = told_in_headers(refusal)
    assert told["a"].startswith(letter * 100)
    assert 1 < len(told) < 50
