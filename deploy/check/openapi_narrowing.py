"""What one release of the OpenAPI description takes from a client that was generated from the one before it.

Most of it follows from the protos and is told by `narrowing`; this is about the description itself: names that
generated code has (operations, schemas), what a request must and may say, and what an answer always says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Json = Mapping[str, Any]
_METHODS = ("get", "put", "post", "delete", "patch")


def find_narrowing(before: Json, after: Json) -> list[str]:
    """A sentence for each thing that a client of `before` could rely on and of `after` cannot."""
    return list(_Comparison(before, after).all())


class _Comparison:
    def __init__(self, before: Json, after: Json) -> None:
        self.before, self.after = before, after
        self._compared: set[tuple[str, bool]] = set()

    def all(self) -> Iterator[str]:
        for path, operations in self.before["paths"].items():
            for method in _METHODS:
                if method in operations:
                    after = self.after["paths"].get(path, {}).get(method)
                    name = f"{method.upper()} {path}"
                    if after is None:
                        yield f"{name} is gone"
                    else:
                        yield from self._operation(name, operations[method], after)
        schemas = [document.get("components", {}).get("schemas", {}) for document in (self.before, self.after)]
        yield from (f"schema {name} is gone" for name in schemas[0] if name not in schemas[1])

    def _operation(self, name: str, before: Json, after: Json) -> Iterator[str]:
        if before.get("operationId") != after.get("operationId"):
            yield f"{name}: operationId was {before.get('operationId')}, is {after.get('operationId')}"
        yield from self._parameters(name, before, after)
        was, now = before.get("requestBody"), after.get("requestBody")
        if now is not None and now.get("required") and not (was is not None and was.get("required")):
            yield f"{name}: a body is required now"
        if was is not None and now is None:
            yield f"{name}: no body is taken any more"
        if was is not None and now is not None:
            yield from self._contents(f"{name}: body", was, now, of_request=True)
        for status, response in before.get("responses", {}).items():
            if status.startswith("2"):
                if status not in after.get("responses", {}):
                    yield f"{name}: does not answer {status} any more"
                else:
                    found = self._resolve(self.after, after["responses"][status])
                    yield from self._contents(f"{name}: answer", self._resolve(self.before, response), found)

    def _parameters(self, name: str, before: Json, after: Json) -> Iterator[str]:
        was, now = (
            {(item["in"], item["name"]): item for item in (self._resolve(document, one) for one in found)}
            for document, found in (
                (self.before, before.get("parameters", ())),
                (self.after, after.get("parameters", ())),
            )
        )
        for key, parameter in now.items():
            if parameter.get("required") and not was.get(key, {}).get("required"):
                yield f"{name}: {key[0]} parameter {key[1]} is required now"
        for key, parameter in was.items():
            if key not in now:
                yield f"{name}: {key[0]} parameter {key[1]} is gone"
            else:
                yield from self._schemas(f"{name}: {key[1]}", parameter["schema"], now[key]["schema"], of_request=True)

    def _contents(self, name: str, before: Json, after: Json, *, of_request: bool = False) -> Iterator[str]:
        for media_type, content in before.get("content", {}).items():
            found = after.get("content", {}).get(media_type)
            if found is None:
                yield f"{name}: {media_type} is gone"
            else:
                yield from self._schemas(name, content["schema"], found["schema"], of_request=of_request)

    def _schemas(self, name: str, before: Json, after: Json, *, of_request: bool) -> Iterator[str]:
        references = [described.get("$ref", "").rpartition("/")[2] for described in (before, after)]
        if references[0]:
            # Generated code has a type of this name here.
            if references[1] != references[0]:
                yield f"{name}: the schema was {references[0]}, is {references[1] or 'without a name'}"
            if (references[0], of_request) in self._compared:
                return
            self._compared.add((references[0], of_request))
            name = references[0]
        was, now = self._resolve(self.before, before), self._resolve(self.after, after)
        if was.get("type") != now.get("type"):
            yield f"{name}: type was {was.get('type')}, is {now.get('type')}"
        if of_request and "enum" in now:
            gone = sorted(set(was["enum"]) - set(now["enum"])) if "enum" in was else ["any other value"]
            yield from (f"{name}: {value} is not taken any more" for value in gone)
        yield from self._properties(name, was, now, of_request=of_request)
        if "items" in was and "items" in now:
            yield from self._schemas(f"{name}[]", was["items"], now["items"], of_request=of_request)

    def _properties(self, name: str, was: Json, now: Json, *, of_request: bool) -> Iterator[str]:
        required = [set(schema.get("required", ())) for schema in (was, now)]
        if of_request:
            yield from (f"{name}.{field} is required now" for field in sorted(required[1] - required[0]))
        else:
            yield from (f"{name}.{field} is not always there any more" for field in sorted(required[0] - required[1]))
        for field, schema in was.get("properties", {}).items():
            found = now.get("properties", {}).get(field)
            if found is None:
                yield f"{name}.{field} is gone"
            else:
                yield from self._schemas(f"{name}.{field}", schema, found, of_request=of_request)

    @staticmethod
    def _resolve(document: Json, described: Json) -> Json:
        while "$ref" in described:
            found: Any = document
            for step in described["$ref"].removeprefix("#/").split("/"):
                found = found[step.replace("~1", "/").replace("~0", "~")]
            described = found
        return described
