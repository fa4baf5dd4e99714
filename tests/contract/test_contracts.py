"""What every proto of ours keeps to, so that the code derived from them may rely on it."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import realco
from buf.validate import validate_pb2
from google.api import annotations_pb2, field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor, MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from realco.type.v1 import approval_pb2, http_pb2, rules_pb2

import services
from gateway import contracts
from gateway.binding import Binding
from services.chassis.calls import validation
from services.chassis.calls.access import is_idempotent, is_read, rules_of
from services.chassis.spelling.descriptors import has_option
from services.chassis.values.errors import DomainError, Refused
from tests.support.sources import parse

ROOT = Path(__file__).parents[2]
REQUIRED_ROUTES = """
POST /transactions
GET /transactions/:id
GET /transactions
POST /transactions/:id/retry
POST /transactions/:id/cancel
POST /escrow-accounts
GET /escrow-accounts/:id
GET /escrow-accounts/:id/balance
GET /escrow-accounts/:id/ledger
POST /distributions
GET /distributions/:id
POST /distributions/:id/calculate
POST /distributions/:id/execute
POST /webhooks/stripe
POST /webhooks/plaid
"""
METHODS = [method for service in contracts.services() for method in service.methods]


def by_name(described: Any) -> str:
    return str(described.full_name)


def files() -> Iterator[FileDescriptor]:
    """Every proto file of ours, found by walking the installed package."""
    for root in map(Path, realco.__path__):
        for path in sorted(root.rglob("*_pb2.py")):
            name = ".".join(("realco", *path.relative_to(root).with_suffix("").parts))
            yield importlib.import_module(name).DESCRIPTOR


def test_every_service_is_in_the_gateways_list():
    written = {service.full_name for file in files() for service in file.services_by_name.values()}
    assert {service.full_name for service in contracts.services()} == written


def test_every_error_reason_file_is_in_the_gateways_list():
    written = {
        enum.full_name for file in files() for name, enum in file.enum_types_by_name.items() if name == "ErrorReason"
    }
    assert {enum.full_name for enum in contracts.error_reasons()} == written


def test_what_only_services_call_is_a_service_of_its_own_in_a_file_of_its_own():
    """So whoever reads one knows who calls it, and the check of releases may let its RPCs go one by one."""
    inner: set[str] = set()
    for service in contracts.services():
        routes = {has_option(method, annotations_pb2.http) for method in service.methods}
        assert len(routes) == 1, f"{service.full_name} has routes for some of its RPCs"
        if routes == {False}:
            assert len(service.file.services_by_name) == 1, service.full_name
            assert "no routes" in contracts.comments()[service.full_name]
            # What none of our own calls is there for others, and stays.
            if any(rule.services | rule.passed_on_by for rule in rules_of([service]).values()):
                inner.add(service.file.name)
    let_go = (ROOT / "protos" / "buf.yaml").read_text().partition("ignore_only:")[2].split()
    assert {each for each in let_go if each.endswith(".proto")} == inner


def test_where_an_investor_names_a_party_it_is_one_of_its_own():
    """Or a filter by another's would be answered in ways of its own."""
    rules = rules_of(contracts.services())
    unconfined = [
        method.full_name
        for method in METHODS
        if "investor" in rules[f"/{method.containing_service.full_name}/{method.name}"].roles
        and "party_id" in method.input_type.fields_by_name
        and not rules[f"/{method.containing_service.full_name}/{method.name}"].party_path
    ]
    assert unconfined == []


def find_names_of_persons(answer: Descriptor) -> Iterator[FieldDescriptor]:
    """The fields of an answer, however deep, that name who did something."""
    for field in answer.fields:
        if field.name.endswith("_by") or field.name == "actor":
            yield field
        # An investor's own call is answered at once: it meets no approval.
        if field.message_type in (None, approval_pb2.Approval.DESCRIPTOR):
            continue
        yield from find_names_of_persons(field.message_type)


def test_what_an_investor_reads_can_leave_out_the_names_of_staff():
    rules = rules_of(contracts.services())
    always_there = {
        field.full_name
        for method in METHODS
        if "investor" in rules[f"/{method.containing_service.full_name}/{method.name}"].roles
        for field in find_names_of_persons(method.output_type)
        if not field.has_presence
    }
    assert always_there == set()


def test_every_rpc_says_who_may_call_it():
    assert len(rules_of(contracts.services())) == len(METHODS)


@pytest.mark.parametrize("line", REQUIRED_ROUTES.split("\n")[1:-1])
def test_a_route_the_users_were_promised_exists(line):
    routes = set()
    for method in contracts.methods():
        bound = Binding(method)
        path = "/".join(":id" if part is None else part for part in bound.template.segments)
        routes.add(f"{bound.http_method} /{path.removeprefix('api/v1/')}")
    assert line in routes


@pytest.mark.parametrize("method", contracts.methods(), ids=by_name)
def test_a_route_is_versioned_and_a_read_takes_no_body(method):
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    bound = Binding(method)
    assert bound.template.text.startswith("/api/v1/")
    assert bool(rule.body) == (bound.http_method in ("POST", "PUT", "PATCH"))


