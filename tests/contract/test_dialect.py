"""The one dialect of the contracts: whoever knows one request, one list, one resource knows them all."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from buf.validate import validate_pb2
from google.api import annotations_pb2, field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from realco.type.v1 import http_pb2, rules_pb2

from gateway import contracts
from gateway.binding import Binding
from services.chassis.calls.access import name_action, rule_of
from tests.support.sources import parse

METHODS = [method for service in contracts.services() for method in service.methods]
# Their zero is their documented default.
PLAIN = {"page_size", "page_token", "order", "validate_only"}
WRITES = ("Create", "Update", "Place", "Post", "Put", "Add")


def by_name(described: Any) -> str:
    return str(described.full_name)


def behaviors(field: FieldDescriptor) -> list[int]:
    return list(field.GetOptions().Extensions[field_behavior_pb2.field_behavior])


def requests() -> list[Descriptor]:
    """Each request, and each message inside it that is a part of nothing else."""
    found: dict[str, Descriptor] = {}
    for method in METHODS:
        for message in (method.input_type, *method.input_type.nested_types):
            found[message.full_name] = message
    return [message for message in found.values() if not message.GetOptions().map_entry]


def parts_of(message: Descriptor, found: dict[str, Descriptor]) -> dict[str, Descriptor]:
    """A message of ours and all that are inside it."""
    if message.full_name.startswith("realco.") and message.full_name not in found:
        found[message.full_name] = message
        for field in message.fields:
            if field.message_type is not None:
                parts_of(field.message_type, found)
    return found


def lists() -> list[MethodDescriptor]:
    return [method for method in METHODS if "page_size" in method.input_type.fields_by_name]


def resource_of(method: MethodDescriptor) -> Descriptor:
    """What a list lists: its answer's first repeated field."""
    return next(field.message_type for field in method.output_type.fields if field.is_repeated and field.message_type)


def readable() -> set[str]:
    """The resources that can be got one by one."""
    return {method.output_type.full_name for method in METHODS if method.name.startswith("Get")}


def written() -> Iterator[tuple[Descriptor, set[str]]]:
    """Each resource that a user writes, with the fields its requests take."""
    taken: dict[str, set[str]] = {}
    resources: dict[str, Descriptor] = {}
    for method in METHODS:
        resource = method.output_type
        if method.name.startswith(WRITES) and resource.full_name in readable():
            resources[resource.full_name] = resource
            holders = (method.input_type, *method.input_type.nested_types)
            taken.setdefault(resource.full_name, set()).update(name for each in holders for name in each.fields_by_name)
            for field in method.input_type.fields:
                if field.message_type is not None and field.message_type.file is resource.file:
                    taken[resource.full_name].update(field.message_type.fields_by_name)
    for name, resource in resources.items():
        yield resource, taken[name]


@pytest.mark.parametrize("request_", requests(), ids=by_name)
def test_a_field_of_a_request_is_required_or_may_visibly_be_left_out(request_):
    """A field that was required in a release has a third form (docs/versioning.md): the first one adds it here."""
    unclear = [
        field.name
        for field in request_.fields
        if not field.is_repeated
        and field.name not in PLAIN
        and field_behavior_pb2.REQUIRED not in behaviors(field)
        and field.containing_oneof is None  # as `optional` fields are in, each in one of its own
    ]
    assert unclear == []


@pytest.mark.parametrize("method", lists(), ids=by_name)
def test_a_list_can_be_asked_for_any_of_several_values(method):
    route: Any = method.GetOptions().Extensions[annotations_pb2.http]  # type: ignore[index]
    single = [
        field.name
        for field in method.input_type.fields
        if not field.is_repeated and (field.enum_type or field.type == FieldDescriptor.TYPE_STRING)
    ]
    filters = [name for name in single if name not in PLAIN and f"{{{name}}}" not in route.get]
    assert [name for name in filters if not name.endswith("_prefix")] == []


@pytest.mark.parametrize("method", lists(), ids=by_name)
def test_a_list_is_filtered_by_what_its_resource_has(method):
    asked, resource = method.input_type.fields_by_name, resource_of(method)
    route: Any = method.GetOptions().Extensions[annotations_pb2.http]  # type: ignore[index]
    wanted = {"status", "external_id"} & set(resource.fields_by_name) if resource.full_name in readable() else set()
    if resource.full_name in readable() and "{" not in route.get:
        wanted |= {"ids", "from_time", "to_time", "order"}
    assert wanted - set(asked) == set()


@pytest.mark.parametrize(("resource", "taken"), list(written()), ids=lambda value: getattr(value, "full_name", ""))
def test_what_no_request_takes_is_marked_as_output(resource, taken):
    own_id = next(field.name for field in resource.fields if field.number == 1)
    unmarked = [
        field.name
        for field in resource.fields
        if (field.name not in taken or field.name in {own_id, "etag"})
        and field_behavior_pb2.OUTPUT_ONLY not in behaviors(field)
    ]
    assert unmarked == []


