"""BadRequest input at every required route: a documented 4xx that says where, never a 5xx, and nothing changes."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from demo.harness.rest import API, Json, new_key
from deploy.local.instance import Instance
from tests.e2e.bad_requests import ROUTES, UNKNOWN, BadRequest, Route, Targets, find_faults, send_bad_request
from tests.e2e.bad_tables import list_bad_requests
from tests.e2e.digest import digest, digest_when_settled


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_bad_input_is_refused_with_its_place_and_changes_nothing(
    instance: Instance, targets: Targets, route: Route
) -> None:
    table = list(list_bad_requests(targets, route))
    before = digest_when_settled(instance)

    faults = [fault for bad in table for fault in find_faults(bad, send_bad_request(targets, route, bad))]

    assert faults == []
    assert digest(instance) == before
    assert len({bad.title for bad in table}) == len(table), "each row has a title of its own"


@pytest.mark.parametrize("route", [route for route in ROUTES if route.resource], ids=lambda route: route.name)
def test_an_id_of_another_organization_looks_as_if_there_were_none(targets: Targets, route: Route) -> None:
    prefix = targets.ids[route.resource].split("_")[0]
    unknown = send_bad_request(
        targets, route, BadRequest("unknown", ids={route.resource: f"{prefix}_{UNKNOWN}"})
    ).json()
    foreign = send_bad_request(
        targets, route, BadRequest("foreign", ids={route.resource: targets.foreign_ids[route.resource]})
    ).json()

    for answer in (unknown, foreign):
        assert answer.pop("requestId") in answer.pop("instance")
    assert foreign == unknown


@pytest.mark.parametrize(
    ("route", "body", "other"),
    [
        ("/transactions", {"type": "DEPOSIT"}, {"description": "another"}),
        ("/escrow-accounts", {}, {"displayName": "another"}),
        ("/distributions", {}, {"description": "another"}),
    ],
)
def test_a_key_belongs_to_one_request(
    instance: Instance, targets: Targets, route: str, body: Json, other: Json
) -> None:
    """The same request again gets the first answer; another one is refused, and changes nothing."""
    [known] = [one for one in ROUTES if one.name == f"POST {route}"]
    assert known.body is not None
    body = known.body(targets) | body
    if body.get("type") == "DEPOSIT":
        deposit = {
            "partyId": targets.org.sponsor_party_id,
            "bankAccountId": targets.org.add_bank_account(targets.org.sponsor_party_id),
        }
        body = {name: value for name, value in body.items() if name != "investmentId"} | deposit
    key = new_key()
    first = targets.org.admin.request("POST", route, json=body, headers={"Idempotency-Key": key})
    before = digest_when_settled(instance)

    again = targets.org.admin.request("POST", route, json=body, headers={"Idempotency-Key": key})
    changed = targets.org.admin.request("POST", route, json=body | other, headers={"Idempotency-Key": key})

    assert first.status_code == 201
    assert (again.status_code, again.json()) == (201, first.json())
    assert find_faults(BadRequest("reused", 422, "IDEMPOTENCY_KEY_REUSED"), changed) == []
    assert digest(instance) == before
    # A key is one caller's: the same words in another's mouth are another request.
    theirs = targets.org.second_admin.request("POST", route, json=body, headers={"Idempotency-Key": key})
    assert theirs.status_code == 201
    assert theirs.json() != first.json()


@pytest.mark.parametrize(
    "action",
    [
        "/transactions/{transaction}/retry",
        "/transactions/{transaction}/cancel",
        "/distributions/{distribution}/execute",
    ],
)
def test_a_key_of_one_refused_action_cannot_serve_for_another(targets: Targets, action: str) -> None:
    key = {"Idempotency-Key": new_key()}
    others = {name: targets.ids[f"other_{name}"] for name in ("transaction", "distribution")}
    refused = targets.org.admin.request("POST", action.format(**targets.ids), json={}, headers=key)

    again = targets.org.admin.request("POST", action.format(**targets.ids), json={}, headers=key)
    other = targets.org.admin.request("POST", action.format(**others), json={}, headers=key)

    assert refused.status_code == 422
    assert (again.status_code, again.json()["code"]) == (422, refused.json()["code"])
    assert find_faults(BadRequest("reused", 422, "IDEMPOTENCY_KEY_REUSED"), other) == []


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/transactionz", 404, "NOT_FOUND"),
        ("GET", "/", 400, "INVALID_FIELD"),
        ("GET", "//transactions", 400, "INVALID_FIELD"),
        ("POST", "/transactions/x/y/z", 404, "NOT_FOUND"),
        ("POST", "/distributions/x/approve/now", 404, "NOT_FOUND"),
        ("POST", "/webhooks/paypal", 405, "METHOD_NOT_ALLOWED"),
        ("PUT", "/transactions", 405, "METHOD_NOT_ALLOWED"),
        ("DELETE", "/transactions", 405, "METHOD_NOT_ALLOWED"),
        ("PATCH", "/escrow-accounts", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/webhooks/stripe", 405, "METHOD_NOT_ALLOWED"),
        ("DELETE", "/escrow-accounts/{escrow_account}", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/distributions/{distribution}/execute", 405, "METHOD_NOT_ALLOWED"),
        ("TRACE", "/transactions", 405, "METHOD_NOT_ALLOWED"),
    ],
)
def test_a_path_or_method_that_is_not_there_is_said_to_be_so(
    targets: Targets, method: str, path: str, status: int, code: str
) -> None:
    answer = targets.org.admin.request(method, path.format(**targets.ids))

    assert find_faults(BadRequest(path, status, code, at="path"), answer) == []
    assert bool(answer.headers.get("allow")) == (status == 405)


def test_headers_that_claim_to_be_somebody_else_are_not_believed(targets: Targets) -> None:
    """A service's metadata, a proxy's headers, a method override: the caller stays who its token says."""
    claims = {
        "X-Realco-Org": targets.foreign.org_id,
        "X-Realco-On-Behalf-Of": "admin-1",
        "X-Forwarded-For": "10.0.0.1",
        "X-User-Id": "admin-1",
        "X-Tenant": targets.foreign.org_id,
        "X-HTTP-Method-Override": "DELETE",
    }
    auditor = targets.org.auditor

    theirs = auditor.request("GET", f"/transactions/{targets.foreign_ids['transaction']}", headers=claims)
    body = targets.org.build_escrow_account()
    written = auditor.request("POST", "/escrow-accounts", json=body, headers=claims | {"Idempotency-Key": new_key()})

    assert (theirs.status_code, written.status_code) == (404, 403)
    read = auditor.request("GET", f"/transactions/{targets.ids['transaction']}", headers=claims)
    assert read.status_code == 200


def test_two_lengths_of_one_body_are_refused(instance: Instance, targets: Targets) -> None:
    """How one request is smuggled inside another."""

    def chunks() -> Iterator[bytes]:
        yield json.dumps({"displayName": "x"}).encode()

    headers = {"Content-Length": "5", "Transfer-Encoding": "chunked", "Content-Type": "application/json"}
    with httpx.Client(base_url=instance.base_url, trust_env=False) as client:
        answer = client.post(API + "/escrow-accounts", content=chunks(), headers=headers)

    assert 400 <= answer.status_code < 500
    assert answer.headers["content-type"] == "application/problem+json"


def test_the_comparison_sees_a_change_of_any_service(instance: Instance, targets: Targets) -> None:
    """The proof that "nothing changed" can fail."""
    before = digest_when_settled(instance)

    targets.org.open_escrow_account()
    investor = targets.org.add_party()
    targets.org.add_bank_account(investor)
    targets.org.invest(targets.org.admin.get(f"/offerings/{targets.ids['offering']}"), investor, 1_00)

    after = digest(instance)
    changed = {table for table in after if after[table] != before[table]}
    assert {
        "escrow.escrow_accounts",
        "compliance.parties",
        "transactions.bank_accounts",
        "distributions.investments",
        "distributions.outbox",
    } <= changed


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_the_same_request_without_a_fault_is_accepted(targets: Targets, route: Route) -> None:
    """So it is its fault alone that each row of the tables is refused for. What waits for another step is not."""
    answer = send_bad_request(targets, route, BadRequest("nothing wrong"))

    if route.name.endswith(("/retry", "/cancel", "/execute")):
        assert (answer.status_code, answer.json()["errors"]) == (422, [])
    else:
        assert answer.is_success, answer.text
