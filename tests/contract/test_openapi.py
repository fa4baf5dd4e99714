"""The description of the REST interface: valid, complete, and true to what the gateway does."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.api import annotations_pb2
from openapi_spec_validator import OpenAPIV31SpecValidator
from realco.type.v1 import access_pb2, approval_pb2, rules_pb2

from gateway import contracts, openapi
from gateway.answers import Answer
from gateway.binding import Binding
from services.chassis.spelling.json_writer import always_there
from services.chassis.spelling.scalars import INT64_PATTERN

DOCUMENT = openapi.document()


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def operation(method: str, path: str) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][path][method.lower()]
    return found


def schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["components"]["schemas"][name]
    return found


def walk(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from walk(value)


def test_it_is_valid_openapi_3_1():
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []


def test_every_rpc_with_a_route_is_described_and_nothing_else():
    described = {(method, re.sub(r"\{[^}]*\}", "{}", path)) for method, path, _ in operations()}
    routed = set()
    for method in contracts.methods():
        rule = method.GetOptions().Extensions[annotations_pb2.http]
        verb = rule.WhichOneof("pattern")
        routed.add((verb.upper(), re.sub(r"\{[^}]*\}", "{}", getattr(rule, verb))))
    assert described == routed
    assert len(described) == len(contracts.methods())


def test_every_operation_has_a_name_of_its_own():
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("method", "path", "found"), list(operations()), ids=lambda value: str(value)[:60])
def test_every_operation_is_explained_and_says_who_may_call_it(method, path, found):
    assert found["summary"]
    assert "May be called by: " in found["description"]
    assert all(parameter["description"] for parameter in found["parameters"])


def test_an_operation_says_whether_it_needs_a_second_person_and_no_other_does():
    said = {
        "two_persons": "Needs two persons",
        "waits": "may wait for a second person",
        "second_person": "Is the decision of a second person",
    }
    option: Any = approval_pb2.four_eyes
    counted = Counter()
    for method in contracts.methods():
        decision = method.GetOptions().Extensions[option].WhichOneof("decision")
        counted[decision] += 1
        found = next(one for _, _, one in operations() if one["operationId"].lower() == method.name.lower())
        paragraphs = found["description"].split("\n\n")[1:]
        told = {each for each, words in said.items() if any(words in paragraph for paragraph in paragraphs)}
        assert told == {decision} & set(said), method.name
        successes = {status: one["description"] for status, one in found["responses"].items() if status < "3"}
        at_once = any("no approval waits" in about for about in successes.values())
        assert at_once == ("202" in successes) == (decision == "two_persons"), method.name
    assert set(said) < set(counted)


def test_every_path_parameter_is_described():
    for _, path, found in operations():
        named = [parameter["name"] for parameter in found["parameters"] if parameter["in"] == "path"]
        assert named == re.findall(r"\{([^}]*)\}", path)


def test_every_reference_leads_somewhere():
    for node in walk(DOCUMENT):
        reference = node.get("$ref")
        if isinstance(reference, str):
            at: Any = DOCUMENT
            for part in reference.removeprefix("#/").split("/"):
                at = at[part]


def operation_of(bound):
    names = iter(bound.path)
    path = "/" + "/".join(f"{{{next(names).name}}}" if part is None else part for part in bound.template.segments)
    return operation(bound.http_method, path)


def test_public_rpcs_need_no_token_and_the_others_do():
    for method in contracts.methods():
        bound = Binding(method)
        public = method.GetOptions().Extensions[access_pb2.access].public
        assert operation_of(bound)["security"] == ([] if public else [{"bearer": []}])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/api/v1/transactions", "201 200"),  # nothing is created where it is only validated
        ("POST", "/api/v1/transactions/{transactionId}/cancel", "200"),
        ("POST", "/api/v1/escrow-accounts/{escrowAccountId}/journal-entries", "201 202 200"),
        ("POST", "/api/v1/escrow-accounts/{escrowAccountId}/holds/{holdId}/capture", "202 200"),
        ("DELETE", "/api/v1/transaction-limits/{transactionLimitId}", "202 200"),
        ("GET", "/api/v1/transactions", "200"),
        ("DELETE", "/api/v1/bank-accounts/{bankAccountId}", "200"),
        ("PATCH", "/api/v1/parties/{partyId}", "200"),
        ("POST", "/api/v1/webhooks/stripe", "200"),
    ],
)
def test_the_success_of_an_operation_says_what_was_done(method, path, status):
    statuses = [code for code in operation(method, path)["responses"] if code.startswith("2")]
    assert statuses == status.split()


def test_whoever_says_which_version_they_read_may_be_told_that_it_is_an_old_one():
    for method in contracts.methods():
        bound = Binding(method)
        says_one = any("etag" in field.name.split("_") for field in method.input_type.fields)
        assert ("412" in operation_of(bound)["responses"]) == says_one, method.full_name


def test_the_rules_of_a_field_are_keywords_of_its_schema():
    request = schema("CreateTransactionRequest")
    assert request["required"] == ["type", "paymentMethod", "amount", "escrowAccountId"]
    assert request["additionalProperties"] is False
    assert request["properties"]["escrowAccountId"]["pattern"] == "^esc_[0-9A-Za-z_-]+$"
    assert request["properties"]["description"]["maxLength"] == 200
    assert "must be more than zero" in request["properties"]["amount"]["description"]
    assert "idempotencyKey" not in request["properties"]
    assert schema("NewJournalEntryInput")["properties"]["legs"]["maxItems"] == 1000
    assert "must be more than zero" in schema("LegInput")["properties"]["amount"]["description"]
    terms = schema("WaterfallTermsInput")["properties"]
    assert terms["tiers"]["maxItems"] == 16
    review = schema("ReviewComplianceCheckRequest")["properties"]["decision"]
    assert review["enum"] == ["PASSED", "FAILED"]


def test_amounts_are_strings_and_nothing_is_a_float():
    assert schema("Money")["properties"]["amountMinor"]["type"] == "string"
    assert not [node for node in walk(DOCUMENT) if node.get("type") == "number"]


def test_dates_and_times_are_strings_with_a_format():
    distribution = schema("Distribution")["properties"]
    assert (distribution["distributionDate"]["type"], distribution["distributionDate"]["format"]) == ("string", "date")
    assert (distribution["createTime"]["type"], distribution["createTime"]["format"]) == ("string", "date-time")


def schemas_of(side: str) -> set[str]:
    """The names of the component schemas that requests, or answers, refer to, at any depth."""
    roots: list[Any] = []
    for _, _, found in operations():
        if side == "request":
            roots += [found["parameters"], found.get("requestBody", {})]
        else:
            roots += [answer for status, answer in found["responses"].items() if status.startswith("2")]
    names: set[str] = set()
    waiting = [node for root in roots for node in walk(root)]
    while waiting:
        _, found_one, name = str(waiting.pop().get("$ref", "")).partition("#/components/schemas/")
        if found_one and name not in names:
            names.add(name)
            waiting.extend(walk(schema(name)))
    return names


def test_what_an_answer_requires_is_what_is_not_optional_in_the_proto():
    answers = contracts.messages_within(method.output_type for method in contracts.methods())
    by_name = {message.full_name.split(".", 3)[-1]: message for message in answers}
    for name in schemas_of("answer") & by_name.keys():
        fields = by_name[name].fields
        always = [field.json_name for field in fields if always_there(field)]
        assert schema(name).get("required", []) == always, name


def test_an_answer_has_no_bounds_that_a_later_release_could_not_loosen():
    """A client that checks what it reads by the description it was made from must read what is longer by then."""
    bounds = {"minLength", "maxLength", "minItems", "maxItems", "uniqueItems", "minimum", "maximum", "maxProperties"}
    found = {
        (name, keyword)
        for name in schemas_of("answer") - {"Problem", "Money"}
        for node in walk(schema(name))
        for keyword in {*bounds, "pattern"} & node.keys()
        if node.get("pattern") != INT64_PATTERN
    }
    assert found == set()


def test_what_is_told_of_one_resource_alone_is_not_promised():
    assert "allowedActions" not in schema("Offering")["required"]
    assert schema("Offering")["properties"]["allowedActions"]["description"].endswith("Absent in lists.")


def test_enums_are_open_in_answers():
    """A value added tomorrow is any text: a client generated today reads it."""
    closed = [name for name in schemas_of("answer") for node in walk(schema(name)) if "enum" in node]
    open_ones = [name for name in closed if {"type": "string"} in schema(name).get("anyOf", [])]
    assert closed == open_ones
    status = schema("Transaction.Status")
    assert "SETTLED" in status["anyOf"][0]["enum"]
    assert "- `SETTLED`: The rail says that the money arrived" in status["description"]
    assert "STATUS_UNSPECIFIED" not in str(status)


def test_enums_are_closed_in_requests_and_list_only_what_is_taken():
    """The one choice there is: null, which takes a field away in a PATCH."""
    for name in schemas_of("request"):
        choices = [node["anyOf"] for node in walk(schema(name)) if "anyOf" in node]
        assert not [choice for choice in choices if {"type": "null"} not in choice], name
    for node in (node for name in schemas_of("request") for node in walk(schema(name)) if "enum" in node):
        assert not [value for value in node["enum"] if value.endswith("_UNSPECIFIED")]
    request = schema("CreateTransactionRequest")["properties"]
    paid_out = ["WITHDRAWAL", "CONSTRUCTION_DRAW", "PLATFORM_FEE", "REFERRAL_FEE"]
    assert request["type"]["enum"] == ["DEPOSIT", *paid_out, "ESCROW_DEPOSIT", "TRANSFER"]
    assert request["paymentMethod"]["enum"] == ["ACH", "WIRE", "CHECK", "CARD", "INTERNAL_TRANSFER"]
    assert "- `ESCROW_DEPOSIT`: In: an investor's contribution" in request["type"]["description"]


def test_requests_take_nothing_that_is_not_described():
    """But for what answers have word for word, such as Money: answers may grow."""
    taken = [name for name in schemas_of("request") if schema(name).get("additionalProperties") is not False]
    assert set(taken) == schemas_of("request") & schemas_of("answer")


def test_a_header_field_is_a_header_parameter():
    parameters = {(one["in"], one["name"]): one for one in operation("POST", "/api/v1/transactions")["parameters"]}
    assert parameters["header", "Idempotency-Key"]["required"] is True
    optional = operation("POST", "/api/v1/transactions/{transactionId}/cancel")["parameters"]
    assert [one["required"] for one in optional if one["name"] == "Idempotency-Key"] == [False]


# What protos and gRPC call things; a user of REST knows none of it.
FOREIGN = re.compile(
    r"\b(FAILED_PRECONDITION|INVALID_ARGUMENT|ABORTED|RESOURCE_EXHAUSTED|ALREADY_EXISTS|OUT_OF_RANGE|DATA_LOSS)\b"
    r"|(?<!`)\b(NOT_FOUND|PERMISSION_DENIED|UNAUTHENTICATED|UNAVAILABLE|DEADLINE_EXCEEDED|UNIMPLEMENTED)\b"
    r"|\b(ErrorInfo|BadRequest|RetryInfo|[A-Za-z]+Service|RPCs?|gRPC|protos?|protobuf|oneof|message|enum number)\b"
)
SNAKE_CASE = re.compile(r"\b[a-z][a-z0-9]*(?:_[a-z0-9]+)+\b")


def texts() -> Iterator[tuple[str, str]]:
    """Where each text for a reader stands, and the text."""
    waiting: list[tuple[str, Any]] = [("", DOCUMENT)]
    while waiting:
        place, node = waiting.pop()
        if isinstance(node, list):
            waiting.extend((f"{place}/{index}", item) for index, item in enumerate(node))
        elif isinstance(node, dict):
            for key, value in node.items():
                if key in ("description", "summary", "title") and isinstance(value, str):
                    yield f"{place}/{key}", value
                elif key == "x-codes":
                    yield from ((f"{place}/{code}", about) for code, about in value.items())
                else:
                    waiting.append((f"{place}/{key}", value))


def test_the_description_speaks_of_rest_alone():
    operations = {method.name for method in contracts.methods()}
    found = []
    for place, text in texts():
        words = [match.group() for match in FOREIGN.finditer(text)]
        if not place.endswith("/allowedActions/description"):  # the names of actions are values, as `USD` is
            words += SNAKE_CASE.findall(text)
        words += [word for word in re.findall(r"\b[A-Z][A-Za-z]+\b", text) if word in operations]
        if words:
            found.append(f"{place}: {', '.join(words)}")
    assert found == []


def test_no_operation_speaks_of_a_header_that_it_does_not_take():
    for method, path, found in operations():
        headers = {one["name"] for one in found["parameters"] if one["in"] == "header"}
        spoken_of = set(re.findall(r"`(Idempotency-Key|If-Match)`", found["description"]))
        assert spoken_of <= headers, (method, path)


def test_a_patch_says_what_its_body_does_and_which_fields_null_takes_away():
    for method in (one for one in contracts.methods() if Binding(one).mask is not None):
        found = next(one for _, _, one in operations() if one["operationId"].lower() == method.name.lower())
        assert "The fields that the body has are changed" in found["description"]
        assert not re.search(r"\(REST|[Mm]ask|named and not set", str(found)), method.name
        request = method.input_type
        kept = {one.json_name for one in request.fields if one.GetOptions().Extensions[rules_pb2.not_cleared]}
        fields = schema(request.name)["properties"]
        assert len(fields) > len(kept) + 1
        for name, described in fields.items():
            takes_null = {"type": "null"} in described.get("anyOf", [])
            assert takes_null is (name not in {*kept, "validateOnly"}), name
            assert takes_null is ("`null` takes it away." in described["description"]), name
            assert ("Cannot be taken away." in described["description"]) is (name in kept), name


def test_the_rules_of_a_map_are_keywords_of_its_schema():
    schemas = DOCUMENT["components"]["schemas"]
    requests = {method.input_type.name for method in contracts.methods()} & schemas.keys()
    maps = {name: schemas[name]["properties"].get("metadata") for name in requests}
    in_requests = {name: described for name, described in maps.items() if described is not None}
    assert len(in_requests) > 5
    for name, described in in_requests.items():
        found = described.get("anyOf", [described])[0]  # a PATCH takes null
        assert found["maxProperties"] == 50, name
        assert found["propertyNames"] == {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"}, name
        values = found["additionalProperties"]
        assert (values["type"], values["maxLength"]) == ("string", 500), name


def test_a_problem_names_everything_in_camel_case():
    problem = schema("Problem")
    assert "requestId" in problem["required"]
    assert not [name for name in problem["properties"] if "_" in name]


def test_what_is_created_is_answered_with_201_and_the_path_to_read_it_at():
    """Wherever a POST to a collection has a GET of one of its members: who creates, says where."""
    readable = {path for method, path, _ in operations() if method == "GET"}
    for method, path, found in operations():
        members = [one for one in readable if re.fullmatch(re.escape(path) + r"/\{[^}]*\}", one)]
        if method == "POST" and members:
            assert set(found["responses"]["201"]["headers"]) >= {"Location"}, path
    for method in contracts.methods():
        for location in Answer(method).locations.values():
            assert re.sub(r"\{[^}]*\}", "{}", location.template.text) in {
                re.sub(r"\{[^}]*\}", "{}", path) for path in readable
            }


def test_a_write_with_a_key_may_be_answered_from_memory():
    for _, path, found in operations():
        of_items = path.endswith("/batch")
        keyed = of_items or any(one["name"] == "Idempotency-Key" for one in found["parameters"])
        status = max(code for code in found["responses"] if code.startswith("2"))
        assert ("Idempotency-Replayed" in found["responses"][status]["headers"]) == keyed, path


def test_what_a_typescript_client_is_generated_with_is_pinned_without_a_registrys_address():
    lock = json.loads((Path(__file__).parents[1] / "clients" / "typescript" / "package-lock.json").read_bytes())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert packages
    assert not [name for name, package in packages.items() if "resolved" in package or "integrity" not in package]


def test_verbs_are_steps_of_the_path():
    assert not [path for path in DOCUMENT["paths"] if ":" in path]


def test_every_error_reason_is_in_the_catalogue_with_its_comment():
    catalogue = openapi.error_catalogue()
    for enum in contracts.error_reasons():
        for value in enum.values:
            if value.number:
                assert catalogue[value.name]


def test_every_message_enum_and_field_of_it_has_a_comment():
    comments = contracts.comments()
    for service in contracts.services():
        assert comments[service.full_name]
        for method in service.methods:
            assert comments[method.full_name]
            for message in (method.input_type, method.output_type):
                if message.full_name.startswith("realco."):
                    assert comments[message.full_name]
                    assert all(comments[field.full_name] for field in message.fields)
