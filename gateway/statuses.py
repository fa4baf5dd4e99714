"""The one map from gRPC's status codes to HTTP's."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import grpc

# A business refusal is FAILED_PRECONDITION.
STATUS_OF_CODE: Mapping[grpc.StatusCode, int] = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.ALREADY_EXISTS: 422,
    grpc.StatusCode.FAILED_PRECONDITION: 422,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNKNOWN: 500,
    grpc.StatusCode.DATA_LOSS: 500,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
# What HTTP tells apart and gRPC does not.
STATUS_OF_REASON: Mapping[str, int] = {"IDEMPOTENCY_KEY_REUSED": 422, "ETAG_MISMATCH": 412, "ETAG_REQUIRED": 428}


def status_of(code: grpc.StatusCode, reason: str) -> int:
    """The HTTP status of a failure with this gRPC code and ErrorReason."""
    return STATUS_OF_REASON.get(reason) or STATUS_OF_CODE[code]


def title_of(status: int) -> str:
    """The words HTTP has for a status; 499 is not registered."""
    return "Client closed request" if status == 499 else HTTPStatus(status).phrase
