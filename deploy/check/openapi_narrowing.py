"""What one release of the OpenAPI description takes from a client that was generated from the one before it.

Most of it follows from the protos and is told by `narrowing`; this is about the description itself: names that
generated code has (operations, schemas, tags, titles), what a request must and may say, and what each answer always
says: the refusals, too, and headers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from deploy.check import narrowing

Json = Mapping[str, Any]
_METHODS = ("get", "put", "post", "delete", "patch")
_LOWER_BOUNDS = ("minimum", "minLength", "minItems", "minProperties")
_UPPER_BOUNDS = ("maximum", "maxLength", "maxItems", "maxProperties")
_WORDS = {"description", "examples", "x-codes"}
_KEYWORDS = {
    *("$ref", "type", "format", "title", "enum", "anyOf", "pattern", "uniqueItems", "required", "properties", "items"),
    *("additionalProperties", "propertyNames", *_LOWER_BOUNDS, *_UPPER_BOUNDS, *_WORDS),
}


def find_narrowing(before: Json, after: Json) -> list[str]:
    """A sentence for each thing that a client of `before` could rely on and of `after` cannot."""
    return list(_Comparison(before, after).all())


def _without_words(described: Json) -> dict[str, Any]:
    return {name: value for name, value in described.items() if name not in _WORDS}


def _spell(schema: Any) -> str:
    return (
        {True: "anything", False: "nothing"}[schema]
        if isinstance(schema, bool)
        else str(schema.get("type", "a schema"))
    )


def _changed_enum(name: str, before: Json, after: Json, *, of_request: bool, is_open: bool) -> Iterator[str]:
    was, now = before.get("enum"), after.get("enum")
    if was is None and now is not None:
        yield f"{name}: nothing else than {now} is {'taken' if of_request else 'told'} any more"
    if was is not None and now is not None:
        yield from (f"{name}: {value} is not taken any more" for value in was if value not in now and of_request)
        yield from (f"{name}: {value} is gone" for value in was if value not in now and not of_request)
        if not (of_request or is_open):
            yield from (f"{name}: {value} is new, and no other value was to come" for value in now if value not in was)
    if was is not None and now is None and not of_request:
        yield f"{name}: may be any value now"


def _tighter_limits(name: str, before: Json, after: Json) -> Iterator[str]:
    for limit in (*_LOWER_BOUNDS, *_UPPER_BOUNDS):
        was, now = before.get(limit), after.get(limit)
        if now is not None and (was is None or (now > was if limit in _LOWER_BOUNDS else now < was)):
            yield f"{name}: {limit} is {now}, was {'not limited' if was is None else was}"
    was, now = before.get("pattern"), after.get("pattern")
    if now is not None and now != was and not narrowing.allows_more(was, now):
        yield f"{name}: pattern was {was}, is {now}"
    if after.get("uniqueItems") and not before.get("uniqueItems"):
        yield f"{name}: a value may stand there only once now"


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
        parts = [document.get("components", {}) for document in (self.before, self.after)]
        schemas = [part.get("schemas", {}) for part in parts]
        yield from (f"schema {name} is gone" for name in schemas[0] if name not in schemas[1])
        schemes = [part.get("securitySchemes", {}) for part in parts]
        for name, scheme in schemes[0].items():
            was, now = _without_words(scheme), _without_words(schemes[1].get(name, {}))
            if was != now:
                yield f"security scheme {name} was {was}, is {now}"
        yield from self._unknown_keywords()

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
        yield from self._responses(name, before["responses"], after["responses"])
        if before.get("tags") != after.get("tags"):  # generated code has a class of each
            yield f"{name}: tags were {before.get('tags')}, are {after.get('tags')}"
        ways = [operation.get("security", []) for operation in (before, after)]
        if ways[1] and (not ways[0] or any(way not in ways[1] for way in ways[0])):
            yield f"{name}: security was {ways[0]}, is {ways[1]}"

    def _responses(self, name: str, before: Json, after: Json) -> Iterator[str]:
        for status, response in before.items():
            if status not in after:
                yield f"{name}: does not answer {status} any more"
                continue
            was, now = self._resolve(self.before, response), self._resolve(self.after, after[status])
            yield from self._contents(f"{name}: {status}", was, now)
            found = now.get("headers", {})
            for header, described in was.get("headers", {}).items():
                if header not in found:
                    yield f"{name}: {status} is without {header}"
                    continue
                old, new = self._resolve(self.before, described), self._resolve(self.after, found[header])
                if old.get("required") and not new.get("required"):
                    yield f"{name}: {status} is not always with {header} any more"
                yield from self._schemas(f"{name}: {status} {header}", old["schema"], new["schema"], of_request=False)

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
                for what in ("style", "explode"):
                    if parameter.get(what) != now[key].get(what):
                        yield f"{name}: {key[1]}: {what} was {parameter.get(what)}, is {now[key].get(what)}"
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
        was, now = self._alternatives(self.before, before), self._alternatives(self.after, after)
        if len(was) == len(now) == 1:
            yield from self._values(name, was.popitem()[1], now.popitem()[1], of_request=of_request, is_open=False)
            return
        yield from (f"{name}: {one} is not one of its forms any more" for one in was if one not in now)
        if not of_request:
            yield from (f"{name}: may be {one} now" for one in now if one not in was)
        is_open = "string" in was and "string" in now
        for one in was.keys() & now.keys():
            yield from self._values(name, was[one], now[one], of_request=of_request, is_open=is_open)

    def _alternatives(self, document: Json, schema: Json) -> dict[str, Json]:
        """The forms that a value may have, by their names: one, unless the schema lists several."""
        found = self._resolve(document, schema)
        return {
            one.get("$ref", "").rpartition("/")[2] or one.get("title") or str(one.get("type")): one
            for one in found.get("anyOf", [found])
        }

    def _values(self, name: str, before: Json, after: Json, *, of_request: bool, is_open: bool) -> Iterator[str]:
        """Two schemas that both are one form. One that is open is a text of which known values are only listed."""
        if "$ref" in before:
            yield from self._schemas(name, before, after, of_request=of_request)
            return
        for what in ("type", "format", "title"):
            if before.get(what) != after.get(what):
                yield f"{name}: {what} was {before.get(what)}, is {after.get(what)}"
        yield from _changed_enum(name, before, after, of_request=of_request, is_open=is_open)
        if of_request:
            yield from _tighter_limits(name, before, after)
        yield from self._properties(name, before, after, of_request=of_request)
        yield from self._inner(name, before, after, of_request=of_request)

    def _inner(self, name: str, before: Json, after: Json, *, of_request: bool) -> Iterator[str]:
        """What stands within a list or a map."""
        for what, path in (
            ("items", f"{name}[]"),
            ("propertyNames", f"{name}: a key"),
            ("additionalProperties", f"{name}.*"),
        ):
            was, now = before.get(what, True), after.get(what, True)
            if isinstance(was, Mapping) and isinstance(now, Mapping):
                yield from self._schemas(path, was, now, of_request=of_request)
            elif was not in (False, now) and not (of_request and now is True):
                yield f"{path} was {_spell(was)}, is {_spell(now)}"

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

    def _unknown_keywords(self) -> Iterator[str]:
        """What this comparison passes over without knowing it: whoever describes more teaches it more."""
        found: set[str] = set()
        todo: list[Any] = list(self.after.get("components", {}).get("schemas", {}).values())
        while todo:
            schema = todo.pop()
            if isinstance(schema, Mapping):
                found |= schema.keys()
                todo += [*schema.get("properties", {}).values(), *schema.get("anyOf", ())]
                todo += [schema.get(what) for what in ("items", "additionalProperties", "propertyNames")]
        yield from (f"the keyword {word} of schemas is compared by nobody" for word in sorted(found - _KEYWORDS))

    @staticmethod
    def _resolve(document: Json, described: Json) -> Json:
        while "$ref" in described:
            found: Any = document
            for step in described["$ref"].removeprefix("#/").split("/"):
                found = found[step.replace("~1", "/").replace("~0", "~")]
            described = found
        return described
