"""The OpenAPI 3.1 description of every route, derived from the protos: enough to generate a typed client from."""

from __future__ import annotations

import re
from typing import Any

import grpc
from buf.validate import validate_pb2
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from realco.type.v1 import approval_pb2, rules_pb2

from gateway import contracts, openapi_csv
from gateway.answers import REHEARSED_HEADER, Answer
from gateway.binding import IF_MATCH, VALIDATE_ONLY_FIELD, Binding, Parameter
from gateway.csv_export import HEADERS as CSV_HEADERS
from gateway.openapi_schemas import Schema, Schemas, Side
from gateway.problems import HTTP_CODES, MEDIA_TYPE, REPLAYED_HEADER
from gateway.statuses import status_of, title_of
from gateway.wording import in_rest_words, name_of_field
from services.chassis.calls.access import Rule, rules_of
from services.chassis.spelling.descriptors import camel_case, has_option, message_of, option

_DESCRIPTION = """\
Money movement for real-estate syndication: investors fund offerings, the money sits in segregated escrow under a
double-entry ledger, and operating cash is distributed through a waterfall.

- **Amounts** are whole minor units of an ISO 4217 currency as strings of decimal digits, never floats:
  `"amountMinor": "150000"` is 1,500.00 USD, 150,000 JPY, 150.000 KWD.
- **Times** are RFC 3339 with a zone, to the microsecond, **dates** `YYYY-MM-DD`; both of the years 1900 to 9998.
- **Texts** of a request are one line without control characters; reasons and notes may have several. Each that is not
  empty has something to see: blanks and zero-width characters alone are refused. One of one line looks like no other:
  it is NFC, with one plain blank between words, none at its ends, and no zero-width character. None has a number
  that money is drawn with: what looks like a card's, an IBAN, or a routing number with an account's is refused, in keys
  and values of `metadata`, too. An `externalId` or `bankReference` may look like the last: ids do so by chance.
- **What is required** of an answer is always there, empty texts and lists too; what is not is left out where there is
  none. **Values may be added** to the enums of answers, and fields to answers: take any text, and skip what is unknown.
- **In a request** `null` means not set; a field or value that is not described is refused, and so is a filter that is
  given empty.
- **Lists** are paged: pass `nextPageToken` back as `pageToken` with the same filters. A filter has the name of the
  field that it filters by; given several times, it means any of its values.
- **Whatever moves money** takes an `Idempotency-Key`. The same key with the same body gives the first answer again;
  with another body it is refused (`IDEMPOTENCY_KEY_REUSED`).
- **What needs a second person** is answered 202 with the approval that waits: nothing else was done. 201 says that
  something was created, 200 that something was done.
- **Etags**: `If-Match` takes the field `etag` of an answer as it is, or its header `ETag`, which has quotes around it.
- **Rates** are counted by caller: `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset` (seconds) of each
  answer say how many requests are left, 429 and `Retry-After` when to come back.
- **CSV**: a list is answered as a file to `Accept: text/csv`, and a batch takes one for its body, a row an item
  (`Content-Type: text/csv`): docs/bulk.md.
- **Refusals** are problem details (RFC 9457); act on `code`.
"""
_PATCH = """\
The fields that the body has are changed, the others stay; `null` takes a field away where its description says so.
`metadata` is replaced as a whole, not merged key by key: the body is no merge patch of RFC 7396, and
`application/merge-patch+json` is refused. `If-Match` names the version that was read, by its `etag`."""
_SNAKE = re.compile(r"`([a-z]+(?:_[a-z0-9]+)+)`")
_ERROR_STATUSES = (400, 401, 403, 404, 408, 409, 412, 413, 415, 422, 428, 429, 431, 500, 503, 504)
# Decisions, which are kept under their key and given again.
_KEPT_STATUSES = (403, 422)
_COMMON_STATUSES = (400, 404, 408, 413, 415, 429, 431, 500, 503, 504)


