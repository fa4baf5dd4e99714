"""What the next release may change in what REST documents, and what it may not: as tables, over OpenAPI of today."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from deploy.check import openapi_narrowing
from gateway import openapi

DOCUMENT = openapi.document()
SPELLED = json.dumps(DOCUMENT)
ACCOUNTS = "/api/v1/escrow-accounts"

Edit = Callable[[dict[str, Any]], Any]


def schema(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = document["components"]["schemas"][name]
    return found


def field(document: dict[str, Any], path: str) -> dict[str, Any]:
    name, _, wanted = path.rpartition(".")
    found: dict[str, Any] = schema(document, name)["properties"][wanted]
    return found


def create(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["paths"][ACCOUNTS]["post"]
    return found


def parameter(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = document["paths"][ACCOUNTS]["get"]["parameters"]
    return next(one for one in found if one["name"] == name)


def rename(document: dict[str, Any], old: str, new: str) -> None:
    document.update(json.loads(json.dumps(document).replace(f'schemas/{old}"', f'schemas/{new}"')))
    document["components"]["schemas"][new] = document["components"]["schemas"].pop(old)


NARROWING_OF_OPENAPI: list[tuple[str, Edit, str]] = [
    ("a path is gone", lambda d: d["paths"].pop(ACCOUNTS), f"POST {ACCOUNTS} is gone"),
    (
        "an operation has another name",
        lambda d: d["paths"][ACCOUNTS]["post"].update(operationId="x"),
        "operationId was",
    ),
    ("a status is gone", lambda d: d["paths"][ACCOUNTS]["post"]["responses"].pop("201"), "does not answer 201"),
    ("a filter is gone", lambda d: d["paths"][ACCOUNTS]["get"]["parameters"].clear(), "query parameter status is gone"),
    (
        "a parameter is required",
        lambda d: d["paths"][ACCOUNTS]["get"]["parameters"][0].update(required=True),
        "is required now",
    ),
    (
        "a schema has another name",
        lambda d: rename(d, "Hold.Status", "HoldStatus"),
        "schema Hold.Status is gone",
    ),
    (
        "a field has a schema of another name, and the first is still there",
        lambda d: d["components"]["schemas"]["NewJournalEntryInput"]["properties"]["legs"].update(
            items={"$ref": "#/components/schemas/Hold"}
        ),
        "the schema was LegInput, is Hold",
    ),
    (
        "a field of a request is required",
        lambda d: d["components"]["schemas"]["CreateEscrowAccountRequest"]["required"].append("custodianAccountLast4"),
        "CreateEscrowAccountRequest.custodianAccountLast4 is required now",
    ),
    (
        "a field of a request is gone",
        lambda d: d["components"]["schemas"]["CreateEscrowAccountRequest"]["properties"].pop("custodianAccountLast4"),
        "CreateEscrowAccountRequest.custodianAccountLast4 is gone",
    ),
    (
        "a field of an answer is not always there",
        lambda d: d["components"]["schemas"]["EscrowAccount"]["required"].remove("displayName"),
        "EscrowAccount.displayName is not always there any more",
    ),
    (
        "a field of an answer has another type",
        lambda d: d["components"]["schemas"]["EscrowAccount"]["properties"]["displayName"].update(type="integer"),
        "EscrowAccount.displayName: type was string, is integer",
    ),
    (
        "a refusal has no request id",
        lambda d: schema(d, "Problem")["properties"].pop("requestId"),
        "Problem.requestId is",
    ),
    (
        "a refusal has no facts",
        lambda d: schema(d, "Problem")["properties"].pop("metadata"),
        "Problem.metadata is gone",
    ),
    (
        "a refusal's status is a text",
        lambda d: field(d, "Problem.status").update(type="string"),
        "Problem.status: type was integer, is string",
    ),
    (
        "a refusal is plain text",
        lambda d: d["components"]["responses"]["Problem422"].update(content={"text/plain": {}}),
        f"POST {ACCOUNTS}: 422: application/problem+json is gone",
    ),
    (
        "a refusal has another status",
        lambda d: d["paths"]["/api/v1/approvals/{approvalId}/approve"]["post"]["responses"].pop("428"),
        "POST /api/v1/approvals/{approvalId}/approve: does not answer 428 any more",
    ),
    (
        "a creation does not say where it is read",
        lambda d: create(d)["responses"]["201"]["headers"].pop("Location"),
        f"POST {ACCOUNTS}: 201 is without Location",
    ),
    (
        "a creation has no etag",
        lambda d: create(d)["responses"]["201"]["headers"].pop("ETag"),
        f"POST {ACCOUNTS}: 201 is without ETag",
    ),
    (
        "an etag is not always there",
        lambda d: d["components"]["headers"]["ETag"].update(required=False),
        f"POST {ACCOUNTS}: 201 is not always with ETag any more",
    ),
    (
        "callers sign in otherwise",
        lambda d: d["components"]["securitySchemes"]["bearer"].update(scheme="basic"),
        "security scheme bearer was",
    ),
    (
        "an operation wants another token",
        lambda d: create(d).update(security=[{"other": []}]),
        f"POST {ACCOUNTS}: security was",
    ),
    (
        "what was public asks for a token",
        lambda d: d["paths"]["/api/v1/webhooks/stripe"]["post"].update(security=[{"bearer": []}]),
        "POST /api/v1/webhooks/stripe: security was []",
    ),
    (
        "a filter is spelled otherwise",
        lambda d: parameter(d, "status").update(explode=False),
        "status: explode was True, is False",
    ),
    (
        "a filter takes one value",
        lambda d: parameter(d, "ids")["schema"].update(maxItems=1),
        "ids: maxItems is 1, was 100",
    ),
    (
        "a field of a request has a pattern",
        lambda d: field(d, "CreateEscrowAccountRequest.displayName").update(pattern="^[a-z]*$"),
        "CreateEscrowAccountRequest.displayName: pattern was None",
    ),
    (
        "an open enum is closed",
        lambda d: schema(d, "Hold.Status")["anyOf"].pop(),
        "Hold.Status: string is not one of its forms any more",
    ),
    (
        "a text of an answer is an enum",
        lambda d: field(d, "EscrowAccount.displayName").update(enum=["a"]),
        "EscrowAccount.displayName: nothing else than ['a'] is told any more",
    ),
    (
        "a value of an answer is gone",
        lambda d: schema(d, "Hold.Status")["anyOf"][0]["enum"].remove("EXPIRED"),
        "Hold.Status: EXPIRED is gone",
    ),
    (
        "the type of known values has another name",
        lambda d: schema(d, "Hold.Status")["anyOf"][0].update(title="HoldStatus"),
        "Hold.Status: KnownHoldStatus is not one of its forms any more",
    ),
    (
        "an answer's field may be null",
        lambda d: schema(d, "EscrowAccount")["properties"].update(
            displayName={"anyOf": [{"type": "string"}, {"type": "null"}]}
        ),
        "EscrowAccount.displayName: may be null now",
    ),
    (
        "a request's field may not be null",
        lambda d: field(d, "UpdateBankAccountRequest.externalId")["anyOf"].pop(),
        "UpdateBankAccountRequest.externalId: null is not one of its forms any more",
    ),
    (
        "the values of a map are numbers",
        lambda d: field(d, "Hold.metadata").update(additionalProperties={"type": "integer"}),
        "Hold.metadata.*: type was string, is integer",
    ),
    (
        "a map takes nothing",
        lambda d: field(d, "PlaceHoldRequest.metadata").update(additionalProperties=False),
        "PlaceHoldRequest.metadata.* was string, is nothing",
    ),
    (
        "an instant is a date",
        lambda d: field(d, "Hold.createTime").update(format="date"),
        "Hold.createTime: format was date-time, is date",
    ),
    (
        "an operation is in another class",
        lambda d: create(d).update(tags=["Accounts"]),
        f"POST {ACCOUNTS}: tags were ['EscrowAccounts'], are ['Accounts']",
    ),
    (
        "a schema says something that the check does not know",
        lambda d: schema(d, "Hold").update({"if": {}}),
        "the keyword if of schemas is compared by nobody",
    ),
]

WIDENING_OF_OPENAPI: list[tuple[str, Edit]] = [
    ("nothing changes", lambda d: None),
    ("a path is added", lambda d: d["paths"].update({"/api/v1/new": d["paths"][ACCOUNTS]})),
    (
        "a field is added to an answer",
        lambda d: d["components"]["schemas"]["EscrowAccount"]["properties"].update(note={"type": "string"}),
    ),
    (
        "a field of a request is not required any more",
        lambda d: d["components"]["schemas"]["CreateEscrowAccountRequest"]["required"].remove("custodianName"),
    ),
    ("words are other words", lambda d: (d["info"].update(description=""), schema(d, "Hold").update(description=""))),
    ("an answer has another status besides", lambda d: create(d)["responses"].update({"418": {"description": "Tea."}})),
    (
        "an answer has a header besides",
        lambda d: create(d)["responses"]["201"]["headers"].update(Age={"schema": {"type": "string"}}),
    ),
    ("a value is added to an open enum", lambda d: schema(d, "Hold.Status")["anyOf"][0]["enum"].append("COURT")),
    ("a value is added to a filter", lambda d: parameter(d, "status")["schema"]["items"]["enum"].append("NEW")),
    (
        "a field of a request may be null",
        lambda d: schema(d, "CreateEscrowAccountRequest")["properties"].update(
            displayName={"anyOf": [field(d, "CreateEscrowAccountRequest.displayName"), {"type": "null"}]}
        ),
    ),
    ("a filter takes more values", lambda d: parameter(d, "ids")["schema"].update(maxItems=200)),
    ("an operation asks for no token", lambda d: create(d).update(security=[])),
    ("an operation takes another token, too", lambda d: create(d)["security"].append({"other": []})),
]


def find_told(edit: Edit) -> list[str]:
    document = json.loads(SPELLED)
    edit(document)
    return openapi_narrowing.find_narrowing(DOCUMENT, document)


@pytest.mark.parametrize(("title", "edit", "sentence"), NARROWING_OF_OPENAPI, ids=[r[0] for r in NARROWING_OF_OPENAPI])
def test_what_breaks_a_generated_client_is_told(title: str, edit: Edit, sentence: str) -> None:
    found = find_told(edit)
    assert any(sentence in line for line in found), found


@pytest.mark.parametrize(("title", "edit"), WIDENING_OF_OPENAPI, ids=[r[0] for r in WIDENING_OF_OPENAPI])
def test_what_no_generated_client_notices_is_allowed(title: str, edit: Edit) -> None:
    assert find_told(edit) == []
