"""Every range of times that a request can name is checked as one."""

from __future__ import annotations

import re

import pytest
from google.protobuf.descriptor import MethodDescriptor

from gateway import contracts
from services.chassis.calls.field_kinds import ranges_of

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
