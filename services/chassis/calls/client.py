"""Calls from one service to another: our own token, the caller's organization and person, the trace, the time left.

Only UNAVAILABLE is tried again, by gRPC itself and within the deadline; requests that change anything carry a
`idempotency_key`, so trying again has no second effect.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import status_pb2
from grpc import aio

from services.chassis.calls.auth import ALL_ORGANIZATIONS, ServiceIdentity, principal_or_none
from services.chassis.calls.deadline import remaining_seconds
from services.chassis.calls.status import from_status
from services.chassis.process import telemetry
from services.chassis.process.settings import Settings
from services.chassis.values.errors import DomainError, Kind

CALL_SECONDS_MAX = 5.0
_MARGIN_SECONDS = 0.2  # kept for answering our own caller
_STATUS_DETAILS = "grpc-status-details-bin"
_DEFINITE = frozenset(
    {
        Kind.INVALID_ARGUMENT,
        Kind.NOT_FOUND,
        Kind.FAILED_PRECONDITION,
        Kind.PERMISSION_DENIED,
        Kind.ALREADY_EXISTS,
    }
)
_SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    # The retry budget: one call in ten may be a retry before retries stop.
    "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
}
_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    ("grpc.enable_retries", 1),
    # A peer that restarts is found again within a second.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


def channel(settings: Settings, service_name: str, identity: ServiceIdentity | None) -> aio.Channel:
    """A channel to a service. Without an identity nothing is added: the gateway forwards its caller's own token."""
    interceptors = [_AsService(identity)] if identity is not None else None
    return aio.insecure_channel(settings.address_of(service_name), options=_OPTIONS, interceptors=interceptors)


class _AsService(aio.UnaryUnaryClientInterceptor):
    def __init__(self, identity: ServiceIdentity) -> None:
        self._identity = identity

    async def intercept_unary_unary(
        self,
        continuation: Callable[[aio.ClientCallDetails, Any], Any],
        client_call_details: aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        metadata = aio.Metadata(*(client_call_details.metadata or ()))
        metadata.add("authorization", f"Bearer {self._identity.token()}")
        for key, value in self._context().items():
            metadata.add(key, value)
        principal = principal_or_none()
        if principal is not None and principal.person != self._identity.subject:
            # Binary: a person's name may have characters that a header cannot carry.
            metadata.add("x-realco-on-behalf-of-bin", principal.person.encode())
        details = aio.ClientCallDetails(
            method=client_call_details.method,
            timeout=_timeout(client_call_details.timeout),
            metadata=metadata,
            credentials=client_call_details.credentials,
            wait_for_ready=client_call_details.wait_for_ready,
        )
        return await continuation(details, request)

    def _context(self) -> dict[str, str]:
        found = {"traceparent": telemetry.current_traceparent(), "x-request-id": telemetry.current_request_id()}
        principal = principal_or_none()
        if principal is not None and principal.org_id != ALL_ORGANIZATIONS:
            found["x-realco-org"] = principal.org_id
        return {key: value for key, value in found.items() if value}


def _timeout(asked: float | None) -> float:
    """The smallest of what was asked, what our own caller leaves us, and CALL_SECONDS_MAX."""
    remaining = remaining_seconds()
    left = CALL_SECONDS_MAX if remaining is None else remaining - _MARGIN_SECONDS
    return max(0.001, min(CALL_SECONDS_MAX if asked is None else asked, left))


def as_domain_error(error: aio.AioRpcError) -> DomainError | None:
    """The peer's definite refusal, with its reason and metadata; None where the outcome is unknown or may change.

    A refusal is an answer: nothing was done, and the same request would be refused again.
    """
    for key, value in error.trailing_metadata() or ():
        if key == _STATUS_DETAILS and isinstance(value, bytes):
            try:
                refusal = from_status(status_pb2.Status.FromString(value))
            except DecodeError:
                return None
            return refusal if refusal is not None and refusal.kind in _DEFINITE else None
    return None


def is_unknown(error: aio.AioRpcError) -> bool:
    """True where the peer may or may not have done it: ask again with the same idempotency_key."""
    return error.code() in (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    )
