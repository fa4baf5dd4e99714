"""Holds every answer of the stories against the OpenAPI description: what a generated client was promised it gets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import httpx
from jsonschema import Draft202012Validator, FormatChecker

from gateway import openapi
from tests.support.refusals import is_listed

_DOCUMENT = openapi.document()
_PROBLEM = "application/problem+json"

Operation = Mapping[str, Any]


def check_answer(response: httpx.Response) -> None:
    """An httpx hook. Raises: AssertionError with what the description does not say of this answer."""
    response.read()
    found = _find_operation(response.request.method, response.request.url.raw_path.decode().partition("?")[0])
    if found is None:  # a path or method that is not described: all there can be is a problem
        assert response.headers.get("content-type") == _PROBLEM, response.text
        _check_schema("a problem", {"$ref": "#/components/schemas/Problem"}, response)
        return
    name, operation = found
    responses = operation["responses"]
    described = responses.get(str(response.status_code), None)
    assert described is not None, f"{name} does not say that it may answer {response.status_code}: {response.text}"
    if "$ref" in described:
        described = _DOCUMENT["components"]["responses"][described["$ref"].rpartition("/")[2]]
    if response.status_code == 422:
        code = response.json()["code"]
        assert is_listed(code, operation["description"]), f"{name} does not say that it may refuse with {code}"
    for header, about in described["headers"].items():
        if "$ref" in about:
            about = _DOCUMENT["components"]["headers"][about["$ref"].rpartition("/")[2]]
        missing = about["required"] and header.lower() not in response.headers
        assert not missing, f"{name} {response.status_code}: no {header}"
    unset = re.findall(rb'"[A-Z_]+_UNSPECIFIED"', response.content)
    assert unset == [], f"{name}: what is never sent was sent: {unset}"
    content = described.get("content", {})
    media_type = response.headers["content-type"].partition(";")[0] if response.content else None
    assert media_type in (content or {None: {}}), f"{name}: {content}"
    if media_type in ("application/json", _PROBLEM):
        _check_schema(f"{name} {response.status_code}", content[media_type]["schema"], response)


def _check_schema(what: str, schema: Mapping[str, Any], response: httpx.Response) -> None:
    faults = [
        f"{fault.json_path}: {fault.message}"
        for fault in _make_validator(what, schema["$ref"]).iter_errors(response.json())
    ]
    assert faults == [], f"{what} is not as described: {faults}"


@cache
def _make_validator(what: str, reference: str) -> Draft202012Validator:
    schema = {"$ref": reference, "components": _DOCUMENT["components"]}
    return Draft202012Validator(schema, format_checker=FormatChecker(["date"]))


def _find_operation(method: str, path: str) -> tuple[str, Operation] | None:
    for pattern, template, item in _list_templates():
        if pattern.fullmatch(path):
            operation = item.get(method.lower())
            return None if operation is None else (f"{method} {template}", operation)
    return None


@cache
def _list_templates() -> list[tuple[re.Pattern[str], str, Mapping[str, Operation]]]:
    """The described paths, those without a parameter first: a literal wins over a variable."""

    def compile_paths() -> Iterator[tuple[re.Pattern[str], str, Mapping[str, Operation]]]:
        for template, item in sorted(_DOCUMENT["paths"].items(), key=lambda path: path[0].count("{")):
            parts = re.split(r"\{[^}]*\}", template)
            yield re.compile("[^/:]+".join(map(re.escape, parts))), template, item

    return list(compile_paths())
