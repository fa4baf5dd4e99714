"""A refusal keeps its meaning on the wire, in the store and back."""

from __future__ import annotations

import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2

from services.chassis.calls.status import from_status, to_status
from services.chassis.calls.wire import to_failure
from services.chassis.values.errors import DomainError, InvalidField, Kind, Unavailable
from services.chassis.values.failure import make_failure
from services.chassis.values.invariant import InvariantViolation, invariant


class Overdrawn(DomainError):
    kind = Kind.FAILED_PRECONDITION
    reason = "OVERDRAWN"


def test_a_refusal_comes_back_as_it_went():
    sent = Overdrawn("Too much.", fields={"legs[0].amount_minor": "is too much"}, available_minor=5)
    back = from_status(to_status(sent, "escrow.realco"))
    assert back is not None
    assert (back.kind, back.reason, back.message) == (Kind.FAILED_PRECONDITION, "OVERDRAWN", "Too much.")
    assert back.metadata == {"available_minor": "5"}
    assert back.fields == {"legs[0].amount_minor": "is too much"}
    # A peer's refusal that is passed on still says whose it is.
    assert _info(to_status(back, "distributions.realco")).domain == "escrow.realco"


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_is_a_grpc_code(kind):
    assert code_pb2.Code.Value(kind.value) > 0


@pytest.mark.parametrize(
    ("refusal", "retryable"), [(Overdrawn("Too much.", cents=5), False), (Unavailable("Away."), True)]
)
def test_a_refusal_kept_as_a_failure_says_the_same(refusal, retryable):
    failure = to_failure(make_failure(refusal))
    assert (failure.code, failure.message, failure.retryable) == (refusal.reason, refusal.message, retryable)
    assert dict(failure.metadata) == refusal.metadata


def test_what_may_be_tried_again_says_when():
    details = [detail.TypeName() for detail in to_status(Unavailable("away"), "x").details]
    assert details == ["google.rpc.ErrorInfo", "google.rpc.RetryInfo"]
    assert Kind.UNAVAILABLE.transient
    assert not Kind.FAILED_PRECONDITION.transient


@pytest.mark.parametrize(
    "status",
    [
        status_pb2.Status(code=9),  # no ErrorInfo
        status_pb2.Status(code=13, details=to_status(Overdrawn(""), "x").details),  # INTERNAL is nobody's refusal
        status_pb2.Status(code=99, details=to_status(Overdrawn(""), "x").details),
    ],
)
def test_a_status_that_is_no_refusal_is_none(status):
    assert from_status(status) is None


def test_a_malformed_request_names_its_fields():
    assert InvalidField("bad", fields={"a": "b"}).fields == {"a": "b"}


def test_a_broken_invariant_is_loud():
    invariant(True, "fine")
    with pytest.raises(InvariantViolation, match="cents"):
        invariant(False, "lost cents")


def _info(status: status_pb2.Status) -> error_details_pb2.ErrorInfo:
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info