@pytest.mark.parametrize("method", METHODS, ids=by_name)
def test_an_idempotency_key_is_a_header_over_rest(method):
    field = method.input_type.fields_by_name.get("idempotency_key")
    if field is not None and method in contracts.methods():
        assert field.GetOptions().Extensions[http_pb2.header] == "Idempotency-Key"


@pytest.mark.parametrize("method", METHODS, ids=by_name)
def test_every_rpc_that_creates_or_moves_takes_an_idempotency_key(method):
    items = method.input_type.fields_by_name.get("items")
    holder = items.message_type if items is not None else method.input_type
    if not is_idempotent(method):
        assert "idempotency_key" in holder.fields_by_name


@pytest.mark.parametrize("method", METHODS, ids=by_name)
def test_what_only_reads_says_so_in_its_name_and_to_who_sends_it_again(method):
    assert is_read(method) is method.name.startswith(("Get", "List", "BatchGet", "Check"))


def changes_one_resource(method: MethodDescriptor) -> bool:
    """Over REST, and the resource is answered: whoever changes it has read its etag."""
    route = method.GetOptions().Extensions[annotations_pb2.http]  # type: ignore[index]
    creates = method.GetOptions().HasExtension(http_pb2.created)  # type: ignore[arg-type]
    return (
        bool(route.ListFields()) and not is_read(method) and not creates and "etag" in method.output_type.fields_by_name
    )


@pytest.mark.parametrize("method", [method for method in METHODS if changes_one_resource(method)], ids=by_name)
def test_who_judges_what_was_read_names_the_version_and_who_carries_it_on_may(method):
    etag = method.input_type.fields_by_name["etag"]
    options = etag.GetOptions()
    assert options.Extensions[http_pb2.header] == "If-Match"
    judges = method.name.startswith(("Update", "Approve", "Reject", "Confirm", "Review", "Assign", "Resolve"))
    assert (field_behavior_pb2.REQUIRED in options.Extensions[field_behavior_pb2.field_behavior]) is judges
    assert etag.has_presence is not judges


def is_a_list(method: MethodDescriptor) -> bool:
    """A read that answers no resource, but several of something."""
    rule = rules_of([method.containing_service])[f"/{method.containing_service.full_name}/{method.name}"]
    has_several = any(field.is_repeated for field in method.output_type.fields)
    return bool(rule.roles) and rule.reads_only and has_several and method.output_type.name.endswith("Response")


@pytest.mark.parametrize("method", list(filter(is_a_list, METHODS)), ids=by_name)
def test_a_list_that_a_person_may_read_is_paged(method):
    assert method.name.startswith("List")
    assert {"page_size", "page_token"} <= set(method.input_type.fields_by_name)
    assert {"next_page_token", "previous_page_token"} <= set(method.output_type.fields_by_name)


@pytest.mark.parametrize("method", METHODS, ids=by_name)
def test_the_rules_of_a_request_compile(method):
    validation.warm_up([GetMessageClass(method.input_type)])


def test_a_pattern_says_in_words_what_it_asks_for():
    rules = {
        field.full_name: field.GetOptions().Extensions[validate_pb2.field]
        for message in contracts.messages()
        for field in message.fields
    }
    silent = [
        name
        for name, rule in rules.items()
        for strings in (rule.string, rule.repeated.items.string, rule.map.keys.string, rule.map.values.string)
        if strings.pattern and not strings.Extensions[rules_pb2.pattern_words].startswith("must ")
    ]
    assert silent == []


def test_no_contract_carries_money_in_a_float():
    floats = (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE)
    for file in files():
        for message in file.message_types_by_name.values():
            assert not [field.full_name for field in fields_of(message) if field.type in floats]


def fields_of(message: Descriptor) -> Iterator[FieldDescriptor]:
    yield from message.fields
    for nested in message.nested_types:
        yield from fields_of(nested)


def reasons_of(area: str) -> set[str]:
    enums = {contracts.area_of(enum.full_name): enum for enum in contracts.error_reasons()}
    shared = {value.name for value in enums["type"].values if value.number}
    own = {value.name for value in enums[area].values if value.number} if area in enums else set()
    return shared | own


def refusals() -> list[type[DomainError]]:
    """Every DomainError of the services that can be raised as it stands."""
    for module in pkgutil.walk_packages(services.__path__, "services."):
        if not module.name.endswith("__main__") and ".migrations" not in module.name:
            importlib.import_module(module.name)
    found: list[type[DomainError]] = []
    waiting = [DomainError]
    while waiting:
        for refusal in waiting.pop().__subclasses__():
            waiting.append(refusal)
            if refusal.__module__.startswith("services.") and refusal is not Refused and hasattr(refusal, "reason"):
                found.append(refusal)
    return found


def test_every_refusal_has_its_reason_in_the_catalogue():
    unknown = [
        f"{refusal.__module__}.{refusal.__qualname__}: {refusal.reason}"
        for refusal in refusals()
        if refusal.reason not in reasons_of(area_of(refusal))
    ]
    assert unknown == []


