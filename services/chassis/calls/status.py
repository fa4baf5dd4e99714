"""Between a DomainError and the google.rpc.Status that carries it: ErrorInfo, BadRequest, RetryInfo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc import aio

from services.chassis.values.errors import DomainError, Kind, Refused

_STATUS_DETAILS = "grpc-status-details-bin"
# A status travels in headers, in base64, and its message once more, percent-encoded: a caller whose limit of 8 KiB that
# exceeds gets none of it.
_MESSAGE_BYTES_MAX = 800
_FIELD_BYTES_MAX = 500
_FIELDS_BYTES_MAX = 2_500


def to_status(error: DomainError, domain: str) -> status_pb2.Status:
    """`domain` is the answering service's (`escrow.realco`), unless the refusal came from a peer and keeps its own."""
    return status_of(
        error.kind.value,
        error.reason,
        error.message,
        getattr(error, "domain", "") or domain,
        metadata=error.metadata,
        bad_request=_tell_fields(error.fields),
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
    said = _cut(message, _MESSAGE_BYTES_MAX)
    return status_pb2.Status(code=code_pb2.Code.Value(code), message=said, details=[_pack(d) for d in details])


def _cut(text: str, most: int) -> str:
    """As much of it as so many bytes of UTF-8 have."""
    raw = text.encode()
    return text if len(raw) <= most else f"{raw[:most].decode(errors='ignore')} …"


def _tell_fields(fields: Mapping[str, str]) -> error_details_pb2.BadRequest:
    """The faults of fields, as far as they fit."""
    told, size = error_details_pb2.BadRequest(), 0
    for field, description in fields.items():
        shown = _cut(description, _FIELD_BYTES_MAX)
        size += len(field.encode()) + len(shown.encode())
        if size > _FIELDS_BYTES_MAX:
            break
        told.field_violations.add(field=field, description=shown)
    return told


@dataclass(frozen=True, slots=True)
class Details:
    """What a Status of ours says beside its code and message."""

    reason: str
    domain: str
    metadata: Mapping[str, str]
    fields: Mapping[str, str]
    retry_after_seconds: float | None


def details_of(status: status_pb2.Status) -> Details | None:
    """None where no service of ours wrote it: there is no ErrorInfo."""
    info = error_details_pb2.ErrorInfo()
    bad_request = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    found: set[Any] = set()
    for detail in status.details:
        found |= {part.DESCRIPTOR for part in (info, bad_request, retry) if detail.Unpack(part)}
    if info.DESCRIPTOR not in found:
        return None
    retry_after_seconds = retry.retry_delay.ToMilliseconds() / 1000 if retry.DESCRIPTOR in found else None
    fields = {violation.field: violation.description for violation in bad_request.field_violations}
    return Details(info.reason, info.domain, dict(info.metadata), fields, retry_after_seconds)


def from_status(status: status_pb2.Status) -> Refused | None:
    """The refusal a Status carries; None where it is none: no ErrorInfo, a code no Kind has, or a bug."""
    name = code_pb2.Code.Name(status.code) if status.code in code_pb2.Code.values() else ""
    details = details_of(status)
    if details is None or name not in Kind.__members__ or name == Kind.INTERNAL.name:
        return None
    return Refused(Kind[name], details.reason, status.message, details.fields, details.metadata, details.domain)


def status_in(error: aio.AioRpcError) -> status_pb2.Status | None:
    """The Status a service of ours answered with; None where there is none: the connection failed under the call."""
    for key, value in error.trailing_metadata() or ():
        if key == _STATUS_DETAILS and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                return None
    return None


def _pack(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed
