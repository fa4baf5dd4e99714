"""The list of services is written once, in deploy/topology.py, and what must agree with it does."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import topology
from deploy.nats_accounts import inbox_prefix
from gateway import contracts
from services.chassis.approvals.service import APPROVALS_SERVICE
from services.chassis.calls.serving import server_of, servers_of
from services.chassis.events.streams import inbox_prefix_of
from tests.support.sources import parse

ROOT = Path(__file__).parents[2]
FOLDERS = ("demo", "deploy", "docs", "gateway", "sandbox", "services", "tests")


def lists_in(tree: ast.AST) -> Iterator[tuple[int, set[str]]]:
    """Each tuple, list, set and dict that is written out, as its line and the strings in it (of a dict, the keys).

    A table that says something long of each is no list of them: it says what the topology does not know.
    """
    for node in ast.walk(tree):
        is_table = isinstance(node, ast.Dict) and all(isinstance(value, ast.Dict | ast.Tuple) for value in node.values)
        if isinstance(node, ast.Tuple | ast.List | ast.Set | ast.Dict) and not is_table:
            items = node.keys if isinstance(node, ast.Dict) else node.elts
            yield node.lineno, {item.value for item in items if isinstance(item, ast.Constant)}


def test_no_other_file_lists_the_services() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{line}"
        for folder in FOLDERS
        for file in (ROOT / folder).rglob("*.py")
        for line, strings in lists_in(parse(file))
        if set(topology.SERVICE_NAMES) <= strings
    ]
    assert found == [], "read deploy.topology.SERVICE_NAMES instead"


def test_every_package_that_is_a_service_is_in_the_topology() -> None:
    packages = {file.parent.name for file in (ROOT / "services").glob("*/__main__.py")}
    assert packages == set(topology.SERVICE_NAMES)


def test_the_layers_inside_a_service_are_checked_in_every_service() -> None:
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    [inside] = [contract for contract in linter["contracts"] if "tables : domain" in str(contract.get("layers"))]
    assert inside["containers"] == [f"services.{name}" for name in topology.SERVICE_NAMES]


def test_a_service_calls_services_and_not_itself() -> None:
    for service in topology.SERVICES:
        assert set(service.calls) <= set(topology.SERVICE_NAMES) - {service.name}


@pytest.mark.parametrize("service", topology.SERVICES, ids=lambda service: service.name)
def test_a_service_opens_channels_to_those_that_the_topology_says_it_calls(service: topology.Service) -> None:
    """An instance tells it the addresses of these, and of no others."""
    tree = parse(ROOT / "services" / service.name / "__main__.py")
    opened = {
        ast.literal_eval(call.args[0])
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "channel"
        if isinstance(call.args[0], ast.Constant)
    }
    answering = [servers_of(interface) for interface in contracts.services() if server_of(interface) == service.name]
    assert opened.union(*answering) - {service.name} == set(service.calls)


def test_whoever_serves_the_approvals_is_a_service_that_keeps_some() -> None:
    serving = {
        name
        for name in topology.SERVICE_NAMES
        if "ApprovalsServicer(" in (ROOT / "services" / name / "__main__.py").read_text()
    }
    assert set(servers_of(APPROVALS_SERVICE)) == serving


def test_rest_asks_services_that_there_are() -> None:
    assert set(contracts.servers()) == set(topology.SERVICE_NAMES)


def test_answers_of_nats_arrive_where_their_user_may_hear_them() -> None:
    assert inbox_prefix_of("nats://escrow:secret@127.0.0.1:4222").decode() == inbox_prefix("escrow")
    assert inbox_prefix_of("nats://127.0.0.1:4222") == b"_INBOX"
