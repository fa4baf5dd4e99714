"""What every event of ours keeps to: its envelope, its parts, and that nothing people wrote is in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from realco.type.v1 import event_pb2

from gateway import contracts
from gateway.binding import Binding
from services.chassis.data.event_messages import is_left_out
from services.chassis.data.versions import aggregate_field_of
from services.chassis.spelling.descriptors import camel_case

EVENTS = contracts.events()

# A text with one of these names is an id, a code or a digest, whatever message it is in.
NAMES = ("etag", "terms_etag", "currency_code")
ENDINGS = ("_id", "_ids", "_by", "_last4", "_hash")
# And these texts are made by us or by a provider, of words that name nobody.
MADE = {
    "EventMeta.incarnation": "the id of a database",
    "EventMeta.actor": "a person's id, or the name of a service",
    "Approval.kind": "the name of an RPC",
    "Approval.makers": "persons' ids",
    "Explanation.statement": "a sentence of a rule of ours; what people wrote stands in fields of its own",
    "Explanation.rule": "the name of the rule",
    "Explanation.source": "where the rule stands",
    "Operand.name": "what goes into the rule",
    "Operand.value": "its value: an id, an amount, a date, a name of a field",
    "Failure.code": "a reason of ours",
    "Failure.message": "a sentence of ours about the code",
    "Failure.metadata": "ids, amounts, and a bank's return code",
    "Transaction.provider": "its name in our configuration",
    "Transaction.provider_reference": "a provider's id",
    "Transaction.dispute_reference": "a provider's id",
    "Transaction.dispute_reason": "a provider's word, of a list of its own",
    "Card.brand": "the name of a network of cards",
    "Card.last4": "four digits",
    "Transaction.bank_reference": "a bank's id",
    "Webhook.provider": "its name in our configuration",
    "Webhook.event_type": "a provider's code",
    "BankAccount.block_network_code": "a bank's return code",
    "PaymentException.assignee": "a person's id",
    "PaymentException.cause": "a sentence of ours, with ids, amounts and codes",
    "PaymentException.provider": "its name in our configuration",
    "CatchUp.sponsor_share": "a decimal number",
    "PreferredReturn.rate": "a decimal number",
    "Split.sponsor_share": "a decimal number",
}


def by_name(event: Descriptor) -> str:
    return str(event.full_name)


def list_carried(event: Descriptor) -> list[FieldDescriptor]:
    """Every field that an event can carry, however deep, of the messages of ours."""
    found: dict[str, FieldDescriptor] = {}
    waiting = [event]
    while waiting:
        for field in waiting.pop().fields:
            if is_left_out(field) or field.full_name in found:
                continue
            found[field.full_name] = field
            if field.message_type is not None and field.message_type.full_name.startswith("realco."):
                waiting.append(field.message_type)
    return list(found.values())


CARRIED = {field.full_name: field for event in EVENTS for field in list_carried(event)}


def is_text(field: FieldDescriptor) -> bool:
    """A map is one text: its keys and values are judged together, where it stands."""
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return True
    is_string = field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)
    return is_string and not field.containing_type.GetOptions().map_entry


def name_of(field: FieldDescriptor) -> str:
    return f"{field.containing_type.name}.{field.name}"


@pytest.mark.parametrize("event", EVENTS, ids=by_name)
def test_an_event_has_the_common_envelope_and_says_what_it_is_about(event):
    assert event.fields_by_name["meta"].number == 1
    assert event.fields_by_name["meta"].message_type.full_name == "realco.type.v1.EventMeta"
    about = event.GetOptions().Extensions[event_pb2.event]
    for path in filter(None, (about.aggregate, about.scope)):
        message = event
        for name in path.split("."):
            field = message.fields_by_name[name]
            message = field.message_type
        assert field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_ENUM)
    assert about.aggregate


@pytest.mark.parametrize("event", EVENTS, ids=by_name)
def test_a_resource_that_events_tell_of_says_the_version_of_what_they_are_about(event):
    holder, _, about = event.GetOptions().Extensions[event_pb2.event].aggregate.rpartition(".")
    resource = event.fields_by_name[holder].message_type if holder else None
    if resource is not None:
        assert aggregate_field_of(resource) == about
        assert is_left_out(resource.fields_by_name["aggregate_version"])


@pytest.mark.parametrize("event", EVENTS, ids=by_name)
def test_an_event_says_its_subject(event):
    assert f"Subject: `{event.full_name}.<org>.<scope>`" in contracts.comments()[event.full_name]


@pytest.mark.parametrize("event", EVENTS, ids=by_name)
def test_an_event_with_a_list_of_resources_comes_in_numbered_parts(event):
    lists = {field.name for field in event.fields if field.is_repeated and field.message_type is not None}
    path = event.GetOptions().Extensions[event_pb2.event].parts.split(".")
    assert lists == set(filter(None, path[:1]))
    assert ({"part", "part_count"} <= set(event.fields_by_name)) is bool(lists)
    message = event
    for name in filter(None, path):
        assert message.fields_by_name[name].is_repeated
        message = message.fields_by_name[name].message_type


def test_every_text_that_an_event_carries_was_decided_on():
    """Is it an id or a code? Then its name says so, or MADE. Is it anything else? Then no event carries it."""
    undecided = {
        name_of(field)
        for field in CARRIED.values()
        if is_text(field) and field.name not in NAMES and not field.name.endswith(ENDINGS)
    }
    undecided -= MADE.keys()
    cure = "mark it `[(realco.type.v1.not_in_events) = true]`, or say in MADE why it names nobody"
    assert undecided == set(), cure


def test_what_was_decided_on_is_carried():
    assert MADE.keys() - {name_of(field) for field in CARRIED.values()} == set()


def test_an_event_has_no_field_that_it_never_carries():
    assert [field.full_name for event in EVENTS for field in event.fields if is_left_out(field)] == []


def test_a_client_reads_its_own_facts_over_rest_alone():
    """Metadata is free text under free keys, whatever resource it is on."""
    assert [name for name in CARRIED if name.endswith(".metadata")] == ["realco.type.v1.Failure.metadata"]


def test_a_reader_of_an_unknown_event_is_told_which_lists_of_its_aggregate_to_read_again():
    """A resource that is told of with the number of another has no event of its own to ask for."""
    page = (Path(__file__).parents[2] / "docs" / "subscribing.md").read_text()
    found = set()
    for event in EVENTS:
        about = event.GetOptions().Extensions[event_pb2.event].aggregate.rpartition(".")[2]
        carried = {field.message_type.full_name for field in event.fields if field.message_type is not None}
        for method in contracts.methods():
            route = Binding(method).template.text
            if method.name.startswith("List") and f"{{{about}}}/" in route:
                items = {field.message_type.full_name for field in method.output_type.fields if field.message_type}
                found |= {camel_case(route).removeprefix("/api/v1")} if items & carried else set()
    assert len(found) > 2
    assert [route for route in found if f"GET {route}`" not in page] == []