def document() -> dict[str, Any]:
    """The whole description."""
    methods = contracts.methods()
    rules = rules_of(contracts.services())
    schemas = Schemas()
    paths: dict[str, dict[str, Any]] = {}
    for method in methods:
        binding = Binding(method)
        rule = rules[f"/{method.containing_service.full_name}/{method.name}"]
        operations = paths.setdefault(_path(binding), {})
        operations[binding.http_method.lower()] = _operation(method, binding, rule, schemas)
    schemas.components["Problem"] = _problem_schema()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "RealCo Finance & Escrow",
            "version": "1.0.0",
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [_tag(name) for name in contracts.list_interfaces()],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.components.items())),
            "responses": {f"Problem{status}": _problem_response(status) for status in _ERROR_STATUSES},
            "headers": _shared_headers(),
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "A short-lived access token: a person's, from a configured issuer, or a program's,"
                    " which exchanged the secret of an API key for it.",
                }
            },
        },
    }


def _path(binding: Binding) -> str:
    """The template in the words of REST: `{escrow_account_id}` -> `{escrowAccountId}`."""
    names = iter(binding.path)
    segments = [f"{{{next(names).name}}}" if part is None else part for part in binding.template.segments]
    return "/" + "/".join(segments)


def _tag(full_name: str) -> dict[str, str]:
    tag = {"name": _tag_name(full_name)}
    comment = contracts.comments().get(full_name)
    return {**tag, "description": in_rest_words(comment)} if comment else tag


def _tag_name(full_name: str) -> str:
    return full_name.rpartition(".")[2].removesuffix("Service")


def _operation(method: MethodDescriptor, binding: Binding, rule: Rule, schemas: Schemas) -> dict[str, Any]:
    comment = in_rest_words(contracts.comments().get(method.full_name, method.name), method.input_type)
    decision = option(method, approval_pb2.four_eyes).WhichOneof("decision")
    told = [comment, *([_PATCH] if binding.mask is not None else []), *_list_eyes(decision, rule)]
    roles = (
        "anyone, without a token"
        if rule.public
        else ", ".join(f"`{role}`" for role in sorted(_people(rule))) or "no person"
    )
    parameters = [*binding.path, *binding.headers, *binding.query.values()]
    operation: dict[str, Any] = {
        "operationId": method.name[0].lower() + method.name[1:],
        "tags": [_tag_name(method.containing_service.full_name)],
        "summary": comment.partition(". ")[0].partition("\n")[0].rstrip("."),
        "description": "\n\n".join([*told, f"May be called by: {roles}."]),
        "security": [] if rule.public else [{"bearer": []}],
        "parameters": [
            *(_parameter(parameter, schemas) for parameter in parameters),
            *(openapi_csv.say_beside(_parameter(one, schemas)) for one in openapi_csv.list_parameters(method)),
        ],
        "responses": _responses(binding, rule, schemas, answers_approval=decision == "two_persons"),
    }
    body = _request_body(method, binding, schemas)
    if body is not None:
        operation["requestBody"] = body
    return operation


def _list_eyes(decision: str | None, rule: Rule) -> list[str]:
    """What of an RPC a second person has to do; nothing where one person suffices."""
    if decision == "two_persons":
        asked = "Needs two persons: a person's call answers an approval that waits (docs/approvals.md)"
        return [f"{asked}, {_name_granted(rule)} call the result."]
    if decision == "waits":
        return ["What it makes or changes may wait for a second person (docs/approvals.md)."]
    if decision == "second_person":
        no = f", unless `{rule.no[0]}` says no" if rule.no else ""
        decided = "Is the decision of a second person (docs/approvals.md), who signed in just now"
        return [f"{decided} with more than one factor{no}."]
    return []


def _name_granted(rule: Rule) -> str:
    """Whose call waits for nobody."""
    return "an investor's or a granted service's" if "investor" in rule.roles else "a granted service's"


def _people(rule: Rule) -> frozenset[str]:
    return rule.roles - {"service"}


def _parameter(parameter: Parameter, schemas: Schemas) -> dict[str, Any]:
    schema = schemas.field(parameter.field, Side.REQUEST)
    described: dict[str, Any] = {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.required,
        "description": schema.pop("description", ""),
        "schema": schema,
    }
    if parameter.field.is_repeated:
        described |= {"style": "form", "explode": True}
    return described


def _request_body(method: MethodDescriptor, binding: Binding, schemas: Schemas) -> dict[str, Any] | None:
    if not binding.body:
        return None
    if binding.raw_body:
        described = {"description": "The raw body, as its sender signed it.", "required": True}
        return {**described, "content": {"application/json": {"schema": {}}}}
    if binding.body_field is not None:
        content = schemas.reference(message_of(binding.body_field), Side.REQUEST)
        return {"required": True, "content": {"application/json": {"schema": content}}}
    schema = schemas.message(method.input_type, Side.REQUEST, without=binding.bound)
    if binding.mask is not None:
        fields = {field.json_name: field for field in method.input_type.fields}
        schema["properties"] = {
            name: _clearable(one) if may_be_cleared(fields[name]) else one for name, one in schema["properties"].items()
        }
    schemas.components[method.input_type.name] = schema
    reference = {"$ref": f"#/components/schemas/{method.input_type.name}"}
    content = {"application/json": {"schema": reference}} | openapi_csv.describe_body(method)
    return {"required": bool(schema.get("required")), "content": content}


def _responses(binding: Binding, rule: Rule, schemas: Schemas, *, answers_approval: bool) -> dict[str, Any]:
    answer = Answer(binding.method)
    headers = {"X-Request-Id": _header("RequestId")}
    if answer.has_etag:
        headers["ETag"] = _header("ETag")
    if binding.may_only_validate:
        headers[REHEARSED_HEADER] = _header("ValidateOnly")
    if binding.has_key:
        headers[REPLAYED_HEADER] = _header("IdempotencyReplayed")
    content = {"application/json": {"schema": schemas.reference(answer.message, Side.ANSWER)}}
    if file := openapi_csv.describe_answer(binding.method):
        content |= file
        headers |= {name: _header(component) for name, component in openapi_csv.COMPONENTS.items()}
    statuses = set(_COMMON_STATUSES)
    if not rule.public:
        statuses |= {401, 403}
    elif not binding.raw_body:  # a secret in the body; whose body is signed is refused as malformed
        statuses.add(401)
    if binding.http_method != "GET":
        statuses |= {409, 422}
    if any(map(_is_etag, binding.method.input_type.fields)):
        statuses.add(412)
    if any(parameter.name == IF_MATCH for parameter in binding.headers):
        statuses.add(428)
    problems = {str(code): {"$ref": f"#/components/responses/Problem{code}"} for code in sorted(statuses)}
    told = _tell_successes(answer, rule if answers_approval else None, may_only_validate=binding.may_only_validate)
    located = {"Location": _header("Location")}
    successes = {
        str(status): {
            "description": about,
            "headers": headers | located if status in answer.locations else headers,
            "content": content,
        }
        for status, about in told.items()
    }
    return {**successes, **problems}


def _is_etag(field: FieldDescriptor) -> bool:
    """Whether the field says which version somebody read, be it in `If-Match` or in the body."""
    rules = option(field, validate_pb2.field).string
    return bool(rules.HasExtension(rules_pb2.etag))


def _tell_successes(answer: Answer, two_persons: Rule | None, *, may_only_validate: bool) -> dict[int, str]:
    """Each status of a success and what it says; `two_persons` is who may call where the others' calls only ask."""
    at_once = f"The result of {_name_granted(two_persons)} call, for which no approval waits." if two_persons else ""
    told = {status: title_of(status) for status in answer.locations} or {200: title_of(200)}
    if 202 in told:
        told[202] = "The approval that waits for a second person: nothing else was done."
    if two_persons and 201 in told:
        told[201] = at_once
    if answer.locations and may_only_validate:
        told[200] = "What it would be: with `validateOnly` nothing is done, and its etag is of no version."
    if two_persons and 201 not in told:
        told[200] = f"{told[200]} Without `validateOnly`: {at_once[0].lower()}{at_once[1:]}" if 200 in told else at_once
    return told


def may_be_cleared(field: FieldDescriptor) -> bool:
    """Whether `null` takes the field away in a PATCH."""
    return field.name != VALIDATE_ONLY_FIELD and not has_option(field, rules_pb2.not_cleared)


def _clearable(schema: Schema) -> Schema:
    """A field of a patch, which null takes away."""
    about = f"{schema.pop('description', '')} `null` takes it away.".strip()
    return {"description": about, "anyOf": [schema, {"type": "null"}]}


