"""Every answer that is not a success, as RFC 9457 problem details.

A problem says what to act on (`code`), where (`errors[]`, JSON pointers) and which request it was (`requestId`). Where,
it never repeats the value the caller sent; `metadata` has what the comment of the code names. Of a failure inside, a
problem shows an opaque id and nothing else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import grpc
import orjson
from grpc import aio
from starlette.responses import Response

from gateway.statuses import status_of
from gateway.wording import in_rest_words
from services.chassis.calls.answer import says_replayed
from services.chassis.calls.status import details_of, status_in
from services.chassis.spelling.descriptors import camel_case
from services.chassis.values.errors import DomainError
from services.chassis.values.faults import FAULTS_MAX
from services.chassis.values.ids import new_id

MEDIA_TYPE = "application/problem+json"
REPLAYED_HEADER = "Idempotency-Replayed"
# What cannot stand between the quotes of a header.
_QUOTED = re.compile(r"[^ !#-\[\]-~]")

# Codes that only HTTP knows, beside those of the ErrorReason enums.
HTTP_CODES: Mapping[str, tuple[int, str]] = {
    "METHOD_NOT_ALLOWED": (405, "The path exists; `Allow` lists the methods it takes."),
    "ETAG_REQUIRED": (428, "`If-Match` is required: the `ETag` of the answer this write was decided on."),
    "REQUEST_TIMEOUT": (408, "The body did not arrive in time."),
    "PAYLOAD_TOO_LARGE": (413, "The body is larger than this path takes."),
    "ANSWER_TOO_LARGE": (422, "The answer is larger than a service sends: ask for fewer at a time, by `pageSize`."),
    "UNSUPPORTED_MEDIA_TYPE": (
        415,
        "The body must be of a type that the path takes, in UTF-8, without a content encoding.",
    ),
    "HEADERS_TOO_LARGE": (431, "The headers are larger than this server takes."),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a request: where (`body`, `query`, `path` or `header`), its JSON pointer there, and what."""

    place: str
    pointer: str
    detail: str


@dataclass(slots=True, eq=False)  # as every exception: equal to itself only
class Problem(Exception):
    """An answer to give instead of a success."""

    status: int
    code: str
    detail: str
    faults: Sequence[Fault] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    def body(self, request_id: str) -> dict[str, object]:
        document: dict[str, object] = {
            "type": f"/docs#{self.code}",
            "title": self.code.replace("_", " ").capitalize(),
            "status": self.status,
            "detail": in_rest_words(self.detail),
            "instance": f"urn:realco:request:{request_id}",
            "code": self.code,
            "requestId": request_id,
            "errors": [
                {"in": fault.place, "pointer": fault.pointer, "detail": in_rest_words(fault.detail)}
                for fault in self.faults[:FAULTS_MAX]
            ],
        }
        if self.metadata:
            document["metadata"] = {camel_case(key): value for key, value in self.metadata.items()}
        return document

    def response(self, request_id: str) -> Response:
        return Response(orjson.dumps(self.body(request_id)), self.status, self.headers, MEDIA_TYPE)


def invalid(faults: Sequence[Fault]) -> Problem:
    """400 with every fault that was found."""
    places = ", ".join(sorted({fault.place for fault in faults}))
    named = [_words(fault) for fault in faults if fault.place == "header"]
    detail = "; ".join(named) if named else "See errors for each fault."
    return Problem(400, "INVALID_FIELD", f"The request is not valid ({places}). {detail}", faults)


def invalid_body(detail: str) -> Problem:
    return Problem(400, "INVALID_FIELD", f"The body {detail}.", [Fault("body", "", detail)])


def _words(fault: Fault) -> str:
    return f"The header {fault.pointer[1:]} {fault.detail}."


class MalformedPath(Problem):
    def __init__(self) -> None:
        detail = "has an empty, encoded or impossible segment"
        Problem.__init__(self, 400, "INVALID_FIELD", f"The path {detail}.", [Fault("path", "", detail)])


class UnknownPath(Problem):
    def __init__(self) -> None:
        Problem.__init__(self, 404, "NOT_FOUND", "There is nothing at this path; /openapi.json lists what there is.")


class MethodNotAllowed(Problem):
    def __init__(self, allowed: Sequence[str]) -> None:
        allow = ", ".join(allowed)
        detail = f"This path takes {allow}."
        Problem.__init__(self, 405, "METHOD_NOT_ALLOWED", detail, headers={"Allow": allow})


def etag_required() -> Problem:
    """A write that must name what it was decided on does not."""
    status, detail = HTTP_CODES["ETAG_REQUIRED"]
    return Problem(status, "ETAG_REQUIRED", detail, [Fault("header", "/If-Match", "is required")])


def http_only(code: str) -> Problem:
    """A problem of HTTP itself. The connection is closed: what is left of the body is not read."""
    status, detail = HTTP_CODES[code]
    return Problem(status, code, detail, headers={"Connection": "close"})


def too_large(bytes_max: int) -> Problem:
    """As `http_only`, with how much the path takes."""
    status, detail = HTTP_CODES["PAYLOAD_TOO_LARGE"]
    said = f"{detail.removesuffix('.')}: at most {bytes_max} bytes."
    return Problem(status, "PAYLOAD_TOO_LARGE", said, headers={"Connection": "close"})