def test_a_reason_stands_in_one_catalogue():
    """Whoever answers, the same fact has the same code: what two areas need is in `type`."""
    times = Counter(value.name for enum in contracts.error_reasons() for value in enum.values if value.number)
    assert [name for name, number in times.items() if number > 1] == []


def test_a_reason_has_one_refusal():
    """What two services refuse for the same reason is a class of the chassis, so they say the same of it."""
    by_reason: dict[str, set[str]] = {}
    for refusal in refusals():
        by_reason.setdefault(refusal.reason, set()).add(f"{refusal.__module__}.{refusal.__qualname__}")
    assert {reason: sorted(classes) for reason, classes in by_reason.items() if len(classes) > 1} == {}


def test_a_reason_of_all_areas_is_found_by_more_than_one_service():
    """Or by every service, as the chassis does, or by the gateway, too."""
    answered = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "gateway").glob("*.py"))
    finders: dict[str, set[str]] = {}
    for path in (ROOT / "services").rglob("*.py"):
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                finders.setdefault(node.id, set()).add(path.relative_to(ROOT / "services").parts[0])
    shared = [refusal for refusal in refusals() if refusal.reason in reasons_of("type")]
    lonely = [
        each.reason
        for each in shared
        if len(found := finders[each.__name__]) < 2 and found != {"chassis"} and each.reason not in answered
    ]
    assert (lonely, bool(shared)) == ([], True)


def test_every_refusal_is_of_the_kind_its_reason_promises():
    """The comment of a reason begins with the status it comes with."""
    comments = contracts.comments()
    broken = []
    for refusal in refusals():
        names = [f"realco.{scope}.v1.ErrorReason.{refusal.reason}" for scope in (area_of(refusal), "type")]
        promised = next((comments[name] for name in names if name in comments), "")
        if not promised.startswith(f"{refusal.kind.value}."):
            broken.append(f"{refusal.__module__}.{refusal.__qualname__} is {refusal.kind.value}: {promised[:60]}")
    assert broken == []


@pytest.mark.parametrize(("module", "drivers"), [("__main__", set()), ("sharing", {"nats"})])
def test_the_gateway_loads_no_driver_of_a_database_and_that_of_a_broker_only_to_share_its_counts(module, drivers):
    """What it does not load it cannot reach, and need not have installed."""
    foreign = {"sqlalchemy", "asyncpg", "nats", "alembic"}
    script = f"import sys, gateway.{module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert foreign & set(loaded.split()) == drivers


def test_the_contracts_ask_for_the_oldest_libraries_that_their_stubs_run_with():
    project = tomllib.loads((ROOT / "protos" / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    stubs = ROOT / "protos" / "realco" / "escrow" / "v1"
    [protobuf] = re.findall(r"# Protobuf Python Version: ([0-9.]+)", (stubs / "journal_pb2.py").read_text())
    [grpcio] = re.findall(r"GRPC_GENERATED_VERSION = '([0-9.]+)'", (stubs / "journal_pb2_grpc.py").read_text())
    major = int(protobuf.partition(".")[0])
    assert {f"grpcio>={grpcio}", f"protobuf>={protobuf},<{major + 1}"} <= set(project["dependencies"])


def test_whoever_refuses_a_field_names_it():
    """But for a request that is no message at all."""
    unnamed = []
    for path in sorted(Path(services.__path__[0]).rglob("*.py")):
        for node in ast.walk(parse(path)):
            is_refusal = isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("InvalidField", "TermsInvalid")
            if is_refusal and not any(keyword.arg == "fields" for keyword in node.keywords):
                unnamed.append(f"{path.name}: {ast.unparse(node)}")
    assert [call for call in unnamed if not call.startswith("validation.py")] == []


def test_whoever_refuses_for_an_amount_says_its_currency():
    """A number of minor units means nothing without it."""
    names = {refusal.__name__ for refusal in refusals()}
    bare = []
    for path in sorted(Path(services.__path__[0]).rglob("*.py")):
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in names:
                said = {keyword.arg or "" for keyword in node.keywords}
                if any(name.endswith("_minor") for name in said) and "currency_code" not in said:
                    bare.append(f"{path.name}: {ast.unparse(node)}")
    promised = [
        f"{enum.full_name}.{value.name}"
        for enum in contracts.error_reasons()
        for value in enum.values
        if "_minor`" in (comment := contracts.comments().get(f"{enum.full_name}.{value.name}", ""))
        and "`currency_code`" not in comment
    ]
    assert (bare, promised) == ([], [])


def area_of(refusal: type[DomainError]) -> str:
    return refusal.__module__.split(".")[1]


def test_every_failure_is_for_a_reason_that_the_contracts_list():
    """Whoever acts on a code finds it in one vocabulary: codes of a rail stand beside it, in the metadata."""
    listed = {value.name for enum in contracts.error_reasons() for value in enum.values}
    given = {
        (str(path.relative_to(ROOT)), call.args[0].value)
        for path in (ROOT / "services").rglob("*.py")
        for call in ast.walk(parse(path))
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") in ("Failure", "Declined")
        if call.args and isinstance(call.args[0], ast.Constant)
    }
    assert len(given) > 3
    assert [(path, code) for path, code in sorted(given) if code not in listed] == []