def test_a_persons_id_is_called_so():
    """Fields that say who did something have the name of what was done."""
    fields = [field for message in contracts.messages() for field in message.fields if not field.message_type]
    rules = {field: field.GetOptions().Extensions[validate_pb2.field] for field in fields}  # type: ignore[index]
    subjects = {
        field.name
        for field, rule in rules.items()
        if any(one.Extensions[rules_pb2.subject] for one in (rule.string, rule.repeated.items.string))
    }
    assert (subjects, [field.full_name for field in fields if field.name == "person"]) == ({"person_id"}, [])


# What each of these fields is, in the same words everywhere. A field may say more after them.
_SAID = {
    "page_size": "How many at most: 50 if not set; more than 1000 is taken as 1000.",
    "page_token": "The next_page_token or previous_page_token of an answer to the same query.",
    "order": "Newest first if not set.",
    "validate_only": (
        "True: only says what the answer would be. Nothing is done, and the idempotency key stays free.",
        "True: only says what the answer would be. Nothing is counted.",  # where there is no key
    ),
    "ids": "Only these, if set.",
    "external_id": ("Your own id of it.", "Only with this external_id, if set."),
    "metadata": "Your own facts about it",
    "next_page_token": "Empty on the last page.",
    "previous_page_token": "Empty on the first page.",
}
_SAID_AT_THE_END = {"from_time": "from this instant on, inclusive.", "to_time": "before this instant."}


def fields_of_calls() -> list[FieldDescriptor]:
    """Each field of a request, and of what answers one and is no resource."""
    answers = {method.output_type.full_name: method.output_type for method in METHODS if method.name.startswith("List")}
    return [field for message in (*requests(), *answers.values()) for field in message.fields]


def test_a_field_that_many_have_is_said_in_the_same_words():
    comments = contracts.comments()
    others = [
        f"{field.full_name}: {comments[field.full_name]}"
        for field in fields_of_calls()
        if not comments[field.full_name].startswith(_SAID.get(field.name, ""))
        or not comments[field.full_name].endswith(_SAID_AT_THE_END.get(field.name.removeprefix("effective_"), ""))
    ]
    assert others == []


def test_every_list_of_a_request_says_how_long_it_may_be():
    """A bound that comes later takes from callers. Of an enum, each value stands there once."""
    found: dict[str, Descriptor] = {}
    for method in METHODS:
        parts_of(method.input_type, found)
    repeated = [field for part in found.values() for field in part.fields if field.is_repeated]
    endless = []
    for field in repeated:
        rules = field.GetOptions().Extensions[validate_pb2.field]
        values_once = field.enum_type and rules.repeated.unique and rules.repeated.items.enum.defined_only
        if not (values_once or rules.repeated.HasField("max_items") or rules.map.HasField("max_pairs")):
            endless.append(field.full_name)
    assert len(repeated) > 50
    assert endless == []


def test_a_key_and_an_etag_are_said_in_the_same_words():
    """A limit's etag is asked for where there is a limit: it has words of its own."""
    comments, others = contracts.comments(), []
    for field in fields_of_calls():
        text, optional = comments[field.full_name], behaviors(field) == []
        if field.GetOptions().Extensions[http_pb2.header] == "Idempotency-Key":  # type: ignore[index]
            again = "Idempotency key, chosen by the client; a retry with the same value returns the first answer."
            said = text == ("Idempotency key, chosen by the client; optional here." if optional else again)
        elif field.GetOptions().Extensions[http_pb2.header] == "If-Match":  # type: ignore[index]
            sure = ", if you want to be sure" if optional else ""
            wanted = (
                rf"The etag of the .* that this was decided on{sure}\. ABORTED ETAG_MISMATCH if it has changed since.*"
            )
            said = "TransactionLimit" in field.full_name or re.fullmatch(wanted, text) is not None
        else:
            continue
        if not said:
            others.append(f"{field.full_name}: {text}")
    assert others == []


@pytest.mark.parametrize("method", lists(), ids=by_name)
def test_a_filter_by_an_enum_counts_no_values(method):
    """A value that is added later touches no list."""
    rules = {
        field.name: field.GetOptions().Extensions[validate_pb2.field].repeated  # type: ignore[index]
        for field in method.input_type.fields
        if field.enum_type and field.is_repeated
    }
    assert [
        name for name, rule in rules.items() if rule.max_items or not rule.unique or getattr(rule.items.enum, "in")
    ] == []


def offers() -> list[tuple[str, str]]:
    """Each resource and each name that the comment of its `allowed_actions` has."""
    comments, found = contracts.comments(), []
    for message in sorted(contracts.messages(), key=by_name):
        if "allowed_actions" in message.fields_by_name:
            said = comments[f"{message.full_name}.allowed_actions"].split(". ")[0].split(", which")[0]
            found += [(message.full_name, name) for name in re.findall("`(.*?)`", said)]
    return found


