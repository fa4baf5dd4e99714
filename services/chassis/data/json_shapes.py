"""Of what shape the JSON in a column is, by the last word of its name: what the code reads into values, and no more.

Rows of a list are read before anybody asks whether they are ours, so one of another shape would hide the others. Each
shape is a predicate of SQL/JSON paths in strict mode, where what is missing is an error, and so not true.
"""

from __future__ import annotations

from collections.abc import Mapping


def _each(path: str, predicate: str) -> str:
    """Whether the predicate is true of all that the path leads to."""
    return f"!exists({path} ? (!({predicate}) || ({predicate}) is unknown))"


def _is(path: str, kind: str) -> str:
    return f'{path}.type() == "{kind}"'


def _all(*predicates: str) -> str:
    return " && ".join(f"({predicate})" for predicate in predicates)


def _texts_by_name(path: str) -> str:
    return _all(_is(path, "object"), _each(f"{path}.*", _is("@", "string")))


def _names(*names: str) -> str:
    return " || ".join(f'@.key == "{name}"' for name in names)


# As values/failure.py writes it.
_FAILURE = _all(
    _is("$", "object"),
    *(_is(f"$.{name}", "string") for name in ("code", "message")),
    _is("$.retryable", "boolean"),
    _texts_by_name("$.metadata"),
    _each("$.keyvalue()", _names("code", "message", "retryable", "metadata")),
)
# As values/explanation.py writes it.
_MONEY = _all(_is("@[1].amount_minor", "number"), _is("@[1].currency", "string"))
_OPERAND = _all("@.size() == 2", _is("@[0]", "string"), f"({_is('@[1]', 'string')}) || ({_MONEY})")


def _explanation(path: str) -> str:
    return _all(
        _is(path, "object"),
        *(_is(f"{path}.{name}", "string") for name in ("statement", "rule", "source")),
        _is(f"{path}.operands", "array"),
        _each(f"{path}.operands[*]", _OPERAND),
    )


_COMMENT = _all(
    *(_is(f"@.{name}", "string") for name in ("created_by", "text")),
    _is("@.created_at.datetime()", "timestamp with time zone"),
)
# As approvals/records.py writes it.
_ASKER = _all(
    _is("@.person", "string"),
    _is("@.signed_in_at", "number"),
    f"({_is('@.api_key_id', 'string')}) || ({_is('@.api_key_id', 'null')})",
)
_FREEZE = _all(
    *(_is(f"@.{name}", "string") for name in ("note", "frozen_by")),
    _is("@.frozen_at.datetime()", "timestamp with time zone"),
)
_TIER = _all("@.size() == 2", _is("@[0]", "string"), _is("@[1]", "object"), _each("@[1].*", _is("@", "string")))
# As distributions/store/distributions.py and allocations.py write them.
_TIER_TOTAL = _all(
    _is("@.kind", "string"),
    *(_is(f"@.{name}", "number") for name in ("investors_minor", "sponsor_minor")),
    _explanation("@.explanation"),
)
_LINE = _all(
    _is("@.kind", "string"),
    *(_is(f"@.{name}", "number") for name in ("tier", "amount_minor", "claims_minor")),
    f"({_is('@.claim_minor', 'number')}) || ({_is('@.claim_minor', 'null')})",
)

_PERSONS = _all(_is("$", "array"), _each("$[*]", _is("@", "string")))

SHAPES: Mapping[str, str] = {
    "metadata": _texts_by_name("$"),
    "failure": _FAILURE,
    "explanation": _explanation("$"),
    "makers": _PERSONS,
    "checkers": _PERSONS,
    "correctors": _PERSONS,
    "tiers": _all(_is("$", "array"), _each("$[*]", _TIER)),
    "totals": _all(_is("$", "array"), _each("$[*]", _TIER_TOTAL)),
    "lines": _all(_is("$", "array"), _each("$[*]", _LINE)),
    "freezes": _all(_is("$", "array"), _each("$[*]", _FREEZE)),
    "askers": _all(_is("$", "array"), _each("$[*]", _ASKER)),
    "comments": _all(_is("$", "array"), _each("$[*]", _COMMENT)),
}


def is_of_another_shape(column: str) -> str:
    """The condition in SQL that the new row's column holds JSON which is none of ours."""
    shape = SHAPES[column.rpartition("_")[2]]
    return f"NEW.{column} IS NOT NULL AND jsonb_path_match(NEW.{column}, 'strict {shape}', '{{}}', true) IS NOT TRUE"
