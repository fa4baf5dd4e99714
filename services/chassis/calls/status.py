"""Between a DomainError and the google.rpc.Status that carries it: ErrorInfo, BadRequest, RetryInfo."""

from __future__ import annotations

from typing import Any

from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from services.chassis.values.errors import DomainError, Kind, Refused

# Metadata of an answer that was given before: `true`. REST says it in `Idempotency-Replayed`.
REPLAYED_METADATA = "realco-idempotency-replayed"


def to_status(error: DomainError, domain: str) -> status_pb2.Status:
    """`domain` is the answering service's (`escrow.realco`), unless the refusal came from a peer and keeps its own."""
    bad_request = error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(field=field, description=description)
            for field, description in error.fields.items()
        ]
    )
    return status_of(
        error.kind.value,
        error.reason,
        error.message,
        getattr(error, "domain", "") or domain,
        metadata=error.metadata,
        bad_request=bad_request,
        retry_after_seconds=error.retry_after_seconds,
    )


def status_of(
    code: str,
    reason: str,
    message: str,
    domain: str,
    *,
    metadata: dict[str, str] | None = None,
    bad_request: error_details_pb2.BadRequest | None = None,
    retry_after_seconds: float | None = None,
) -> status_pb2.Status:
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata=metadata or {})]
    if bad_request is not None and bad_request.field_violations:
        details.append(bad_request)
    if retry_after_seconds is not None:
        delay = Duration()
        delay.FromMilliseconds(round(retry_after_seconds * 1000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    return status_pb2.Status(code=code_pb2.Code.Value(code), message=message, details=[_pack(d) for d in details])


def from_status(status: status_pb2.Status) -> Refused | None:
    """The refusal a Status carries; None where it is no DomainError (no ErrorInfo, or a code no Kind has)."""
    name = code_pb2.Code.Name(status.code) if status.code in code_pb2.Code.values() else ""
    info: Any = error_details_pb2.ErrorInfo()
    fields: dict[str, str] = {}
    found = False
    for detail in status.details:
        bad_request = error_details_pb2.BadRequest()
        if detail.Is(info.DESCRIPTOR):
            found = detail.Unpack(info)
        elif detail.Unpack(bad_request):
            fields = {violation.field: violation.description for violation in bad_request.field_violations}
    if not found or name not in Kind.__members__:
        return None
    return Refused(Kind[name], info.reason, status.message, fields, dict(info.metadata), info.domain)


def _pack(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed
