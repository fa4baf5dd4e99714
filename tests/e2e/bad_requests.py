"""The required routes as a caller meets them, and tables of what is wrong with a request to one of them.

A table's row is a `BadRequest`: one fault, the status and code of its refusal, and where the refusal must point.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from demo.harness.money import usd
from demo.harness.rest import Json, RestClient, new_key
from tests.e2e.organization import Organization

UNKNOWN = "0" * 26
OMIT = object()
PLAIN = {"content-type": "application/json"}


@dataclass(frozen=True)
class Targets:
    """What there is before anything bad is tried: one of each, here and in another organization."""

    org: Organization
    foreign: Organization
    ids: Mapping[str, str]
    foreign_ids: Mapping[str, str]
    contribution: Json  # the body of a POST /transactions that would be accepted


@dataclass(frozen=True)
class Route:
    name: str  # "POST /transactions/{transaction}/retry"
    key: str = ""  # "required" or "optional": how it takes an Idempotency-Key
    body: Callable[[Targets], Json] | None = None
    roles: tuple[str, ...] = ("sponsor", "admin")

    @property
    def method(self) -> str:
        return self.name.split(" ")[0]

    def path(self, ids: Mapping[str, str]) -> str:
        return self.name.split(" ")[1].format(**ids)

    @property
    def resource(self) -> str:
        """Whose id is in the path; empty if none."""
        return self.name.partition("{")[2].partition("}")[0]


def _escrow_account(targets: Targets) -> Json:
    return targets.org.build_escrow_account()


def _distribution(targets: Targets) -> Json:
    return {"offeringId": targets.ids["closed_offering"], "type": "SPECIAL", "amount": usd(1_000)}


def _nothing(targets: Targets) -> Json:
    return {}


_EVERYBODY = ("investor", "sponsor", "admin", "auditor")
_OFFICE = ("sponsor", "admin", "auditor")

ROUTES = (
    Route("POST /transactions", "required", lambda targets: targets.contribution, ("investor", "sponsor", "admin")),
    Route("GET /transactions/{transaction}", roles=_EVERYBODY),
    Route("GET /transactions", roles=_EVERYBODY),
    Route("POST /transactions/{transaction}/retry", "required", _nothing),
    Route("POST /transactions/{transaction}/cancel", "optional", _nothing, ("investor", "sponsor", "admin")),
    Route("POST /escrow-accounts", "required", _escrow_account),
    Route("GET /escrow-accounts/{escrow_account}", roles=_OFFICE),
    Route("GET /escrow-accounts/{escrow_account}/balance", roles=_OFFICE),
    Route("GET /escrow-accounts/{escrow_account}/ledger", roles=_OFFICE),
    Route("POST /distributions", "required", _distribution),
    Route("GET /distributions/{distribution}", roles=_EVERYBODY),
    Route("POST /distributions/{distribution}/calculate", "optional", _nothing),
    Route("POST /distributions/{distribution}/execute", "required", _nothing),
)
WEBHOOKS = ("POST /webhooks/stripe", "POST /webhooks/plaid")


@dataclass(frozen=True)
class BadRequest:
    """One fault. `at` is where an error must point: `body /amount`, `header /Idempotency-Key`; empty: nowhere."""

    title: str
    status: int = 400
    code: str = "INVALID_FIELD"
    at: str = ""
    change: Mapping[str, Any] = field(default_factory=dict)  # dotted path -> value, or OMIT
    raw: bytes | None = None
    headers: Mapping[str, str | bytes | None] = field(default_factory=dict)  # None: the header is not sent
    query: str = ""
    ids: Mapping[str, str] = field(default_factory=dict)
    person: RestClient | None = None
    suffix: str = ""
    echo: str = ""  # what the answer must not contain


def make_one_of_each(org: Organization) -> tuple[dict[str, str], Json]:
    """One of each in an organization; and the body of a contribution that would be accepted."""
    closed = org.make_closed_offering(1_000_00)
    deposit = org.add_distributable_cash(closed, 100_00)
    distribution = org.calculate_distribution(closed, 100_00)
    offering, investor, stranger = org.open_offering(5_000_00), org.add_cleared_party(), org.add_cleared_party()
    investment = org.invest(offering, investor, 1_000_00)
    bank_account = org.add_bank_account(investor)
    ids = {
        "escrow_account": offering["escrowAccountId"],
        "other_escrow_account": closed["escrowAccountId"],
        "offering": offering["offeringId"],
        "closed_offering": closed["offeringId"],
        "investor": investor,
        "investment": investment["investmentId"],
        "bank_account": bank_account,
        "stranger": stranger,
        "stranger_bank_account": org.add_bank_account(stranger),
        "transaction": closed["proceedsTransactionId"],
        "other_transaction": deposit["transactionId"],
        "distribution": distribution["distributionId"],
        "other_distribution": org.draft_distribution(closed, 100_00)["distributionId"],
    }
    return ids, org.build_contribution(offering, investment, bank_account)


def send_bad_request(targets: Targets, route: Route, bad: BadRequest) -> httpx.Response:
    person = bad.person or targets.org.admin
    given: dict[str, str | bytes | None] = dict(PLAIN) if route.body or bad.raw is not None else {}
    if route.key:
        given["idempotency-key"] = new_key()
    given |= {name.lower(): value for name, value in bad.headers.items()}
    headers = {name: value for name, value in given.items() if value is not None}
    request = person.http.build_request(
        route.method,
        route.path({**targets.ids, **bad.ids}) + bad.suffix + bad.query,
        headers=headers,
        **_content(targets, route, bad),
    )
    return person.http.send(request)


def _content(targets: Targets, route: Route, bad: BadRequest) -> dict[str, Any]:
    if bad.raw is not None:
        return {"content": bad.raw}
    if route.body is None:
        return {}
    body = copy.deepcopy(route.body(targets))
    for path, value in bad.change.items():
        *parents, name = path.split(".")
        holder = body
        for parent in parents:
            holder = holder[parent]
        if value is OMIT:
            del holder[name]
        else:
            holder[name] = value
    return {"json": body}


def find_faults(bad: BadRequest, response: httpx.Response) -> list[str]:
    """What is wrong with the refusal; empty if it is as documented."""
    faults = []
    if response.headers.get("content-type") != "application/problem+json":
        return [f"{bad.title}: {response.status_code} {response.headers.get('content-type')}: {response.text[:200]}"]
    problem = response.json()
    if (response.status_code, problem["code"]) != (bad.status, bad.code):
        faults.append(f"{response.status_code} {problem['code']}, not {bad.status} {bad.code}: {response.text[:300]}")
    if (problem["status"], problem["title"] != "", problem["type"]) != (
        response.status_code,
        True,
        f"/docs#{bad.code}",
    ):
        faults.append(f"not a whole problem document: {problem}")
    if not problem["requestId"] or problem["requestId"] not in problem["instance"]:
        faults.append("names no request")
    if bad.status == 400 and bad.code != "WEBHOOK_SIGNATURE_INVALID":
        pointed = [f"{error['in']} {error['pointer']}" for error in problem["errors"] if error["detail"]]
        if not any(place.startswith(bad.at) for place in pointed):
            faults.append(f"points to {pointed}, not to {bad.at}")
    if bad.echo and bad.echo in response.text:
        faults.append("repeats the value")
    if bad.status == 401 and not response.headers.get("www-authenticate", "").startswith("Bearer"):
        faults.append("has no WWW-Authenticate")
    return [f"{bad.title}: {fault}" for fault in faults]


# --- tables that serve several routes ---------------------------------------------------------------------------------

AMOUNTS: Mapping[str, Any] = {
    "zero": "0",
    "zero as a number": 0,
    "negative": "-500",
    "negative as a number": -500,
    "minus zero": "-0",
    "a whole number": 1050,
    "a fraction": "1050.75",
    "a fraction as a number": 1050.75,
    "a whole float": 1050.0,
    "scientific": "1e5",
    "with separators": "1,050",
    "with a blank": " 1050",
    "with a plus": "+1050",
    "with leading zeros": "0001050",
    "hexadecimal": "0x41a",
    "full-width digits": "\uff11\uff10\uff15\uff10",
    "Arabic digits": "\u0661\u0660\u0665\u0660",
    "text": "thirteen-fifty",
    "nothing": "",
    "not a number": "NaN",
    "infinite": "Infinity",
    "one more than the most": str(10**15 + 1),
    "2^62": str(2**62),
    "the largest int64": str(2**63 - 1),
    "one more than int64": str(2**63),
    "one more than int64, as a number": 2**63,
    "forty digits": "1" + "0" * 40,
    "a truth": True,
    "a list": ["1050"],
    "an object": {"value": "1050"},
    "null": None,
}
CURRENCIES = {
    "lower case": "usd",
    "four letters": "USDT",
    "none of ISO 4217": "QQQ",
    "gold": "XAU",
    "the code for tests": "XTS",
    "nothing": "",
    "a digit": "US1",
    "a number": 840,
    "null": None,
}
JSON_VARIANTS: Mapping[str, bytes] = {
    "no JSON": b"amount=1050&secret=swordfish",
    "half of it": b'{"description": "swordfish"',
    "trailing garbage": b'{"description": "x"} swordfish',
    "two documents": b'{"description": "x"}{"description": "y"}',
    "a byte order mark": b'\xef\xbb\xbf{"description": "x"}',
    "a comment": b'{"description": "x" /* swordfish */}',
    "a trailing comma": b'{"description": "x",}',
    "single quotes": b"{'description': 'x'}",
    "the same key twice": b'{"description": "x", "description": "y"}',
    "a list": b"[]",
    "a string": b'"swordfish"',
    "a number": b"1",
    "null": b"null",
    "NaN": b'{"description": NaN}',
    "no UTF-8": b'{"description": "\xff\xfe"}',
    "half a surrogate pair": b'{"description": "\\ud800"}',
    "ten thousand deep": b'{"description": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "a prototype": b'{"__proto__": {"role": "admin"}}',
}


def list_bad_keys(route: Route) -> Iterator[BadRequest]:
    """What is wrong with an Idempotency-Key."""
    at = "header /Idempotency-Key"
    if route.key == "required":
        yield BadRequest("no key", at=at, headers={"Idempotency-Key": None})
    yield BadRequest("an empty key", at=at, headers={"Idempotency-Key": ""})
    yield BadRequest("a key of 256 characters", at=at, headers={"Idempotency-Key": "k" * 256}, echo="k" * 256)
    yield BadRequest("a key with a blank", at=at, headers={"Idempotency-Key": "sword fish"}, echo="sword fish")
    yield BadRequest("a key that is not ASCII", at=at, headers={"Idempotency-Key": "schlüssel".encode("latin-1")})


def list_bad_path_ids(targets: Targets, route: Route) -> Iterator[BadRequest]:
    """What is wrong with the id in the path: malformed, of another type, unknown, another organization's."""
    name = route.resource
    known = targets.ids[name]
    prefix = known.split("_")[0]
    other = targets.ids["escrow_account" if name != "escrow_account" else "transaction"]
    for title, bad_id in {
        "a word": "swordfish",
        "only a prefix": f"{prefix}_",
        "upper case": known.upper(),
        "a letter that no id has": known[:-1] + "ü",
        "a UUID": "018f2b6e-7c3a-7def-8123-456789abcdef",
        "five hundred characters": f"{prefix}_" + "0" * 500,
        "an id of another type": other,
        "SQL": "1%27%20OR%20%271%27=%271",
    }.items():
        yield BadRequest(f"the id is {title}", at="path /", ids={name: bad_id}, echo=bad_id if len(bad_id) > 8 else "")
    for title, bad_id in {"NUL": "%00", "a dot segment": "%2e%2e", "an encoded slash": f"{known}%2Fx"}.items():
        yield BadRequest(f"the id is {title}", at="path", ids={name: bad_id})
    code = {
        "transaction": "TRANSACTION_NOT_FOUND",
        "escrow_account": "ESCROW_ACCOUNT_NOT_FOUND",
        "distribution": "DISTRIBUTION_NOT_FOUND",
    }[name]
    # Ids may be longer in a later release, so one of another length is none that is known.
    for title, unknown in {"unknown": f"{prefix}_{UNKNOWN}", "shorter": known[:-1], "longer": known + "0"}.items():
        yield BadRequest(f"the id is {title}", 404, code, ids={name: unknown}, echo=unknown)
    yield BadRequest("the id is another organization's", 404, code, ids={name: targets.foreign_ids[name]})


def list_bad_bodies(route: Route) -> Iterator[BadRequest]:
    """What is wrong with a body before any field of it is looked at."""
    for title, raw in JSON_VARIANTS.items():
        yield BadRequest(f"the body is {title}", at="body", raw=raw, echo="swordfish")
    for title, media_type in {
        "a form": "application/x-www-form-urlencoded",
        "plain text": "text/plain",
        "not said to be anything": None,
        "in another character set": "application/json; charset=latin-1",
        "of a media type that ends alike": "application/vnd.api+json",
    }.items():
        yield BadRequest(
            f"the body is {title}", 415, "UNSUPPORTED_MEDIA_TYPE", raw=b"{}", headers={"Content-Type": media_type}
        )
    yield BadRequest(
        "the body is compressed", 415, "UNSUPPORTED_MEDIA_TYPE", raw=b"{}", headers={"Content-Encoding": "gzip"}
    )
    yield BadRequest(
        "the body is too large", 413, "PAYLOAD_TOO_LARGE", raw=b'{"description": "' + b"x" * 300_000 + b'"}'
    )
    yield BadRequest("a field is unknown", at="body /zebra", change={"zebra": "swordfish"}, echo="swordfish")
    yield BadRequest(
        "a field is spelled as in the proto", at="body /idempotency_key", change={"idempotency_key": "swordfish"}
    )
    yield BadRequest(
        "the key is in the body", at="body /idempotencyKey", change={"idempotencyKey": "swordfish"}, echo="swordfish"
    )
    yield BadRequest("there is a query", at="query", query="?zebra=1")


def list_bad_roles(targets: Targets, route: Route) -> Iterator[BadRequest]:
    """Callers whose role the route does not take."""
    for role in _EVERYBODY:
        if role not in route.roles:
            person = targets.org.sign_in(role, f"{role}-x")
            yield BadRequest(f"an {role} asks", 403, "PERMISSION_DENIED", person=person)