def unsupported_type(taken: Sequence[str]) -> Problem:
    """As `http_only`, with the media types that the path takes."""
    status, detail = HTTP_CODES["UNSUPPORTED_MEDIA_TYPE"]
    said = f"{detail.removesuffix('.')}: {' or '.join(taken)}."
    headers = {"Connection": "close", "Accept": ", ".join(taken)}
    return Problem(status, "UNSUPPORTED_MEDIA_TYPE", said, headers=headers)


def overloaded() -> Problem:
    """Refused at once, before any work: better than a queue whose end nobody waits for."""
    detail = "Too many requests are under way. Retry the same request."
    return Problem(503, "UNAVAILABLE", detail, headers={"Retry-After": "1"})


def rate_limited(retry_after_seconds: float) -> Problem:
    headers = {"Retry-After": _whole_seconds(retry_after_seconds)}
    return Problem(429, "RATE_LIMITED", "Too many requests. Retry-After says when to come back.", headers=headers)


def internal(error_id: str | None = None) -> Problem:
    """A bug: an id to find the log line by, and nothing else."""
    metadata = {"error_id": error_id or new_id("err")}
    return Problem(500, "INTERNAL", "Something failed here. `errorId` finds it in our log.", metadata=metadata)


def of_domain_error(error: DomainError, fault_of: Callable[[str, str], Fault] | None = None) -> Problem:
    """A refusal made here, by code the services share: authentication, access, validation."""
    status = status_of(grpc.StatusCode[error.kind.value], error.reason)
    faults = [fault_of(path, detail) for path, detail in error.fields.items()] if fault_of else []
    if faults and status == 400:
        return invalid(faults)
    problem = Problem(status, error.reason, error.message, faults, error.metadata)
    _add_headers(problem, error.retry_after_seconds)
    return problem


def of_rpc_error(error: aio.AioRpcError, fault_of: Callable[[str, str], Fault]) -> Problem:
    """What a service answered instead of a response.

    Args:
        error: As grpc.aio raised it.
        fault_of: Field path and words of a BadRequest violation -> the Fault, placed where REST carries that field.
    """
    code = error.code()
    status = status_in(error)
    details = details_of(status) if status is not None else None
    if code is grpc.StatusCode.CANCELLED and details is None:
        code = grpc.StatusCode.UNAVAILABLE  # a server that stops answers so what it had queued (grpc issue 41785)
    if details is None and _TOO_LARGE in (error.details() or ""):
        http_status, words = HTTP_CODES["ANSWER_TOO_LARGE"]
        return Problem(http_status, "ANSWER_TOO_LARGE", words)
    if details is None:
        return _of_bare_code(code)
    http_status = status_of(code, details.reason)
    if _is_bug(http_status):
        return _of_bug(code, details.metadata.get("error_id"))
    faults = [fault_of(path, description) for path, description in details.fields.items()]
    detail = error.details() or "The service could not answer."
    problem = Problem(http_status, details.reason, detail, faults, details.metadata)
    _add_headers(problem, details.retry_after_seconds)
    if says_replayed(error.trailing_metadata()):
        problem.headers[REPLAYED_HEADER] = "true"
    return problem


def _of_bare_code(code: grpc.StatusCode) -> Problem:
    """No service of ours said it: the words would be gRPC's, of addresses and sockets."""
    reason = _reason_of_bare(code)
    status = status_of(code, reason)
    if _is_bug(status):
        return _of_bug(code, None)
    problem = Problem(status, reason, _DETAIL_OF_BARE.get(code, "The service could not answer."))
    _add_headers(problem, None)
    return problem


def _is_bug(status: int) -> bool:
    return status >= 500 and status not in (503, 504)


def _of_bug(code: grpc.StatusCode, error_id: str | None) -> Problem:
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return Problem(501, "UNIMPLEMENTED", "This service does not do that.")
    return internal(error_id)


# As gRPC says that a message is larger than its receiver takes; the code alone is that of too many requests, too.
_TOO_LARGE = "larger than max"
_DETAIL_OF_BARE = {
    grpc.StatusCode.UNAVAILABLE: "The service is not reachable just now. Retry the same request.",
    grpc.StatusCode.DEADLINE_EXCEEDED: "There was no answer in time; it may have happened. Ask again, same key.",
}


def _reason_of_bare(code: grpc.StatusCode) -> str:
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return "INVALID_FIELD"
    return "RATE_LIMITED" if code is grpc.StatusCode.RESOURCE_EXHAUSTED else str(code.name)


def _add_headers(problem: Problem, retry_after_seconds: float | None) -> None:
    if problem.status == 401:
        problem.headers["WWW-Authenticate"] = _challenge(problem)
    if problem.status in (429, 503) or retry_after_seconds is not None:
        problem.headers["Retry-After"] = _whole_seconds(retry_after_seconds or 1)


def _challenge(problem: Problem) -> str:
    """What a caller must bring. Source: RFC 6750, section 3; RFC 9470, section 3."""
    if problem.code == "SESSION_ENDED":
        return 'Bearer error="invalid_token"'
    if problem.code != "INSUFFICIENT_USER_AUTHENTICATION":
        return "Bearer"
    wanted = {"error": "insufficient_user_authentication", "error_description": problem.detail}
    wanted |= dict(sorted(problem.metadata.items()))
    return "Bearer " + ", ".join(f'{name}="{_QUOTED.sub("", value)}"' for name, value in wanted.items())


def _whole_seconds(seconds: float) -> str:
    return str(max(1, math.ceil(seconds)))
