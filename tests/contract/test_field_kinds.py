"""What holds for every field of a kind holds in every request there is."""

from __future__ import annotations

import re

import pytest
from buf.validate import validate_pb2
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from gateway import contracts
from services.chassis.calls import validation
from services.chassis.calls.field_kinds import ranges_of
from services.chassis.values.errors import InvalidField
from tests.support.request_texts import GIVEN_BACK, NEVER_SHOWN, fill, parts_of, refused_fields

METHODS = [method for service in contracts.services() for method in service.methods]
ENDS = re.compile(r"(?:^|_)(from|to|since|until|after|before|start|end)(?:_|$)")


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
def test_what_filters_by_time_is_a_range_of_from_and_to(method: MethodDescriptor) -> None:
    kinds = ("google.protobuf.Timestamp", "google.type.Date")
    times = {
        field.name
        for field in method.input_type.fields
        if field.message_type is not None and field.message_type.full_name in kinds and ENDS.search(field.name)
    }
    assert times == {end for pair in ranges_of(method.input_type) for end in pair}


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
def test_no_text_of_a_request_takes_a_control_character(method: MethodDescriptor) -> None:
    request = GetMessageClass(method.input_type)()
    texts = [field for field in method.input_type.fields if field.type == FieldDescriptor.TYPE_STRING]
    for field in texts:
        if field.is_repeated:
            getattr(request, field.name).append("a\x07b")
        else:
            setattr(request, field.name, "a\x07b")
    refused: set[str] = set()
    if texts:
        with pytest.raises(InvalidField) as refusal:
            validation.validate(request)
        refused = {path.partition("[")[0] for path in refusal.value.fields}
    assert {field.name for field in texts} - refused == set()


MASKED = [method for method in METHODS if "update_mask" in method.input_type.fields_by_name]


@pytest.mark.parametrize("method", MASKED, ids=lambda method: method.full_name)
def test_a_mask_names_whole_fields_of_the_list_and_nothing_below_them(method: MethodDescriptor) -> None:
    rules = method.input_type.fields_by_name["update_mask"].GetOptions().Extensions[validate_pb2.field]
    listed = list(getattr(rules.field_mask, "in"))
    assert listed
    for paths in (*([f"{name}.x"] for name in listed), [listed[0], f"{listed[-1]}.a.b"], ["etag"], [f"{listed[0]}x.y"]):
        request = GetMessageClass(method.input_type)(etag="0" * 16)
        request.update_mask.paths.extend(paths)
        with pytest.raises(InvalidField) as refusal:
            validation.validate(request)
        assert "update_mask" in refusal.value.fields, paths


PERSONS = {"person_id", "makers", "created_by"}


@pytest.mark.parametrize(
    ("number", "others"),
    [
        ("4111111111111111", {"account_number"}),
        ("DE89-3704-0044-0532-0130-00", set()),
        ("021000021-000123456", {"external_id", "bank_reference", "provider_reference"}),
    ],
)
def test_a_number_that_money_is_drawn_with_is_taken_in_no_text_that_people_write(number, others):
    """A text that is new here, and takes one, fails."""
    taken = {
        field.name
        for message in parts_of(method.input_type for method in METHODS).values()
        for field in message.fields
        for filled in fill(message, field, number)
        if field.name not in refused_fields(filled)
    }
    assert taken == GIVEN_BACK | PERSONS | NEVER_SHOWN | others
