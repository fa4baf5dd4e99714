"""Which pages may call the API from a browser: those of the origins that the settings name, and no others (CORS).

The token is a header that a page sets itself; no cookie is looked at, so that none is let through.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from gateway import contracts
from gateway.answers import REHEARSED_HEADER
from gateway.binding import Binding
from gateway.csv_export import HEADERS as CSV_HEADERS
from gateway.problems import REPLAYED_HEADER

_SECONDS_REMEMBERED = 600
# What a page may read of an answer, beside its body.
_ANSWER_HEADERS = (
    *("ETag", "Location", "Retry-After", "WWW-Authenticate", "X-Request-Id", REPLAYED_HEADER, REHEARSED_HEADER),
    *("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"),
    *CSV_HEADERS,
)


def admit_origins(application: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """The application, callable from these origins with the methods and headers of the contracts."""
    if not origins:
        return application
    bindings = [Binding(method) for method in contracts.methods()]
    of_requests = {parameter.name for binding in bindings for parameter in binding.headers}
    return CORSMiddleware(
        application,
        allow_origins=origins,
        allow_methods=sorted({binding.http_method for binding in bindings}),
        allow_headers=["Authorization", "Content-Type", "X-Request-Id", "traceparent", *sorted(of_requests)],
        expose_headers=_ANSWER_HEADERS,
        max_age=_SECONDS_REMEMBERED,
    )
