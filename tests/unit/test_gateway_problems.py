"""The one map from failures to HTTP answers, both ways."""

from __future__ import annotations

import grpc
import orjson
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2
from grpc import aio

from gateway import problems
from gateway.problems import Fault, Problem
from gateway.statuses import STATUS_OF_CODE
from services.chassis.values import errors

TABLE = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 422,
    "ABORTED": 409,
    "ALREADY_EXISTS": 422,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "DEADLINE_EXCEEDED": 504,
    "UNAVAILABLE": 503,
    "UNIMPLEMENTED": 501,
    "CANCELLED": 499,
    "INTERNAL": 500,
    "UNKNOWN": 500,
    "DATA_LOSS": 500,
    "OUT_OF_RANGE": 400,
}


def rpc_error(code: str, *details, words: str = "Because.") -> aio.AioRpcError:
    packed = []
    for detail in details:
        packed.append(AnyMessage())
        packed[-1].Pack(detail)
    status = status_pb2.Status(code=grpc.StatusCode[code].value[0], message=words, details=packed)
    metadata = [("grpc-status-details-bin", status.SerializeToString())] if details else []
    return aio.AioRpcError(grpc.StatusCode[code], aio.Metadata(), aio.Metadata(*metadata), words)


def answer(error: aio.AioRpcError) -> Problem:
    return problems.of_rpc_error(error, lambda path, detail: Fault("body", f"/{path}", detail))


def info(reason: str, **metadata: str) -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(reason=reason, domain="escrow.realco", metadata=metadata)


def test_the_table_has_every_grpc_code_but_ok():
    assert {code.name: status for code, status in STATUS_OF_CODE.items()} == TABLE
    assert set(TABLE) == {code.name for code in grpc.StatusCode} - {"OK"}


@pytest.mark.parametrize(("code", "status"), TABLE.items())
def test_a_services_failure_keeps_its_meaning(code, status):
    problem = answer(rpc_error(code, info("SOME_REASON")))
    assert problem.status == status


# A service that ends cancels what it had queued, without a word; the caller is still there, and may try again.
@pytest.mark.parametrize(("code", "status"), (TABLE | {"CANCELLED": 503}).items())
def test_a_failure_no_service_explained_says_nothing_of_the_inside(code, status):
    problem = answer(rpc_error(code, words="failed to connect to ipv4:10.0.0.7:50051"))
    assert problem.status == status
    assert "10.0.0.7" not in orjson.dumps(problem.body("req_1")).decode()


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "FAILED_PRECONDITION"])
def test_a_reused_key_is_a_422(code):
    assert answer(rpc_error(code, info("IDEMPOTENCY_KEY_REUSED"))).status == 422


def test_a_refusal_carries_its_reason_words_and_facts():
    problem = answer(rpc_error("FAILED_PRECONDITION", info("HOLD_NOT_FOUND", hold_id="hold_1"), words="It is over."))
    assert problem.body("req_1") == {
        "type": "/docs#HOLD_NOT_FOUND",
        "title": "Hold not found",
        "status": 422,
        "detail": "It is over.",
        "instance": "urn:realco:request:req_1",
        "code": "HOLD_NOT_FOUND",
        "requestId": "req_1",
        "errors": [],
        "metadata": {"holdId": "hold_1"},
    }


def test_field_violations_become_errors():
    violation = error_details_pb2.BadRequest.FieldViolation(field="amount.amountMinor", description="is too small")
    bad_request = error_details_pb2.BadRequest(field_violations=[violation])
    problem = answer(rpc_error("INVALID_ARGUMENT", info("INVALID_FIELD"), bad_request))
    assert problem.faults == [Fault("body", "/amount.amountMinor", "is too small")]


@pytest.mark.parametrize(
    ("code", "retry_ms", "header"),
    [
        ("RESOURCE_EXHAUSTED", None, "1"),
        ("RESOURCE_EXHAUSTED", 2500, "3"),
        ("UNAVAILABLE", None, "1"),
        ("UNAVAILABLE", 100, "1"),
        ("ABORTED", 1000, "1"),
        ("FAILED_PRECONDITION", None, None),
    ],
)
def test_who_may_come_back_is_told_when(code, retry_ms, header):
    details = [info("SOME_REASON")]
    if retry_ms is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(retry_ms)
        details.append(retry)
    assert answer(rpc_error(code, *details)).headers.get("Retry-After") == header


def test_an_answer_that_grpc_does_not_take_is_no_limit_of_requests():
    too_large = rpc_error("RESOURCE_EXHAUSTED", words="CLIENT: Received message larger than max (20 vs. 16)")
    assert (answer(too_large).status, answer(too_large).code) == (422, "ANSWER_TOO_LARGE")
    assert answer(rpc_error("RESOURCE_EXHAUSTED", words="Concurrent RPC limit exceeded!")).code == "RATE_LIMITED"


@pytest.mark.parametrize("code", ["INTERNAL", "UNKNOWN", "DATA_LOSS"])
def test_a_bug_shows_an_id_and_nothing_else(code):
    problem = answer(rpc_error(code, info("INTERNAL", error_id="err_7", secret="x"), words="KeyError: 'ssn'"))
    assert problem.metadata == {"error_id": "err_7"}
    assert "ssn" not in problem.detail


def test_a_bug_without_an_id_is_given_one():
    assert answer(rpc_error("UNKNOWN")).metadata["error_id"].startswith("err_")


def test_an_unauthenticated_answer_says_how_to_authenticate():
    problem = problems.of_domain_error(errors.Unauthenticated("A bearer token is needed."))
    assert (problem.status, problem.headers["WWW-Authenticate"]) == (401, "Bearer")


def test_an_answer_that_wants_a_fresh_sign_in_says_which():
    wanted = info("INSUFFICIENT_USER_AUTHENTICATION", max_age="300", acr_values='gold "x"\r\nSet-Cookie: a=b')
    problem = answer(rpc_error("UNAUTHENTICATED", wanted, words="Sign in again."))
    assert (problem.status, problem.code) == (401, "INSUFFICIENT_USER_AUTHENTICATION")
    assert problem.headers["WWW-Authenticate"] == (
        'Bearer error="insufficient_user_authentication", error_description="Sign in again.", '
        'acr_values="gold xSet-Cookie: a=b", max_age="300"'
    )


def test_an_answer_to_who_was_signed_out_says_that_the_token_is_no_good():
    problem = answer(rpc_error("UNAUTHENTICATED", info("SESSION_ENDED"), words="Sign in again."))
    assert (problem.status, problem.headers["WWW-Authenticate"]) == (401, 'Bearer error="invalid_token"')


@pytest.mark.parametrize("kind", errors.Kind)
def test_every_kind_of_domain_error_has_its_status(kind):
    refusal = errors.Refused(kind, "SOME_REASON", "Because.", {}, {}, "escrow.realco")
    assert problems.of_domain_error(refusal).status == TABLE[kind.value]


def test_a_flood_of_faults_is_cut():
    problem = problems.invalid([Fault("body", f"/{n}", "is not a field") for n in range(10_000)])
    assert len(problem.body("req_1")["errors"]) == 100
