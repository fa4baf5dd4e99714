"""What the next release may change in what REST documents, and what it may not: as tables, over OpenAPI of today."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from deploy.check import openapi_narrowing
from gateway import openapi

DOCUMENT = openapi.document()
ACCOUNTS = "/api/v1/escrow-accounts"

Edit = Callable[[dict[str, Any]], Any]


def rename(document: dict[str, Any], schema: str, name: str) -> None:
    document.update(json.loads(json.dumps(document).replace(f'schemas/{schema}"', f'schemas/{name}"')))
    document["components"]["schemas"][name] = document["components"]["schemas"].pop(schema)


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
    ("words are other words", lambda d: d["info"].update(description="")),
]


@pytest.mark.parametrize(("title", "edit", "sentence"), NARROWING_OF_OPENAPI, ids=[r[0] for r in NARROWING_OF_OPENAPI])
def test_what_breaks_a_generated_client_is_told(title: str, edit: Edit, sentence: str) -> None:
    document = copy.deepcopy(DOCUMENT)
    edit(document)
    found = openapi_narrowing.find_narrowing(DOCUMENT, document)
    assert any(sentence in line for line in found), found


@pytest.mark.parametrize(("title", "edit"), WIDENING_OF_OPENAPI, ids=[r[0] for r in WIDENING_OF_OPENAPI])
def test_what_no_generated_client_notices_is_allowed(title: str, edit: Edit) -> None:
    document = copy.deepcopy(DOCUMENT)
    edit(document)
    assert openapi_narrowing.find_narrowing(DOCUMENT, document) == []