def _header(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/headers/{name}"}


def _shared_headers() -> dict[str, Any]:
    always = {
        "RequestId": "The request's id in our logs: the caller's `X-Request-Id` if it sent a sane one.",
        "Location": "The path at which what was created, or the approval that was asked for, is read.",
        "ETag": "The resource as it is now, for `If-Match`.",
    }
    replayed = "There, and `true`, where this answer was given before, to a request with the same `Idempotency-Key`."
    return {
        **{name: _described_header(about, required=True) for name, about in always.items()},
        "IdempotencyReplayed": _described_header(replayed, required=False),
        "ValidateOnly": _described_header("There, and `true`, where nothing was done: a rehearsal.", required=False),
        **{
            openapi_csv.COMPONENTS[name]: _described_header(f"Of a file of CSV alone. {about}", required=False)
            for name, about in CSV_HEADERS.items()
        },
    }


def _described_header(about: str, *, required: bool) -> dict[str, Any]:
    return {"description": about, "required": required, "schema": {"type": "string"}}


def _problem_response(status: int) -> dict[str, Any]:
    headers: dict[str, Any] = {"X-Request-Id": _header("RequestId")}
    if status in _KEPT_STATUSES:
        headers[REPLAYED_HEADER] = _header("IdempotencyReplayed")
    if status in (429, 503):
        wait = {"description": "Seconds to wait.", "required": True}
        headers["Retry-After"] = {**wait, "schema": {"type": "integer", "minimum": 1}}
    if status == 401:
        headers["WWW-Authenticate"] = _described_header(
            "Bearer. Where a fresh sign-in is needed, RFC 9470 says what else stands here.", required=True
        )
    return {
        "description": f"{title_of(status)}.",
        "headers": headers,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


def _problem_schema() -> Schema:
    catalogue = error_catalogue()
    return {
        "type": "object",
        "description": "Why there was no success. RFC 9457.",
        "required": ["type", "title", "status", "detail", "instance", "code", "requestId", "errors"],
        "properties": {
            "type": {"type": "string", "format": "uri-reference", "description": "The code's place in /docs."},
            "title": {"type": "string", "description": "The code, readable."},
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": {"type": "string", "description": "For a person."},
            "instance": {"type": "string", "format": "uri", "description": "This occurrence."},
            "code": {
                "type": "string",
                "description": "What to act on. New codes may be added.",
                "examples": sorted(catalogue),
                "x-codes": catalogue,
            },
            "requestId": {"type": "string", "description": "The request's id in our logs."},
            "errors": {
                "type": "array",
                "description": "Every fault of a request that is not valid.",
                "items": {
                    "type": "object",
                    "required": ["in", "pointer", "detail"],
                    "properties": {
                        "in": {"type": "string", "examples": ["body", "query", "path", "header"]},
                        "pointer": {"type": "string", "description": "JSON pointer (RFC 6901) to the field there."},
                        "detail": {"type": "string", "description": "What is wrong with it."},
                    },
                },
            },
            "metadata": {
                "type": "object",
                "description": "The facts that the code promises.",
                "additionalProperties": {"type": "string"},
            },
        },
    }


def error_catalogue() -> dict[str, str]:
    """Every code a problem can have -> its comment."""
    catalogue = {code: f"{status}. {detail}" for code, (status, detail) in HTTP_CODES.items()}
    for enum in contracts.error_reasons():
        for value in enum.values:
            if value.number != 0:
                about = _reason(contracts.comments().get(f"{enum.full_name}.{value.name}", ""), value.name)
                known = catalogue.get(value.name)
                catalogue[value.name] = f"{known}\n\n{about}" if known and about not in known else about
    return dict(sorted(catalogue.items()))


def _reason(comment: str, reason: str) -> str:
    """The comment of an error reason begins with its gRPC code, names fields, and then the keys of its metadata."""
    code, dot, rest = comment.partition(".")
    status = status_of(grpc.StatusCode[code], reason)
    words, metadata, keys = rest.partition("Metadata:")
    words = _SNAKE.sub(lambda match: f"`{name_of_field(match.group(1))}`", words)
    keys = _SNAKE.sub(lambda match: f"`{camel_case(match.group(1))}`", keys)  # no header: a key of an object
    return f"{status}{dot}{in_rest_words(words)}{metadata}{keys}"
