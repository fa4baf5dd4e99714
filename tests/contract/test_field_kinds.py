"""What holds for every field of a kind holds in every request there is."""

from __future__ import annotations

import re

import pytest
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from gateway import contracts
from services.chassis.calls import validation
from services.chassis.calls.field_kinds import ranges_of
from services.chassis.values.errors import InvalidField

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
