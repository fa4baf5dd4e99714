"""A request is asked first for how many of a thing it has, and what is wrong with it fits into an answer."""

from __future__ import annotations

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
    status = to_status(refusal, "transactions.realco")
    assert status.ByteSize() < 5_000  # in base64, with the message beside it, below 8 KiB
    assert 1 < len(details_of(status).fields) <= len(refusal.fields)


def test_one_long_fault_is_told_all_the_same():
    status = to_status(InvalidField("é" * 9_000, fields={"a": "x" * 4_000}), "transactions.realco")
    assert details_of(status).fields == {"a": "x" * 4_000}
    assert len(status.message) < 1_000