@pytest.mark.parametrize(("resource", "action"), offers())
def test_an_action_is_named_as_its_rpc(resource, action):
    """To reverse a journal entry is to post another."""
    names = {name_action(method.name, resource.rpartition(".")[2]) for method in METHODS}
    assert action in names or (resource, action) == ("realco.escrow.v1.JournalEntry", "reverse")


def offered() -> set[tuple[str, str]]:
    """Each resource and each action that the services offer with it, by the RPCs that their code names."""
    resources, found = {message.name: message.full_name for message in contracts.messages()}, set()
    for path in (Path(__file__).parents[2] / "services").glob("*/actions.py"):
        for function in ast.walk(parse(path)):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            nodes = list(ast.walk(function))
            calls = [
                node for node in nodes if isinstance(node, ast.Call) and "list_allowed_actions" in ast.dump(node.func)
            ]
            texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
            rpcs = [text.partition("/")[2] for text in texts if re.fullmatch("[A-Za-z]+Service/[A-Za-z]+", text)]
            for call in calls:
                assert isinstance(call.args[0], ast.Attribute)
                resource = call.args[0].attr
                found |= {(resources[resource], name_action(rpc, resource)) for rpc in rpcs}
    return found


def test_what_a_service_offers_is_what_the_contract_names():
    """To reverse a journal entry is to post another; what is offered of an approval is no resource's of a service."""
    entry = "realco.escrow.v1.JournalEntry"
    named = {offer for offer in offers() if offer[0] != "realco.type.v1.Approval"}
    assert named - {(entry, "reverse")} == offered() - {(entry, "post")}
    assert (entry, "reverse") in named


def test_what_may_be_done_with_a_resource_is_offered_with_it():
    """Each call below a resource's path. A batch is many of what is offered; a program's sign-in is nobody's action."""
    services = Path(__file__).parents[2] / "services"
    missing = []
    for method in contracts.methods():
        binding = Binding(method)
        code = services / method.full_name.split(".")[1] / "actions.py"
        if binding.http_method == "GET" or not binding.path or binding.takes_batch or not code.exists():
            continue
        rpc = f"{method.containing_service.name}/{method.name}"
        if rpc not in code.read_text() and not rule_of(f"{method.containing_service.full_name}/{method.name}").public:
            missing.append(rpc)
    assert missing == []


def changes() -> list[tuple[MethodDescriptor, Descriptor]]:
    """Each RPC of a person that changes one resource, which another RPC gets: `CaptureHold`, and what it captures."""
    reads = ("Get", "List", "Create", "Link", "Place", "Add", "Put")
    resources = {
        method.name.removeprefix("Get"): method.output_type for method in METHODS if method.name.startswith("Get")
    }
    return [
        (method, resource)
        for method in contracts.methods()
        if not method.name.startswith(reads)
        for name, resource in resources.items()
        if re.fullmatch(f"[A-Z][a-z]+{name}", method.name)
    ]


@pytest.mark.parametrize(("method", "resource"), changes(), ids=by_name)
def test_who_changes_a_resource_may_name_the_version_that_was_read(method, resource):
    """To post an entry is to make one. Whatever was read of a webhook, its provider is asked how things stand now."""
    if method.name not in ("PostJournalEntry", "ReplayWebhook"):
        assert ("etag" in method.input_type.fields_by_name, "etag" in resource.fields_by_name) == (True, True)


def is_batch(method: MethodDescriptor) -> bool:
    """Whether it takes items that are decided on one by one."""
    return "items" in method.input_type.fields_by_name


def result_of(answer: Descriptor) -> Descriptor:
    """What a batch answers of one item; an answer that may be an approval has it one message further in."""
    holders = [answer, *(field.message_type for field in answer.fields if field.message_type is not None)]
    [results] = [holder.fields_by_name["results"] for holder in holders if "results" in holder.fields_by_name]
    return results.message_type


def test_a_batch_is_called_so():
    called = [
        method
        for method in METHODS
        if method.name.startswith(("Batch", "StreamPost")) and not method.name.startswith("BatchGet")
    ]
    assert called == [method for method in METHODS if is_batch(method)]


@pytest.mark.parametrize("method", [*filter(is_batch, METHODS)], ids=by_name)
def test_a_batch_says_of_each_item_in_one_form_what_became_of_it(method):
    key, made, failure, replayed = result_of(method.output_type).fields
    # The key of an item is one that the caller chose, or the id of what is decided on only once.
    assert key.name == method.input_type.fields_by_name["items"].message_type.fields[0].name
    assert key.name == "idempotency_key" or key.name.endswith("_id")
    assert [(field.name, field.number) for field in (failure, replayed)] == [("failure", 3), ("replayed", 4)]
    assert [made.containing_oneof.name, failure.containing_oneof.name] == ["outcome", "outcome"]
    assert failure.message_type.full_name == "realco.type.v1.Failure"
    assert made.message_type.full_name in readable()
