"""The metadata of refusals are a part of the contracts: what the comment of a reason names, and nothing else."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gateway import contracts
from tests.support.refusals import is_listed
from tests.support.sources import parse

# Its comment says that each gate is a key, by its name.
BY_NAME = {"CLOSING_GATES_NOT_MET"}
# What no field says, with a name that says what it is: an instant, a day, a sum, a count, a status, a kind.
UNITS = re.compile(r"[a-z_]+_(time|date|minor|max|count|status|types?|kind)")
# The words of RFC 9470, which REST writes into WWW-Authenticate as they are; what a bank's network says; what finds
# a line of the log, or a row; and a moment.
OTHERS = {"max_age", "acr_values", "network_code", "provider_code", "error_id", "row", "setting", "sign_in_from"}


class Source(NamedTuple):
    """The code of services and gateway, as trees: large, and so kept only as long as it is looked at."""

    nodes: list[tuple[Path, ast.AST]]
    classes: dict[str, ast.ClassDef]
    constants: dict[str, Any]


@pytest.fixture(scope="module")
def source() -> Source:
    nodes = [
        (path, node)
        for part in ("services", "gateway")
        for path in sorted(Path(part).rglob("*.py"))
        if "migrations" not in path.parts
        for node in ast.walk(parse(path))
    ]
    classes = {node.name: node for _, node in nodes if isinstance(node, ast.ClassDef)}
    constants = {
        ast.unparse(node.targets[0]): node.value.value
        for _, node in nodes
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
    }
    return Source(nodes, classes, constants)


def promised() -> dict[str, set[str]]:
    """Reason -> the keys that its comment names."""
    comments = contracts.comments()
    return {
        value.name: set(
            re.findall(r"`([a-z_]+)`", comments.get(f"{enum.full_name}.{value.name}", "").partition("Metadata:")[2])
        )
        for enum in contracts.error_reasons()
        for value in enum.values
    }


def reason_of(class_: ast.ClassDef) -> str | None:
    return next(
        (
            str(ast.literal_eval(line.value))
            for line in class_.body
            if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "reason"
        ),
        None,
    )


def parameters_of(class_: ast.ClassDef) -> set[str]:
    """Those of a constructor of its own: they are no keys. What it passes on is."""
    return {
        each.arg
        for line in class_.body
        if isinstance(line, ast.FunctionDef) and line.name == "__init__"
        for each in (*line.args.args, *line.args.kwonlyargs)
    }


def name_called(call: ast.Call) -> str:
    return ast.unparse(call.func).rpartition(".")[2]


def made(source: Source) -> Iterator[tuple[str, str, set[str]]]:
    """Where a refusal is made, its reason, and the keys it gets; `**` stands for keys that nobody can read here."""
    for path, node in source.nodes:
        calls: list[tuple[ast.Call, str, set[str]]] = []
        if (
            isinstance(node, ast.Call)
            and (class_ := source.classes.get(name_called(node)))
            and (reason := reason_of(class_))
        ):
            calls = [(node, reason, parameters_of(class_))]
        elif isinstance(node, ast.ClassDef) and (reason := reason_of(node)):
            inner = [each for each in ast.walk(node) if isinstance(each, ast.Call)]
            calls = [(each, reason, set()) for each in inner if ast.unparse(each.func) == "super().__init__"]
        for call, reason, parameters in calls:
            keys = {keyword.arg or "**" for keyword in call.keywords} - parameters - {"fields"}
            yield f"{path}:{call.lineno}", reason, keys


def carried(source: Source) -> set[str]:
    """The keys of what is no exception: a Failure, a Status, a Problem, and what is added to another's failure."""
    values = (
        value
        for _, call in source.nodes
        if isinstance(call, ast.Call)
        and name_called(call) in ("Declined", "Failure", "status_of", "Problem", "replace")
        for value in (*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "metadata"))
        if isinstance(value, ast.Dict)
    )
    keys = (key for value in values for key in value.keys if key is not None)
    return {str(source.constants[key.id] if isinstance(key, ast.Name) else ast.literal_eval(key)) for key in keys}


def test_a_refusal_carries_the_metadata_that_its_reason_promises_and_no_other(source):
    known = promised()
    unnamed = [
        f"{where}: {reason} promises no {key}"
        for where, reason, keys in made(source)
        for key in sorted(keys - known[reason])
        if not (key == "**" and reason in BY_NAME)
    ]
    assert unnamed == []
    assert carried(source) - set().union(*known.values()) == set()


def test_what_a_reason_promises_somebody_passes(source):
    given, added = defaultdict(set), carried(source)
    for _, reason, keys in made(source):
        given[reason] |= keys
    never = {reason: keys - given[reason] - added for reason, keys in promised().items()}
    assert {reason: keys for reason, keys in never.items() if keys} == {}


def test_a_key_of_metadata_is_the_name_of_a_field_or_says_what_it_is():
    fields = {name.rpartition(".")[2] for name in contracts.comments()}
    keys = set().union(*promised().values())
    assert {key for key in keys - fields - OTHERS if not UNITS.fullmatch(key)} == set()


def test_every_business_refusal_stands_at_an_rpc_that_refuses_so(source):
    """Which RPCs those are, each call of a test asks anew (tests/support/refusals.py)."""
    rpcs = (method for service in contracts.services() for method in service.methods)
    told = " ".join(contracts.comments()[method.full_name] for method in rpcs)
    business = {
        reason
        for class_ in source.classes.values()
        if (reason := reason_of(class_)) and "kind = Kind.FAILED_PRECONDITION" in map(ast.unparse, class_.body)
    }
    assert len(business) > 30
    assert sorted(reason for reason in business if not is_listed(reason, told)) == []
